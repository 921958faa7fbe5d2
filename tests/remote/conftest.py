"""A file of several pages, a server that serves it, an empty cache."""

import pytest

from ffx import RemoteOptions
from ffx.fields import IntField, RGBImageField
from ffx.writer import DatasetWriter
from tests.pictures import PictureDataset
from tests.remote.server import HostileServer


@pytest.fixture(scope="session")
def pages_file(tmp_path_factory):
    """120 raw pictures, 20 MB, on pages of 2 MiB, so blocks of about 1 MiB."""
    path = tmp_path_factory.mktemp("remote") / "train.beton"
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    DatasetWriter(str(path), fields, num_workers=1, page_size=1 << 21).from_indexed_dataset(
        PictureDataset(120, sides=(220, 260))
    )
    return path


@pytest.fixture
def server(pages_file):
    """It serves `train.beton`."""
    with HostileServer({"train.beton": pages_file.read_bytes()}, {"train.beton": '"v1"'}) as running:
        yield running


@pytest.fixture
def options(tmp_path):
    """An empty cache, and little patience."""
    return RemoteOptions(cache_dir=tmp_path / "cache", timeout_seconds=2.0, attempts=4, requests=4)
