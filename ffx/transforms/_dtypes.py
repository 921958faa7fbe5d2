"""NumPy's and torch's names for one type of number."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ..errors import PipelineError

__all__ = ["HALF_BITS", "holds_half", "numpy_dtype", "torch_dtype"]

# numba has no 16-bit floats on a CPU, so arrays carry their bits as int16, as in FFCV. The note in the
# dtype lets ToTensor give float16 all the same; it compares equal to plain int16.
HALF_BITS = np.dtype(np.int16, metadata={"holds": "float16"})


def holds_half(dtype: object) -> bool:
    """Whether a state's dtype is `HALF_BITS`."""
    metadata = dtype.metadata if isinstance(dtype, np.dtype) else None
    return metadata is not None and metadata.get("holds") == "float16"


def torch_dtype(dtype: Any) -> torch.dtype:
    """The torch dtype for a torch or NumPy dtype, or whatever names one.

    Raises:
        PipelineError: when torch has no such type.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    try:
        # Names of torch's tensor types, which FFCV's Convert takes too.
        if isinstance(dtype, str) and dtype.startswith("torch."):
            return torch.empty(0).type(dtype).dtype
        return torch.from_numpy(np.empty(0, dtype=dtype)).dtype
    except (TypeError, ValueError) as error:
        raise PipelineError(f"expected a type of number that torch has, found {dtype!r}: {error}") from error


def numpy_dtype(dtype: Any) -> np.dtype:
    """The NumPy dtype for a torch or NumPy dtype, or whatever names one.

    Raises:
        PipelineError: when NumPy has no such type.
    """
    try:
        if isinstance(dtype, torch.dtype):
            return torch.empty(0, dtype=dtype).numpy().dtype
        return np.dtype(dtype)
    except TypeError as error:
        raise PipelineError(
            f"expected a type of number that NumPy has, found {dtype!r}: put the operation after ToTensor()"
        ) from error
