"""Signals that ask a training to end: noticed at once by a thread of their own, acted on at the next step.

Python runs handlers in its main thread, between two lines of Python; a process that waits inside compiled code for
ranks that are gone never gets there. A signal's number, though, is written into a socket the moment that it arrives,
and a thread that listens there can end the process when nothing else can.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import parent_process
from multiprocessing.process import BaseProcess

__all__ = [
    "GRACE_SECONDS",
    "REPEAT_SECONDS",
    "REQUEUE",
    "STOP_SIGNALS",
    "StopRequest",
    "name_of",
    "status_of",
    "stop_on_signals",
]

# HTCondor's number for a job that wrote a checkpoint and wants to go on.
REQUEUE = 85
_INTERRUPTED = 130

# From the first signal to the end, with a checkpoint or without; batch systems kill after 30 seconds.
GRACE_SECONDS = 25.0
# One signal may come twice: to all processes of a job, and once more from the process that started this one.
REPEAT_SECONDS = 2.0

STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGUSR1", "SIGINT") if hasattr(signal, name))


def status_of(number: int) -> int:
    """The exit status after a signal: 130 after Ctrl-C, else 85."""
    return _INTERRUPTED if number == signal.SIGINT else REQUEUE


def name_of(number: int) -> str:
    """A signal's name."""
    return signal.Signals(number).name


class StopRequest:
    """Whether this process was asked to end, and by which signal.

    Attributes:
        number: the signal's; 0: none yet.
        can_save: there is a training whose next step notices; until then a signal ends the process at once.
        children: processes that get the signal, too; their parent has nothing to save of its own.
    """

    def __init__(self) -> None:
        self.number = 0
        self.can_save = False
        self.children: Sequence[BaseProcess] = ()
        self._arrived = 0.0

    def receive(self, number: int) -> None:
        """Take note of a signal; ends the process where there is nothing to wait for, or at the second signal."""
        now = time.monotonic()
        if self.number and now - self._arrived < REPEAT_SECONDS:
            return
        again, self.number, self._arrived = bool(self.number), self.number or number, self._arrived or now
        if again:
            self.end("a second signal")
        elif self.children:
            self._tell_children(number)
        elif not self.can_save:
            self.end("nothing has been trained since the last checkpoint")

    @property
    def seconds_left(self) -> float | None:
        """Until the process ends in any case; `None`: nobody asked."""
        if not self.number:
            return None
        # Children end by themselves, and their parent after them.
        grace = GRACE_SECONDS + 3 if self.children else GRACE_SECONDS
        return max(0.0, self._arrived + grace - time.monotonic())

    def end(self, reason: str) -> None:
        """End this process and its children now. What they write is complete or not there at all (`durable`)."""
        for child in self.children:
            with suppress(OSError, ValueError):
                child.kill()
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            os.write(2, f"{name_of(self.number)}: ended without a new checkpoint: {reason}\n".encode())
        os._exit(status_of(self.number))

    def _tell_children(self, number: int) -> None:
        for child in self.children:
            if child.pid is not None and child.is_alive():
                with suppress(OSError):
                    os.kill(child.pid, number)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """SIGTERM, SIGUSR1 and SIGINT become a `StopRequest`; so does the end of the process that started this one.

    Outside of the main thread, where Python allows no handlers, nothing is installed.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    ear, mouth = socket.socketpair()
    mouth.setblocking(False)
    before = {number: signal.signal(number, _leave_it_to_the_thread) for number in STOP_SIGNALS}
    descriptor = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_listen, args=(request, ear), name="signals", daemon=True)
    thread.start()
    try:
        yield request
    finally:
        signal.set_wakeup_fd(descriptor)
        for number, handler in before.items():
            # A process that ends already needs no more signals, and its status must not become another one.
            signal.signal(number, signal.SIG_IGN if request.number else handler)
        # A forked process may hold this end, too: closed alone, it would keep the listener waiting.
        with suppress(OSError):
            mouth.shutdown(socket.SHUT_RDWR)
        mouth.close()
        thread.join()
        ear.close()


def _leave_it_to_the_thread(number: int, frame: object) -> None:
    """A handler there must be, or the number is not written into the socket."""


def _listen(request: StopRequest, ear: socket.socket) -> None:
    parent = parent_process()
    sources: list[object] = [ear] if parent is None else [ear, parent.sentinel]
    while True:
        ready = select.select(sources, [], [], request.seconds_left)[0]
        if not ready:
            request.end(f"it was not possible within {GRACE_SECONDS:.0f} seconds")
        if ear in ready:
            numbers = ear.recv(64)
            if not numbers:
                return
            for number in numbers:
                # Other handlers' signals are written there, too.
                if number in STOP_SIGNALS:
                    request.receive(number)
        else:
            sources = [ear]
            request.receive(signal.SIGTERM)
