"""Anything that JSON can say, stored as text."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from ..errors import FieldError
from .base import Malloc
from .bytes import BytesField

__all__ = ["JSONField"]


class JSONField(BytesField):
    """A JSON value a sample, stored as UTF-8 text that ends with a zero byte.

    A loader gives bytes; `JSONField.unpack(batch)` turns them into Python values.
    """

    def encode(self, destination: np.ndarray, field: Any, malloc: Malloc) -> None:
        try:
            text = json.dumps(field)
        except (TypeError, ValueError) as error:
            raise FieldError(f"expected a value that JSON can hold, found {type(field).__name__}: {error}") from error
        super().encode(destination, text.encode("utf-8") + b"\0", malloc)

    @staticmethod
    def unpack(batch: np.ndarray | torch.Tensor) -> Any:
        """The values in a batch `uint8[n, longest]` as a list, or the one in `uint8[longest]`.

        Raises:
            FieldError: a row is not text that a JSONField stored.
        """
        rows = batch.numpy(force=True) if isinstance(batch, torch.Tensor) else np.asarray(batch)
        if rows.ndim == 1:
            return _unpack_one(rows)
        return [_unpack_one(row) for row in rows]


def _unpack_one(row: np.ndarray) -> Any:
    text, end, _ = row.tobytes().partition(b"\0")
    try:
        if not end:
            raise ValueError("no zero byte ends it")
        return json.loads(text.decode("utf-8"))
    except ValueError as error:
        raise FieldError(f"expected bytes of a JSONField, found {text[:60]!r}: {error}") from error
