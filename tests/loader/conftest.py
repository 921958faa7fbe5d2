"""Small files that the loader's tests read: written once a session by ffx's own writer."""

from pathlib import Path

import pytest

from ffx.fields import IntField, RGBImageField
from ffx.writer import DatasetWriter
from tests.pictures import PictureDataset

SAMPLES = 60


def write(path: Path, dataset, **image_arguments) -> Path:
    """Write a data set of (picture, label) with one worker."""
    fields = {"image": RGBImageField(**image_arguments), "label": IntField()}
    DatasetWriter(str(path), fields, num_workers=1).from_indexed_dataset(dataset)
    return path


@pytest.fixture(scope="session")
def dataset() -> PictureDataset:
    """What the files hold: 60 pictures of differing sizes."""
    return PictureDataset(SAMPLES)


@pytest.fixture(scope="session")
def raw_file(tmp_path_factory, dataset) -> Path:
    """All pictures raw."""
    return write(tmp_path_factory.mktemp("loader") / "raw.beton", dataset, write_mode="raw")


@pytest.fixture(scope="session")
def mixed_file(tmp_path_factory, dataset) -> Path:
    """About half of the pictures as JPEG."""
    return write(
        tmp_path_factory.mktemp("loader") / "mixed.beton", dataset, write_mode="proportion", compress_probability=0.5
    )


@pytest.fixture(scope="session")
def jpeg_file(tmp_path_factory, dataset) -> Path:
    """All pictures as JPEG."""
    return write(tmp_path_factory.mktemp("loader") / "jpeg.beton", dataset, write_mode="jpg")
