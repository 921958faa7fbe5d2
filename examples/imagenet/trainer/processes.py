"""The processes of a training that this program starts by itself: they live and end together.

Where one of them fails or is killed, the others are ended within a bounded time; where all of them were asked to
stop, they are waited for. What a process raised on purpose is raised here again.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from ffx.errors import FfxError

from . import errors
from .signals import GRACE_SECONDS, STOP_SIGNALS, StopRequest, status_of, stop_on_signals

__all__ = ["run_processes"]

# A message that fits goes through a pipe in one piece, whatever happens to its writer.
_LONGEST_MESSAGE = 2000
_POLL_SECONDS = 0.5


def run_processes(target: Callable[..., None], count: int, arguments: tuple, stop: StopRequest) -> None:
    """Call `target(number, stop, *arguments)` in `count` new processes, and return when all of them are done.

    Raises:
        Interrupted: a signal ended them.
        FfxError: what the first one that failed raised, or a `TrainingError` that says how it ended.
    """
    context = multiprocessing.get_context("spawn")
    messages = context.SimpleQueue()
    processes = [
        context.Process(target=_run, args=(messages, target, number, arguments), name=f"rank {number}")
        for number in range(count)
    ]
    try:
        for process in processes:
            process.start()
        stop.children = processes
        first = _wait(processes, stop)
    finally:
        _end([process for process in processes if process.pid is not None])
        stop.children = ()
    if first is not None:
        said = {}
        while not messages.empty():
            number, name, text, status = messages.get()
            said[number] = _error(name, text, status)
        _raise(processes.index(first), first, said, stop)


def _run(messages: Any, target: Callable[..., None], number: int, arguments: tuple) -> None:
    """What a process does."""
    with stop_on_signals() as stop:
        try:
            target(number, stop, *arguments)
        except (FfxError, OSError) as error:
            status = error.status if isinstance(error, errors.Interrupted) else 1
            messages.put((number, type(error).__name__, str(error)[:_LONGEST_MESSAGE], status))
            raise SystemExit(status) from None


def _wait(processes: Sequence[BaseProcess], stop: StopRequest) -> BaseProcess | None:
    """Wait for all processes; the one that failed first, if one did."""
    waiting, first, deadline = list(processes), None, None
    while waiting and (deadline is None or time.monotonic() < deadline):
        wait([process.sentinel for process in waiting], _POLL_SECONDS)
        ended = [process for process in waiting if process.exitcode is not None]
        waiting = [process for process in waiting if process not in ended]
        failed = [process for process in ended if process.exitcode]
        if first is None and failed:
            # One that was killed is the reason why others fail.
            first = min(failed, key=lambda process: process.exitcode or 0)
            deadline = time.monotonic() + GRACE_SECONDS
            if not _was_stopped(first, stop):
                for process in waiting:
                    process.terminate()
    return first


def _was_stopped(process: BaseProcess, stop: StopRequest) -> bool:
    return bool(stop.number) or process.exitcode in {status_of(number) for number in STOP_SIGNALS}


def _end(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        if process.is_alive():
            process.kill()
    for process in processes:
        process.join()


def _error(name: str, text: str, status: int) -> FfxError:
    if name == errors.Interrupted.__name__:
        return errors.Interrupted(text, status)
    kind = getattr(errors, name, None)
    return kind(text) if isinstance(kind, type) and issubclass(kind, FfxError) else errors.TrainingError(text)


def _raise(number: int, process: BaseProcess, said: dict[int, FfxError], stop: StopRequest) -> None:
    if _was_stopped(process, stop):
        # One that failed meanwhile, for instance because the disk is full, is what there is to say.
        by_weight = sorted(said.values(), key=lambda error: isinstance(error, errors.Interrupted))
        status = status_of(stop.number) if stop.number else process.exitcode or 0
        raise by_weight[0] if said else errors.Interrupted("stopped by a signal, without a new checkpoint", status)
    if number in said:
        raise said[number]
    code = process.exitcode or 0
    how = f"was killed by signal {-code}" if code < 0 else f"ended with status {code}"
    raise errors.TrainingError(
        f"the process of rank {number} {how}, and the others were ended: --training.resume goes on from the newest "
        "checkpoint in the run's folder, if there is one"
    )
