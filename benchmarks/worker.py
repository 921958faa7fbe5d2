"""One contender in a process of its own: prepares its work, then does a round for each line that it is sent.

Started by `harness`; speaks JSON, one object a line, over the file descriptors that it gets.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

__all__ = ["cpu_seconds", "descendants", "main", "run_epoch", "timed"]


def _ticks_and_children(process: int) -> tuple[int, list[int]]:
    """Return user and system ticks of a process with its reaped children, and its living children."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    children: list[int] = []
    for task in Path(f"/proc/{process}/task").iterdir():
        children += map(int, (task / "children").read_text().split())
    return sum(map(int, fields[11:15])), children


def descendants(process: int) -> list[int]:
    """Numbers of a process and of all processes that it and its descendants started and that still live."""
    found, waiting = [], [process]
    while waiting:
        found.append(waiting.pop())
        try:
            waiting += _ticks_and_children(found[-1])[1]
        except OSError:  # ended since it was listed
            continue
    return found


def cpu_seconds() -> float:
    """Return the processor time of this process and all its descendants, living or reaped, in seconds."""
    if not Path("/proc/self/stat").exists():
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system
    ticks = 0
    for process in descendants(os.getpid()):
        try:
            ticks += _ticks_and_children(process)[0]
        except OSError:  # ended since it was listed
            continue
    return ticks / os.sysconf("SC_CLK_TCK")


def run_epoch(loader: Iterable[Any]) -> dict[str, Any]:
    """Go once through `loader`; return images, wall seconds, CPU seconds, and seconds to the first batch."""
    images, first = 0, None
    start_cpu, start = cpu_seconds(), time.perf_counter()
    for batch in loader:
        images += len(batch[0])
        if first is None:
            first = time.perf_counter() - start
    return {"images": images, "wall": time.perf_counter() - start, "cpu": cpu_seconds() - start_cpu, "first": first}


def timed(work: Callable[[], int]) -> dict[str, Any]:
    """Call `work`, which returns how many images it did; return images, wall seconds and CPU seconds."""
    # The process's own clock: /proc counts in hundredths of a second, too coarse for a kernel.
    start_cpu, start = time.process_time(), time.perf_counter()
    images = work()
    return {"images": images, "wall": time.perf_counter() - start, "cpu": time.process_time() - start_cpu}


def _requests() -> queue.SimpleQueue[None]:
    """Return a queue with an item for each request from standard input; when that ends, the process ends."""
    requests: queue.SimpleQueue[None] = queue.SimpleQueue()

    def read() -> None:
        # Not through sys.stdin: worker processes that a peer forks close it, and would wait for its lock for ever.
        while data := os.read(0, 4096):
            for _ in range(data.count(b"\n")):
                requests.put(None)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return requests


def _end_with_error(failure: threading.ExceptHookArgs) -> None:
    """An error in a thread of FFCV leaves its consumer waiting for ever: end the process instead."""
    traceback.print_exception(failure.exc_type, failure.exc_value, failure.exc_traceback)
    os._exit(1)


def main() -> None:
    """Prepare the work that the command line names, then do a round of it for each line until standard input ends."""
    request = json.loads(sys.argv[1])
    if request["cores"] and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, request["cores"])
    # Answers go where nothing else is printed: peers write to standard output.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    requests = _requests()
    threading.excepthook = _end_with_error
    module, _, function = request["function"].partition(":")
    do_round = getattr(importlib.import_module(module), function)(**request["arguments"])
    answers.write(json.dumps({"ready": True}) + "\n")
    while True:
        requests.get()
        answers.write(json.dumps(do_round()) + "\n")


if __name__ == "__main__":
    main()
