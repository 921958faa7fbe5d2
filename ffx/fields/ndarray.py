"""Arrays and tensors of one shape and type."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..errors import FfxWarning, FieldError, FormatError
from ..format import POINTER_METADATA, check_array_type, pack_array_arguments, parse_array_arguments
from ..kernels import blob
from ..libffcv import memcpy
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.compiler import Compiler
from ..pipeline.operation import NativeStep, Operation
from ..pipeline.state import State
from .base import ARG_TYPE, Field, Malloc

__all__ = ["NDArrayDecoder", "NDArrayField", "TorchTensorField"]


class NDArrayDecoder(Operation):
    """The stored arrays: `dtype[batch, *shape]`, as the field says."""

    per_sample = True

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        shape, dtype = tuple(self.field.shape), self.field.dtype
        state = replace(previous_state, jit_mode=True, shape=shape, dtype=dtype)
        return state, AllocationQuery(shape, dtype)

    def generate_code(self) -> Callable:
        read, copy = self.memory_read, Compiler.compile(memcpy)
        elements, element_bytes = math.prod(self.field.shape), int(self.field.element_size)

        def decode(indices, destination, metadata, storage_state):
            rows = destination.reshape(destination.shape[0], elements)
            for position in range(len(indices)):
                data = read(metadata[indices[position]], storage_state)
                if data.size != element_bytes:
                    raise ValueError("the size of a stored array differs from its shape")
                copy(data, rows[position])
            return destination[: len(indices)]

        decode.is_parallel = True
        return decode

    def native_step(self, previous_state: State) -> NativeStep | None:
        if self.metadata is None or self.metadata.dtype != POINTER_METADATA:
            return None
        words = [0] * blob.OWN_WORDS
        words[blob.FIXED_BYTES], words[blob.SAMPLES] = int(self.field.element_size), len(self.metadata)
        return NativeStep(blob.copy_blobs, tuple(words))


class NDArrayField(Field):
    """Arrays that all have one shape and one dtype.

    Args:
        dtype: a plain NumPy dtype (no objects, fields or sub-arrays).
        shape: shape of one sample; every extent at least 1.

    Attributes:
        element_size: bytes of one sample.

    Raises:
        FieldError: a file cannot hold this type or shape.
    """

    def __init__(self, dtype: np.dtype, shape: Sequence[int]) -> None:
        self.dtype = np.dtype(dtype)
        self.shape = tuple(int(extent) for extent in shape)
        try:
            self.element_size = check_array_type(self.dtype, self.shape)
        except FormatError as error:
            raise FieldError(str(error)) from None
        if self.dtype == np.uint16 and not hasattr(torch, "uint16"):
            warnings.warn("this torch has no uint16; store int16 and view it as uint16", FfxWarning, stacklevel=2)

    @property
    def metadata_type(self) -> np.dtype:
        return POINTER_METADATA

    @classmethod
    def from_binary(cls, binary: np.ndarray) -> NDArrayField:
        return cls(*parse_array_arguments(binary))

    def to_binary(self) -> np.void:
        record = np.zeros(1, dtype=ARG_TYPE)
        record["f0"][0] = pack_array_arguments(self.dtype, self.shape)
        return record[0]

    def encode(self, destination: np.ndarray, field: Any, malloc: Malloc) -> None:
        array = field.numpy(force=True) if isinstance(field, torch.Tensor) else np.asarray(field)
        # FFCV takes any shape of as many elements.
        if array.dtype != self.dtype or array.size * array.dtype.itemsize != self.element_size:
            raise FieldError(f"expected {self.dtype}{self.shape}, found {array.dtype}{array.shape}")
        destination[0], buffer = malloc(self.element_size)
        buffer[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    def get_decoder_class(self) -> type[Operation]:
        return NDArrayDecoder

    def settings(self) -> dict[str, Any]:
        return {"dtype": self.dtype.str, "shape": list(self.shape)}


class TorchTensorField(NDArrayField):
    """Tensors that all have one shape and one dtype.

    Args:
        dtype: a torch dtype that NumPy knows too.
        shape: shape of one sample; every extent at least 1.
    """

    def __init__(self, dtype: torch.dtype, shape: Sequence[int]) -> None:
        if isinstance(dtype, torch.dtype):
            try:
                dtype = torch.empty(0, dtype=dtype).numpy().dtype
            except TypeError:
                raise FieldError(f"expected a torch dtype that NumPy has too, found {dtype}") from None
        super().__init__(dtype, shape)
