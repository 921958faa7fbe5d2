"""What an operation asks memory for: so many bytes a sample, of this type, on that device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

__all__ = ["AllocationQuery", "Allocation", "allocate", "allocate_query"]


@dataclass(frozen=True)
class AllocationQuery:
    """Memory for one sample; the loader multiplies by the batch size and the number of slots.

    Attributes:
        shape: shape of one sample's part.
        dtype: a NumPy dtype (the operation gets an array) or a torch dtype (a tensor).
        device: for tensors: where they lie; `None` is the CPU.
    """

    shape: tuple[int, ...]
    dtype: np.dtype | torch.dtype
    device: torch.device | str | None = None


Allocation = AllocationQuery | Sequence[AllocationQuery]


def allocate(query: AllocationQuery, batch_size: int, pinned: bool = False):
    """One buffer `(batch_size, *query.shape)`: an array, or a tensor for a torch dtype.

    Args:
        query: what is asked for.
        batch_size: samples that the buffer holds.
        pinned: page-lock host memory, so that a copy to a GPU can overlap with compute.
    """
    shape = (batch_size, *(int(extent) for extent in query.shape))
    if isinstance(query.dtype, torch.dtype):
        device = torch.device(query.device or "cpu")
        return torch.empty(shape, dtype=query.dtype, device=device, pin_memory=pinned and device.type == "cpu")
    if pinned:
        # Bytes, then a view: torch has no dtype for some that NumPy has.
        dtype = np.dtype(query.dtype)
        count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return torch.empty(count, dtype=torch.uint8, pin_memory=True).numpy().view(dtype).reshape(shape)
    return np.empty(shape, dtype=query.dtype)


def allocate_query(memory_allocation: AllocationQuery, batch_size: int, batches_ahead: int):
    """FFCV's helper: a list of `batches_ahead` tensors, or one array `(batches_ahead, batch, …)`."""
    if isinstance(memory_allocation.dtype, torch.dtype):
        return [allocate(memory_allocation, batch_size) for _ in range(batches_ahead)]
    return np.empty((batches_ahead, batch_size, *memory_allocation.shape), dtype=memory_allocation.dtype)
