"""Scalars: one integer or one floating-point number a sample, kept in the metadata."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from ..errors import FieldError
from ..kernels import scalar
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import NativeStep, Operation
from ..pipeline.state import State
from .base import Field, Malloc, no_arguments

__all__ = ["BasicDecoder", "FloatDecoder", "FloatField", "IntDecoder", "IntField"]


class BasicDecoder(Operation):
    """Values of fixed size that stand in the metadata: `dtype[batch, 1]`.

    A subclass sets `dtype`.
    """

    dtype: np.dtype
    per_sample = True

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        state = replace(previous_state, jit_mode=True, shape=(1,), dtype=self.dtype)
        return state, AllocationQuery((1,), self.dtype)

    def generate_code(self) -> Callable:
        def decode(indices, destination, metadata, storage_state):
            for position in range(len(indices)):
                destination[position] = metadata[indices[position]]
            return destination[: len(indices)]

        decode.is_parallel = True
        return decode

    def native_step(self, previous_state: State) -> NativeStep | None:
        if self.metadata is None or self.metadata.dtype != self.dtype:
            return None
        words = [0] * scalar.OWN_WORDS
        words[scalar.ITEM_BYTES], words[scalar.SAMPLES] = np.dtype(self.dtype).itemsize, len(self.metadata)
        return NativeStep(scalar.copy_scalars, tuple(words))


class IntDecoder(BasicDecoder):
    """Integers: `int64[batch, 1]`."""

    dtype = np.dtype("<i8")
    per_sample = True


class FloatDecoder(BasicDecoder):
    """Floating-point numbers: `float64[batch, 1]`."""

    dtype = np.dtype("<f8")
    per_sample = True


def _single(value: Any) -> Any:
    """The element of an array or tensor that has just one."""
    return value.item() if hasattr(value, "item") and getattr(value, "size", 1) != 0 else value


class FloatField(Field):
    """One floating-point number a sample, as float64."""

    @property
    def metadata_type(self) -> np.dtype:
        return np.dtype("<f8")

    @classmethod
    def from_binary(cls, binary: np.ndarray) -> FloatField:
        return cls()

    def to_binary(self) -> np.void:
        return no_arguments()

    def encode(self, destination: np.ndarray, field: Any, malloc: Malloc) -> None:
        try:
            destination[0] = float(_single(field))
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise FieldError(f"expected a number, found {type(field).__name__}: {field!r:.60}") from error

    def get_decoder_class(self) -> type[Operation]:
        return FloatDecoder


class IntField(Field):
    """One integer a sample, as int64."""

    @property
    def metadata_type(self) -> np.dtype:
        return np.dtype("<i8")

    @classmethod
    def from_binary(cls, binary: np.ndarray) -> IntField:
        return cls()

    def to_binary(self) -> np.void:
        return no_arguments()

    def encode(self, destination: np.ndarray, field: Any, malloc: Malloc) -> None:
        try:
            number = _single(field)
            # A float is taken only where nothing of it is lost.
            destination[0] = (
                int(number) if isinstance(number, float) and number.is_integer() else operator.index(number)
            )
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:
            found = f"{type(field).__name__}: {field!r:.60}"
            raise FieldError(f"expected an integer of at most 64 bits, found {found}") from error

    def get_decoder_class(self) -> type[Operation]:
        return IntDecoder
