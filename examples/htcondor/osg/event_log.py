"""A job event log in HTCondor's own form, written event by event, for the simulated pool and the tests."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

__all__ = ["BEGIN", "EventLog"]

# When logs that are made begin; a Monday.
BEGIN = datetime(2026, 1, 5)
_HOST = "<127.0.0.1:9618?addrs=127.0.0.1-9618>"
_USAGE = "Usr 0 00:00:00, Sys 0 00:00:00"
_OWN_USAGE = f"\t\t{_USAGE}  -  Run Remote Usage\n\t\t{_USAGE}  -  Run Local Usage\n"
_OWN_BYTES = "\t0  -  Run Bytes Sent By Job\n\t0  -  Run Bytes Received By Job\n"


class EventLog:
    """The events of one cluster of jobs. They may be told in any order, and are written in that of their times.

    Args:
        cluster: its number.
    """

    def __init__(self, cluster: int = 1) -> None:
        self._cluster = cluster
        self._events: list[tuple[float, int, str]] = []

    def _add(self, number: int, process: int, seconds: float, text: str) -> None:
        """An event, so many seconds behind `BEGIN`."""
        time = (BEGIN + timedelta(seconds=int(seconds))).strftime("%Y-%m-%d %H:%M:%S")
        block = f"{number:03d} ({self._cluster:03d}.{process:03d}.000) {time} {text.rstrip()}\n...\n"
        self._events.append((seconds, len(self._events), block))

    def submitted(self, process: int, seconds: float) -> None:
        """The job is in the queue."""
        self._add(0, process, seconds, f"Job submitted from host: {_HOST}")

    def transfer(self, process: int, seconds: float, stop: float | None, output: bool = False) -> None:
        """Input files (or output files) come from one moment to another; `None`: the end never came."""
        what = "output" if output else "input"
        self._add(40, process, seconds, f"Started transferring {what} files\n\tTransferring to host: {_HOST}")
        if stop is not None:
            self._add(40, process, stop, f"Finished transferring {what} files")

    def executing(self, process: int, seconds: float, slot: str = "slot1@execution-point") -> None:
        """The job runs."""
        self._add(1, process, seconds, f"Job executing on host: {_HOST}\n\tSlotName: {slot}")

    def evicted(self, process: int, seconds: float, checkpointed: bool) -> None:
        """The machine is needed for something else."""
        said = "(1) Job was checkpointed." if checkpointed else "(0) Job was not checkpointed."
        self._add(4, process, seconds, f"Job was evicted.\n\t{said}\n{_OWN_USAGE}{_OWN_BYTES}")

    def failed_shadow(self, process: int, seconds: float, reason: str) -> None:
        """Access point and execution point lost each other, or a transfer failed: the job waits again."""
        self._add(7, process, seconds, f"Shadow exception!\n\t{reason}\n{_OWN_BYTES}")

    def held(self, process: int, seconds: float, reason: str, code: int = 13, subcode: int = 0) -> None:
        """The job does nothing until somebody releases it."""
        self._add(12, process, seconds, f"Job was held.\n\t{reason}\n\tCode {code} Subcode {subcode}")

    def released(self, process: int, seconds: float) -> None:
        """Somebody did."""
        self._add(13, process, seconds, "Job was released.\n\tvia condor_release (by user osg)")

    def aborted(self, process: int, seconds: float) -> None:
        """The job was removed."""
        self._add(9, process, seconds, "Job was aborted.\n\tvia condor_rm (by user osg)")

    def terminated(self, process: int, seconds: float, status: int = 0, signal: int = 0) -> None:
        """The job has ended, by itself or by a signal."""
        how = f"(0) Abnormal termination (signal {signal})\n\t(0) No core file" if signal else ""
        how = how or f"(1) Normal termination (return value {status})"
        total = _OWN_USAGE.replace("Run", "Total") + _OWN_BYTES
        total_bytes = _OWN_BYTES.replace("Run", "Total")
        self._add(5, process, seconds, f"Job terminated.\n\t{how}\n{_OWN_USAGE}{total}{total_bytes}")

    def write(self, path: Path) -> None:
        """Write all events."""
        path.write_text("".join(block for _, _, block in sorted(self._events)))
