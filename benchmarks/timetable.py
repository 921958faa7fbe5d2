"""The twelve configurations of `rn18_configs` and `rn50_configs` that FFCV published: images a second, minutes.

Measured: images a second of training on real data at every resolution that the configurations pass through, and of
the validation (256 px, with the mirror images), on one GPU. Projected from these, and called so: the minutes that
ImageNet's 1,281,167 training images would take on that one GPU, with a validation of 50,000 images after each epoch.
FFCV's published minutes stand beside them as minutes of one GPU (ResNet-50: eight A100, so eight times as many).
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from .feeding import about_training, add_training_options, training_contender, training_file, transposed
from .harness import SKIPPED, Session, measure, summarise, usable_cores
from .rows import ROOT
from .training import load_trainer

__all__ = ["Configuration", "add_options", "configurations", "projected_minutes", "run"]

TRAINING_IMAGES, VALIDATION_IMAGES = 1_281_167, 50_000
COLUMNS = ("configuration", "network", "epochs", "px: images a second", "validation", "minutes, projected", "FFCV's")
FIGURES = {"images_a_second": lambda round_: round_["images"] / round_["wall"]}


@dataclass(frozen=True)
class Configuration:
    """One published configuration.

    Attributes:
        name: of its file.
        network: torchvision's name.
        resolutions: side of the training images in pixels -> epochs at it.
        published_minutes: reported by FFCV, for all its GPUs together in minutes of one GPU.
        published_on: what FFCV ran it on.
    """

    name: str
    network: str
    resolutions: Mapping[int, int]
    published_minutes: float
    published_on: str

    @property
    def epochs(self) -> int:
        """Epochs of the training."""
        return sum(self.resolutions.values())


def configurations() -> list[Configuration]:
    """The twelve configurations, from their files and the trainer's record of what was published."""
    load_trainer()
    from trainer.config import ResolutionConfig
    from trainer.recipes import PUBLISHED
    from trainer.schedule import resolution_of_epoch

    found = []
    for published in PUBLISHED:
        content = yaml.safe_load((ROOT / f"{published.arch}_configs" / f"{published.uuid}.yaml").read_text())
        schedule = ResolutionConfig(**content["resolution"])
        sides = Counter(resolution_of_epoch(schedule, epoch) for epoch in range(content["training"]["epochs"]))
        gpus = int(content["dist"]["world_size"])
        minutes, network = gpus * published.minutes, content["model"]["arch"]
        found.append(Configuration(published.uuid, network, dict(sides), minutes, published.setup))
    return found


def projected_minutes(configuration: Configuration, training: Mapping[int, float], validation: float) -> float:
    """Minutes on one GPU, from images a second by resolution and those of the validation."""
    seconds = sum(TRAINING_IMAGES * epochs / training[side] for side, epochs in configuration.resolutions.items())
    return (seconds + configuration.epochs * VALIDATION_IMAGES / validation) / 60


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks timetable`."""
    add_training_options(parser, rounds=3)


def _measured(
    options: argparse.Namespace, network: str, prepared: tuple[str, int], sides: list[int]
) -> dict[str, dict[str, Any]]:
    """Rates by "side" and "validation", on all cores."""
    cores = {"real": options.cores or usable_cores()}
    contender = training_contender(options, network, prepared, sides, cores, validate=True)
    rounds = transposed(measure([contender], options.warm_up, options.rounds)[network])
    kept = {name.removesuffix("/real"): own for name, own in rounds.items() if name.endswith(("/real", "validation"))}
    return summarise(kept, FIGURES)


def run(options: argparse.Namespace) -> int:
    """Measure every network; print a Markdown table and append rows to `options.out`."""
    prepared = training_file(options)
    if prepared is None:
        return SKIPPED
    session = Session("timetable", options.out, COLUMNS, samples=prepared[1], kind=options.kind, device=options.device)
    for network in options.networks:
        chosen = [entry for entry in configurations() if entry.network == network]
        sides = sorted({side for entry in chosen for side in entry.resolutions})
        found = _measured(options, network, prepared, sides)
        rates = {name: value["images_a_second"]["median"] for name, value in found.items()}
        training = {side: rates[str(side)] for side in sides}
        for entry in chosen:
            minutes = projected_minutes(entry, training, rates["validation"])
            at = ", ".join(f"{side}: {training[side]:,.0f}" for side in sorted(entry.resolutions))
            cells = [entry.name, network, entry.epochs, at, f"{rates['validation']:,.0f}", f"{minutes:,.1f}"]
            row = {
                "config": entry.name,
                "network": network,
                "epochs": entry.epochs,
                "resolutions": entry.resolutions,
                **about_training(options),
                "measured": found,
                "projected_minutes": minutes,
                "published_gpu_minutes": entry.published_minutes,
                "published_on": entry.published_on,
            }
            session.line([*cells, f"{entry.published_minutes:,.1f} ({entry.published_on})"], row)
    return 0
