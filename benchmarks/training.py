"""The work of `feeding` and `timetable`: the ImageNet trainer's own epochs on real and on synthetic data, by turns.

One process holds one network; its training sources take turns, so that all of them meet the same state of the GPU.
The synthetic source is one batch that lies on the device already: training without any loading.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from .harness import Round
from .rows import ROOT
from .worker import cpu_seconds

__all__ = ["RUN_FOLDER", "SYNTHETIC", "load_trainer", "open_copies", "open_training"]

SYNTHETIC = "synthetic"
# Environment variable that names a folder for what the trainer writes.
RUN_FOLDER = "BENCHMARKS_RUN_FOLDER"


def load_trainer() -> None:
    """Let `trainer`, the package of `examples/imagenet`, be imported."""
    place = str(ROOT / "examples" / "imagenet")
    if place not in sys.path:
        sys.path.insert(0, place)


@contextmanager
def _pinned(cores: Sequence[int]) -> Iterator[None]:
    """Keep this thread, and the threads that it starts, on some cores."""
    if not cores or not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _make_trainer(
    arch: str, batch_size: int, path: str, images: int, device: str, precision: str, compile_network: bool
) -> Any:
    load_trainer()
    from trainer.config import TrainerConfig
    from trainer.loop import Trainer

    options = {
        "model.arch": arch,
        "data.source": "auto",
        "data.train_dataset": path,
        "data.val_dataset": path,
        "data.num_workers": -1,
        "data.classes": 1000,
        "data.synthetic_images": images,
        "training.batch_size": batch_size,
        "training.device": device,
        "training.precision": precision,
        "training.compile": compile_network,
        "training.epochs": 1,
        "validation.batch_size": batch_size,
        "validation.resolution": 256,
        # Numbers must stay finite; what is learnt does not matter.
        "lr.lr": 0.001,
        "logging.log_level": 0,
        "logging.tensorboard": "off",
        "logging.wandb": "off",
    }
    return Trainer(TrainerConfig.from_params(options), run_folder=Path(os.environ[RUN_FOLDER]) / "run")


def _sources(trainer: Any, cores: dict[str, list[int]]) -> dict[str, Any]:
    """The synthetic source, and a real one for each set of cores, with as many workers."""
    from trainer.data import open_training as open_source

    config = trainer.config
    data = {SYNTHETIC: replace(config.data, source="synthetic")}
    data |= {name: replace(config.data, num_workers=len(chosen)) for name, chosen in cores.items()}
    return {
        name: open_source(replace(config, data=section), trainer.ranks, trainer.device, trainer.dtype)
        for name, section in data.items()
    }


def open_training(
    arch: str,
    sizes: Sequence[int],
    batch_size: int,
    path: str,
    images: int,
    cores: dict[str, list[int]],
    epochs: int,
    device: str,
    validate: bool = False,
    precision: str = "auto",
    compile_network: bool = False,
) -> Callable[[], Round]:
    """A round: at each size, `epochs` epochs of each source (see `Contender`).

    Args:
        arch: of torchvision's networks.
        sizes: sides of the images in pixels.
        batch_size: images a step.
        path: file to train on, at least `images` long.
        images: an epoch of the synthetic source.
        cores: name of a real source -> the cores that it may use.
        device: "cuda" or "cpu".
        precision: as `training.precision` of the trainer.
        compile_network: with torch.compile.
        validate: also evaluate the network on the file, at 256 px with the mirror images, as the recipes do.

    A round's figures are by "size/source": images, wall and CPU seconds, without each epoch's first step.
    """
    trainer = _make_trainer(arch, batch_size, path, images, device, precision, compile_network)
    sources = _sources(trainer, cores)
    number = 0

    def do_round() -> Round:
        nonlocal number
        found: Round = {}
        names = list(sources) if number % 2 == 0 else list(reversed(sources))
        number += 1
        for size in sizes:
            for name in names:
                with _pinned(cores.get(name, [])):
                    found[f"{size}/{name}"] = _train(trainer, sources[name], size, epochs)
        if compile_network and not trainer.learner.is_compiled:
            raise RuntimeError("torch.compile failed, for the reason above: this would measure no compiled network")
        if validate:
            scores = trainer.validate()
            found["validation"] = {"images": trainer.validation_source.images, "wall": scores.seconds, "cpu": 0.0}
        return found

    return do_round


def _train(trainer: Any, source: Any, size: int, epochs: int) -> Round:
    from trainer.config import ResolutionConfig

    trainer.config = replace(trainer.config, resolution=ResolutionConfig(min_res=size, max_res=size))
    trainer.training_source = source
    start_cpu, images, wall = cpu_seconds(), 0, 0.0
    for epoch in range(epochs):
        result = trainer.train_epoch(epoch)
        timed = (result.steps - 1) * trainer.config.training.batch_size
        images += timed
        wall += timed / result.images_per_second
    return {"images": images, "wall": wall, "cpu": cpu_seconds() - start_cpu}


def open_copies(mebibytes: int) -> Callable[[], Round]:
    """A round: bytes a second of copies between host and device, `mebibytes` at a time."""
    import torch

    device = torch.device("cuda")
    pinned = torch.empty(mebibytes << 20, dtype=torch.uint8, pin_memory=True)
    pageable = torch.empty(mebibytes << 20, dtype=torch.uint8)
    there, elsewhere = (torch.empty(mebibytes << 20, dtype=torch.uint8, device=device) for _ in range(2))
    pairs = {
        "pinned host to device": (there, pinned),
        "pageable host to device": (there, pageable),
        "device to pinned host": (pinned, there),
        "device to device": (elsewhere, there),
    }

    def do_round() -> Round:
        found: Round = {}
        for name, (target, source) in pairs.items():
            torch.cuda.synchronize()
            start = time.perf_counter()
            for _ in range(20):
                target.copy_(source, non_blocking=True)
            torch.cuda.synchronize()
            found[name] = {"bytes": 20 * (mebibytes << 20), "wall": time.perf_counter() - start}
        return found

    return do_round
