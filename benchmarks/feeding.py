"""Does the loader keep a GPU busy: training on real data beside training on tensors that lie on the device already.

The ImageNet trainer's own epochs, in half precision, on a file of ffx through the loader, with several numbers of
cores; the share is real over synthetic, round by round. The goal is 98 % with as few cores as possible. Also the bytes
a second of copies between host and device. Needs a CUDA device; without one it says so and measures nothing
(`--device cpu` is for trying it out).
"""

from __future__ import annotations

import argparse

from .files import KINDS, NotWritten, Pictures, written_file
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
from .peers import gpu_is_here
from .training import RUN_FOLDER, SYNTHETIC

__all__ = ["LEAST_SHARE", "add_options", "run", "transposed"]

LEAST_SHARE = 0.98
COLUMNS = ("network", "px", "data", "cores", "images a second", "95 %", "share of synthetic", "95 %")
FIGURES = {"images_a_second": lambda round_: round_["images"] / round_["wall"]}


def add_training_options(parser: argparse.ArgumentParser, rounds: int) -> None:
    """Declare what `feeding` and `timetable` share."""
    add_common_options(parser, rounds=rounds)
    parser.add_argument("--kind", choices=KINDS, default="mix400", help=f"what is read: {', '.join(KINDS)}")
    parser.add_argument("--networks", nargs="+", default=["resnet18", "resnet50"], metavar="NAME")
    parser.add_argument("--batch-size", type=int, default=512)
    parser.add_argument("--samples", type=int, default=16_000, help="samples an epoch; pictures are stored repeatedly")
    parser.add_argument("--epochs", type=int, default=2, help="epochs of each source in a round")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--precision", choices=("auto", "fp16", "bf16", "fp32"), default="auto", help="auto: fp16 on a GPU"
    )
    parser.add_argument("--compile", action="store_true", help="with torch.compile")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks feeding`."""
    add_training_options(parser, rounds=5)
    parser.add_argument("--sizes", nargs="+", type=int, default=[160, 192, 224], metavar="PIXELS")
    parser.add_argument("--core-counts", nargs="+", type=int, help="cores for the real data (default: 2, 4, 8 … all)")


def transposed(rounds: list[Round]) -> dict[str, list[Round]]:
    """Rounds of one process that did several things, as rounds of each thing."""
    return {name: [round_[name] for round_ in rounds] for name in rounds[0]}


def training_file(options: argparse.Namespace) -> tuple[str, int] | None:
    """The file to train on and how many samples it has; `None`, and a word why, where something is missing."""
    if options.device == "cuda" and not gpu_is_here():
        left_out("training", "needs a CUDA device")
        return None
    pictures = Pictures(options.images, options.limit)
    repeats = -(-options.samples // len(pictures))
    try:
        path = written_file("ffx", KINDS[options.kind], pictures, options.cache, repeats=repeats)
    except NotWritten as error:
        left_out(options.kind, str(error))
        return None
    return str(path.resolve()), repeats * len(pictures)


def training_contender(
    options: argparse.Namespace,
    network: str,
    prepared: tuple[str, int],
    sizes: list[int],
    cores: dict[str, list[int]],
    validate: bool,
) -> Contender:
    """One process that trains `network` on everything by turns; `prepared` comes from `training_file`."""
    path, samples = prepared
    arguments = {
        "arch": network,
        "sizes": sizes,
        "batch_size": options.batch_size,
        "path": path,
        "images": samples,
        "cores": cores,
        "epochs": options.epochs,
        "device": options.device,
        "validate": validate,
        "precision": options.precision,
        "compile_network": options.compile,
    }
    # A bar in the measuring process would only be in the way.
    environment = {"TQDM_MININTERVAL": "3600"}
    return Contender(
        network,
        "benchmarks.training:open_training",
        arguments,
        environment=environment,
        empty_folders=(RUN_FOLDER,),
        one_thread=options.device == "cuda",
    )


def about_training(options: argparse.Namespace) -> dict[str, object]:
    """What a row says of how a network was trained."""
    return {"batch_size": options.batch_size, "precision": options.precision, "compiled": options.compile}


def run(options: argparse.Namespace) -> int:
    """Measure every network and size; print a Markdown table and append rows to `options.out`."""
    prepared = training_file(options)
    if prepared is None:
        return SKIPPED
    usable = options.cores or usable_cores()
    counts = options.core_counts or [number for number in (2, 4, 8, 16, 32) if number < len(usable)] + [len(usable)]
    cores = {str(number): usable[-number:] for number in counts}
    session = Session("feeding", options.out, COLUMNS, samples=prepared[1], kind=options.kind, device=options.device)
    for network in options.networks:
        contender = training_contender(options, network, prepared, options.sizes, cores, validate=False)
        rounds = transposed(measure([contender], options.warm_up, options.rounds)[network])
        for size in options.sizes:
            reference = f"{size}/{SYNTHETIC}"
            own = {name: rounds[name] for name in (reference, *(f"{size}/{number}" for number in cores))}
            enough = []
            for name, found in summarise(own, FIGURES, reference).items():
                source = name.partition("/")[2]
                share = found.pop("ratio")
                cells = [network, size, *((source, "") if source == SYNTHETIC else ("real", source))]
                cells += [*interval_cells(found["images_a_second"]), *interval_cells(share, 3)]
                row = {"network": network, "size": size, "source": source, **about_training(options)}
                session.line(cells, {**row, "cores": cores.get(source, []), "share": share, **found})
                if source != SYNTHETIC and share["median"] >= LEAST_SHARE:
                    enough.append(int(source))
            fewest = min(enough, default=None)
            with_cores = f"{fewest} core(s)" if fewest else "none of these numbers of cores"
            print(f"\n{network}, {size} px: {LEAST_SHARE:.0%} of the synthetic rate with {with_cores}\n", flush=True)
    if options.device == "cuda":
        _measure_copies(options)
    return 0


def _measure_copies(options: argparse.Namespace) -> None:
    session = Session("copies", options.out, ("copy", "GB a second", "95 %"))
    contender = Contender("copies", "benchmarks.training:open_copies", {"mebibytes": 64})
    rounds = transposed(measure([contender], options.warm_up, options.rounds)["copies"])
    figures = {"gb_a_second": lambda round_: round_["bytes"] / round_["wall"] / 1e9}
    for name, found in summarise(rounds, figures).items():
        session.line([name, *interval_cells(found["gb_a_second"], 1)], {"copy": name, **found})
