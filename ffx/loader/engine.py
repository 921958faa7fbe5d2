"""Worker threads of the loader's own: they stay in compiled code and take work sample by sample.

A worker comes back to Python only when there is nothing to take for a while, or when a Python call waits
for a thread. Whoever waits for a stage is woken by a byte in a pipe, which no GIL holds up. The tasks of
several batches are open at once, so a slow sample holds up neither its batch's other samples nor the
next batch.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np

from ..errors import LoaderError
from ..kernels import tasks
from ..kernels.jpeg import release_decoder
from ..kernels.memory import THREAD_WORDS, release_thread

__all__ = ["FORKED", "Engine", "Stage", "split_failure"]

_CLOSED = "the loader's iterator was closed while a batch was being made"
FORKED = "this process was forked while the loader's iterator was in use: begin a new epoch here"


class Stage:
    """A row of native steps over the samples of one batch, in memory where workers find it.

    Args:
        steps: `(address of the kernel, address of the step's words)` of each step, in order.
        failures: `int64[batch]`, where each sample that fails is noted (see `split_failure`); the caller keeps it, and
            sets it to zero.
    """

    def __init__(self, steps: Sequence[tuple[int, int]], failures: np.ndarray | None = None) -> None:
        self.words = np.zeros(tasks.FIRST_STEP + 2 * len(steps), dtype=np.int64)
        self.words[tasks.STEPS] = len(steps)
        self.words[tasks.FAILURES] = 0 if failures is None else failures.ctypes.data
        self.words[tasks.FIRST_STEP :] = [address for step in steps for address in step]

    @property
    def address(self) -> int:
        """What the ring of tasks knows it by."""
        return self.words.ctypes.data

    @property
    def complete(self) -> bool:
        """Whether all of its samples are done."""
        return bool(tasks.is_complete(self.address))

    @property
    def failure(self) -> tuple[int, int, int] | None:
        """`(index of the step, position in the batch, status)` of the first failure, or `None`."""
        error = int(self.words[tasks.ERROR])
        return None if error == 0 else split_failure(error)


def split_failure(word: int) -> tuple[int, int, int]:
    """`(index of the step, position in the batch, status)` of a failure as compiled code notes it."""
    return (word >> 48) - 1, ((word & ((1 << 48) - 1)) >> 8) - 1, word & 0xFF


class _Bell:
    """A pipe: compiled code rings it by a byte, one Python thread waits for it without the GIL."""

    def __init__(self) -> None:
        self._read, self.file = os.pipe()
        # A bell that nobody hears must not hold up a worker. (Where it cannot be set, a pipe holds thousands.)
        if hasattr(os, "set_blocking"):
            os.set_blocking(self.file, False)

    def ring(self) -> None:
        """Wake who waits."""
        if self.file < 0:
            return
        try:
            os.write(self.file, b"\0")
        except BlockingIOError:
            pass  # it rings already

    def wait(self) -> None:
        """Wait until it has rung since the last call."""
        os.read(self._read, 1 << 16)

    def close(self) -> None:
        """Give the pipe back, when nobody rings or waits any more. Safe to call twice."""
        read, write, self._read, self.file = self._read, self.file, -1, -1
        if write >= 0:
            os.close(read)
            os.close(write)

    def __del__(self) -> None:
        self.close()


class Engine:
    """A few threads that run stages and calls. Closing it ends the threads; closing twice is safe.

    Args:
        num_workers: threads.
        capacity: tasks that can be waiting at once.
    """

    def __init__(self, num_workers: int, capacity: int) -> None:
        self._control = np.zeros(tasks.CONTROL_WORDS, dtype=np.int64)
        self._ring = np.zeros((max(capacity, 1), 3), dtype=np.int64)
        self._bell = _Bell()
        self._control[tasks.BELL] = self._bell.file
        self._calls: deque[tuple[Future, Callable]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.error: BaseException | None = None
        self._process = os.getpid()
        self._threads = [
            threading.Thread(target=self._worker, name=f"ffx-worker-{number}", daemon=True)
            for number in range(num_workers)
        ]
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:
            self.close()
            self.release()
            raise

    def submit(self, stage: Stage, stop: int, first: int = 0) -> None:
        """Publish a stage's samples `first … stop - 1`. The caller keeps the stage until it is complete."""
        with self._changed:
            if self._closed or self.error is not None:
                return
            tasks.publish(*self._addresses(), stage.address, first, stop, 1)
            self._changed.notify_all()

    def call(self, functions: Sequence[Callable]) -> list:
        """Run Python functions on the workers and wait for their results, in order.

        Raises:
            Exception: whatever the first failing function raised.
            LoaderError: when the engine is closed meanwhile.
        """
        futures: list[Future] = [Future() for _ in functions]
        with self._changed:
            self._check()
            self._calls.extend(zip(futures, functions, strict=True))
            self._announce_calls()
            self._changed.notify_all()
        return [future.result() for future in futures]

    def wait(self, stage: Stage) -> None:
        """Wait for a submitted stage. Only one thread may wait at a time.

        Raises:
            LoaderError: when the engine was closed, or a worker died of something unexpected, which is the cause.
        """
        # Whoever closes the engine ends all waiting, whether or not a stage is complete.
        self._check()
        while not stage.complete:
            self._bell.wait()
            self._check()

    def close(self) -> None:
        """End all threads, whatever is still to do. In a forked process, which has none of them, nothing."""
        if os.getpid() != self._process:
            return
        with self._changed:
            self._closed = True
            tasks.set_flag(self._control.ctypes.data, tasks.STOP, 1)
            self._release_waiters(LoaderError(_CLOSED))
        for thread in self._threads:
            # Where one could not be started, neither were those after it.
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join()

    def release(self) -> None:
        """Give back what is left of a closed engine, once nobody waits in it any more."""
        if os.getpid() == self._process:
            self._bell.close()

    def _check(self) -> None:
        if self.error is not None:
            raise LoaderError(f"a worker thread of the loader failed: {self.error!r}") from self.error
        if self._closed:
            raise LoaderError(_CLOSED)
        if os.getpid() != self._process:
            raise LoaderError(FORKED)

    def _addresses(self) -> tuple[int, int, int]:
        return self._control.ctypes.data, self._ring.ctypes.data, len(self._ring)

    def _announce_calls(self) -> None:
        tasks.set_flag(self._control.ctypes.data, tasks.CALLS, len(self._calls))

    def _release_waiters(self, error: BaseException) -> None:
        while self._calls:
            self._calls.popleft()[0].set_exception(error)
        self._announce_calls()
        self._bell.ring()
        self._changed.notify_all()

    def _worker(self) -> None:
        thread = None
        try:
            thread = np.zeros(THREAD_WORDS, dtype=np.int64)
            while True:
                outcome = tasks.work(*self._addresses(), thread.ctypes.data)
                if outcome == tasks.STOPPED:
                    return
                if outcome == tasks.WANTED:
                    self._answer_call()
                else:
                    self._wait_for_work()
        except BaseException as error:  # Nothing may end a worker unseen: the consumer would wait for ever.
            with self._changed:
                self.error = error
                self._release_waiters(error)
        finally:
            if thread is not None:
                release_decoder(thread)
                release_thread(thread)

    def _answer_call(self) -> None:
        with self._changed:
            if not self._calls:
                return
            future, function = self._calls.popleft()
            self._announce_calls()
        try:
            future.set_result(function())
        except BaseException as error:
            future.set_exception(error)

    def _wait_for_work(self) -> None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or self._calls or self._control[tasks.TAKEN] < self._control[tasks.PUBLISHED]
            )
