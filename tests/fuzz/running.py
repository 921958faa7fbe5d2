"""Runs a target in a child process, which may die, hang or ask for too much memory; the parent notes at which input."""

import json
import mmap
import os
import resource
import signal
import struct
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz.target import Find, Target, generator_for

__all__ = ["Findings", "run_inputs"]

_MOST_SECONDS = 10
_MOST_FINDS = 20


@dataclass
class Findings:
    """What a run has seen.

    Attributes:
        inputs: how many were run.
        outcomes: how often each word was the answer.
        finds: what must not be: a description for each place it came from.
        numbers: the input of each find.
    """

    inputs: int = 0
    outcomes: Counter = field(default_factory=Counter)
    finds: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def note(self, place: str, text: str, number: int) -> None:
        """A find; of those from one place the first is kept."""
        if place not in self.finds and len(self.finds) < _MOST_FINDS:
            self.finds[place], self.numbers[place] = text, number


def _limit_memory(more: int | None) -> None:
    if more is None:
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * mmap.PAGESIZE + more, resource.RLIM_INFINITY))


def _run_child(target: Target, seed: int, first: int, deadline: float, most: int, place: mmap.mmap) -> Findings:
    """Inputs from `first` on, until the deadline; the number at work stands in shared memory."""
    found = Findings()
    _limit_memory(target.memory_bytes)
    number = first
    while number - first < most and (number % 16 or time.monotonic() < deadline):
        place[:8] = struct.pack("<q", number)
        try:
            found.outcomes[target.run(generator_for(seed, number))] += 1
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__}: {error}"
            key = str(error) if isinstance(error, Find) else f"{type(error).__name__} {frame.filename}:{frame.lineno}"
            found.outcomes[f"find: {key:.60}"] += 1
            found.note(key, f"{kind}\n{traceback.format_exc()}", number)
        number += 1
    found.inputs = number - first
    return found


def _merge(into: Findings, message: dict) -> None:
    into.inputs += message["inputs"]
    into.outcomes.update(message["outcomes"])
    for key, text in message["finds"].items():
        into.note(key, text, message["numbers"][key])


def _wait(child: int, pipe: int, place: mmap.mmap) -> tuple[bytes, str | None]:
    """What a child sent, and how it ended if that was not well."""
    os.set_blocking(pipe, False)
    sent, last, since = b"", None, time.monotonic()
    while True:
        try:
            piece = os.read(pipe, 1 << 16)
            if not piece:
                _, status = os.waitpid(child, 0)
                return sent, None if status == 0 else f"the process ended by {_ending(status)}"
            sent += piece
        except BlockingIOError:
            time.sleep(0.02)
        now = place[:8]
        if now != last:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > _MOST_SECONDS:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return b"", f"took more than {_MOST_SECONDS} seconds"


def _ending(status: int) -> str:
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"


def run_inputs(target: Target, seed: int, seconds: float, most: int = 1 << 62, first: int = 0) -> Findings:
    """Run inputs for some seconds, or so many of them.

    A child that dies or hangs costs what it had counted; another one goes on behind the input that did it.
    """
    found, number, deadline = Findings(), first, time.monotonic() + seconds
    place = mmap.mmap(-1, 8)
    while number - first < most and time.monotonic() < deadline and len(found.finds) < _MOST_FINDS:
        reading, writing = os.pipe()
        place[:8] = struct.pack("<q", number)
        child = os.fork()
        if child == 0:
            os.close(reading)
            _live(target, seed, number, deadline, min(20_000, most - (number - first)), place, writing)
        os.close(writing)
        sent, ending = _wait(child, reading, place)
        os.close(reading)
        at = struct.unpack("<q", place[:8])[0]
        if ending is None:
            _merge(found, json.loads(sent))
        else:
            found.inputs += at - number + 1
            found.outcomes[f"find: {ending}"] += 1
            found.note(f"{ending} at input {at}", ending, at)
        number = at + 1
    return found


def _live(target: Target, seed: int, first: int, deadline: float, most: int, place: mmap.mmap, pipe: int) -> None:
    """A child's life; it never comes back."""
    code = 1
    try:
        sent = json.dumps(_run_child(target, seed, first, deadline, most, place).__dict__).encode()
        while sent:
            sent = sent[os.write(pipe, sent) :]
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
