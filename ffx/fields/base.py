"""What a field is: how a value of a sample is stored, and which decoder reads it by default."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from ..format import ARGUMENT_BYTES
from ..pipeline.operation import Operation

__all__ = ["ARG_TYPE", "Field", "Malloc"]

ARG_TYPE = np.dtype([("", "<u1", (ARGUMENT_BYTES,))])

Malloc = Callable[[int], tuple[int, np.ndarray]]


class Field(ABC):
    """One column of a data set.

    A field stores a fixed-size record for each sample (its *metadata*), and beside it as many bytes
    as `malloc` is asked for. `to_binary` describes the field itself in 1024 bytes of the file, from
    which `from_binary` makes an equal field again.

    A field of your own is written under the type number 255; name its class in
    `Loader(custom_fields={"name": YourField})` or `Reader(custom_fields=…)` to read it.
    """

    @property
    @abstractmethod
    def metadata_type(self) -> np.dtype:
        """The dtype of one sample's record."""

    @staticmethod
    @abstractmethod
    def from_binary(binary: np.ndarray) -> Field:
        """The field that `to_binary` described; `binary` is `uint8[1024]`. May be a class method."""

    @abstractmethod
    def to_binary(self) -> np.ndarray | np.void:
        """One record of `ARG_TYPE` that describes this field."""

    @abstractmethod
    def encode(self, destination: np.ndarray, field: Any, malloc: Malloc) -> None:
        """Store one sample's value.

        Args:
            destination: `metadata_type[1]`, the sample's record, zero at first.
            field: the value.
            malloc: `malloc(size)` reserves `size` bytes of the file and returns `(pointer, buffer)`:
                a number to be stored in the record (as eight bytes; the writer replaces it by the
                offset in the file when that is known) and `uint8[size]` zeros to be filled. ffx's own
                writer also has `malloc.unfilled(size)`, for fields that write every byte: no zeros. The
                memory serves again when the sample stands in the file: keep no reference to it.
        """

    def prepare_encoding(self) -> None:  # noqa: B027 (most need nothing)
        """Load what `encode` needs; the writer calls it once, before it forks processes that all need it."""

    @abstractmethod
    def get_decoder_class(self) -> type[Operation]:
        """The decoder that a pipeline gets when its user names none."""

    def settings(self) -> dict[str, Any]:
        """What a file's trailer notes about how this field was written; plain JSON values."""
        return {}


def no_arguments() -> np.void:
    """`to_binary` of a field that needs no description."""
    return np.zeros(1, dtype=ARG_TYPE)[0]
