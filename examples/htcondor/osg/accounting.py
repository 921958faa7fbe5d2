"""Where the hours of many jobs went: the OSG document's table, and its observations, from jobs and their attempts."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from .events import Attempt, Job

__all__ = ["Account", "account_of", "observations", "table"]

_HOUR = 3600.0


@dataclass(frozen=True)
class Account:
    """Jobs by what became of them, and hours by what they were spent on.

    Attributes:
        jobs, successes, held, wrong, others: how many jobs.
        compute, transfer: of successful jobs, for what they came to; with checkpoints, compute of all their attempts
            whose work was kept.
        retried: transfers of successful jobs that had to be made again.
        preempted_compute, preempted_transfer: of attempts of any job that the pool ended after the job had begun, and
            that no checkpoint kept.
        wrong_compute, wrong_transfer: of jobs with wrong outputs.
        held_hours: all else that held jobs took; the document does not count it.
        mean, median: of successful jobs, from the first match to the end.
        elapsed: from the first submission to the last end.
    """

    jobs: int
    successes: int
    held: int
    wrong: int
    others: int
    compute: float
    transfer: float
    retried: float
    preempted_compute: float
    preempted_transfer: float
    wrong_compute: float
    wrong_transfer: float
    held_hours: float
    mean: float
    median: float
    elapsed: float

    @property
    def total(self) -> float:
        """Hours that the document's table has: all seven of its kinds."""
        return (
            self.compute
            + self.transfer
            + self.retried
            + self.preempted_compute
            + self.preempted_transfer
            + self.wrong_compute
            + self.wrong_transfer
        )

    def as_dict(self) -> dict[str, float]:
        """All of it, with the total."""
        return {**asdict(self), "total": self.total}


def account_of(jobs: Sequence[Job]) -> Account:
    """Sort jobs and hours."""
    by = {name: [job for job in jobs if job.outcome == name] for name in ("success", "held", "wrong")}
    preempted = [attempt for job in jobs for attempt in job.attempts if _is_preempted(attempt)]
    successes = [attempt for job in by["success"] for attempt in job.attempts]
    wrong = [attempt for job in by["wrong"] for attempt in job.attempts]
    held = [attempt for job in by["held"] for attempt in job.attempts]
    # A job's end counts from its first attempt, and one that never had any took no time.
    times = [job.seconds_from_match / _HOUR for job in by["success"] if job.attempts]
    moments = [time for job in jobs for time in (job.submitted, job.ended) if time is not None]
    counts = {name: len(own) for name, own in by.items()}
    return Account(
        jobs=len(jobs),
        successes=counts["success"],
        held=counts["held"],
        wrong=counts["wrong"],
        others=len(jobs) - sum(counts.values()),
        compute=_hours(successes, lambda one: one.kept),
        transfer=_hours(successes, lambda one: one.transfer * (not _is_preempted(one))),
        retried=_hours(successes, lambda one: one.retried),
        preempted_compute=_hours(preempted, lambda one: one.compute - one.kept),
        preempted_transfer=_hours(preempted, lambda one: one.transfer),
        wrong_compute=_hours(wrong, lambda one: one.kept),
        wrong_transfer=_hours(wrong, lambda one: one.retried + one.transfer * (not _is_preempted(one))),
        held_hours=_hours(held, _unless_preempted),
        mean=statistics.mean(times) if times else 0.0,
        median=statistics.median(times) if times else 0.0,
        elapsed=(max(moments) - min(moments)) / _HOUR if moments else 0.0,
    )


def _is_preempted(attempt: Attempt) -> bool:
    """Ended by the pool after the job had begun."""
    return attempt.executed and attempt.end in ("evicted", "lost")


def _unless_preempted(attempt: Attempt) -> float:
    return attempt.retried + attempt.kept + attempt.transfer * (not _is_preempted(attempt))


def _hours(attempts: Sequence[Attempt], seconds) -> float:
    return sum(seconds(attempt) for attempt in attempts) / _HOUR


def table(account: Account) -> str:
    """The document's table, row by row, and below it what the document does not have."""
    hours = {
        "Total time spent computing for successful jobs": account.compute,
        "Total time spent transferring files for successful jobs": account.transfer,
        "Total time wasted due to retried transfers (successful jobs)": account.retried,
        "Total time wasted in compute due to preemption": account.preempted_compute,
        "Total time wasted in file transfers for preempted jobs": account.preempted_transfer,
        "Total time wasted in compute due to wrong outputs": account.wrong_compute,
        "Total time wasted in file transfers for wrong outputs": account.wrong_transfer,
        "Mean time successful jobs took from matching to completion": account.mean,
        "Median time successful jobs took from matching to completion": account.median,
        "All of it but mean and median": account.total,
        "Beside that: time of jobs that ended held": account.held_hours,
    }
    rows = {
        "Number of jobs that got held (no automated recovery)": str(account.held),
        "Number of jobs that failed due to wrong output": str(account.wrong),
        **{text: f"{value:.1f} hours" for text, value in hours.items()},
    }
    width = max(map(len, rows))
    lines = [f"| {'Description':<{width}} | Total Time  |", f"|{'-' * (width + 2)}|-------------|"]
    return "\n".join(lines + [f"| {text:<{width}} | {value:<11} |" for text, value in rows.items()])


def observations(account: Account, gpus: int = 1) -> str:
    """The document's key observations."""

    def share(hours: float, of: float = account.total) -> str:
        return f"{hours / of:.1%}" if of else "none"

    failed = account.held + account.wrong
    others = f", {account.others} were removed or are not done yet" if account.others else ""
    lost = account.preempted_compute + account.preempted_transfer
    wrong = account.wrong_compute + account.wrong_transfer
    hours = account.total * gpus
    said = {
        "Job completion": f"{account.jobs} jobs in {account.elapsed / 24:.1f} days, {hours:.1f} GPU hours",
        "Success rate": f"{share(account.successes, account.jobs)} of the jobs ({account.successes}) were successful, "
        f"{share(failed, account.jobs)} failed{others}",
        "Compute efficiency": f"{share(account.compute)} of the time was successful computing, "
        f"{share(account.transfer)} file transfers: an overhead of {share(account.transfer, account.compute)}",
        "Waste": f"{share(account.retried)} retried file transfers, {share(lost)} preemption, "
        f"{share(wrong)} wrong outputs",
    }
    return "\n".join(f"- {what}: {text}" for what, text in said.items())
