"""A worker process: it encodes tasks part by part and writes them to the places that the parent gives.

A worker that fails reports the error; one whose parent is gone ends itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import sys
from collections import deque
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import cv2
import torch

from .encoder import Encoder
from .encoding import Job, Place, encode_task
from .messages import Encoded, Task, Written, failed
from .waiting import Waiting

__all__ = ["worker_main"]


class _Worker:
    """The life of a worker process."""

    def __init__(self, connection: Connection, job: Job, place: Place) -> None:
        self.connection, self.job, self.place = connection, job, place
        self.parent = os.getppid()
        self.encoder = Encoder(job.fields, job.seed)
        self.waiting = Waiting(job.path.parent, job.source.spills, self.encoder.pool)
        self.tasks: deque[int | None] = deque()
        self.descriptor = os.open(job.path, os.O_RDWR)

    def run(self) -> None:
        """Work until there are no tasks left, and everything stands in the file."""
        while True:
            while not self.tasks:
                self._receive()
            task = self.tasks.popleft()
            if task is None:
                return
            self._encode(task)

    def _encode(self, task: int) -> None:
        for full in encode_task(self.encoder, self.job, self.place, task):
            if full:
                self._hand_over(task, False)
            while self.connection.poll():
                self._receive()
        self._hand_over(task, True)

    def _hand_over(self, task: int, last: bool) -> None:
        while self.waiting.full:
            self._receive()
        part = self.encoder.take()
        self.waiting.add(part)
        self.connection.send(Encoded(task, last, part.without_bytes()))

    def _receive(self) -> None:
        """Take one message: a task, or the place of the part that waits longest."""
        # Another process may still hold the parent's end open, so its death is looked for, too.
        while not self.connection.poll(1.0):
            if os.getppid() != self.parent:
                raise EOFError
        message = self.connection.recv()
        if isinstance(message, Task):
            self.tasks.append(message.number)
        else:
            self.connection.send(Written(self.waiting.write_first(self.descriptor, message.offsets)))


def _die_with_parent() -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def worker_main(
    connection: Connection, others: Sequence[Connection], job: Job, shared: Any, number: int, method: str
) -> None:
    """A worker process from start to end.

    Args:
        connection: to the parent.
        others: the parent's ends of pipes that this process inherited.
        job: what is to be written.
        shared: two int64 for each worker: the task and the sample that it is at.
        number: which worker this is.
        method: how it was started.
    """
    # Ctrl-C reaches every process of the terminal; the parent decides what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if method != "forkserver":
        _die_with_parent()
    for other in others:
        other.close()
    # This process's own: one core each is the division of labour. A forked one has the parent's setting.
    if method != "fork":
        cv2.setNumThreads(1)
    else:
        # Python's garbage collector writes into every object that it looks at: each inherited page would be copied.
        gc.freeze()
    torch.set_num_threads(1)
    job.pillow.set()
    try:
        _Worker(connection, job, Place(shared, number)).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone
    except BaseException as error:
        with contextlib.suppress(OSError):
            connection.send(failed(error))
