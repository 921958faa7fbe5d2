"""A simulated pool: jobs that are matched, held, evicted and tried again on a schedule that a seed decides.

The same schedule is played for several ways of running the jobs (`Way`); what happens goes into event logs in
HTCondor's form. The pool's properties are chosen so that the benchmark's own way (`WAYS["archive"]`) comes near the OSG
document's shares; what the other ways then save follows from the same stalls and evictions. No figure here is measured
on a pool.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .event_log import EventLog

__all__ = ["WAYS", "Eviction", "Plan", "Pool", "Times", "Way", "make_plans", "play"]

_HOUR = 3600.0
_MINUTE = 60.0
ARCHIVE_GB = 137.0  # the document's
# 1,281,167 images of 54 kB: writer/README.md, `500 1.0 90`.
FILE_GB = 69.0
# All later ones read the cache on the machine's disk.
_EPOCHS = 5
_PAUSE_SECONDS = 10 * _MINUTE
_OUTPUT_SECONDS = 30.0
_WRONG_COMPUTE_SECONDS = 0.2 * _HOUR


@dataclass(frozen=True)
class Way:
    """How jobs are run.

    Attributes:
        by_range: data come by ranges while the job computes; else the whole archive comes before.
        checkpoint_minutes: minutes of computing between checkpoints that the access point keeps; 0: none.
    """

    by_range: bool = False
    checkpoint_minutes: float = 0.0


WAYS = {
    "archive": Way(),
    "archive, checkpoints": Way(checkpoint_minutes=30),
    "ranges": Way(by_range=True),
    "ranges, checkpoints": Way(by_range=True, checkpoint_minutes=30),
}


@dataclass(frozen=True)
class Pool:
    """What a pool is like, and its jobs.

    Attributes:
        jobs, held, wrong: jobs, those that are held for good, those that end with a wrong output.
        compute_hours: of a training, in the mean; the document has 318.6 hours of 79 jobs.
        megabytes_a_second: of a transfer, in the median of all sites.
        gigabytes_a_stall: between two stalls of a transfer, in the mean, at a usual site.
        bad_sites: share of jobs whose sites stall so many times as often.
        bad_times: how many.
        stall_hours: that a stalled transfer as a whole waits before it is given up, in the mean.
        range_seconds: that a stalled range waits before it is asked for again: `RemoteOptions.timeout_seconds`.
        hours_an_eviction: of computing between two evictions, in the mean.
        hard: share of evictions without a warning.
        days: within which jobs are matched first.
    """

    jobs: int = 100
    held: int = 18
    wrong: int = 3
    compute_hours: float = 4.03
    megabytes_a_second: float = 70.0
    gigabytes_a_stall: float = 300.0
    bad_sites: float = 0.2
    bad_times: float = 3.0
    stall_hours: float = 2.5
    range_seconds: float = 30.0
    hours_an_eviction: float = 30.0
    hard: float = 0.3
    days: float = 5.0


@dataclass(frozen=True)
class Times:
    """Seconds that a training takes beside computing.

    Attributes:
        start: from its start to its first step.
        save: from a signal to its end, with a checkpoint written.
    """

    start: float = 10.0
    save: float = 1.0


@dataclass(frozen=True)
class Eviction:
    """The end of an attempt: after which share of the whole training, and whether without a warning."""

    share: float
    hard: bool


@dataclass
class Plan:
    """What a job will meet, whichever way it is run.

    Attributes:
        number: of the job.
        end: "success", "held" or "wrong".
        matched: seconds after the submission.
        compute: seconds of the training.
        bytes_a_second: of its sites.
        stalls: gigabytes from one stall to the next.
        waits: seconds that a stalled transfer takes until it is given up.
        evictions: seconds of running from one eviction to the next, and whether it comes without a warning.
        rests: seconds in the queue until the next match.
    """

    number: int
    end: str
    matched: float
    compute: float
    bytes_a_second: float
    stalls: np.ndarray
    waits: np.ndarray
    evictions: list[tuple[float, bool]]
    rests: np.ndarray


# More than any job meets before it is done.
_DRAWS = 400


def make_plans(pool: Pool, seed: int) -> list[Plan]:
    """What all jobs will meet: the same for the same pool and seed."""
    order = np.random.default_rng([seed, 0]).permutation(pool.jobs)
    ends = dict.fromkeys(order[: pool.held].tolist(), "held")
    ends |= dict.fromkeys(order[pool.held : pool.held + pool.wrong].tolist(), "wrong")
    return [_plan(pool, seed, number, ends.get(number, "success")) for number in range(pool.jobs)]


def _plan(pool: Pool, seed: int, number: int, end: str) -> Plan:
    draw = np.random.default_rng([seed, 1, number])
    bad = draw.random() < pool.bad_sites
    spread = draw.lognormal(0, 0.4)
    return Plan(
        number=number,
        end=end,
        matched=draw.uniform(0, pool.days * 24) * _HOUR,
        # A lognormal's mean is above its median.
        compute=pool.compute_hours * _HOUR * draw.lognormal(-(0.25**2) / 2, 0.25),
        bytes_a_second=pool.megabytes_a_second * 1e6 * spread,
        stalls=draw.exponential(pool.gigabytes_a_stall / (pool.bad_times if bad else 1), _DRAWS),
        waits=draw.exponential(pool.stall_hours * _HOUR, _DRAWS),
        evictions=list(
            zip(
                draw.exponential(pool.hours_an_eviction * _HOUR, _DRAWS).tolist(),
                (draw.random(_DRAWS) < pool.hard).tolist(),
                strict=True,
            )
        ),
        rests=draw.exponential(30 * _MINUTE, _DRAWS),
    )


def play(plans: Sequence[Plan], pool: Pool, way: Way, times: dict[int, Times], path: Path) -> dict[int, list[Eviction]]:
    """Run all jobs one way, write their event log, and say which evictions each met.

    Args:
        plans: of `make_plans`.
        pool: what they were made for.
        way: how the jobs are run.
        times: of jobs, by number; -1: of all others.
        path: of the log.
    """
    log = EventLog(cluster=1 + list(WAYS.values()).index(way) if way in WAYS.values() else 1)
    met = {}
    for plan in plans:
        job = _Playing(plan, pool, way, times.get(plan.number, times[-1]), log)
        job.run()
        met[plan.number] = job.met
    log.write(path)
    return met


class _Playing:
    """One job, from its submission to its end."""

    def __init__(self, plan: Plan, pool: Pool, way: Way, times: Times, log: EventLog) -> None:
        self._plan, self._pool, self._way, self._times, self._log = plan, pool, way, times, log
        self._number = plan.number
        self._time = plan.matched
        self._stall = self._rest = 0
        self._done = 0.0
        self.met: list[Eviction] = []

    def run(self) -> None:
        """Play all of it."""
        self._log.submitted(self._number, 0)
        for length, hard in self._plan.evictions:
            self._fetch()
            if self._plan.end == "held":
                return self._log.held(self._number, self._time + 1, "Transfer input files failure at execution point")
            self._log.executing(self._number, self._time, f"slot1@execution-point-{self._number}")
            if self._plan.end == "wrong":
                return self._log.terminated(self._number, self._time + _WRONG_COMPUTE_SECONDS, status=1)
            if self._compute(length, hard):
                self._log.transfer(self._number, self._time, self._time + _OUTPUT_SECONDS, output=True)
                return self._log.terminated(self._number, self._time + _OUTPUT_SECONDS)
            self._wait()
        raise AssertionError(f"job {self._number} met more evictions than were drawn")

    def _wait(self) -> None:
        self._time += self._plan.rests[self._rest]
        self._rest += 1

    def _fetch(self) -> None:
        """The archive, whole, however often that takes; by ranges the job begins at once."""
        if self._way.by_range:
            self._log.transfer(self._number, self._time, self._time + _MINUTE)
            self._time += _MINUTE
            return
        while True:
            gigabytes, wait = self._plan.stalls[self._stall], self._plan.waits[self._stall]
            self._stall += 1
            seconds = min(gigabytes, ARCHIVE_GB) * 1e9 / self._plan.bytes_a_second
            if gigabytes >= ARCHIVE_GB:
                self._log.transfer(self._number, self._time, self._time + seconds)
                self._time += seconds
                return
            self._log.transfer(self._number, self._time, None)
            self._time += seconds + wait
            self._log.failed_shadow(self._number, self._time, "Error from slot1: a transfer of input files stalled")
            self._time += _PAUSE_SECONDS

    def _wait_for_ranges(self) -> float:
        """Seconds that computing waits: for ranges that stall, and for sites that are slower than the first epoch."""
        if not self._way.by_range:
            return 0.0
        epoch = self._plan.compute / _EPOCHS
        gigabytes, seconds = 0.0, max(FILE_GB * 1e9 / self._plan.bytes_a_second - epoch, 0.0)
        while True:
            gigabytes += self._plan.stalls[self._stall]
            self._stall += 1
            if gigabytes >= FILE_GB:
                return seconds
            seconds += self._pool.range_seconds

    def _compute(self, length: float, hard: bool) -> bool:
        """Run until the training is done (true), or for `length` seconds, when the job is evicted."""
        stop = self._time + length
        self._time += self._times.start + self._wait_for_ranges()
        period = self._way.checkpoint_minutes * _MINUTE or float("inf")
        kept = self._done
        while True:
            part = min(period, self._plan.compute - self._done)
            if self._time + part >= stop:
                self._evict(stop, kept, hard)
                return False
            self._time, self._done = self._time + part, self._done + part
            if self._done >= self._plan.compute:
                return True
            # Written, taken by HTCondor, and the job begins again where it is.
            self._time += self._times.save
            self._log.transfer(self._number, self._time, self._time + _OUTPUT_SECONDS, output=True)
            self._time += _OUTPUT_SECONDS + self._times.start
            kept = self._done
            if self._time >= stop:
                self._evict(self._time, kept, hard)
                return False

    def _evict(self, stop: float, kept: float, hard: bool) -> None:
        reached = self._done + max(stop - self._time, 0.0)
        self.met.append(Eviction(reached / self._plan.compute, hard))
        saves = self._way.checkpoint_minutes > 0 and not hard and reached > kept
        self._time = max(stop, self._time) if not saves else max(stop, self._time) + self._times.save
        self._log.evicted(self._number, self._time, checkpointed=saves)
        self._done = reached if saves else kept if self._way.checkpoint_minutes else 0.0
