"""What became of each job, from HTCondor's event logs: attempts on machines, and where their time went.

An attempt begins when a job is matched with a machine. The log has no event for that; its first one then is the
transfer of the input files, or the job's start where nothing is transferred.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainer.errors import DataError

from .bindings import htcondor

__all__ = ["Attempt", "Job", "missing_outputs", "read_logs"]

# Event numbers of HTCondor's manual, "Job Event Log Codes".
_SUBMIT, _EXECUTE, _EVICTED, _TERMINATED, _SHADOW_EXCEPTION, _ABORTED = 0, 1, 4, 5, 7, 9
_SUSPENDED, _UNSUSPENDED, _HELD, _RELEASED, _RECONNECT_FAILED, _FILE_TRANSFER = 10, 11, 12, 13, 24, 40
# Of an event of file transfer.
_IN_QUEUED, _IN_STARTED, _IN_FINISHED, _OUT_QUEUED, _OUT_STARTED, _OUT_FINISHED = range(1, 7)


@dataclass
class Attempt:
    """A job on a machine.

    Attributes:
        matched: when it began, in seconds.
        executed: whether the job itself was started.
        compute: seconds in which it ran.
        kept: of these, whatever outlives the attempt: all of it, or what it had computed when HTCondor had taken output
            files of it and it went on (a checkpoint).
        transfer: seconds of transfers that went well.
        retried: seconds of transfers of input files that had to be made again.
        end: how it ended: "terminated", "evicted", "lost", "held", "removed", or "" where it goes on.
    """

    matched: float
    executed: bool = False
    compute: float = 0.0
    kept: float = 0.0
    transfer: float = 0.0
    retried: float = 0.0
    end: str = ""
    _state: str = ""
    _since: float = 0.0

    def enter(self, state: str, time: float) -> None:
        """Count what was done up to now, and go on with something else."""
        seconds = time - self._since
        if self._state in ("input", "output"):
            self.transfer += seconds
        elif self._state == "compute" or (self._state == "saved" and state != "terminated"):
            # Behind a transfer of output files the job goes on, unless that was the last thing it did.
            self.compute += seconds
        if state == "saved":
            self.kept = self.compute
        self._state, self._since = state, time

    def begin_input(self, time: float) -> None:
        """The transfer of input files begins; if it did before, that was for nothing."""
        self.enter("", time)
        if not self.executed:
            self.retried, self.transfer = self.retried + self.transfer, 0.0
        self._state = "input"

    def close(self, end: str, time: float, checkpointed: bool) -> None:
        """The attempt is over."""
        self.enter(end, time)
        self.end = end
        if checkpointed or end not in ("evicted", "lost"):
            self.kept = self.compute
        if not self.executed:
            self.retried, self.transfer = self.retried + self.transfer, 0.0


@dataclass
class Job:
    """A job and its attempts, in order.

    Attributes:
        cluster, process: its number.
        submitted, ended: when, in seconds; `None`: the log does not say, or not yet.
        outcome: "success", "wrong", "held", "removed", or "unfinished".
    """

    cluster: int
    process: int
    submitted: float | None = None
    ended: float | None = None
    outcome: str = "unfinished"
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def seconds_from_match(self) -> float:
        """From the first match to the end."""
        return (self.ended or 0.0) - self.attempts[0].matched

    def current(self, time: float) -> Attempt:
        """The attempt that is going on; a new one if there is none."""
        if not self.attempts or self.attempts[-1].end:
            self.attempts.append(Attempt(time, _since=time))
        return self.attempts[-1]

    def take(self, event: Any) -> None:
        """Take note of an event of the log."""
        number, time = int(event.type), float(event.timestamp)
        if number == _SUBMIT:
            self.submitted = time
        elif number == _FILE_TRANSFER:
            self._transfer(int(event["Type"]), time)
        elif number == _EXECUTE:
            attempt = self.current(time)
            attempt.enter("compute", time)
            attempt.executed = True
        elif number in (_SUSPENDED, _UNSUSPENDED):
            self.current(time).enter("compute" if number == _UNSUSPENDED else "suspended", time)
        elif number in _ENDS:
            self._end(number, time, event)
        elif number == _RELEASED:
            self.ended, self.outcome = None, "unfinished"

    def _transfer(self, kind: int, time: float) -> None:
        attempt = self.current(time)
        if kind == _IN_STARTED:
            attempt.begin_input(time)
        else:
            attempt.enter({_OUT_STARTED: "output", _OUT_FINISHED: "saved"}.get(kind, "waiting"), time)

    def _end(self, number: int, time: float, event: Mapping[str, Any]) -> None:
        if self.attempts and not self.attempts[-1].end:
            self.attempts[-1].close(_ENDS[number], time, bool(event.get("Checkpointed", False)))
        if number == _TERMINATED:
            well = event.get("TerminatedNormally", False) and event.get("ReturnValue") == 0
            self.ended, self.outcome = time, "success" if well else "wrong"
        elif number == _HELD:
            self.ended, self.outcome = time, "held"
        elif number == _ABORTED and self.outcome != "held":
            # Who removes a held job gives up what nobody has mended.
            self.ended, self.outcome = time, "removed"


_ENDS = {
    _TERMINATED: "terminated",
    _EVICTED: "evicted",
    _SHADOW_EXCEPTION: "lost",
    _RECONNECT_FAILED: "lost",
    _HELD: "held",
    _ABORTED: "removed",
}


def read_logs(paths: Iterable[Path], is_wrong: Callable[[Job], bool] | None = None) -> list[Job]:
    """The jobs of event logs, by number.

    Args:
        paths: the logs; a job's events may stand in several.
        is_wrong: tells jobs that ended well, but without the right output.

    Raises:
        DataError: a log cannot be read, or has no jobs.
    """
    jobs: dict[tuple[int, int], Job] = {}
    for path in paths:
        events = []
        try:
            if not path.is_file():
                raise DataError(f"{path}: no such file")
            with htcondor().JobEventLog(str(path)) as log:
                events = list(log.events(stop_after=0))
        except (htcondor().HTCondorException, OSError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{path}: expected a job event log of HTCondor: {error}") from error
        _check_complete(path, len(events))
        for event in events:
            key = (event.cluster, event.proc)
            jobs.setdefault(key, Job(*key)).take(event)
    for job in jobs.values():
        if job.outcome == "success" and is_wrong is not None and is_wrong(job):
            job.outcome = "wrong"
    # Events of a cluster as a whole have no process.
    return [jobs[key] for key in sorted(jobs) if key[1] >= 0]


def _check_complete(path: Path, events: int) -> None:
    """The bindings end silently where a log is damaged."""
    blocks = sum(line.rstrip() == "..." for line in path.read_text(errors="replace").splitlines())
    if not events or blocks > events:
        raise DataError(f"{path}: expected a whole job event log of HTCondor, found {events} events in {blocks} blocks")


def missing_outputs(pattern: str) -> Callable[[Job], bool]:
    """For `read_logs`: jobs whose file of weights is not there, or no file of `torch.save`.

    Args:
        pattern: a path with {cluster} and {process} in it.
    """

    def is_wrong(job: Job) -> bool:
        path = Path(pattern.format(cluster=job.cluster, process=job.process))
        return not path.is_file() or not zipfile.is_zipfile(path)

    return is_wrong
