"""Compiles what operations generate. Nothing process-wide is changed: no thread count, no pool."""

from __future__ import annotations

from collections.abc import Callable

from numba import njit
from numba.core.dispatcher import Dispatcher

__all__ = ["Compiler"]


class Compiler:
    """FFCV's switchboard between operations and numba.

    FFCV compiles each operation with numba's own thread pool, which belongs to the whole process.
    ffx divides the work itself, so compiled code is sequential here: `get_iterator` is `range`, and
    `set_num_threads` only remembers its argument for code that asks.
    """

    is_enabled: bool = True
    num_threads: int = 1

    @classmethod
    def set_enabled(cls, enabled: bool) -> None:
        """With False, operations run as plain Python: slow, but a debugger can step through them."""
        cls.is_enabled = bool(enabled)

    @classmethod
    def set_num_threads(cls, num_threads: int) -> None:
        """Remember `num_threads`; the loader's own `num_workers` decides."""
        cls.num_threads = num_threads

    @classmethod
    def compile(cls, code: Callable, signature=None) -> Callable:
        """A nogil compiled version of `code`, or `code` itself when it is compiled already or
        compilation is switched off."""
        if isinstance(code, Dispatcher) or not cls.is_enabled:
            return code
        options = {"nogil": True, "fastmath": True, "error_model": "numpy"}
        return njit(signature, **options)(code) if signature is not None else njit(**options)(code)

    @classmethod
    def get_iterator(cls) -> type[range]:
        """What an operation's loop over a batch iterates with."""
        return range
