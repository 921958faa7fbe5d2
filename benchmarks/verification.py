"""What checksums cost: a run of epochs with `verify="first"` and `"always"` beside the same run with `"never"`.

Each round is a whole run over a file of ffx's own, in a process of its own, so that its first epoch looks at every
sample; an epoch without a look goes before. The share says how much longer the run takes.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict

from ffx.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffx.loader import Loader, OrderOption
from ffx.transforms import RandomHorizontalFlip, ToTensor

from .files import KINDS, Pictures, written_file
from .harness import (
    Contender,
    Round,
    Session,
    add_common_options,
    chosen_cores,
    images_a_second,
    interval_cells,
    measure,
    summarise,
)
from .peers import Task
from .rows import median_with_interval
from .worker import run_epoch

__all__ = ["add_options", "open_run", "run"]

WAYS = ("never", "first", "always")
COLUMNS = ("file", "px", "verify", "images a second", "95 %", "longer than never", "95 %")


def open_run(task: dict[str, object], verify: str, epochs: int) -> Callable[[], Round]:
    """A round: all epochs of a run, in a process that has not looked at any sample of the file yet."""
    wanted = Task(**task)
    decoder = RandomResizedCropRGBImageDecoder((wanted.size, wanted.size))
    pipelines = {"image": [decoder, RandomHorizontalFlip(), ToTensor()], "label": [IntDecoder(), ToTensor()]}

    def make_loader(verify: str) -> Loader:
        return Loader(
            wanted.path,
            wanted.batch_size,
            wanted.workers,
            order=OrderOption.RANDOM,
            seed=wanted.seed,
            drop_last=False,
            pipelines=pipelines,
            verify=verify,
        )

    def do_round() -> Round:
        with make_loader("never") as loader:
            run_epoch(loader)
        with make_loader(verify) as loader:
            passes = [run_epoch(loader) for _ in range(epochs)]
        return {name: sum(one[name] for one in passes) for name in ("images", "wall", "cpu")}

    return do_round


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks verification`."""
    add_common_options(parser)
    parser.set_defaults(warm_up=1)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=["raw400", "mix400"], metavar="KIND")
    parser.add_argument("--sizes", nargs="+", type=int, default=[160], metavar="PIXELS")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=16, help="of a run")
    parser.add_argument("--repeats", type=int, default=4, help="times that the pictures stand in the file")


def run(options: argparse.Namespace) -> int:
    """Measure every kind and size; print a Markdown table and append rows to `options.out`."""
    pictures, cores = Pictures(options.images, options.limit), chosen_cores(options, options.workers)
    session = Session("verification", options.out, COLUMNS, pictures=len(pictures), cores=list(cores))
    for kind in (KINDS[name] for name in options.kinds):
        path = written_file("ffx", kind, pictures, options.cache, repeats=options.repeats).resolve()
        for size in options.sizes:
            task = asdict(Task(str(path), size, options.repeats * len(pictures), options.batch_size, options.workers))
            contenders = [
                Contender(
                    verify,
                    "benchmarks.verification:open_run",
                    {"task": task, "verify": verify, "epochs": options.epochs},
                    cores,
                    fresh=True,
                    one_thread=options.workers == 1,
                )
                for verify in WAYS
            ]
            rounds = measure(contenders, options.warm_up, options.rounds)
            for verify, found in summarise(rounds, {"images_a_second": images_a_second}).items():
                pairs = zip(rounds["never"], rounds[verify], strict=True)
                longer = median_with_interval([images_a_second(a) / images_a_second(b) - 1 for a, b in pairs])
                cells = [kind.name, size, verify, *interval_cells(found["images_a_second"])]
                about = {name: getattr(options, name) for name in ("batch_size", "workers", "epochs")}
                session.line(
                    [*cells, *interval_cells(longer, 3)],
                    {"kind": kind.name, "size": size, "verify": verify, "longer": longer, **about, **found},
                )
    return 0
