"""Runs the Triton kernel on this machine's processor, in Triton's interpreter: `triton_peer.py RESULTS COMBINATION…`.

The interpreter is chosen when Triton is imported, so this is a process of its own. Results go into an
`.npz` file, by combination (`crop_batches.batch_of`), and by type where they are normalised.
"""

import os
import sys

if __name__ == "__main__":
    os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch

from tests.kernels.crop_batches import batch_of

TYPES = [torch.float16, torch.bfloat16, torch.float32]


def table(dtype: torch.dtype) -> torch.Tensor:
    """`[256, 3]`: a different float for each grey level and channel."""
    return ((torch.arange(256)[:, None] - torch.tensor([100.0, 120.5, 90.25])) / 57.0).to(dtype).contiguous()


def crop(combination: str) -> np.ndarray:
    """Crop the batch of a combination; the result has a row more, to see what is written behind the batch."""
    from ffx.kernels.crop_triton import launch

    batch = batch_of(combination)
    images = torch.full((len(batch.requests) + 1, *batch.target, 3), 0xA5, dtype=torch.uint8)
    launch(torch.from_numpy(batch.requests), torch.from_numpy(batch.data), images[:-1])
    return images.numpy()


def normalise(combination: str, dtype: torch.dtype) -> np.ndarray:
    """Crop and normalise the first samples of a combination's batch; floats of 16 bits as their bits."""
    from ffx.kernels.crop_triton import launch

    batch = batch_of(combination)
    requests = torch.from_numpy(batch.requests[:2])
    images = torch.empty((len(requests), *batch.target, 3), dtype=dtype)
    launch(requests, torch.from_numpy(batch.data), images, table(dtype))
    return images.view(torch.int16).numpy() if dtype.itemsize == 2 else images.numpy()


def main(path: str, *combinations: str) -> None:
    """Crop the batch of every combination, and normalise the first one's."""
    results = {combination: crop(combination) for combination in combinations}
    results |= {str(dtype): normalise(combinations[0], dtype) for dtype in TYPES}
    np.savez(path, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
