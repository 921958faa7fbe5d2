"""The memory that a loader adds to its process, and whether it stays flat when epochs are broken off.

Counted is memory of the process's own (`Pss_Anon` of Linux), not the mapped file. Compiled code is loaded by a tiny
loader before, so that it does not count. Of what is added the output slots are told apart: the `batches_ahead + 2`
batches that both systems keep. The rest is decode buffers, scratch memory and book-keeping. Each round is a process
of its own; with two numbers of workers the difference tells what a thread costs.

Epochs broken off: only ffx, since a broken off epoch of FFCV keeps its thread and buffers for ever.
"""

from __future__ import annotations

import argparse
import gc
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .files import KINDS, Pictures
from .harness import (
    SKIPPED,
    Contender,
    Round,
    Session,
    add_common_options,
    interval_cells,
    left_out,
    measure,
    summarise,
    usable_cores,
)
from .loader import add_beton_options, prepared_files, present_peers
from .peers import Task, open_beton

__all__ = ["BATCHES_AHEAD", "add_options", "open_memory", "own_bytes", "run"]

MIB = 1 << 20
BATCHES_AHEAD = 3  # both systems' default
FIGURES: dict[str, Callable[[Round], float]] = {
    name: (lambda round_, name=name: round_[name]) for name in ("rest_bytes", "added_bytes", "grown_bytes")
}
COLUMNS = ("file", "system", "workers", "added (MiB, 95 %)", "its slots", "the rest (95 %)", "grown by broken epochs")


def own_bytes(process: int | str = "self") -> int:
    """Memory of a process's own, in bytes: anonymous and shared pages, no mapped files."""
    text = Path(f"/proc/{process}/smaps_rollup").read_text()
    return 1024 * sum(int(kib) for kib in re.findall(r"^Pss_(?:Anon|Shmem):\s+(\d+) kB", text, re.MULTILINE))


def _most(loader: Iterable[Any]) -> int:
    """Read an epoch; return the most memory that was seen at one of its batches."""
    return max(own_bytes() for _ in loader)


def open_memory(package: str, task: dict[str, Any], broken_off: int) -> Callable[[], Round]:
    """A round: memory before and during three epochs of a loader, then `broken_off` epochs that are broken off."""

    def do_round() -> Round:
        wanted = Task(**task)
        for _ in open_beton(package, replace(wanted, size=16, samples=8, batch_size=4)):
            pass
        gc.collect()
        before = own_bytes()
        loader = open_beton(package, wanted)
        added = max(_most(loader) for _ in range(3)) - before
        # Images, and labels of int64.
        slots = (BATCHES_AHEAD + 2) * wanted.batch_size * (3 * wanted.size**2 + 8)
        grown = _grown(loader, broken_off)
        return {"added_bytes": added, "slot_bytes": slots, "rest_bytes": added - slots, "grown_bytes": grown}

    return do_round


def _grown(loader: Any, epochs: int) -> int:
    """Memory that came with `epochs` broken off epochs, from the fifth on."""
    seen = [0]
    for _ in range(epochs):
        for _ in loader:
            break
        seen.append(own_bytes())
    return seen[-1] - seen[min(5, epochs)]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks memory`."""
    add_common_options(parser, rounds=5)
    parser.set_defaults(warm_up=1)
    add_beton_options(parser, kinds=["jpg500", "raw400"], size=176, batch_size=512)
    parser.add_argument("--batches", type=int, default=8, help="batches an epoch")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--broken-off", type=int, default=50, help="epochs that are broken off after a batch")


def run(options: argparse.Namespace) -> int:
    """Measure every kind and system; print a Markdown table and append rows to `options.out`."""
    if not Path("/proc/self/smaps_rollup").exists():
        left_out("memory", "needs Linux's /proc/self/smaps_rollup")
        return SKIPPED
    pictures, cores = Pictures(options.images, options.limit), options.cores or usable_cores()
    peers = present_peers(options.peers)
    session = Session("memory", options.out, COLUMNS, pictures=len(pictures), cores=cores)
    for kind in (KINDS[name] for name in options.kinds):
        contenders = {}
        for peer, (path, _) in prepared_files(kind, pictures, options.cache, peers).items():
            for workers in options.workers:
                samples = options.batches * options.batch_size
                task = Task(str(path), options.size, samples, options.batch_size, workers)
                broken_off = options.broken_off if peer == "ffx" else 0
                arguments = {"package": peer, "task": asdict(task), "broken_off": broken_off}
                contenders[peer, workers] = Contender(
                    f"{peer} {workers}",
                    "benchmarks.memory:open_memory",
                    arguments,
                    tuple(cores[-workers:]),
                    fresh=True,
                )
        rounds = measure(contenders.values(), options.warm_up, options.rounds)
        summary = summarise(rounds, FIGURES)
        for (peer, workers), contender in contenders.items():
            found = summary[contender.name]
            slots = found["rounds"][0]["slot_bytes"]
            grown = _mebibytes(found["grown_bytes"]) if contender.arguments["broken_off"] else "not tried"
            cells = [_mebibytes(found["added_bytes"]), f"{slots / MIB:,.1f}", _mebibytes(found["rest_bytes"]), grown]
            row = {"kind": kind.name, "peer": peer, "workers": workers, "slot_bytes": slots}
            row |= {name: getattr(options, name) for name in ("size", "batch_size", "batches")}
            row["broken_off"] = contender.arguments["broken_off"]
            session.line([kind.name, peer, workers, *cells], {**row, **found})
    return 0


def _mebibytes(figure: dict[str, float]) -> str:
    return "{} ({})".format(*interval_cells({name: value / MIB for name, value in figure.items()}, 1))
