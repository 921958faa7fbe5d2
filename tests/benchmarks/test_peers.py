"""Each peer that is installed does the work that it is measured at."""

import numpy as np
import pytest

from benchmarks import files, harness, loader, peers
from benchmarks.peers import PEERS, Task


@pytest.fixture(scope="module")
def prepared(picture_folder, tmp_path_factory):
    """A function: what a peer reads for `jpg500`."""
    cache = tmp_path_factory.mktemp("cache")
    pictures = files.Pictures(picture_folder / "val", 8)
    with pytest.MonkeyPatch.context() as patch:
        # FFCV takes half a minute to import; ffx reads its own file as well.
        patch.setattr(files, "ffcv_is_here", lambda: False)
        yield lambda name: PEERS[name].prepare(files.KINDS["jpg500"], pictures, cache)


# Importing and compiling FFCV takes half a minute, DALI and SPDL some seconds.
@pytest.mark.parametrize(
    "name",
    [
        "ffx",
        "torchvision",
        "opencv",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("ffcv", "dali-cpu", "spdl")),
    ],
)
@pytest.mark.long("measured files")
def test_peer_gives_batches_of_all_samples(name, prepared):
    if missing := PEERS[name].missing():
        pytest.skip(missing)
    path, _ = prepared(name)
    contender = harness.Contender(name, "tests.benchmarks.test_peers:open_described", {"peer": name, "path": str(path)})
    first, second = harness.measure([contender], 0, 2)[name]
    for epoch in (first, second):
        assert epoch["images"] == 20
        assert epoch["batches"] == 3
        assert epoch["dtype"] == "uint8"
        assert sorted(epoch["shape"]) == [3, 32, 32]
        # 8 pictures, 2 of each of 4 classes, each of them twice or three times.
        assert set(epoch["labels"]) == {0, 1, 2, 3}
        assert epoch["different"]


def open_described(peer, path):
    batches = PEERS[peer].open(Task(path, 32, 20, 8, 1))

    def do_round():
        found = [(np.array(images), np.array(labels).reshape(-1)) for images, labels in batches]
        images = np.concatenate([images for images, _ in found])
        return {
            "images": len(images),
            "batches": len(found),
            "dtype": str(images.dtype),
            "shape": images.shape[1:],
            "labels": np.concatenate([labels for _, labels in found]).tolist(),
            "different": len(np.unique(images.reshape(len(images), -1), axis=0)) > 10,
        }

    return do_round


def test_random_crops_lie_within_the_picture_and_have_the_areas_that_were_asked_for():
    shares = []
    for _ in range(500):
        top, left, height, width = peers._random_crop(300, 400)
        assert 0 <= top <= top + height <= 300 and 0 <= left <= left + width <= 400
        assert 0.7 < width / height < 1.4
        shares.append(height * width / (300 * 400))
    assert min(shares) > 0.075 and max(shares) > 0.7
    assert peers._random_crop(1, 4000) == (0, 0, 1, 4000)


def test_peers_say_what_they_lack(monkeypatch):
    absent = peers.Peer("absent", "no_such_package.inside", "folder", lambda task: [])
    assert "install_peers.sh" in absent.missing()
    monkeypatch.setattr(peers, "gpu_is_here", lambda: False)
    assert PEERS["dali-gpu"].missing() == "needs a CUDA device"
    assert PEERS["ffx"].missing() == ""


def test_absent_peers_are_left_out_and_named(monkeypatch, capsys):
    monkeypatch.setitem(PEERS, "absent", peers.Peer("absent", "no_such_package", "folder", lambda task: []))
    assert loader.present_peers(["ffx", "absent"]) == ["ffx"]
    assert "left out: absent (not installed" in capsys.readouterr().err


def test_peers_of_pictures_read_only_kinds_that_are_pictures(picture_folder, tmp_path):
    pictures = files.Pictures(picture_folder / "val", 8)
    assert PEERS["torchvision"].prepare(files.KINDS["raw400"], pictures, tmp_path) is None
