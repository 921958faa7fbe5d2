"""The trainer's tests: it is imported as its programs import it, from `examples/imagenet`."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ffx.fields import IntField, RGBImageField
from ffx.writer import DatasetWriter
from tests.one_thread import one_thread  # noqa: F401
from tests.pictures import PictureDataset
from tests.trainer.quick_start import quick_ranks  # noqa: F401

PROGRAMS = Path(__file__).resolve().parents[2] / "examples" / "imagenet"
if str(PROGRAMS) not in sys.path:
    sys.path.insert(0, str(PROGRAMS))

TRAINING_IMAGES, VALIDATION_IMAGES, CLASSES = 20, 9, 4

# Small enough for a processor: 5 steps of 4 images at 32 pixels, in a network of 350,000 weights.
TINY = {
    "model.arch": "shufflenet_v2_x0_5",
    "resolution.min_res": 32,
    "resolution.max_res": 32,
    "validation.resolution": 32,
    "validation.batch_size": 4,
    "training.batch_size": 4,
    "training.epochs": 2,
    "training.device": "cpu",
    "lr.lr": 0.05,
    "lr.lr_peak_epoch": 1,
    "data.num_workers": 1,
    # Each has tests of its own; the others need not wait for them.
    "validation.plain_resolution": 0,
    "logging.tensorboard": "off",
    "logging.wandb": "off",
    "logging.curves": 0,
}


def write_pictures(path: Path, dataset, fields: dict | None = None) -> Path:
    """Write a data set with one worker and no bar."""
    fields = fields or {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    DatasetWriter(path, fields, num_workers=1, progress=False).from_indexed_dataset(dataset)
    return path


@pytest.fixture(scope="session")
def training_file(tmp_path_factory) -> Path:
    """20 pictures in 4 classes."""
    dataset = PictureDataset(TRAINING_IMAGES, classes=CLASSES, seed=1)
    return write_pictures(tmp_path_factory.mktemp("trainer") / "train.ffcv", dataset)


@pytest.fixture(scope="session")
def validation_file(tmp_path_factory) -> Path:
    """9 pictures in the same classes: no multiple of any batch size here."""
    dataset = PictureDataset(VALIDATION_IMAGES, classes=CLASSES, seed=2)
    return write_pictures(tmp_path_factory.mktemp("trainer") / "val.ffcv", dataset)


@pytest.fixture(scope="session")
def make_tiny(training_file, validation_file) -> Callable:
    """`make_tiny(folder, **{"section.option": value})`: a `TrainerConfig` that trains in a second, into `folder`."""
    from trainer.config import TrainerConfig

    places = {"data.train_dataset": str(training_file), "data.val_dataset": str(validation_file)}

    def make(folder, **changes):
        return TrainerConfig.from_params({**TINY, **places, "logging.folder": str(folder), **changes})

    return make


@pytest.fixture
def tiny(make_tiny, tmp_path) -> Callable:
    """`tiny(**{"section.option": value})`: such a configuration for one test."""
    return partial(make_tiny, tmp_path / "runs")
