"""The resize kernel alone: a crop of pixels to a square, for several pairs of sizes, shrinking and growing.

ffx and OpenCV's INTER_AREA weigh alike; INTER_LINEAR, which looks at two neighbours however strong the reduction, and
the antialiased filters of Pillow and torchvision are there for comparison. Images a second, one thread.
"""

from __future__ import annotations

import argparse

from .files import Pictures
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
from .kernels import RESIZERS

__all__ = ["REFERENCE", "add_options", "run"]

REFERENCE = "OpenCV, INTER_AREA"
COLUMNS = ("from", "to", "resizer", "images a second", "95 %", f"x {REFERENCE}", "95 %")
# Height x width of the crop -> side: typical crops of 400-px pictures; the last ones enlarge.
PAIRS = ("280x360:176", "280x360:224", "200x200:160", "300x400:160", "150x120:160", "100x140:224")


def _pair(text: str) -> tuple[tuple[int, int], int]:
    crop, _, side = text.partition(":")
    try:
        height, width = (int(length) for length in crop.split("x"))
        return (height, width), int(side)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected HEIGHTxWIDTH:SIDE such as 280x360:176, found {text!r}") from None


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks resize`."""
    add_common_options(parser, limit=100)
    parser.add_argument("--pairs", nargs="+", type=_pair, default=[_pair(text) for text in PAIRS], metavar="HxW:SIDE")
    parser.add_argument("--passes", type=int, default=10, help="times that a round goes through the pictures")


def run(options: argparse.Namespace) -> int:
    """Measure every pair of sizes; print a Markdown table and append rows to `options.out`."""
    pictures, cores = Pictures(options.images, options.limit), chosen_cores(options, 1)
    paths = [str(path.resolve()) for path, _ in pictures.samples]
    session = Session("resize", options.out, COLUMNS, pictures=len(paths), cores=list(cores))
    for crop, side in options.pairs:
        work = {"paths": paths, "crop": crop, "side": side, "passes": options.passes}
        contenders = [
            Contender(name, "benchmarks.kernels:open_resize", {"resizer": name, **work}, cores) for name in RESIZERS
        ]
        rounds = measure(contenders, options.warm_up, options.rounds)
        for name, found in summarise(rounds, {"images_a_second": images_a_second}, REFERENCE).items():
            cells = [f"{crop[0]} x {crop[1]}", side, name, *interval_cells(found["images_a_second"])]
            row = {"crop": crop, "side": side, "resizer": name, **found}
            session.line([*cells, *interval_cells(found["ratio"], 2)], row)
    return 0
