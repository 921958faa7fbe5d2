"""Training from a bucket, and from other addresses: the weights are those of local files; what is missing is named."""

import sys

import pytest
import torch
from run import main
from test_single_batch import main as single_batch
from trainer.launch import launch

from tests.pictures import PictureDataset
from tests.remote.s3 import ENVIRONMENT, s3_server
from tests.remote.server import HostileServer
from tests.trainer.conftest import CLASSES
from tests.trainer.test_run import TINY, place  # noqa: F401


@pytest.fixture(scope="module")
def s3(training_file, validation_file):
    """A bucket with two files in a folder, one file in another, two training files in a third."""
    pytest.importorskip("moto.server")
    train, val = training_file.read_bytes(), validation_file.read_bytes()
    keys = {
        "sets/train_400.ffcv": train,
        "sets/val_400.ffcv": val,
        "sets/readme.txt": b"no data",
        "half/train.ffcv": train,
        "many/train_a.ffcv": train,
        "many/train_b.ffcv": train,
        "many/val_b.ffcv": val,
    }
    with s3_server({("pictures", key): data for key, data in keys.items()}) as running:
        yield running


@pytest.fixture
def credentials(s3, monkeypatch):
    """Programs find them in the environment."""
    for name, text in {**ENVIRONMENT, "AWS_ENDPOINT_URL": s3[1]}.items():
        monkeypatch.setenv(name, text)


def weights_of(folder):
    """The weights of the only run there."""
    (file,) = folder.glob("*/final_weights.pt")
    return torch.load(file, weights_only=True)


def assert_same_weights(mine, theirs):
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)


@pytest.mark.parametrize(
    "named",
    [
        ["--s3-bucket", "pictures/sets"],
        ["--s3-bucket", "s3://pictures/sets/", "--no-in-memory"],
        ["--data-path", "s3://pictures/many/train_b.ffcv"],
    ],
    ids=["bucket", "address", "file"],
)
def test_training_from_a_bucket_makes_the_weights_of_local_files(place, credentials, capsys, named):  # noqa: F811
    further = [word for word in named if word == "--no-in-memory"]
    assert main([*TINY, *further, "--checkpoint-dir", "local"]) == 0
    cache = ["--cache-dir", str(place / "cache"), "--cache-gb", "1"]
    assert main([*TINY, *named, *cache, "--checkpoint-dir", "remote"]) == 0
    assert_same_weights(weights_of(place / "remote"), weights_of(place / "local"))
    assert "data: s3://pictures/" in capsys.readouterr().out
    assert len(list((place / "cache").glob("*.ffcv-*"))) == 2


def test_training_from_an_https_address_makes_the_weights_of_local_files(
    place,  # noqa: F811
    training_file,
    validation_file,
    capsys,
):
    files = {"train_400.ffcv": training_file.read_bytes(), "val_400.ffcv": validation_file.read_bytes()}
    with HostileServer(files, {name: f'"{name}"' for name in files}) as server:
        address = server.url("train_400.ffcv").replace("http://", "http://me:sesame@")
        cache = ["--cache-dir", str(place / "cache")]
        assert main([*TINY, "--data-path", address, *cache, "--checkpoint-dir", "remote"]) == 0
    assert main([*TINY, "--checkpoint-dir", "local"]) == 0
    assert_same_weights(weights_of(place / "remote"), weights_of(place / "local"))
    shown = capsys.readouterr()
    assert "sesame" not in shown.out + shown.err


@pytest.mark.parametrize(
    "bucket, message",
    [
        ("nobodys/sets", r"s3://nobodys/sets/train: cannot be read: status 404 NoSuchBucket: is there such a bucket"),
        ("pictures/nothing", "s3://pictures/nothing: no file train*.ffcv there: expected one train* and one val*"),
        ("pictures/half", "s3://pictures/half: no file val*.ffcv there"),
        ("pictures/many", "more than one train file (train_a.ffcv, train_b.ffcv): --data-path ADDRESS names one"),
    ],
)
def test_what_a_bucket_lacks_is_said(credentials, capsys, bucket, message):
    assert main([*TINY, "--s3-bucket", bucket]) in (1, 2)
    assert message in capsys.readouterr().err


def test_missing_credentials_are_said(s3, monkeypatch, tmp_path, capsys):
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3[1])
    assert main([*TINY, "--s3-bucket", "pictures/sets"]) == 1
    assert "Unable to locate credentials: see storage_options, or set AWS_PROFILE" in capsys.readouterr().err


def test_a_missing_package_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "botocore.session", None)
    monkeypatch.delitem(sys.modules, "ffx.remote.s3_store", raising=False)
    assert main([*TINY, "--s3-bucket", "pictures"]) == 1
    assert "pip install botocore fsspec urllib3" in capsys.readouterr().err


def test_the_single_batch_is_the_buckets(credentials, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert single_batch([*TINY, "--s3-bucket", "pictures/sets", "--cache-dir", str(tmp_path / "cache")]) == 0
    assert "made-up" not in capsys.readouterr().out
    assert list((tmp_path / "cache").glob("*.ffcv-*"))


@pytest.mark.long("ranks")
def test_two_ranks_share_a_cache_that_is_smaller_than_the_file(tiny, tmp_path, validation_file):
    from ffx.fields import IntField, RGBImageField
    from ffx.writer import DatasetWriter

    path = tmp_path / "train.ffcv"
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    DatasetWriter(path, fields, num_workers=1, page_size=1 << 21, progress=False).from_indexed_dataset(
        PictureDataset(160, classes=CLASSES, sides=(220, 260))
    )
    limit, size = 20_000_000, path.stat().st_size
    assert limit < size
    common = {"training.distributed": 1, "dist.world_size": 2, "dist.port": 0, "training.epochs": 2}
    common |= {"data.in_memory": 0, "training.batch_size": 2}
    with HostileServer({"train.ffcv": path.read_bytes(), "val.ffcv": validation_file.read_bytes()}) as server:
        places = {"data.train_dataset": server.url("train.ffcv"), "data.val_dataset": server.url("val.ffcv")}
        cache = {"data.cache_dir": str(tmp_path / "cache"), "data.cache_gb": limit / 10**9}
        remote = launch(tiny(**common, **places, **cache, **{"logging.folder": str(tmp_path / "remote")}), "remote")
        # More than once, as not all of it can be kept.
        assert server.bytes_asked > size
    (copy,) = (tmp_path / "cache").glob("train.ffcv-*/data")
    assert copy.stat().st_size == size
    kept = sum(one.stat().st_blocks * 512 for one in (tmp_path / "cache").rglob("*") if one.is_file())
    assert kept < limit + (2 << 20)
    local = launch(
        tiny(**common, **{"data.train_dataset": str(path), "logging.folder": str(tmp_path / "local")}), "local"
    )
    assert_same_weights(*(torch.load(one / "final_weights.pt", weights_only=True) for one in (remote, local)))
