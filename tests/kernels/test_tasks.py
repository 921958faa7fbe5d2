"""The work loop: every sample exactly once for any threads, failures kept, Python called when it is wanted."""

import threading
import time

import numpy as np
import pytest
from numba import cfunc

from ffx.kernels import tasks
from ffx.kernels.memory import atomic_add, load_i64, store_i64
from ffx.kernels.step import KERNEL_SIGNATURE, OK, OWN, SOURCE, TARGET, failure, word

STEP_WORDS = OWN + 1
ALLOWED_SECONDS = 60


@cfunc(KERNEL_SIGNATURE)
def count_visit(step, first, stop, thread):
    """Adds one to the sample's counter, and fails with the status that SOURCE has for it."""
    for position in range(first, stop):
        atomic_add(word(step, TARGET) + 8 * position, 1)
        status = load_i64(word(step, SOURCE) + 8 * position)
        if status != OK:
            return failure(position, status)
    return OK


@cfunc(KERNEL_SIGNATURE)
def add_source(step, first, stop, thread):
    """The sample's TARGET becomes ten times itself and its SOURCE: order of steps shows."""
    for position in range(first, stop):
        target = word(step, TARGET) + 8 * position
        store_i64(target, 10 * load_i64(target) + load_i64(word(step, SOURCE) + 8 * position))
    return OK


class Ring:
    """A ring of tasks with its control array."""

    def __init__(self, capacity: int) -> None:
        self.control = np.zeros(tasks.CONTROL_WORDS, dtype=np.int64)
        self.rows = np.zeros((capacity, 3), dtype=np.int64)

    @property
    def addresses(self):
        return self.control.ctypes.data, self.rows.ctypes.data, len(self.rows)

    def publish(self, stage, total, chunk=1):
        tasks.publish(*self.addresses, stage.address, 0, total, chunk)

    def work(self):
        return tasks.work(*self.addresses, 0)

    def set(self, flag, value):
        tasks.set_flag(self.control.ctypes.data, flag, value)


class VisitedStage:
    """A stage of `steps` steps that count how often each sample came, and what each is to return."""

    def __init__(self, samples: int, steps: int = 1, kernel=count_visit) -> None:
        self.visits = np.zeros((steps, samples), dtype=np.int64)
        self.sources = np.zeros((steps, samples), dtype=np.int64)
        self.words = np.zeros((steps, STEP_WORDS), dtype=np.int64)
        self.stage = np.zeros(tasks.FIRST_STEP + 2 * steps, dtype=np.int64)
        self.stage[tasks.STEPS] = steps
        for step in range(steps):
            self.words[step, TARGET] = self.visits[step].ctypes.data
            self.words[step, SOURCE] = self.sources[step].ctypes.data
            self.stage[tasks.FIRST_STEP + 2 * step] = kernel.address
            self.stage[tasks.FIRST_STEP + 2 * step + 1] = self.words[step].ctypes.data

    @property
    def address(self) -> int:
        return self.stage.ctypes.data

    @property
    def error(self):
        """`(step, position, status)` of the failure that was kept, or `None`."""
        error = int(self.stage[tasks.ERROR])
        return None if error == 0 else ((error >> 48) - 1, ((error & 0xFFFFFFFFFFFF) >> 8) - 1, error & 0xFF)


@pytest.fixture
def run_threads():
    """Starts threads that work on a ring and note which stages they completed; ends them after the test."""
    started, stop, failures = [], threading.Event(), []

    def run(ring, count):
        completed = []

        def loop():
            try:
                while not stop.is_set():
                    outcome = ring.work()
                    if outcome == tasks.IDLE:
                        time.sleep(1e-4)
                    else:
                        completed.append(outcome)
            except BaseException as error:
                failures.append(error)

        for _ in range(count):
            started.append(threading.Thread(target=loop))
            started[-1].start()
        return completed

    yield run
    stop.set()
    for thread in started:
        thread.join(ALLOWED_SECONDS)
    assert not failures and not any(thread.is_alive() for thread in started)


def wait_for(condition):
    deadline = time.monotonic() + ALLOWED_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "the work did not end"
        time.sleep(1e-4)


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_every_sample_of_every_stage_comes_exactly_once(run_threads, threads, chunk):
    totals = [64, 1, 7, 50, 33] * 8
    ring = Ring(sum(totals))
    stages = [VisitedStage(total) for total in totals]
    completed = run_threads(ring, threads)
    for stage, total in zip(stages, totals):
        ring.publish(stage, total, chunk)
    wait_for(lambda: len(completed) >= len(stages))
    assert sorted(completed) == sorted(stage.address for stage in stages)
    assert all((stage.visits == 1).all() and stage.error is None for stage in stages)


def test_a_ring_much_smaller_than_the_work_goes_round(run_threads):
    ring, stages = Ring(20), [VisitedStage(10) for _ in range(2)]
    completed = run_threads(ring, 3)
    # Batches of differing sizes: whoever is late with one must not take the next one's size for its own.
    totals = [1 + turn * 7 % 10 for turn in range(400)]
    for turn, total in enumerate(totals):
        ring.publish(stages[turn % 2], total)
        # As in the loader: a stage is published again only when it is complete.
        wait_for(lambda turn=turn: len(completed) >= turn)
    wait_for(lambda: len(completed) >= 400)
    assert len(completed) == 400
    for number, stage in enumerate(stages):
        expected = [sum(total > position for total in totals[number::2]) for position in range(10)]
        assert stage.visits[0].tolist() == expected


def test_steps_of_a_sample_run_in_order():
    stage = VisitedStage(5, steps=3, kernel=add_source)
    stage.words[:, TARGET] = stage.visits[0].ctypes.data
    stage.sources[:] = [[1], [2], [3]]
    ring = Ring(5)
    ring.publish(stage, 5, chunk=2)
    assert ring.work() == stage.address
    assert stage.visits[0].tolist() == [123] * 5


def test_only_the_first_samples_of_a_short_batch_are_made():
    ring, stage = Ring(10), VisitedStage(10)
    ring.publish(stage, 4)
    assert ring.work() == stage.address
    assert stage.visits[0].tolist() == [1] * 4 + [0] * 6


@pytest.mark.parametrize("chunk", [1, 8])
def test_a_failure_is_kept_and_the_other_samples_go_on(chunk):
    ring, stage = Ring(8), VisitedStage(8, steps=3)
    stage.sources[1, 5] = 7
    ring.publish(stage, 8, chunk)
    assert ring.work() == stage.address
    assert stage.error == (1, 5, 7)
    assert stage.visits.tolist() == [[1] * 8, [1] * 8, [1] * 5 + [0] + [1] * 2]


def test_of_several_failures_the_first_in_time_is_kept():
    ring, stage = Ring(8), VisitedStage(8, steps=2)
    stage.sources[0, 6], stage.sources[1, 2], stage.sources[0, 3] = 1, 2, 3
    ring.publish(stage, 8)
    ring.work()
    assert stage.error == (1, 2, 2)


def test_a_stage_that_failed_can_be_published_again():
    ring, stage = Ring(4), VisitedStage(4)
    stage.sources[0, 0] = 9
    ring.publish(stage, 4)
    assert ring.work() == stage.address and stage.error == (0, 0, 9)
    stage.sources[:] = 0
    ring.publish(stage, 4)
    assert ring.work() == stage.address and stage.error is None
    assert stage.visits[0].tolist() == [2] * 4


def test_large_positions_and_statuses_are_told_apart():
    ring, stage = Ring(1), VisitedStage(300_000)
    stage.sources[0, 299_999] = 255
    ring.publish(stage, 300_000, chunk=300_000)
    assert ring.work() == stage.address and stage.error == (0, 299_999, 255)


def test_a_worker_comes_back_when_python_is_wanted():
    ring, stage = Ring(4), VisitedStage(4)
    assert ring.work() == tasks.IDLE
    ring.publish(stage, 4)
    ring.set(tasks.CALLS, 1)
    assert ring.work() == tasks.WANTED
    ring.set(tasks.STOP, 1)
    assert ring.work() == tasks.STOPPED
    assert (stage.visits == 0).all()
    ring.set(tasks.STOP, 0)
    ring.set(tasks.CALLS, 0)
    assert ring.work() == stage.address
    assert ring.work() == tasks.IDLE


def test_stages_are_taken_in_the_order_in_which_they_were_published():
    ring, stages = Ring(12), [VisitedStage(4) for _ in range(3)]
    for stage in stages:
        ring.publish(stage, 4)
    assert [ring.work() for _ in stages] == [stage.address for stage in stages]
