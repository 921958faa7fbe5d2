"""A simulated HTCondor pool: what checkpoints, and fetching by ranges, save of the hours that the OSG document counts.

archive                the document's way: the whole archive comes before each start, and an eviction begins anew
archive, checkpoints   an evicted job goes on from its checkpoint
ranges                 one .ffcv file is read by ranges while the job computes
ranges, checkpoints    both

All ways meet the same stalls and evictions, which a seed draws. The pool is made up so that the first way comes near
the document's shares of time; see examples/htcondor/osg/pool.py. --real of the jobs are real trainings on a few small
pictures, whose file a server on the loopback gives by ranges, with faults; they are really killed, at least once each,
and resumed, and their weights are compared with those of undisturbed ones. What their starts and checkpoints took goes
into the hours of all (--times takes it from the newest row of a file of results instead, and runs none). The event logs
are in HTCondor's form, and are read as examples/htcondor/job_statistics.py reads them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from ffx.fields import IntField, RGBImageField
from ffx.writer import DatasetWriter
from tests.pictures import make_picture
from tests.remote.server import Fault, HostileServer

from .rows import ROOT, append_row, describe_run, read_rows

__all__ = ["add_options", "run"]

_PROGRAMS = ROOT / "examples" / "htcondor"
if str(_PROGRAMS) not in sys.path:
    sys.path.append(str(_PROGRAMS))

from osg.accounting import Account, account_of  # noqa: E402
from osg.events import read_logs  # noqa: E402
from osg.pool import WAYS, Eviction, Plan, Pool, Times, make_plans, play  # noqa: E402
from osg.real_jobs import RealJob, Training, median_times, run_job  # noqa: E402

_CLASSES, _IMAGES, _SIDE = 4, 48, 40
_FLAGS = (
    *("--arch", "shufflenet_v2_x0_5", "--image-size", "32", "--workers", "0", "--device", "cpu"),
    *("--checkpoint-minutes", "0.01"),
)
_LAST = "ranges, checkpoints"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks pool`."""
    parser.add_argument("--jobs", type=int, default=100, help="default: 100")
    parser.add_argument("--real", type=int, default=10, help="real trainings among them (default: 10)")
    parser.add_argument("--seed", type=int, default=3, help="of the schedule (default: 3)")
    parser.add_argument("--other-seeds", type=int, default=20, help="further schedules without real jobs (default: 20)")
    parser.add_argument(
        "--times", type=Path, metavar="FILE", help="times of the real trainings, of a former run's rows"
    )
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="keep the event logs here")
    parser.add_argument("--out", type=Path, metavar="FILE", help="append rows of JSON to this file")


def run(options: argparse.Namespace) -> int:
    """Play the pool every way; print a Markdown table and append a row for each to `options.out`."""
    if options.jobs < 1 or min(options.real, options.other_seeds) < 0:
        raise SystemExit("benchmarks: pool: expected at least one job, and no negative numbers of anything")
    share = options.jobs / Pool.jobs
    pool = replace(Pool(), jobs=options.jobs, held=round(Pool.held * share), wrong=round(Pool.wrong * share))
    plans = make_plans(pool, options.seed)
    with tempfile.TemporaryDirectory() as space:
        folder = Path(space)
        logs = options.logs or folder / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        if options.times:
            real, times = {}, _read_times(options.times)
        else:
            real = _real_jobs(plans, pool, options.real, folder)
            times = _times_of(real)
        print(_table_of(plans, pool, times, logs, options, real))
    return 0


def _real_jobs(plans: Sequence[Plan], pool: Pool, count: int, folder: Path) -> dict[int, RealJob]:
    """The jobs that are evicted most often, as real trainings, compared with undisturbed ones."""
    met = play(plans, pool, WAYS[_LAST], {-1: Times()}, folder / "rehearsal.log")
    chosen = sorted((plan for plan in plans if plan.end == "success"), key=lambda plan: -len(met[plan.number]))
    if len(chosen) < count:
        raise SystemExit(f"benchmarks: pool: --real {count}: expected at most the {len(chosen)} jobs that end well")
    content = _write_pictures(folder / "pictures.beton").read_bytes()
    found = {}
    with HostileServer({"train.beton": content}, {"train.beton": '"1"'}) as server:
        address = server.url("train.beton")
        training = Training(address, _IMAGES, 5, 4, (*_FLAGS, "--val-data", address, "--cache-dir", "cache"))
        for plan in chosen[:count]:
            server.faults[:] = [Fault("status", 503, times=1), Fault("truncate", times=1)]
            # One that the schedule spares is killed all the same, to see that it goes on.
            evictions = met[plan.number] or [Eviction((1 + plan.number % 8) / 10, hard=False)]
            found[plan.number] = _compared(training, plan.number, evictions, folder)
    return found


def _compared(training: Training, number: int, evictions: Sequence[Eviction], folder: Path) -> RealJob:
    """A real job, whose weights are those of an undisturbed one."""
    job = run_job(training, number, evictions, folder / f"job-{number}")
    if not job.evictions:
        raise SystemExit(f"benchmarks: job {number} was done before it was killed: choose another --seed")
    undisturbed = run_job(training, number, (), folder / f"undisturbed-{number}")
    if not _same_weights(job.weights, undisturbed.weights):
        raise SystemExit(f"benchmarks: job {number} has other weights than an undisturbed training")
    print(f"job {number}: exit statuses {job.statuses}, the weights of an undisturbed training", file=sys.stderr)
    return job


def _same_weights(one: Path, other: Path) -> bool:
    import torch

    first, second = (torch.load(path, weights_only=True) for path in (one, other))
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def _write_pictures(path: Path) -> Path:
    samples = [(make_picture(_SIDE, _SIDE, seed=number), number % _CLASSES) for number in range(_IMAGES)]
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    DatasetWriter(path, fields, num_workers=1, progress=False).from_indexed_dataset(samples)
    return path


def _times_of(real: dict[int, RealJob]) -> dict[int, Times]:
    return {number: median_times([job]) for number, job in real.items()} | {-1: median_times(list(real.values()))}


def _read_times(path: Path) -> dict[int, Times]:
    rows = [row for row in read_rows(path) if row.get("benchmark") == "pool"]
    if not rows:
        raise SystemExit(f"benchmarks: {path}: expected rows of `pool`, found none")
    return {int(number): Times(**own) for number, own in rows[-1]["times"].items()}


def _play(plans: Sequence[Plan], pool: Pool, name: str, times: dict[int, Times], path: Path) -> tuple[Account, int]:
    met: dict[int, list[Eviction]] = play(plans, pool, WAYS[name], times, path)
    return account_of(read_logs([path])), sum(map(len, met.values()))


def _table_of(
    plans: Sequence[Plan],
    pool: Pool,
    times: dict[int, Times],
    logs: Path,
    options: argparse.Namespace,
    real: dict[int, RealJob],
) -> str:
    columns = "total, h | computing | retried transfers, h | lost to evictions, h | mean, h | median, h"
    lines = [
        f"| way | {columns} | total of {options.other_seeds} other seeds, h |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for name in WAYS:
        path = logs / f"{name.replace(', ', '-')}.log"
        account, evictions = _play(plans, pool, name, times, path)
        others = [
            _play(make_plans(pool, seed), pool, name, {-1: times[-1]}, path.with_suffix(".other"))[0].total
            for seed in range(1000, 1000 + options.other_seeds)
        ]
        path.with_suffix(".other").unlink(missing_ok=True)
        spread = {"median": median(others), "low": min(others), "high": max(others)} if others else {}
        lost = account.preempted_compute + account.preempted_transfer
        cells = [f"{account.total:.1f}", f"{account.compute / account.total:.1%}", f"{account.retried:.1f}"]
        cells += [f"{lost:.1f}", f"{account.mean:.1f}", f"{account.median:.1f}"]
        cells += ["{median:.0f} ({low:.0f} to {high:.0f})".format(**spread) if spread else ""]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        append_row(options.out, {**describe_run(), **_row(name, account, evictions, spread, times, options, real)})
    return "\n".join(lines)


def _row(
    name: str,
    account: Account,
    evictions: int,
    spread: dict[str, float],
    times: dict[int, Times],
    options: argparse.Namespace,
    real: dict[int, RealJob],
) -> dict[str, Any]:
    return {
        "benchmark": "pool",
        "way": name,
        "seed": options.seed,
        "account": account.as_dict(),
        "evictions": evictions,
        "other_seeds_total": spread,
        "real": {number: {"statuses": job.statuses, "same_weights": True} for number, job in real.items()},
        "times": {number: asdict(own) for number, own in times.items()},
    }
