"""The decode kernel alone: JPEG to pixels, for crops of several shares of the picture.

ffx decodes the part that a crop needs; the others decode whole pictures, whatever the crop. The pictures are those
of `jpg500`. Images a second, one thread; ratios to OpenCV, which wraps a libjpeg-turbo of its own.
"""

from __future__ import annotations

import argparse

from .files import KINDS, Pictures, jpeg_folder
from .harness import (
    Contender,
    Session,
    add_common_options,
    chosen_cores,
    images_a_second,
    interval_cells,
    measure,
    summarise,
)
from .kernels import DECODERS

__all__ = ["REFERENCE", "add_options", "run"]

REFERENCE = "OpenCV, whole"
COLUMNS = ("crop's share", "decoder", "images a second", "95 %", f"x {REFERENCE}", "95 %")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks decode`."""
    add_common_options(parser, limit=200)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.1, 0.35, 1.0], help="of the picture's area")
    parser.add_argument("--passes", type=int, default=3, help="times that a round goes through the pictures")


def run(options: argparse.Namespace) -> int:
    """Measure every share; print a Markdown table and append rows to `options.out`."""
    pictures, cores = Pictures(options.images, options.limit), chosen_cores(options, 1)
    kind = KINDS["jpg500"]
    paths = sorted(str(path.resolve()) for path in jpeg_folder(kind, pictures, options.cache).rglob("*.jpg"))
    session = Session("decode", options.out, COLUMNS, pictures=len(paths), cores=list(cores), kind=kind.name)
    for share in options.shares:
        contenders = [
            Contender(
                name,
                "benchmarks.kernels:open_decode",
                {"decoder": name, "paths": paths, "share": share, "passes": options.passes},
                cores,
            )
            for name in DECODERS
        ]
        rounds = measure(contenders, options.warm_up, options.rounds)
        for name, found in summarise(rounds, {"images_a_second": images_a_second}, REFERENCE).items():
            cells = [f"{share:.0%}", name, *interval_cells(found["images_a_second"])]
            session.line([*cells, *interval_cells(found["ratio"], 2)], {"share": share, "decoder": name, **found})
    return 0
