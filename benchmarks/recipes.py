"""What a recipe is worth: many short trainings on small real data, with several seeds, and their tables.

    python -m benchmarks recipes --data imagenette --study design --runs runs/recipes --out results/recipes.jsonl
    python -m benchmarks recipes --idx fashion-mnist --data fashion --study finalists ...

`--data` is a folder with `train/` and `val/`, a folder of images for each class in both. Sides are a quarter of
ImageNet's configurations: images of 40 to 48 px in training, 64 in validation, where FFCV has 160 to 192 and 256.

Studies:
  data       FFCV's recipe on ffx's file and on the same images through torchvision: is there a difference?
  design     which additions pay: a Plackett-Burman design, in which each is on in half of twelve trainings
  finalists  FFCV's recipe and the chosen ones at equal epochs, several seeds
  speed      one epoch of each recipe in turn, as often as there are seeds: on a machine that does nothing else
  equal_time the finalists with as many epochs as take the time of the first recipe's, by the rows of `speed`

Each training is a process of its own, goes on where it was interrupted, and is a row in `--out` when it is done; what
stands there already is not run again, and what stands there for another study counts for this one, too. `--table`
prints the tables without running anything, `--document` puts them into a document (docs/recipes.md has
places for them).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

from tqdm import tqdm

from .recipes_data import folder_from_idx, prepare_files
from .recipes_document import filled
from .recipes_table import relative_speeds, tables
from .rows import ROOT, append_row, describe_run, read_rows

__all__ = ["ADDITIONS", "RECIPES", "STUDIES", "Training", "add_options", "planned", "run"]

_PROGRAM = ROOT / "examples" / "imagenet" / "train_imagenet.py"

# FFCV's recipe for ResNet-18 at a batch of 64; its rate and decay (for batches of 1,024: 0.5, 5e-5) are set below.
FFCV: dict[str, Any] = {
    "model.arch": "resnet18",
    "training.batch_size": 64,
    "training.momentum": 0.9,
    "training.label_smoothing": 0.1,
    "lr.lr_schedule_type": "cyclic",
    "validation.batch_size": 128,
    "validation.lr_tta": 1,
}
# Rate and decay by hand for so few images; the same for every recipe of SGD.
_RATE, _DECAY = 0.06, 5e-4

# The factors of the design: what each option is when it is on.
ADDITIONS: dict[str, dict[str, Any]] = {
    "ema": {"recipe.ema": 0.995},
    "bce": {"recipe.loss": "bce"},
    "mixup": {"recipe.mixup": 0.2},
    "cutmix": {"recipe.cutmix": 1.0},
    "stochastic_depth": {"recipe.stochastic_depth": 0.1},
    "randaugment": {"recipe.randaugment": 6},
    "alternating_flip": {"recipe.alternating_flip": 1},
    "blurpool": {"training.use_blurpool": 1},
    "nesterov": {"training.nesterov": 1},
    "zero_init": {"model.zero_init": 1},
    "no_bias_decay": {"training.no_decay": "norms_and_biases"},
}

# Plackett and Burman, "The design of optimum multifactorial experiments", 1946: the first row of their twelve.
_FIRST_ROW = (1, 1, 0, 1, 1, 1, 0, 0, 0, 1, 0)

RECIPES: dict[str, dict[str, Any]] = {
    "ffcv": {},
    "muon": {
        "training.optimizer": "muon",
        "lr.lr": 0.02,
        "training.weight_decay": 0.01,
        "training.momentum": 0.95,
        "training.nesterov": 1,
    },
    # Ten times a rate of one tenth: the trust coefficient makes a step a thousandth of a weight.
    "lars": {"training.optimizer": "lars", "lr.lr": 6.0},
    # Whether the rate that is the same for every recipe of SGD is FFCV's best: a half, twice and four times of it.
    "half_rate": {"lr.lr": _RATE / 2},
    "double_rate": {"lr.lr": 2 * _RATE},
    "fourfold_rate": {"lr.lr": 4 * _RATE},
    # What FFCV's recipe has, taken away.
    "hard_labels": {"training.label_smoothing": 0.0},
    "one_resolution": {"resolution.min_res": 48, "resolution.max_res": 48},
    "evaluated_as_trained": {"validation.resolution": 48},
    **{name: dict(options) for name, options in ADDITIONS.items()},
}
# What rn18_configs/ffx_*.yaml and rn50_configs/ffx_*.yaml put together.
RECIPES["ffx"] = {
    key: value
    for name in ("blurpool", "nesterov", "ema", "alternating_flip", "no_bias_decay")
    for key, value in ADDITIONS[name].items()
}


@dataclass(frozen=True)
class Training:
    """One training of a study.

    Attributes:
        study, data, recipe: names.
        seed: of the training.
        epochs: how many.
        source: `"ffx"` or `"folder"`.
        options: that differ from FFCV's, by dotted name.
        factors: in the design, which additions are on.
        added: options of the command line for every training, by dotted name.
    """

    study: str
    data: str
    recipe: str
    seed: int
    epochs: int
    source: str = "ffx"
    options: Mapping[str, Any] = field(default_factory=dict)
    factors: tuple[str, ...] = ()
    added: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The same for the same training, in whatever study: of data, source, seed, epochs and options."""
        content = json.dumps([self.data, self.seed, self.epochs, self.source, sorted(self.all_options().items())])
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def key(self) -> str:
        """The same for the same training of the same study: the name of its folder."""
        return f"{self.study}-{self.recipe}-{self.seed}-{self.digest}"

    def all_options(self) -> dict[str, Any]:
        """Every option that decides the weights, but for paths."""
        # As the configurations for ImageNet: from three quarters of the training to seven eighths.
        ramp = {
            "resolution.min_res": 40,
            "resolution.max_res": 48,
            "resolution.start_ramp": max(0, round(3 * self.epochs / 4) - 1),
            "resolution.end_ramp": max(0, round(7 * self.epochs / 8) - 1),
            "validation.resolution": 64,
        }
        return {
            **FFCV,
            **ramp,
            "lr.lr": _RATE,
            "training.weight_decay": _DECAY,
            "lr.lr_peak_epoch": min(2, self.epochs // 2),
            "training.epochs": self.epochs,
            "training.seed": self.seed,
            **self.options,
            **self.added,
        }


def design_rows() -> Iterator[tuple[str, ...]]:
    """The additions that are on in each of the twelve trainings of the design."""
    names = tuple(ADDITIONS)
    for shift in range(len(names)):
        row = _FIRST_ROW[-shift:] + _FIRST_ROW[:-shift]
        yield tuple(name for name, is_on in zip(names, row, strict=True) if is_on)
    yield ()


def _options_of(names: Sequence[str]) -> dict[str, Any]:
    return {key: value for name in names for key, value in RECIPES[name].items()}


def _of_data(given: argparse.Namespace) -> Iterator[Training]:
    for seed in range(given.seeds):
        for source in ("ffx", "folder"):
            yield Training("data", given.name, source, seed, given.epochs, source)


def _of_design(given: argparse.Namespace) -> Iterator[Training]:
    for seed in range(given.seeds):
        for number, names in enumerate(design_rows()):
            yield Training(
                "design", given.name, f"row{number}", seed, given.epochs, options=_options_of(names), factors=names
            )


def _of_finalists(given: argparse.Namespace) -> Iterator[Training]:
    for seed in range(given.seeds):
        for recipe in given.recipes:
            names = [name for name in recipe.split("+") if name]
            yield Training("finalists", given.name, recipe, seed, given.epochs, options=_options_of(names))


def _of_speed(given: argparse.Namespace) -> Iterator[Training]:
    for training in _of_finalists(given):
        yield replace(training, study="speed", epochs=1)


def _of_equal_time(given: argparse.Namespace) -> Iterator[Training]:
    """The first recipe with its epochs, the others with as many as take the same time by the rows of `speed`."""
    rows = [row for row in read_rows(given.out) if row["study"] == "speed" and row["data"] == given.name]
    speeds = relative_speeds(rows, given.recipes[0])
    if not speeds.keys() >= set(given.recipes):
        raise SystemExit("equal_time needs rows of the study speed of the same data and recipes: run that first")
    for training in _of_finalists(given):
        epochs = max(1, round(given.epochs * median(speeds[training.recipe])))
        yield replace(training, study="equal_time", epochs=epochs)


STUDIES = {
    "data": _of_data,
    "design": _of_design,
    "finalists": _of_finalists,
    "speed": _of_speed,
    "equal_time": _of_equal_time,
}


def planned(given: argparse.Namespace) -> list[Training]:
    """The trainings that the options ask for, in the order in which they are run: seed by seed."""
    added = dict(option.split("=", 1) for option in given.option)
    return [replace(training, added=added) for training in STUDIES[given.study](given)]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare this benchmark's options."""
    parser.add_argument("--data", type=Path, help="folder with train/ and val/, each with a folder of images a class")
    parser.add_argument("--idx", type=Path, help="make --data from a folder of MNIST's files (*-ubyte, *-ubyte.gz)")
    parser.add_argument("--images-a-class", type=int, default=1000, help="of --idx, for training (default 1000)")
    parser.add_argument("--name", help="name of the data in rows (default: the folder's)")
    parser.add_argument("--study", choices=sorted(STUDIES), default="finalists", help="what is compared")
    parser.add_argument("--recipes", nargs="+", default=["ffcv"], help=f"of {', '.join(RECIPES)}; joined by +")
    parser.add_argument("--epochs", type=int, default=8, help="of each training (default 8)")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each recipe (default 3)")
    parser.add_argument("--runs", type=Path, default=Path("runs/recipes"), help="folder for files and runs")
    parser.add_argument("--out", type=Path, required=True, help="rows are added to this file")
    parser.add_argument("--table", action="store_true", help="print the tables of --out, run nothing")
    parser.add_argument("--document", type=Path, help="put the figures of --out into this document, run nothing")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="for every training")


def run(given: argparse.Namespace) -> int:
    """Run what is missing, print the tables; return the exit status."""
    if given.table:
        print(tables(read_rows(given.out)))
        return 0
    if given.document is not None:
        text = given.document.read_text(encoding="utf-8")
        given.document.write_text(filled(text, read_rows(given.out)), encoding="utf-8")
        return 0
    if given.data is None:
        print("recipes: --data is missing: a folder with train/ and val/", file=sys.stderr)
        return 2
    if any("=" not in option for option in given.option):
        print("recipes: expected --option NAME=VALUE, such as training.precision=bf16", file=sys.stderr)
        return 2
    unknown = {part for recipe in given.recipes for part in recipe.split("+")} - RECIPES.keys()
    if unknown:
        print(f"recipes: unknown recipe {', '.join(sorted(unknown))}: known are {', '.join(RECIPES)}", file=sys.stderr)
        return 2
    given.name = given.name or given.data.name
    if given.idx is not None:
        folder_from_idx(given.idx, given.data, given.images_a_class)
    files = prepare_files(given.data, given.runs / "files" / given.name)
    known = {row["key"] for row in read_rows(given.out)}
    todo = [training for training in planned(given) if training.key not in known]
    with tqdm(total=sum(training.epochs for training in todo), unit=" epochs", desc=given.study) as bar:
        for training in todo:
            bar.set_postfix_str(f"{training.recipe}, seed {training.seed}")
            # A time from another hour is no measurement beside these.
            elsewhere = None if training.study == "speed" else _done_elsewhere(training, given.out)
            append_row(given.out, elsewhere or _train(training, given, files))
            bar.update(training.epochs)
    print(tables(read_rows(given.out)))
    return 0


def _done_elsewhere(training: Training, rows: Path) -> dict[str, Any] | None:
    """The row of the same training in another study, as one of this study; `None`: there is none."""
    for row in read_rows(rows):
        if row["key"].rpartition("-")[2] == training.digest:
            own = {"key": training.key, "study": training.study, "recipe": training.recipe}
            return {**row, **own, "factors": list(training.factors), "same_as": row.get("same_as", row["key"])}
    return None


def _train(training: Training, given: argparse.Namespace, files: Mapping[str, Path]) -> dict[str, Any]:
    """Run one training, or what is left of it, and return its row."""
    about = describe_run()
    folder = (given.runs / training.key).absolute()
    places = {split: files[split] if training.source == "ffx" else given.data / split for split in ("train", "val")}
    options = {
        **training.all_options(),
        "data.train_dataset": places["train"].absolute(),
        "data.val_dataset": places["val"].absolute(),
        "logging.folder": folder,
        "training.resume": "auto",
        "validation.plain_resolution": 56,
        "logging.tensorboard": "off",
        "logging.curves": 0,
        # Evaluated at the end alone, which takes a good part of an epoch.
        "logging.log_level": 0,
    }
    command = [sys.executable, str(_PROGRAM), *(f"--{name}={value}" for name, value in options.items())]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, env=os.environ.copy())
    if done.returncode:
        raise SystemExit(f"{training.key}: the training ended with {done.returncode}:\n{done.stderr[-2000:]}")
    logs = sorted(folder.glob("*/log"), key=lambda path: path.stat().st_mtime)
    lines = [json.loads(line) for line in logs[-1].read_text().splitlines()]
    last = [line for line in lines if "epoch" in line][-1]
    scores = {name: value for name, value in last.items() if "top_" in name or name == "val_loss"}
    return {
        **about,
        "benchmark": "recipes",
        "key": training.key,
        "study": training.study,
        "data": training.data,
        "recipe": training.recipe,
        "seed": training.seed,
        "epochs": training.epochs,
        "source": training.source,
        "options": training.all_options(),
        "factors": list(training.factors),
        "seconds": last["relative_time"] - last["val_time"] - last.get("plain_val_time", 0.0),
        "images_per_second": last["images_per_second"],
        **scores,
    }
