"""`make demo`: write a small real data set, train a ResNet-18 on it, print the table and draw the pictures.

The data are scikit-learn's 1,797 handwritten digits of 8 by 8 pixels, enlarged. Everything goes through the real
programs: `ffx.writer.DatasetWriter`, `train_imagenet.py`, `report.py`; all results lie in `runs/demo/`.
Mirrored digits are no digits, so the random flip and the flip at validation are off.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
# As installed, or else from this checkout.
sys.path.append(str(ROOT))

from ffx.fields import IntField, RGBImageField  # noqa: E402
from ffx.writer import DatasetWriter  # noqa: E402

__all__ = ["Digits", "main", "write_digits"]

SIDE = 64
VALIDATION_SHARE = 5  # one digit in five
# What differs from the trainer's defaults, as a configuration file says it.
CONFIGURATION = """\
model:
  arch: resnet18
resolution:
  min_res: 32
  max_res: 64
  start_ramp: 4
  end_ramp: 9
data:
  num_workers: 1
lr:
  lr: 0.05
  lr_peak_epoch: 3
training:
  epochs: 12
  batch_size: 64
  weight_decay: 0.0005
  flip: 0
validation:
  lr_tta: 0
  batch_size: 128
  resolution: 64
"""


class Digits:
    """Some of scikit-learn's digits as `(uint8[64, 64, 3], label)`: indexable, with the names of its classes."""

    classes = tuple(str(digit) for digit in range(10))

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        self._images, self._labels = images, labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        import cv2

        picture = cv2.resize(self._images[index], (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        return np.repeat(picture[..., None], 3, axis=2), int(self._labels[index])


def load_digits(seed: int = 0) -> tuple[Digits, Digits]:
    """Digits to train and to validate on; the same ones for the same seed."""
    from sklearn.datasets import load_digits as load

    data = load()
    images = np.round(data.images * (255 / 16)).astype(np.uint8)
    order = np.random.default_rng(seed).permutation(len(images))
    held_out = len(order) // VALIDATION_SHARE
    validation, training = order[:held_out], order[held_out:]
    return Digits(images[training], data.target[training]), Digits(images[validation], data.target[validation])


def write_digits(folder: Path) -> tuple[Path, Path]:
    """Write the two files and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "train.ffcv", folder / "val.ffcv"
    for path, digits in zip(paths, load_digits(), strict=True):
        fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
        DatasetWriter(path, fields, num_workers=1).from_indexed_dataset(digits)
    return paths


def usable_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_program(name: str, *arguments: str) -> None:
    """Run one of the programs in `examples/imagenet`; leaves this one when it fails."""
    program = ROOT / "examples" / "imagenet" / name
    # One core is left to loading and to others: torch's threads wait for each other in busy loops, so on a machine that
    # is shared one thread too many costs far more than it gives.
    environment = {"OMP_NUM_THREADS": str(max(1, usable_cores() - 1)), **os.environ}
    status = subprocess.run([sys.executable, str(program), *arguments], env=environment, check=False).returncode
    if status:
        raise SystemExit(status)


def main(arguments: list[str] | None = None) -> int:
    """Run the demonstration and return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=ROOT / "runs" / "demo", help="for everything that is written")
    given, options = parser.parse_known_args(arguments)
    start = time.time()
    folder = given.folder.absolute()
    print("1. Writing the digits with ffx.writer.DatasetWriter", flush=True)
    training, validation = write_digits(folder)
    for path in (training, validation):
        print(f"   {path}: {path.stat().st_size / 1e6:.1f} MB")
    print("2. Training a ResNet-18 with examples/imagenet/train_imagenet.py", flush=True)
    # Runs of earlier demonstrations stay out of the table.
    shutil.rmtree(folder / "training", ignore_errors=True)
    train(folder / "training", training, validation, options)
    print("3. The table, by examples/imagenet/report.py", flush=True)
    run_program("report.py", str(folder / "training"), "--out", str(folder))
    print(f"Done in {time.time() - start:.0f} s.")
    return 0


def train(folder: Path, training: Path, validation: Path, more_options: list[str]) -> None:
    """Train with the configuration of this demonstration; `more_options` win."""
    configuration = training.with_name("digits.yaml")
    configuration.write_text(CONFIGURATION, encoding="utf-8")
    places = [f"--data.train_dataset={training}", f"--data.val_dataset={validation}", f"--logging.folder={folder}"]
    run_program("train_imagenet.py", f"--config-file={configuration}", *places, *more_options)


if __name__ == "__main__":
    raise SystemExit(main())
