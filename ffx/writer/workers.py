"""The parent's side of worker processes: it starts them, gives them tasks and places, and ends them.

A worker (`ffx.writer.worker`) encodes a task in parts. It keeps a part's bytes and sends only sizes and tables; the
parent accepts parts strictly in the order of the samples and answers with places; the worker then writes its
bytes there itself. So no pixels travel between processes, memory is bounded, and the file does not
depend on who was faster. The worker of the earliest unfinished task can always go on, so nothing waits
in a circle.

A worker that fails reports the sample; one that dies is noticed by its sentinel.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
from collections import deque
from collections.abc import Iterator
from multiprocessing.connection import Connection, wait
from typing import Any

import cv2

from ..errors import SampleError, WriterError
from .encoding import Accept, Advance, Job, describe
from .messages import Encoded, Failed, Offsets, Task, Written, raise_failure
from .worker import worker_main

__all__ = ["encode_in_processes"]

# So many tasks lie ready for each worker, so that it need not wait for the parent between two.
_TASKS_READY = 2
_SECONDS_TO_LEAVE = 5.0

_forked = False


def _note_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


@contextlib.contextmanager
def _opencv_without_threads() -> Iterator[None]:
    """No thread of OpenCV's while processes are forked; afterwards as many as before.

    A forked process inherits OpenCV's pool without its threads, and waits for them for ever as soon as
    it changes that pool. So nothing is changed either where this process was forked itself.
    """
    if _forked:
        yield
        return
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


class _Pool:
    """The worker processes, as a context that leaves none of them behind."""

    def __init__(self, job: Job, count: int, context: Any) -> None:
        self.job, self.count, self.context = job, count, context
        self.processes: list[Any] = []
        self.connections: list[Connection] = []
        self.shared: Any = None

    def __enter__(self) -> _Pool:
        self.shared = self.context.RawArray("q", [-1] * (2 * self.count))
        forked = self.context.get_start_method() == "fork"
        try:
            with _opencv_without_threads() if forked else contextlib.nullcontext():
                for number in range(self.count):
                    self._start(number, forked)
        except BaseException:
            self.__exit__(*sys.exc_info())
            raise
        return self

    def _start(self, number: int, forked: bool) -> None:
        ours, theirs = self.context.Pipe()
        self.connections.append(ours)
        # A forked worker inherits the parent's ends of all pipes so far.
        others = list(self.connections) if forked else []
        arguments = (theirs, others, self.job, self.shared, number, self.context.get_start_method())
        process = self.context.Process(target=worker_main, args=arguments, daemon=True)
        self.processes.append(process)
        try:
            process.start()
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise WriterError(
                f"the data set and the fields must be picklable for worker processes that are not forked: "
                f"{error}; or write with num_workers=1"
            ) from error
        finally:
            theirs.close()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        started = [process for process in self.processes if process.pid is not None]
        if kind is not None:
            for process in started:
                process.kill()
        for connection in self.connections:
            connection.close()
        for process in started:
            process.join(_SECONDS_TO_LEAVE)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self.processes, self.connections = [], []

    def send(self, worker: int, message: Any) -> None:
        """Send to a worker; one that is dead is noticed by its sentinel."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connections[worker].send(message)

    def receive(self) -> list[tuple[int, Any]]:
        """`(worker, message)` for what came in; waits for the first.

        Raises:
            WriterError: a worker died.
        """
        wait([*self.connections, *(process.sentinel for process in self.processes)])
        messages = []
        for worker, (connection, process) in enumerate(zip(self.connections, self.processes, strict=True)):
            dead = not process.is_alive()
            try:
                # What a worker said before it died counts.
                while connection.poll():
                    messages.append((worker, connection.recv()))
            except (EOFError, OSError):
                dead = True
            if dead:
                if any(isinstance(message, Failed) for _, message in messages):
                    break
                self._raise_death(worker)
        return messages

    def _raise_death(self, worker: int) -> None:
        process = self.processes[worker]
        process.join(_SECONDS_TO_LEAVE)
        code = process.exitcode
        if code is not None and code < 0:
            names = {number.value: number.name for number in signal.Signals}
            how = f"was killed by {names.get(-code, f'signal {-code}')}"
        else:
            how = f"ended with exit code {code}"
        task, index = self.shared[2 * worker], self.shared[2 * worker + 1]
        if task < 0:
            raise WriterError(f"a worker process {how} before its first sample")
        where = describe(self.job.source, task, index)
        raise SampleError(f"{where}: the worker process that was writing it {how}", index)


class _Schedule:
    """Which task goes to whom, and which part is next in the file."""

    def __init__(self, pool: _Pool, accept: Accept, advance: Advance) -> None:
        self.pool, self.accept, self.advance = pool, accept, advance
        self.tasks = len(pool.job.source.tasks)
        self.given = 0
        self.head = 0
        self.parts: dict[int, deque[tuple[int, Encoded]]] = {}
        self.accepted = self.written = 0

    def run(self) -> None:
        """Until every task's samples stand in the file."""
        for _ in range(_TASKS_READY):
            for worker in range(self.pool.count):
                self._give(worker)
        while self.head < self.tasks or self.written < self.accepted:
            for worker, message in self.pool.receive():
                self._take(worker, message)
            self._place()
        for worker in range(self.pool.count):
            self.pool.send(worker, Task(None))

    def _take(self, worker: int, message: Any) -> None:
        if isinstance(message, Encoded):
            self.parts.setdefault(message.task, deque()).append((worker, message))
            if message.last:
                self._give(worker)
        elif isinstance(message, Written):
            self.written += message.samples
            self.advance(message.samples)
        else:
            raise_failure(message)

    def _give(self, worker: int) -> None:
        if self.given < self.tasks:
            self.pool.send(worker, Task(self.given))
            self.given += 1

    def _place(self) -> None:
        """Answer the parts whose turn it is."""
        while self.parts.get(self.head):
            worker, encoded = self.parts[self.head].popleft()
            self.accepted += len(encoded.part.sizes)
            self.pool.send(worker, Offsets(self.accept(encoded.part)))
            if encoded.last:
                del self.parts[self.head]
                self.head += 1


def encode_in_processes(job: Job, count: int, start_method: str | None, accept: Accept, advance: Advance) -> None:
    """Encode and write everything in `count` processes.

    Raises:
        SampleError: a sample cannot be fetched or stored, or a worker died over it.
        WriterError: a worker failed otherwise.
    """
    context = multiprocessing.get_context(start_method)
    with _Pool(job, count, context) as pool:
        _Schedule(pool, accept, advance).run()
