"""What HTCondor itself would transfer to a job before it starts, by the submit description, in bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import ConfigurationError

from ffx.remote import redacted

__all__ = ["LIMIT_BYTES", "Job", "jobs_of", "show_jobs"]

# The OSPool's, for all inputs of a job together; read as 10^9, the smaller of the two meanings.
LIMIT_BYTES = 5 * 10**9
_MOST_SHOWN = 5


@dataclass(frozen=True)
class Job:
    """One job of a submit description.

    Attributes:
        number: its `$(Process)`.
        sizes: bytes of each file or folder that comes from the access point.
        addresses: what comes from elsewhere, and does not count.
        missing: what is not there.
    """

    number: int
    sizes: dict[str, int]
    addresses: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """All that counts."""
        return sum(self.sizes.values())


def jobs_of(submit: Any, folder: Path) -> Iterator[Job]:
    """The jobs of a `Submit`, with paths relative to `folder` (or the description's own `initialdir`)."""
    count = _count(submit)
    number = 0
    for item in list(submit.itemdata() or []) or [{}]:
        for step in range(count):
            for name, value in {**item, "Process": number, "ProcId": number, "Step": step}.items():
                submit[name] = str(value)
            yield _job(submit, number, folder)
            number += 1


def _count(submit: Any) -> int:
    """Jobs for each item: a number, or a macro for one, in front of everything else."""
    words = (submit.getQArgs() or "").split()
    if not words or not (words[0].isdigit() or words[0].startswith("$")):
        return 1
    submit["ffx_count"] = words[0]
    text = _value(submit, "ffx_count")
    if not text.isdigit():
        raise ConfigurationError(f"queue {words[0]}: expected a number of jobs, found {text!r}")
    return int(text)


def _value(submit: Any, name: str) -> str:
    try:
        return submit.expand(name).strip().strip('"')
    except KeyError:
        return ""


def _job(submit: Any, number: int, folder: Path) -> Job:
    home = folder / (_value(submit, "initialdir") or _value(submit, "initial_dir"))
    names = [name.strip() for name in _value(submit, "transfer_input_files").split(",") if name.strip()]
    names += [name for name in (_value(submit, "input"), _value(submit, "container_image")) if name]
    image = _value(submit, "MY.SingularityImage")
    names += [image] if image else []
    if _value(submit, "should_transfer_files").upper() == "NO":
        names = []
    places = [home / name for name in names if "://" not in name]
    executable = _value(submit, "executable")
    if executable and _value(submit, "transfer_executable").lower() not in ("false", "no", "0"):
        # HTCondor looks for it from where condor_submit is called.
        places.append(folder / executable)
    sizes = {str(place): _size(place) for place in places}
    return Job(
        number,
        {name: size for name, size in sizes.items() if size is not None},
        tuple(name for name in names if "://" in name),
        tuple(name for name, size in sizes.items() if size is None),
    )


def _size(place: Path) -> int | None:
    """Bytes of a file, or of all files below a folder; `None`: there is neither."""
    if place.is_dir():
        return sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(place) for name in names)
    return place.stat().st_size if place.is_file() else None


def show_jobs(jobs: list[Job], limit: int) -> tuple[str, bool]:
    """What there is to say of the jobs, and whether HTCondor would take them.

    Raises:
        ConfigurationError: there are none.
    """
    if not jobs:
        raise ConfigurationError("expected jobs, found an empty queue")
    largest = max(jobs, key=lambda job: job.bytes)
    total = f"{largest.bytes:,} bytes"
    lines = [f"{len(jobs)} jobs; the inputs of {'each' if len(jobs) == 1 else 'the largest'} together: {total}"]
    by_size = sorted(largest.sizes.items(), key=lambda pair: -pair[1])
    lines += [f"  {size:>15,}  {name}" for name, size in by_size[:_MOST_SHOWN]]
    lines += [f"  not counted, it comes by a cache or a server: {redacted(one)}" for one in largest.addresses]
    missing = sorted({name for job in jobs for name in job.missing})
    lines += [f"missing: {name}" for name in missing[:_MOST_SHOWN]]
    over = [job for job in jobs if job.bytes > limit]
    if over:
        shards = -(-largest.bytes // limit)
        lines.append(
            f"too much: {len(over)} jobs have more than the {limit:,} bytes that a job may bring, and would be held. "
            f"Take the data by osdf:// or https://, or bring one of at least {shards} parts to each job "
            "(split_archive.py)"
        )
    return "\n".join(lines), not over and not missing
