"""Worker processes that encode samples, and the parent's side that gives them tasks and places.

A worker encodes a task in parts. It keeps a part's bytes and sends only sizes and tables; the parent
accepts parts strictly in the order of the samples and answers with places; the worker then writes its
bytes there itself. So no pixels travel between processes, memory is bounded, and the file does not
depend on who was faster. The worker of the earliest unfinished task can always go on, so nothing waits
in a circle.

A worker that fails reports the sample; one that dies is noticed by its sentinel; one whose parent is
gone ends itself.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..errors import FfxError, SampleError, WriterError
from ..fields.base import Field
from .assembly import write_part
from .encoder import Encoder, Part
from .output import write_all
from .sources import Source

__all__ = ["Job", "encode_here", "encode_in_processes"]

# A part is handed over when it has so many bytes or samples; a worker holds so many parts and bytes that
# wait for their places before it stops (or writes them to a file of its own, where the source says so).
_PART_BYTES = 1 << 24
_PART_SAMPLES = 512
_WAITING_PARTS = 8
_WAITING_BYTES = 1 << 26
# So many tasks lie ready for each worker, so that it need not wait for the parent between two.
_TASKS_READY = 2
_SECONDS_TO_LEAVE = 5.0

Accept = Callable[[Part], np.ndarray]
Advance = Callable[[int], object]


@dataclass(frozen=True)
class Job:
    """What every worker needs to know.

    Attributes:
        source: gives the samples.
        fields: field name -> field.
        seed: for random draws of fields.
        path: the file to write to.
    """

    source: Source
    fields: Mapping[str, Field]
    seed: int
    path: Path


class _Place:
    """Which sample is being worked on; also visible to the parent of a worker that dies."""

    def __init__(self, shared: Any = None, number: int = 0) -> None:
        self.shared, self.number = shared, 2 * number
        self.task, self.index = -1, -1

    def enter(self, task: int) -> None:
        self.task, self.index = task, -1
        self._show()

    def note(self, index: int) -> None:
        self.index = index
        self._show()

    def _show(self) -> None:
        if self.shared is not None:
            self.shared[self.number], self.shared[self.number + 1] = self.task, self.index


def _describe(source: Source, task: int, index: int) -> str:
    return source.describe(source.tasks[task], index) if index >= 0 else f"task {task}"


def encode_here(job: Job, descriptor: int, accept: Accept, advance: Advance) -> None:
    """Encode and write everything in this process.

    Raises:
        SampleError: a sample cannot be fetched or stored.
    """
    encoder, place = Encoder(job.fields, job.seed), _Place()

    def store() -> None:
        part = encoder.take()
        write_part(descriptor, accept(part), part.buffers)
        advance(len(part.sizes))

    for number, task in enumerate(job.source.tasks):
        place.enter(number)
        samples = job.source.samples(task, place.note)
        while _encode_next(encoder, samples, job.source, place):
            if encoder.bytes_held >= _PART_BYTES or len(encoder) >= _PART_SAMPLES:
                store()
    store()


def _encode_next(encoder: Encoder, samples: Any, source: Source, place: _Place) -> bool:
    """Encode one more sample of a task; False at its end. Whatever goes wrong names the sample."""
    try:
        item = next(samples, None)
        if item is None:
            return False
        encoder.add(*item)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        text = str(error) if isinstance(error, FfxError) else f"{type(error).__name__}: {error}"
        raise SampleError(f"{_describe(source, place.task, place.index)}: {text}", place.index) from error
    return True


# --- The worker's side ----------------------------------------------------------------------------


class _Waiting:
    """Parts that wait for their places, in memory or in a file that has no name."""

    def __init__(self, folder: Path, spills: bool) -> None:
        self.folder = folder
        self.spills = spills
        self.parts: deque[tuple[np.ndarray, list[list[np.ndarray]] | None, int]] = deque()
        self.bytes_held = 0
        self._file: Any = None
        self._file_end = 0

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def full(self) -> bool:
        """Whether the next part has to wait until one has its place."""
        return not self.spills and (self.bytes_held > _WAITING_BYTES or len(self.parts) >= _WAITING_PARTS)

    def add(self, part: Part) -> None:
        """Keep a part's bytes."""
        size = part.bytes_held
        if self.spills and self.parts and self.bytes_held + size > _WAITING_BYTES:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self.folder)  # noqa: SIM115 (lives as long as the worker)
            write_all(self._file.fileno(), [piece for pieces in part.buffers for piece in pieces], self._file_end)
            self.parts.append((part.sizes, None, self._file_end))
            self._file_end += size
        else:
            self.parts.append((part.sizes, part.buffers, -1))
            self.bytes_held += size

    def write_first(self, descriptor: int, offsets: np.ndarray) -> int:
        """Write the part that waits longest to its place; the number of its samples."""
        sizes, buffers, start = self.parts.popleft()
        if buffers is None:
            buffers = []
            for size in sizes.tolist():
                buffers.append([np.frombuffer(os.pread(self._file.fileno(), size, start), dtype=np.uint8)])
                start += size
        else:
            self.bytes_held -= int(sizes.sum())
        write_part(descriptor, offsets, buffers)
        if not self.parts and self._file_end:
            self._file.truncate(0)
            self._file_end = 0
        return len(sizes)


class _Worker:
    """The life of a worker process."""

    def __init__(self, connection: Connection, job: Job, place: _Place) -> None:
        self.connection, self.job, self.place = connection, job, place
        self.parent = os.getppid()
        self.encoder = Encoder(job.fields, job.seed)
        self.waiting = _Waiting(job.path.parent, job.source.spills)
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
        self.place.enter(task)
        samples = self.job.source.samples(self.job.source.tasks[task], self.place.note)
        while _encode_next(self.encoder, samples, self.job.source, self.place):
            if self.encoder.bytes_held >= _PART_BYTES or len(self.encoder) >= _PART_SAMPLES:
                self._hand_over(task, False)
            while self.connection.poll():
                self._receive()
        self._hand_over(task, True)

    def _hand_over(self, task: int, last: bool) -> None:
        while self.waiting.full:
            self._receive()
        part = self.encoder.take()
        self.waiting.add(part)
        self.connection.send(("part", task, last, part.without_buffers()))

    def _receive(self) -> None:
        """Take one message: a task, or the place of the part that waits longest."""
        # Another process may still hold the parent's end open, so its death is looked for, too.
        while not self.connection.poll(1.0):
            if os.getppid() != self.parent:
                raise EOFError
        kind, content = self.connection.recv()
        if kind == "task":
            self.tasks.append(content)
        else:
            self.connection.send(("written", self.waiting.write_first(self.descriptor, content)))


def _die_with_parent() -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _report(error: BaseException) -> tuple[str, bytes | None, str, int | None]:
    """An exception in a form that can always be sent: message, pickle, traceback, sample's index."""
    original = error.__cause__ if isinstance(error, SampleError) and error.__cause__ is not None else error
    try:
        packed = pickle.dumps(original)
        pickle.loads(packed)
    except Exception:
        packed = None
    text = "".join(traceback.format_exception(type(original), original, original.__traceback__))
    return str(error), packed, text, error.index if isinstance(error, SampleError) else None


def _worker_main(
    connection: Connection, others: Sequence[Connection], job: Job, shared: Any, number: int, method: str
) -> None:
    # Ctrl-C reaches every process of the terminal; the parent decides what happens.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if method != "forkserver":
        _die_with_parent()
    for other in others:
        other.close()
    # This process's own: one core each is the division of labour. A forked one has the parent's setting.
    if method != "fork":
        cv2.setNumThreads(1)
    torch.set_num_threads(1)
    try:
        _Worker(connection, job, _Place(shared, number)).run()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the parent is gone
    except BaseException as error:
        kind = "sample" if isinstance(error, SampleError) else "failure"
        with contextlib.suppress(OSError):
            connection.send((kind, *_report(error)))


# --- The parent's side ----------------------------------------------------------------------------


class _RemoteTraceback(Exception):
    """The traceback of another process, as a cause that is printed with the error."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


def _raise_reported(kind: str, message: str, packed: bytes | None, text: str, index: int | None) -> None:
    cause: BaseException = _RemoteTraceback(text)
    if packed is not None:
        original = pickle.loads(packed)
        original.__cause__ = cause
        cause = original
    if kind == "sample":
        raise SampleError(message, index) from cause
    raise WriterError(f"a worker process failed: {message}") from cause


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
        process = self.context.Process(target=_worker_main, args=arguments, daemon=True)
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
                if any(message[0] in ("sample", "failure") for _, message in messages):
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
        where = _describe(self.job.source, task, index)
        raise SampleError(f"{where}: the worker process that was writing it {how}", index)


class _Schedule:
    """Which task goes to whom, and which part is next in the file."""

    def __init__(self, pool: _Pool, accept: Accept, advance: Advance) -> None:
        self.pool, self.accept, self.advance = pool, accept, advance
        self.tasks = len(pool.job.source.tasks)
        self.given = 0
        self.head = 0
        self.parts: dict[int, deque[tuple[int, bool, Part]]] = {}
        self.accepted = self.written = 0

    def run(self) -> None:
        """Until every task's samples stand in the file."""
        for _ in range(_TASKS_READY):
            for worker in range(self.pool.count):
                self._give(worker)
        while self.head < self.tasks or self.written < self.accepted:
            for worker, (kind, *content) in self.pool.receive():
                if kind == "part":
                    task, last, part = content
                    self.parts.setdefault(task, deque()).append((worker, last, part))
                    if last:
                        self._give(worker)
                elif kind == "written":
                    self.written += content[0]
                    self.advance(content[0])
                else:
                    _raise_reported(kind, *content)
            self._place()
        for worker in range(self.pool.count):
            self.pool.send(worker, ("task", None))

    def _give(self, worker: int) -> None:
        if self.given < self.tasks:
            self.pool.send(worker, ("task", self.given))
            self.given += 1

    def _place(self) -> None:
        """Answer the parts whose turn it is."""
        while self.parts.get(self.head):
            worker, last, part = self.parts[self.head].popleft()
            self.accepted += len(part.sizes)
            self.pool.send(worker, ("place", self.accept(part)))
            if last:
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
