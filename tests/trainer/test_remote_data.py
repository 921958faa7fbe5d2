"""Data sets behind addresses: the trainer's batches are those of the local files."""

import numpy as np
import pytest
import torch
from trainer.data import open_plain_validation, open_training, open_validation
from trainer.distributed import Ranks
from trainer.errors import DataError

from ffx.errors import LoaderError
from tests.remote.server import HostileServer

CPU = torch.device("cpu")


@pytest.fixture
def server(training_file, validation_file):
    files = {"train.beton": training_file.read_bytes(), "val.beton": validation_file.read_bytes()}
    with HostileServer(files, {name: f'"{name}"' for name in files}) as running:
        yield running


@pytest.fixture
def places(server, tmp_path):
    return {
        "data.train_dataset": server.url("train.beton"),
        "data.val_dataset": server.url("val.beton"),
        "data.cache_dir": str(tmp_path / "cache"),
        "data.cache_gb": 1.0,
    }


def epoch(source):
    batches = [(images.clone().numpy(), labels.clone().numpy()) for images, labels in source.epoch(0, 32)]
    source.close()
    return [np.concatenate(parts) for parts in zip(*batches, strict=True)]


@pytest.mark.parametrize("in_memory", [True, False])
def test_addresses_give_the_batches_of_the_files(tiny, places, tmp_path, in_memory):
    remote, local = tiny(**places, **{"data.in_memory": in_memory}), tiny(**{"data.in_memory": in_memory})
    for opened in (open_training, open_validation):
        mine, theirs = (opened(config, Ranks(), CPU, torch.float32) for config in (remote, local))
        for one, other in zip(epoch(mine), epoch(theirs), strict=True):
            np.testing.assert_array_equal(one, other)
    assert any((tmp_path / "cache").iterdir())


def test_the_caches_limit_reaches_the_loader(tiny, places):
    with pytest.raises(LoaderError, match="cache_bytes of at least"):
        epoch(open_training(tiny(**{**places, "data.cache_gb": 1e-6}), Ranks(), CPU, torch.float32))


def test_plain_validation_of_an_address_is_ffxs_alone(tiny, places):
    assert set(open_plain_validation(tiny(**places), Ranks(), CPU, torch.float32)) == {"ffx"}


def test_an_address_is_no_folder(tiny, places):
    with pytest.raises(DataError, match="found an address"):
        open_training(tiny(**places, **{"data.source": "folder"}), Ranks(), CPU, torch.float32)
