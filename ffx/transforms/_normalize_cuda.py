"""`NormalizeImage` on a GPU as one triton kernel: a byte is read, a float is written, nothing between.

Imported only when a GPU tensor is normalised, because triton comes with torch's GPU builds alone.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

__all__ = ["launch", "look_up"]

_BLOCK = 1024


@triton.jit
def _look_up(pixels, table, target, count, channels: tl.constexpr, block: tl.constexpr):
    # 64 bits: large batches have more than 2**31 values.
    places = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
    inside = places < count
    values = tl.load(pixels + places, mask=inside, other=0).to(tl.int32)
    rows = values * channels + (places % channels).to(tl.int32)
    tl.store(target + places, tl.load(table + rows, mask=inside), mask=inside)


def launch(pixels: torch.Tensor, table: torch.Tensor, target: torch.Tensor) -> None:
    """Start the kernel on the current device and stream; see `look_up`."""
    count = pixels.numel()
    _look_up[(triton.cdiv(count, _BLOCK),)](pixels, table, target, count, table.shape[1], _BLOCK)


def look_up(pixels: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    """`table[pixels[..., c], c]` on the current stream.

    Args:
        pixels: uint8 `[..., channels]` on a GPU, contiguous.
        table: `[256, channels]` on the same GPU, contiguous.
    """
    target = torch.empty(pixels.shape, dtype=table.dtype, device=pixels.device)
    if pixels.numel():
        with torch.cuda.device(pixels.device):
            launch(pixels, table, target)
    return target
