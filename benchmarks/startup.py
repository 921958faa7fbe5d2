"""How long a program waits: for the import, for the first batch, for a change of resolution.

Each round is a process of its own. Warm: compiled kernels are kept from the uncounted first round. Cold: the folder
of compiled kernels is new and empty. FFCV compiles its pipelines in every process, so it has one case only.

import              seconds to import the loader, its decoders and transforms (torch is imported before)
first_batch         seconds from constructing the loader to the first batch
resolution_change   seconds to the first batch of an epoch at another resolution, less those of one at the same
"""

from __future__ import annotations

import argparse
import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from .files import KINDS, Pictures
from .harness import (
    Contender,
    Round,
    Session,
    add_common_options,
    chosen_cores,
    interval_cells,
    measure,
    summarise,
)
from .loader import add_beton_options, prepared_files, present_peers

__all__ = ["add_options", "open_startup", "run"]

_NAMES = ("import", "first_batch", "resolution_change")
FIGURES = {name: (lambda round_, name=name: round_[name]) for name in ("first_batch", "import", "resolution_change")}
COLUMNS = ("file", "system", "compiled kernels", *(f"{name.replace('_', ' ')} (s, 95 %)" for name in _NAMES))


def open_startup(
    package: str, path: str, size: int, other_size: int, batch_size: int, workers: int
) -> Callable[[], Round]:
    """A round: import, construct, three epochs' first batches, the last one at another resolution."""
    importlib.import_module("torch")

    def do_round() -> Round:
        start = time.perf_counter()
        loaders = importlib.import_module(f"{package}.loader")
        decoders = importlib.import_module(f"{package}.fields.decoders")
        transforms = importlib.import_module(f"{package}.transforms")
        imported = time.perf_counter()
        decoder = decoders.RandomResizedCropRGBImageDecoder((size, size))
        loader = loaders.Loader(
            path,
            batch_size=batch_size,
            num_workers=workers,
            order=loaders.OrderOption.RANDOM,
            os_cache=True,
            drop_last=False,
            seed=0,
            pipelines={
                "image": [decoder, transforms.RandomHorizontalFlip(), transforms.ToTensor()],
                "label": [decoders.IntDecoder(), transforms.ToTensor()],
            },
        )
        first = _first_batch(loader, imported)
        same = _first_batch(loader, time.perf_counter())
        decoder.output_size = (other_size, other_size)
        changed = _first_batch(loader, time.perf_counter())
        # The larger batch itself takes longer; that is no cost of the change.
        again = _first_batch(loader, time.perf_counter())
        return {
            "import": imported - start,
            "first_batch": first,
            "first_batch_again": same,
            "first_batch_changed": changed,
            "first_batch_changed_again": again,
            "resolution_change": changed - again,
        }

    return do_round


def _first_batch(loader: Any, start: float) -> float:
    """Seconds from `start` to the first batch; the epoch is read to its end: FFCV cannot break it off."""
    seconds = None
    for _ in loader:
        seconds = seconds if seconds is not None else time.perf_counter() - start
    assert seconds is not None
    return seconds


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks startup`."""
    add_common_options(parser, limit=512, rounds=5)
    add_beton_options(parser, kinds=["mix400"], size=160, batch_size=128)
    parser.add_argument("--other-size", type=int, default=192, help="side after the change of resolution")
    parser.add_argument("--workers", type=int, default=1)


def run(options: argparse.Namespace) -> int:
    """Measure; print a Markdown table and append rows to `options.out`."""
    pictures, cores = Pictures(options.images, options.limit), chosen_cores(options, options.workers)
    peers = present_peers(options.peers)
    session = Session("startup", options.out, COLUMNS, pictures=len(pictures), cores=list(cores))
    for kind in (KINDS[name] for name in options.kinds):
        contenders = {}
        for peer, (path, _) in prepared_files(kind, pictures, options.cache, peers).items():
            arguments = {
                "package": peer,
                "path": str(path),
                **{name: getattr(options, name) for name in ("size", "other_size", "batch_size", "workers")},
            }
            for state in ("warm", "cold") if peer == "ffx" else ("always cold",):
                empty = ("FFX_CACHE_DIR",) if state == "cold" else ()
                contenders[peer, state] = Contender(
                    f"{peer}, {state}",
                    "benchmarks.startup:open_startup",
                    arguments,
                    cores,
                    empty_folders=empty,
                    fresh=True,
                )
        rounds = measure(contenders.values(), max(1, options.warm_up), options.rounds)
        summary = summarise(rounds, FIGURES)
        for (peer, state), contender in contenders.items():
            found = summary[contender.name]
            cells = [_seconds(found[name]) for name in _NAMES]
            row = {"kind": kind.name, "peer": peer, "state": state, "task": contender.arguments | {"path": kind.name}}
            session.line([kind.name, peer, state, *cells], {**row, **found})
    return 0


def _seconds(figure: Mapping[str, float]) -> str:
    median, interval = interval_cells(figure, 2)
    return f"{median} ({interval})"
