"""Normalisation on a GPU in one kernel, written in Triton; plain torch operations without it."""

from __future__ import annotations

import functools

import numpy as np
import torch

from .normalize import normalize_tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # Builds of torch for the CPU, and some platforms, come without it.
    triton = None

__all__ = ["normalize_on_gpu"]

BLOCK = 1024

if triton is not None:

    @triton.jit
    def _normalize(source, target, scale, offset, count, channels: "tl.constexpr", block: "tl.constexpr"):
        at = tl.program_id(0).to(tl.int64) * block + tl.arange(0, block)
        inside = at < count
        channel = (at % channels).to(tl.int32)
        value = tl.load(source + at, mask=inside, other=0).to(tl.float32)
        result = value * tl.load(scale + channel) + tl.load(offset + channel)
        tl.store(target + at, result.to(target.dtype.element_ty), mask=inside)


@functools.lru_cache(maxsize=32)
def _constants(mean: tuple[float, ...], std: tuple[float, ...], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    scale = [1.0 / one for one in std]
    offset = [-one / other for one, other in zip(mean, std)]
    constants = torch.tensor([scale, offset], dtype=torch.float32).to(device)
    # Streams other than this one use them too, so they must be there before anybody goes on.
    torch.cuda.current_stream(device).synchronize()
    return constants[0], constants[1]


def normalize_on_gpu(images: torch.Tensor, mean: np.ndarray, std: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
    """`(image - mean) / std` for uint8 `(batch, channels, height, width)` on a GPU.

    One kernel reads the bytes and writes `dtype`, channels-last; images of another memory format, and
    machines without Triton, take torch's own operations.
    """
    if triton is None or not images.is_contiguous(memory_format=torch.channels_last):
        return normalize_tensor(images, mean, std, dtype)
    scale, offset = _constants(tuple(mean.tolist()), tuple(std.tolist()), images.device)
    result = torch.empty_like(images, dtype=dtype, memory_format=torch.channels_last)
    count = images.numel()
    _normalize[(triton.cdiv(count, BLOCK),)](images, result, scale, offset, count, images.shape[1], BLOCK)
    return result
