"""Refuse a file: one sentence that says where, what was expected and what was found."""

from __future__ import annotations

from collections.abc import Callable
from typing import NoReturn

import numpy as np

from ..errors import ChecksumError, FormatError
from ..kernels.checksum import xxh64

__all__ = ["check_sum", "refuse", "require", "require_all"]


def refuse(
    where: str, expected: str, found: object, path: str | None = None, kind: type[FormatError] = FormatError
) -> NoReturn:
    """Raise a `FormatError`, or the kind of it that is given."""
    message = f"{path}: " if path else ""
    raise kind(f"{message}{where}: expected {expected}, found {found}", path, where, expected, str(found))


def require(condition: bool, where: str, expected: str, found: object) -> None:
    """Refuse unless `condition` holds."""
    if not condition:
        refuse(where, expected, found)


def require_all(good: np.ndarray, where: str, expected: str, found: Callable[[int], object]) -> None:
    """Refuse the first element that is not good: its index follows `where`, and `found` is asked about it."""
    if not good.all():
        first = int(np.argmin(good))
        refuse(f"{where} {first}", expected, found(first))


def check_sum(data: bytes | np.ndarray, expected: int, what: str) -> None:
    """Refuse `data` whose XXH64 is not the expected one."""
    found = xxh64(data)
    if found != expected:
        wanted = f"bytes with the checksum {int(expected):#018x}"
        refuse(what, wanted, f"{found:#018x}: they are damaged", kind=ChecksumError)
