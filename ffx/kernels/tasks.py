"""The work loop: compiled code in which a worker thread takes samples until Python is wanted.

A *stage* is a row of native steps that one batch goes through sample by sample. It lies in memory as
`int64` words (indices below). A *task* is a range of samples of a stage. Tasks wait in a ring of
`int64[capacity, 3]` rows (stage's address, first, stop), to be taken in order by whichever thread is
free: the counters of a `control` array say how far the ring is published and taken. A row is written
again only after its stage is done, because a slot's stage has at most `batch` tasks and the ring has
room for all slots.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .memory import (
    KERNEL_OPTIONS,
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
    "CALLS",
    "CONTROL_WORDS",
    "DONE",
    "ERROR",
    "IDLE",
    "PUBLISHED",
    "STEPS",
    "STOP",
    "STOPPED",
    "TAKEN",
    "TOTAL",
    "WANTED",
    "publish",
    "set_flag",
    "work",
]

# A stage's words.
STEPS = 0  # how many steps
TOTAL = 1  # samples
DONE = 2  # samples that are done
ERROR = 3  # 0, or 1 + the index of the step that failed, shifted by 48, or'ed with its failure
FIRST_STEP = 4  # then (kernel's address, step's address) of each step

# The control array's words, a cache line apart so that the counters do not disturb each other.
TAKEN = 0
PUBLISHED = 8
STOP = 16
CALLS = 24
CONTROL_WORDS = 32

# What `work` returns when it does not return a stage's address.
IDLE = 0
STOPPED = -1
WANTED = -2


@njit(**KERNEL_OPTIONS)
def _run(stage, first, stop, thread):
    """Take samples through a stage's steps; True for whoever finishes the stage."""
    steps = load_i64(stage + 8 * STEPS)
    # Read before this thread says that it is done: from then on the stage may serve another batch.
    total = load_i64(stage + 8 * TOTAL)
    for position in range(first, stop):
        for index in range(steps):
            row = stage + 8 * (FIRST_STEP + 2 * index)
            outcome = call_kernel(load_i64(row), load_i64(row + 8), position, position + 1, thread)
            if outcome != OK:
                # The first failure is kept; the batch is lost anyway.
                compare_and_swap(stage + 8 * ERROR, 0, ((index + 1) << 48) | outcome)
                break
    count = stop - first
    return atomic_add(stage + 8 * DONE, count) + count == total


@njit(**KERNEL_OPTIONS)
def work(control, ring, capacity, thread):
    """Do tasks until something needs Python.

    Args:
        control, ring: addresses of the control array and the ring.
        capacity: rows of the ring.
        thread: address of this thread's words (`ffx.kernels.memory`).

    Returns:
        The address of a stage that this thread completed, `IDLE` (nothing to take), `STOPPED`, or
        `WANTED` (somebody waits with a Python call).
    """
    while True:
        if atomic_load(control + 8 * STOP) != 0:
            return STOPPED
        if atomic_load(control + 8 * CALLS) > 0:
            return WANTED
        task = atomic_load(control + 8 * TAKEN)
        if task >= atomic_load(control + 8 * PUBLISHED):
            return IDLE
        if not compare_and_swap(control + 8 * TAKEN, task, task + 1):
            continue
        row = ring + 24 * (task % capacity)
        stage = load_i64(row)
        if _run(stage, load_i64(row + 8), load_i64(row + 16), thread):
            return stage


@njit(**KERNEL_OPTIONS)
def publish(control, ring, capacity, stage, total, chunk):
    """Append a stage's tasks, of `chunk` samples each, to the ring (one caller at a time)."""
    store_i64(stage + 8 * TOTAL, total)
    store_i64(stage + 8 * DONE, 0)
    store_i64(stage + 8 * ERROR, 0)
    end = load_i64(control + 8 * PUBLISHED)
    for first in range(0, total, chunk):
        row = ring + 24 * (end % capacity)
        store_i64(row, stage)
        store_i64(row + 8, first)
        store_i64(row + 16, min(first + chunk, total))
        end += 1
    atomic_store(control + 8 * PUBLISHED, np.int64(end))


@njit(**KERNEL_OPTIONS)
def set_flag(control, index, value):
    """Set one of the control array's words so that all threads see it."""
    atomic_store(control + 8 * index, value)
