"""CIFAR-10 and its augmentation, from torchvision's form, from folders of small pictures and from files."""

import hashlib
import http.server
import itertools
import json
import pickle
import tarfile
import threading
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, ImageFolder
from trainer import cifar_source
from trainer.data import CifarSource, open_training, open_validation
from trainer.distributed import Ranks
from trainer.errors import CheckpointError, DataError
from trainer.loop import Trainer

from ffx.errors import FfxError
from ffx.fields import IntField, RGBImageField
from ffx.writer import DatasetWriter
from tests.pictures import make_picture
from tests.trainer.batches import all_of

CPU = torch.device("cpu")
ALONE = Ranks()
MEAN = np.array([0.4914, 0.4822, 0.4465], np.float32)[:, None, None]
STD = np.array([0.2023, 0.1994, 0.2010], np.float32)[:, None, None]
IMAGES = {"train": 24, "val": 9}
CIFAR = {"data.augmentation": "cifar"}


def pictures(split):
    return [make_picture(32, 32, seed=1000 * len(split) + number) for number in range(IMAGES[split])]


@pytest.fixture(scope="module")
def small_pictures(tmp_path_factory):
    """Pictures of 32 px in three classes: class folders, files and CIFAR-10's own form, by these names."""
    folder = tmp_path_factory.mktemp("cifar")
    for split in IMAGES:
        for number, picture in enumerate(pictures(split)):
            path = folder / "folder" / split / f"class_{number % 3}" / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)
        fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
        writer = DatasetWriter(folder / f"{split}.ffcv", fields, num_workers=1, progress=False)
        writer.from_indexed_dataset(ImageFolder(str(folder / "folder" / split)))
    return folder


@pytest.fixture
def configure(tiny, small_pictures, made_cifar10):
    """`configure(kind, **changes)`: the same pictures as "folder", "file" or "cifar10"."""

    def make(kind, **changes):
        if kind == "cifar10":
            places = [made_cifar10, made_cifar10]
            changes = {"data.source": "cifar10", **changes}
        elif kind == "folder":
            places = [small_pictures / "folder" / split for split in IMAGES]
        else:
            places = [small_pictures / f"{split}.ffcv" for split in IMAGES]
        paths = {"data.train_dataset": str(places[0]), "data.val_dataset": str(places[1])}
        return tiny(**{**paths, **CIFAR, "data.num_workers": 0, **changes})

    return make


def write_cifar10(root):
    """CIFAR-10's own form with few images: the same as in the folders, in the folders' order; digests of the files."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    digests = {}
    for split, name in (("train", "data_batch_1"), ("val", "test_batch")):
        order = sorted(range(IMAGES[split]), key=lambda number: (number % 3, number))
        data = np.stack([pictures(split)[number].transpose(2, 0, 1).reshape(-1) for number in order])
        content = pickle.dumps({"data": data, "labels": [number % 3 for number in order]})
        (folder / name).write_bytes(content)
        digests[name] = hashlib.md5(content).hexdigest()
    content = pickle.dumps({"label_names": [f"class_{number}" for number in range(3)]})
    (folder / "batches.meta").write_bytes(content)
    digests["batches.meta"] = hashlib.md5(content).hexdigest()
    return digests


@pytest.fixture
def made_cifar10(tmp_path, monkeypatch):
    """A folder in torchvision's form of CIFAR-10, which torchvision takes for the real one."""
    digests = write_cifar10(tmp_path / "cifar")
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", digests["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", digests["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": digests["batches.meta"]})
    return tmp_path / "cifar"


@pytest.fixture
def web_server(tmp_path):
    """The address of a web server whose files lie in `tmp_path`."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def training(config, ranks=ALONE):
    return open_training(config, ranks, CPU, torch.float32)


def collected(source, epoch=0, resolution=32):
    """An epoch's images in grey levels, rounded, and its labels."""
    images, labels = all_of(source, resolution, epoch)
    exact = (images.numpy() * STD + MEAN) * 255
    assert np.abs(exact - np.round(exact)).max() < 1e-3
    return np.round(exact).astype(np.uint8), labels.numpy()


def views_of(picture):
    """All that the augmentation may make of a picture, by NumPy: crops behind black pixels, mirrored or not."""
    padded = np.pad(picture, ((4, 4), (4, 4), (0, 0)))
    for top, left in itertools.product(range(9), range(9)):
        crop = padded[top : top + 32, left : left + 32].transpose(2, 0, 1)
        yield (top, left, False), crop
        yield (top, left, True), crop[..., ::-1]


KINDS = ("folder", "file", "cifar10")


@pytest.mark.parametrize("kind", KINDS)
def test_cifar_training_images_are_moved_and_mirrored_originals(kind, configure):
    known = {
        view.tobytes(): (number, place)
        for number, picture in enumerate(pictures("train"))
        for place, view in views_of(picture)
    }
    source = training(configure(kind))
    places = []
    for epoch in range(6):
        images, labels = collected(source, epoch)
        found = [known[image.tobytes()] for image in images]
        assert sorted(number for number, _ in found) == list(range(24))
        assert [number % 3 for number, _ in found] == labels.tolist()
        places += [place for _, place in found]
    # 144 draws: each of the nine places along an axis, and both mirrorings.
    assert [len({place[axis] for place in places}) for axis in range(3)] == [9, 9, 2]
    assert len(set(places)) > 60


@pytest.mark.parametrize("kind", KINDS)
def test_cifar_images_are_not_mirrored_where_that_is_not_wanted(kind, configure):
    known = {view.tobytes(): place[2] for picture in pictures("train") for place, view in views_of(picture)}
    images, _ = collected(training(configure(kind, **{"training.flip": 0})))
    assert not any(known[image.tobytes()] for image in images)


@pytest.mark.parametrize("kind", KINDS)
def test_cifar_validation_images_are_as_they_are_stored(kind, configure):
    images, labels = collected(open_validation(configure(kind), ALONE, CPU, torch.float32))
    order = sorted(range(9), key=lambda number: (number % 3, number))
    assert labels.tolist() == [number % 3 for number in order]
    assert all(np.array_equal(image, pictures("val")[n].transpose(2, 0, 1)) for image, n in zip(images, order))


@pytest.mark.parametrize("kind", KINDS)
def test_cifar_images_follow_seed_epoch_and_image_alone(kind, configure):
    first, again, workers = (
        collected(training(configure(kind, **{"data.num_workers": count})), 1)[0] for count in (0, 0, 2)
    )
    assert np.array_equal(first, again) and np.array_equal(first, workers)
    assert not np.array_equal(first, collected(training(configure(kind)), 2)[0])
    assert not np.array_equal(first, collected(training(configure(kind, **{"training.seed": 5})), 1)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_cifar_epoch_goes_on_in_its_middle(kind, configure):
    whole, _ = collected(training(configure(kind)), 3)
    begun = training(configure(kind))
    first = [images.clone() for images, _ in itertools.islice(begun.epoch(3, 32), 2)]
    state = begun.state_dict()
    begun.close()
    source = training(configure(kind))
    source.load_state_dict(state)
    rest, _ = collected(source, 3)
    assert len(first) == 2 and np.array_equal(rest, whole[8:])


@pytest.mark.parametrize("kind", KINDS)
def test_cifar_images_of_another_side_are_refused(kind, configure):
    source = training(configure(kind))
    with pytest.raises(DataError, match=r"expected images of 48 x 48 pixels, found .*32"):
        next(source.epoch(0, 48))
    source.close()


def test_cifar_file_of_different_sides_is_refused(configure, training_file):
    with pytest.raises(FfxError, match="images of one size"):
        collected(training(configure("file", **{"data.train_dataset": str(training_file)})))


def test_cifar10_has_its_classes_and_knows_its_own_state(configure, made_cifar10):
    source = training(configure("cifar10"))
    assert isinstance(source, CifarSource)
    assert (source.images, source.class_names) == (24, ["class_0", "class_1", "class_2"])
    assert len(open_validation(configure("cifar10"), ALONE, CPU, torch.float32)) == 3
    state = source.state_dict()
    source._folder.targets[0] += 1
    changed = training(configure("cifar10"))
    changed._folder.targets[0] += 1
    with pytest.raises(CheckpointError, match="names differ"):
        changed.load_state_dict(state)
    with pytest.raises(CheckpointError, match=r"source cifar10, this one is folder"):
        training(configure("folder")).load_state_dict(state)


def test_missing_cifar10_is_named(configure, tmp_path):
    nowhere = {"data.train_dataset": str(tmp_path / "none"), "data.val_dataset": str(tmp_path / "none")}
    with pytest.raises(DataError, match=r"expected CIFAR-10 .* --data.download=1 fetches it"):
        training(configure("cifar10", **nowhere))
    assert not (tmp_path / "none").exists()


def test_cifar10_is_fetched_when_asked(configure, made_cifar10, web_server, tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(made_cifar10 / "cifar-10-batches-py", "cifar-10-batches-py")
    digest = hashlib.md5((tmp_path / "cifar-10-python.tar.gz").read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "url", f"{web_server}/cifar-10-python.tar.gz")
    monkeypatch.setattr(CIFAR10, "tgz_md5", digest)
    there = {"data.train_dataset": str(tmp_path / "new"), "data.val_dataset": str(tmp_path / "new")}
    images, labels = collected(training(configure("cifar10", **there, **{"data.download": 1})))
    assert images.shape == (24, 3, 32, 32)
    assert sorted(labels) == [0] * 8 + [1] * 8 + [2] * 8


@pytest.mark.parametrize("ranks, turn", [(Ranks(0, 4, 0), 0), (Ranks(2, 4, 0), 1), (Ranks(1, 4, 1), 2)])
def test_one_rank_fetches_then_one_of_each_machine_then_the_others(ranks, turn, configure, monkeypatch):
    seen = []
    monkeypatch.setattr(cifar_source, "sum_over_ranks", lambda values: seen.append("met") or values)
    monkeypatch.setattr(CIFAR10, "download", lambda self: seen.append("fetched"))
    training(configure("cifar10", **{"data.download": 1}), ranks)
    assert seen == [*["met"] * turn, "fetched", *["met"] * (3 - turn)]
    seen.clear()
    training(configure("cifar10"), ranks)
    assert seen == []


def test_cifar10_that_cannot_be_fetched_is_named(configure, made_cifar10, web_server, tmp_path, monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", f"{web_server}/none.tar.gz")
    there = {"data.train_dataset": str(tmp_path / "new"), "data.val_dataset": str(tmp_path / "new")}
    with pytest.raises(DataError, match=r"is the network there\?"):
        training(configure("cifar10", **there, **{"data.download": 1}))


def test_cifar10_trains(configure):
    with Trainer(configure("cifar10", **{"training.epochs": 1})) as trainer:
        trainer.train()
        (line,) = (trainer.run_folder / "log").read_text().splitlines()
    assert json.loads(line)["steps"] == 6
