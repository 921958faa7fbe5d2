"""Byte strings of any length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from ..errors import FieldError
from ..format import BYTES_METADATA
from ..kernels import blob
from ..libffcv import memcpy
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.compiler import Compiler
from ..pipeline.operation import NativeStep, Operation
from ..pipeline.state import State
from .base import Field, Malloc, no_arguments

__all__ = ["BytesDecoder", "BytesField"]

_BYTE = np.dtype("u1")


class BytesDecoder(Operation):
    """`uint8[batch, longest]`: each sample's bytes, then zeros up to the longest of the file."""

    per_sample = True

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        longest = int(self.metadata["size"].max())
        state = replace(previous_state, jit_mode=True, shape=(longest,), dtype=_BYTE)
        return state, AllocationQuery((longest,), _BYTE)

    def generate_code(self) -> Callable:
        read, copy = self.memory_read, Compiler.compile(memcpy)

        def decode(indices, destination, metadata, storage_state):
            for position in range(len(indices)):
                record = metadata[indices[position]]
                row = destination[position]
                size = np.int64(record["size"])
                if size > 0:
                    data = read(record["ptr"], storage_state)
                    if data.size != size or size > row.size:
                        raise ValueError("the size of stored bytes differs from their metadata")
                    copy(data, row)
                row[size:] = 0
            return destination[: len(indices)]

        decode.is_parallel = True
        return decode

    def native_step(self, previous_state: State) -> NativeStep | None:
        if self.metadata is None or self.metadata.dtype != BYTES_METADATA:
            return None
        words = [0] * blob.OWN_WORDS
        words[blob.FIXED_BYTES], words[blob.SAMPLES] = -1, len(self.metadata)
        return NativeStep(blob.copy_blobs, tuple(words))


def as_bytes(value: Any) -> np.ndarray:
    """`uint8[n]` of bytes, or of a one-dimensional array or tensor of uint8."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return np.frombuffer(value, dtype=np.uint8) if len(value) else np.empty(0, dtype=np.uint8)
    array = value.numpy(force=True) if isinstance(value, torch.Tensor) else value
    if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.ndim != 1:
        shape = f" of {array.dtype}{array.shape}" if isinstance(array, np.ndarray) else ""
        hint = "; encode text first: text.encode()" if isinstance(value, str) else ""
        raise FieldError(f"expected bytes or a uint8[n] array, found {type(value).__name__}{shape}{hint}")
    return array


class BytesField(Field):
    """Bytes of a length that may differ from sample to sample.

    Values are `bytes`, `bytearray`, `memoryview`, or one-dimensional uint8 arrays or tensors.
    """

    @property
    def metadata_type(self) -> np.dtype:
        return BYTES_METADATA

    @classmethod
    def from_binary(cls, binary: np.ndarray) -> BytesField:
        return cls()

    def to_binary(self) -> np.void:
        return no_arguments()

    def encode(self, destination: np.ndarray, field: Any, malloc: Malloc) -> None:
        data = as_bytes(field)
        destination["ptr"], buffer = malloc(data.size)
        destination["size"] = data.size
        buffer[:] = data

    def get_decoder_class(self) -> type[Operation]:
        return BytesDecoder
