"""Images a second of ffx and its peers, side by side.

Every peer runs in a process of its own, pinned to the same core(s), and the epochs take turns: one epoch of
each is a round, so that a slow minute of the machine hits all of them. The first rounds warm up and are not
counted. Of images by wall-clock second and by CPU second the lower counts. A row holds the median over the
rounds with its 95 % bootstrap interval, the same for the rounds' ratios to the reference peer, and all that
is needed to repeat it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from .files import KINDS, Kind, Pictures
from .peers import PEERS, Peer, Task
from .rows import ROOT, append_row, describe_run, median_with_interval

__all__ = ["PeerProcess", "add_options", "measure", "run", "summarise"]

# A peer's own pools of threads would measure something else than what was asked for.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class PeerProcess:
    """A running `worker`; `epoch()` runs one epoch in it. Closing it twice is safe."""

    def __init__(self, peer: Peer, task: Task, cores: list[int]) -> None:
        request = json.dumps({"peer": peer.name, "task": asdict(task), "cores": cores})
        self.name = peer.name
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", request],
            cwd=ROOT,
            env={**os.environ, **(ONE_THREAD if task.workers == 1 else {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"benchmarks: {self.name} ended with status {self.process.wait()}; its error stands above")
        return json.loads(line)

    def epoch(self) -> dict[str, Any]:
        """Run one epoch; returns images, wall, cpu and first (seconds)."""
        assert self.process.stdin is not None
        self.process.stdin.write("epoch\n")
        self.process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:  # FFCV's threads do not always end by themselves
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> PeerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def images_a_second(epoch: dict[str, Any]) -> float:
    """Return the lower of images by wall-clock second and by CPU second."""
    return epoch["images"] / max(epoch["wall"], epoch["cpu"])


def summarise(epochs: dict[str, list[dict[str, Any]]], reference: str | None) -> dict[str, dict[str, Any]]:
    """Return for each peer the median and interval of its rate, and of its rounds' ratios to `reference`."""
    rates = {name: [images_a_second(epoch) for epoch in rounds] for name, rounds in epochs.items()}
    summary: dict[str, dict[str, Any]] = {}
    for name, values in rates.items():
        summary[name] = {"images_a_second": median_with_interval(values), "rounds": epochs[name]}
        if reference in rates:
            ratios = [mine / other for mine, other in zip(values, rates[reference], strict=True)]
            summary[name]["ratio"] = {"to": reference, **median_with_interval(ratios)}
    return summary


def measure(tasks: dict[str, Task], cores: list[int], warm_up: int, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Run `warm_up` and then `rounds` epochs of every peer in `tasks`, taking turns; return the counted epochs."""
    processes: list[PeerProcess] = []
    try:
        for name, task in tasks.items():
            processes.append(PeerProcess(PEERS[name], task, cores))
        for _ in range(warm_up):
            for process in processes:
                process.epoch()
        epochs: dict[str, list[dict[str, Any]]] = {process.name: [] for process in processes}
        for number in range(rounds):
            # Every second round goes backwards: nobody always runs after the same neighbour.
            for process in processes if number % 2 == 0 else reversed(processes):
                epochs[process.name].append(process.epoch())
    finally:
        for process in processes:
            process.close()
    return epochs


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks loader`."""
    parser.add_argument("--images", type=Path, required=True, help="folder with pictures, below it or in class folders")
    parser.add_argument("--out", type=Path, help="file that rows are appended to, one JSON object a line")
    parser.add_argument("--cache", type=Path, default=Path("runs/benchmarks"), help="folder for the files to read")
    parser.add_argument("--limit", type=int, default=1000, help="pictures that are stored")
    parser.add_argument("--samples", type=int, default=12_000, help="samples an epoch; pictures are repeated")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS), metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[160, 224], metavar="PIXELS")
    parser.add_argument("--peers", nargs="+", choices=PEERS, default=list(PEERS), metavar="PEER", help=", ".join(PEERS))
    parser.add_argument("--reference", default="ffcv", help="peer that ratios are formed with")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=1, help="threads or processes of each peer")
    parser.add_argument("--cores", nargs="+", type=int, help="pin to these (default: the last `workers` usable ones)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--warm-up", type=int, default=1, help="rounds that are not counted")


def _cores(options: argparse.Namespace) -> list[int]:
    if options.cores:
        return options.cores
    usable = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    # Not the first core: that one serves most interrupts.
    return usable[-options.workers :]


def _tasks(options: argparse.Namespace, kind: Kind, size: int, pictures: Pictures) -> dict[str, Task]:
    tasks = {}
    for name in options.peers:
        peer = PEERS[name]
        path = peer.prepare(kind, pictures, options.cache) if peer.is_here() else None
        if path is not None:
            tasks[name] = Task(str(path.resolve()), size, options.samples, options.batch_size, options.workers)
    return tasks


def _show(kind: Kind, size: int, summary: dict[str, dict[str, Any]]) -> None:
    for name, found in summary.items():
        rate, ratio = found["images_a_second"], found.get("ratio")
        text = f"| {kind.name} | {size} | {name} | {rate['median']:,.0f} | {rate['low']:,.0f} to {rate['high']:,.0f} |"
        text += f" {ratio['median']:.2f} | {ratio['low']:.2f} to {ratio['high']:.2f} |" if ratio else " | |"
        print(text, flush=True)


def run(options: argparse.Namespace) -> int:
    """Measure every kind and size; print a Markdown table and append rows to `options.out`."""
    for name in options.peers:
        if not PEERS[name].is_here():
            print(f"left out: {name} (not installed; benchmarks/install_peers.sh installs FFCV)", file=sys.stderr)
    pictures, cores = Pictures(options.images, options.limit), _cores(options)
    description = {"benchmark": "loader", "pictures": len(pictures), "cores": cores, **describe_run()}
    print(f"| file | px | system | images a second | 95 % | x {options.reference} | 95 % |")
    print("|---|---:|---|---:|---|---:|---|", flush=True)
    for kind in (KINDS[name] for name in options.kinds):
        for size in options.sizes:
            tasks = _tasks(options, kind, size, pictures)
            summary = summarise(measure(tasks, cores, options.warm_up, options.rounds), options.reference)
            _show(kind, size, summary)
            for name, found in summary.items():
                path = Path(tasks[name].path)
                task = {**asdict(tasks[name]), "path": path.name, "file_bytes": _size(path)}
                append_row(options.out, {**description, "kind": asdict(kind), "peer": name, "task": task, **found})
    return 0


def _size(path: Path) -> int:
    return sum(part.stat().st_size for part in ([path] if path.is_file() else path.rglob("*")) if part.is_file())
