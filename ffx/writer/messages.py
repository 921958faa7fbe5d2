"""What the processes of a writer say to each other, and how an error travels between them.

The parent sends `Task` and `Offsets`, a worker sends `Encoded`, `Written` and, as its last word, `Failed`.
"""

from __future__ import annotations

import contextlib
import pickle
import traceback
from dataclasses import dataclass

import numpy as np

from ..errors import SampleError, WriterError
from .encoder import Part

__all__ = ["Encoded", "Failed", "Offsets", "Task", "Written", "failed", "raise_failure"]


@dataclass(frozen=True)
class Task:
    """To a worker: encode the task of this number; `None` ends its work."""

    number: int | None


@dataclass(frozen=True)
class Offsets:
    """To a worker: where the samples of the part that waits longest go, int64[n]."""

    offsets: np.ndarray


@dataclass(frozen=True)
class Encoded:
    """From a worker: a part of a task, without its bytes; `last` where the task ends with it."""

    task: int
    last: bool
    part: Part


@dataclass(frozen=True)
class Written:
    """From a worker: so many samples stand in the file now."""

    samples: int


@dataclass(frozen=True)
class Failed:
    """From a worker: why it ends.

    Attributes:
        message: the error in words.
        packed: the original exception, pickled; `None` where that cannot be done.
        traceback: the original exception with its traceback, as text.
        index: the sample's index in the source; `None` if it was none's fault.
        of_sample: whether the message is about a sample.
    """

    message: str
    packed: bytes | None
    traceback: str
    index: int | None
    of_sample: bool


def failed(error: BaseException) -> Failed:
    """An exception in a form that can always be sent."""
    original = error.__cause__ if isinstance(error, SampleError) and error.__cause__ is not None else error
    try:
        packed = pickle.dumps(original)
        pickle.loads(packed)
    except Exception:
        packed = None
    text = "".join(traceback.format_exception(type(original), original, original.__traceback__))
    of_sample = isinstance(error, SampleError)
    return Failed(str(error), packed, text, error.index if isinstance(error, SampleError) else None, of_sample)


class _RemoteTraceback(Exception):
    """The traceback of another process, as a cause that is printed with the error."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


def raise_failure(failure: Failed) -> None:
    """Raise what made a worker fail, with its traceback.

    Raises:
        SampleError: a sample could not be fetched or stored.
        WriterError: it failed otherwise.
    """
    cause: BaseException = _RemoteTraceback(failure.traceback)
    if failure.packed is not None:
        # What the worker could load need not load here; its text stands for it then.
        with contextlib.suppress(Exception):
            original = pickle.loads(failure.packed)
            original.__cause__ = cause
            cause = original
    if failure.of_sample:
        raise SampleError(failure.message, failure.index) from cause
    raise WriterError(f"a worker process failed: {failure.message}") from cause
