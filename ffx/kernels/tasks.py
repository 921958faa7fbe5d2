"""The work loop: compiled code in which a worker thread takes samples until Python is wanted.

A *stage* is a row of native steps that one batch goes through sample by sample. It lies in memory as
`int64` words (indices below). A *task* is a range of samples of a stage. Tasks wait in a ring of
`int64[capacity, 3]` rows (stage's address, first, stop), to be taken in order by whichever thread is
free: the counters of a `control` array say how far the ring is published and taken. A row is written
again only after its stage is done, because a slot's stage has at most `batch` tasks and the ring has
room for all slots.

A worker that completes a stage says so by a byte to a pipe, the *bell*, and goes on: it would have to
wait for the GIL to tell Python itself, beside a busy main thread for several milliseconds.
"""

from __future__ import annotations

import ctypes
import sys

import llvmlite.binding
import numpy as np
from numba import types

from .compiling import compiled
from .memory import (
    atomic_add,
    atomic_load,
    atomic_store,
    call_kernel,
    compare_and_swap,
    load_i64,
    store_i64,
)
from .step import OK

__all__ = [
    "BELL",
    "CALLS",
    "CONTROL_WORDS",
    "DONE",
    "ERROR",
    "FAILURES",
    "IDLE",
    "PUBLISHED",
    "STEPS",
    "STOP",
    "STOPPED",
    "TAKEN",
    "TOTAL",
    "WANTED",
    "is_complete",
    "publish",
    "set_flag",
    "work",
]

# A stage's words.
STEPS = 0  # how many steps
TOTAL = 1  # samples
DONE = 2  # samples that are done
ERROR = 3  # 0, or 1 + the index of the step that failed, shifted by 48, or'ed with its failure
FAILURES = 4  # address of int64[batch]: what ERROR would say of each sample, written where one fails; or 0
FIRST_STEP = 5  # then (kernel's address, step's address) of each step

# The control array's words, a cache line apart so that the counters do not disturb each other.
TAKEN = 0
PUBLISHED = 8
STOP = 16
CALLS = 24
BELL = 32  # the file to write a byte to when a stage is complete; 0: `work` returns the stage's address instead
CONTROL_WORDS = 40

# What `work` returns when it does not return a stage's address.
IDLE = 0
STOPPED = -1
WANTED = -2

# A worker without work looks for some so often before it goes to sleep in Python, from which it comes back
# through the GIL; the pauses grow from the first number of microseconds to the second.
_LOOKS = 40
_SHORTEST_PAUSE, _LONGEST_PAUSE = 10, 500


def _address(library: str | None, name: str) -> int:
    return ctypes.cast(getattr(ctypes.CDLL(library), name), ctypes.c_void_p).value


# By names of our own, since the C library's differ between systems; numba's cache on disk keeps only names.
_ON_WINDOWS = sys.platform == "win32"
llvmlite.binding.add_symbol("ffx_write", _address("ucrtbase", "_write") if _ON_WINDOWS else _address(None, "write"))
llvmlite.binding.add_symbol("ffx_pause", _address("kernel32", "Sleep") if _ON_WINDOWS else _address(None, "usleep"))
_write = types.ExternalFunction("ffx_write", types.int64(types.int32, types.int64, types.int64))
_pause = types.ExternalFunction("ffx_pause", types.int32(types.uint32))
_PAUSES_IN_MILLISECONDS = _ON_WINDOWS


@compiled
def _run(stage, first, stop, thread):
    """Take samples through a stage's steps; True for whoever finishes the stage."""
    steps = load_i64(stage + 8 * STEPS)
    # Read before this thread says that it is done: from then on the stage may serve another batch.
    total = load_i64(stage + 8 * TOTAL)
    failures = load_i64(stage + 8 * FAILURES)
    for position in range(first, stop):
        for index in range(steps):
            row = stage + 8 * (FIRST_STEP + 2 * index)
            outcome = call_kernel(load_i64(row), load_i64(row + 8), position, position + 1, thread)
            if outcome != OK:
                problem = ((index + 1) << 48) | outcome
                if failures != 0:
                    store_i64(failures + 8 * position, problem)
                # Here the first one is kept.
                compare_and_swap(stage + 8 * ERROR, 0, problem)
                break
    count = stop - first
    return atomic_add(stage + 8 * DONE, count) + count == total


@compiled
def work(control, ring, capacity, thread):
    """Do tasks until something needs Python.

    Args:
        control, ring: addresses of the control array and the ring.
        capacity: rows of the ring.
        thread: address of this thread's words (`ffx.kernels.memory`).

    Returns:
        `IDLE` (nothing to take for a while), `STOPPED`, `WANTED` (somebody waits with a Python call), or,
        without a bell, the address of a stage that this thread completed.
    """
    looks = 0
    pause = _SHORTEST_PAUSE
    bell = load_i64(control + 8 * BELL)
    while True:
        if atomic_load(control + 8 * STOP) != 0:
            return STOPPED
        if atomic_load(control + 8 * CALLS) > 0:
            return WANTED
        task = atomic_load(control + 8 * TAKEN)
        if task >= atomic_load(control + 8 * PUBLISHED):
            if bell == 0 or looks == _LOOKS:
                return IDLE
            _pause(np.uint32(max(pause // 1000, 1) if _PAUSES_IN_MILLISECONDS else pause))
            looks += 1
            pause = min(2 * pause, _LONGEST_PAUSE)
            continue
        looks, pause = 0, _SHORTEST_PAUSE
        if not compare_and_swap(control + 8 * TAKEN, task, task + 1):
            continue
        row = ring + 24 * (task % capacity)
        stage = load_i64(row)
        if _run(stage, load_i64(row + 8), load_i64(row + 16), thread):
            if bell == 0:
                return stage
            # Its value means nothing. A full pipe refuses it, and has rung enough.
            _write(np.int32(bell), control, 1)


@compiled
def is_complete(stage):
    """Whether all samples of a published stage are done, and all that was stored for them is visible."""
    return atomic_load(stage + 8 * DONE) >= load_i64(stage + 8 * TOTAL)


@compiled
def publish(control, ring, capacity, stage, begin, end_of_range, chunk):
    """Append tasks for a stage's samples `begin … end_of_range - 1`, `chunk` to a task (one caller at a time)."""
    store_i64(stage + 8 * TOTAL, end_of_range - begin)
    store_i64(stage + 8 * DONE, 0)
    store_i64(stage + 8 * ERROR, 0)
    end = load_i64(control + 8 * PUBLISHED)
    for first in range(begin, end_of_range, chunk):
        row = ring + 24 * (end % capacity)
        store_i64(row, stage)
        store_i64(row + 8, first)
        store_i64(row + 16, min(first + chunk, end_of_range))
        end += 1
    atomic_store(control + 8 * PUBLISHED, np.int64(end))


@compiled
def set_flag(control, index, value):
    """Set one of the control array's words so that all threads see it."""
    atomic_store(control + 8 * index, value)
