import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from trainer import ffx_source, folder_source
from trainer.data import FfxSource, FolderSource, SyntheticSource, count_classes, open_training, open_validation
from trainer.distributed import Ranks
from trainer.errors import DataError

from ffx.errors import DecodeError
from ffx.fields import FloatField, IntField, RGBImageField
from ffx.writer import DatasetWriter
from tests.damaged_files import flip_payload_bits
from tests.pictures import PictureDataset
from tests.trainer.batches import all_of

CPU = torch.device("cpu")
ALONE = Ranks()
MEAN = np.array([0.485, 0.456, 0.406])[:, None, None] * 255
STD = np.array([0.229, 0.224, 0.225])[:, None, None] * 255


def training(config, ranks=ALONE):
    return open_training(config, ranks, CPU, torch.float32)


def validation(config, ranks=ALONE):
    return open_validation(config, ranks, CPU, torch.float32)


def collected(source, resolution=32, epoch=0):
    """An epoch's images in grey levels and its labels, as arrays; closes the source."""
    images, labels = all_of(source, resolution, epoch)
    return images.numpy() * STD + MEAN, labels.numpy()


@pytest.fixture(scope="module")
def written_folder(picture_folder, tmp_path_factory):
    """The ImageFolder trees of `picture_folder`, written as ffx files."""
    from torchvision.datasets import ImageFolder

    folder = tmp_path_factory.mktemp("written")
    for split in ("train", "val"):
        fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
        writer = DatasetWriter(folder / f"{split}.ffcv", fields, num_workers=1, progress=False)
        writer.from_indexed_dataset(ImageFolder(str(picture_folder / split)))
    return folder


@pytest.fixture
def both(tiny, picture_folder, written_folder):
    """The same pictures as a configuration of files and one of folders."""

    def make(**changes):
        places = ({"data.train_dataset": str(f / t), "data.val_dataset": str(f / v)} for f, t, v in folders)
        return tuple(tiny(**place, **changes) for place in places)

    folders = [(written_folder, "train.ffcv", "val.ffcv"), (picture_folder, "train", "val")]
    return make


def test_kind_of_source_follows_from_the_path(both):
    kinds = [type(source) for config in both() for source in (training(config), validation(config))]
    assert kinds == [FfxSource, FfxSource, FolderSource, FolderSource]


def test_source_can_be_named(tiny, tmp_path):
    with pytest.raises(DataError, match="expected a folder of images for each class"):
        validation(tiny(**{"data.source": "folder", "data.val_dataset": str(tmp_path)}))
    made = validation(tiny(**{"data.source": "synthetic", "data.synthetic_images": 800, "data.classes": 7}))
    assert isinstance(made, SyntheticSource)
    assert (made.images, len(made)) == (80, 20)


@pytest.mark.parametrize("world", [1, 2, 3])
def test_made_up_validation_counts_every_image_once(world, tiny):
    """As that of real images does; trained on are whole batches, the same number on each rank."""
    config = tiny(**{"data.source": "synthetic", "data.synthetic_images": 800, "data.synthetic_val_images": 50})
    batches = [
        [len(labels) for _, labels in validation(config, Ranks(rank, world)).epoch(0, 32)] for rank in range(world)
    ]
    assert sum(map(sum, batches)) == 50
    assert [len(own) for own in batches] == [len(validation(config, Ranks(rank, world))) for rank in range(world)]
    assert all(set(own[:-1]) <= {4} and 0 < own[-1] <= 4 for own in batches)


def test_file_and_folder_give_the_same_validation_images(both):
    (file_images, file_labels), (folder_images, folder_labels) = (collected(validation(c), 40) for c in both())
    assert file_labels.tolist() == folder_labels.tolist()
    assert file_images.shape == (12, 3, 40, 40)
    # The same crop; only the filters that make it smaller differ.
    assert np.abs(file_images - folder_images).mean() < 2


def test_validation_image_is_the_centre_crop_of_224_in_256(tiny):
    images, labels = collected(validation(tiny()), 32)
    for number, (picture, label) in enumerate(PictureDataset(9, classes=4, seed=2)):
        side = int(224 / 256 * min(picture.size))
        left, top = (picture.width - side) // 2, (picture.height - side) // 2
        square = np.asarray(picture)[top : top + side, left : left + side]
        expected = cv2.resize(square, (32, 32), interpolation=cv2.INTER_AREA).transpose(2, 0, 1)
        assert labels[number] == label
        assert np.abs(images[number] - expected).max() <= 1.01


@pytest.mark.parametrize("kind", [0, 1], ids=["file", "folder"])
def test_training_images_come_once_an_epoch_in_a_new_order(kind, both):
    config = both(**{"training.batch_size": 8})[kind]
    source = training(config)
    epochs = [torch.cat([labels for _, labels in source.epoch(epoch, 32)]).tolist() for epoch in (0, 1, 0)]
    source.close()
    assert [sorted(epoch) for epoch in epochs] == [[0] * 10 + [1] * 10 + [2] * 10 + [3] * 10] * 3
    assert epochs[0] == epochs[2] != epochs[1]


@pytest.mark.parametrize("kind", [0, 1], ids=["file", "folder"])
def test_training_images_follow_epoch_resolution_and_seed(kind, both):
    first, again, other_epoch = (
        collected(training(both()[kind]), resolution=48, epoch=epoch)[0] for epoch in (1, 1, 2)
    )
    other_seed = collected(training(both(**{"training.seed": 5})[kind]), resolution=48, epoch=1)[0]
    assert first.shape == (40, 3, 48, 48)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other_epoch)
    assert not np.array_equal(first, other_seed)


def test_flip_mirrors_about_half_of_the_training_images(tiny):
    flipped, plain = (collected(training(tiny(**{"training.flip": flip})))[0] for flip in (1, 0))
    mirrored = [not np.array_equal(one, other) for one, other in zip(flipped, plain)]
    assert 2 <= sum(mirrored) <= 18
    for one, other, is_mirrored in zip(flipped, plain, mirrored):
        assert np.abs(one - (other[..., ::-1] if is_mirrored else other)).max() <= 1.01


def test_no_flip_means_none_from_a_folder_either(both):
    plain = both(**{"training.flip": 0})[1]
    names = [type(step).__name__ for step in folder_source._folder_transform(training(plain).purpose, 32).transforms]
    assert names == ["RandomResizedCrop", "PILToTensor"]


def test_data_in_memory_decides_order_and_storage(tiny, monkeypatch):
    seen = []

    class Spy(ffx_source.Loader):
        def __init__(self, *arguments, **options):
            seen.append((options["order"].name, options["os_cache"], options["num_workers"]))
            super().__init__(*arguments, **options)

    monkeypatch.setattr(ffx_source, "Loader", Spy)
    for in_memory, workers in ((1, 1), (0, 3), (1, -1)):
        config = tiny(**{"data.in_memory": in_memory, "data.num_workers": workers})
        assert len(collected(training(config))[1]) == 20
        validation(config).close()
    assert seen == [
        ("RANDOM", True, 1),
        ("SEQUENTIAL", True, 1),
        ("QUASI_RANDOM", False, 3),
        ("SEQUENTIAL", True, 3),
        ("RANDOM", True, -1),
        ("SEQUENTIAL", True, -1),
    ]


def test_damaged_training_image_ends_the_training_or_is_replaced(tiny, tmp_path):
    source, damaged = Path(tiny().data.train_dataset), tmp_path / "damaged.ffcv"
    flip_payload_bits(source, damaged, [3])
    arguments = {"data.train_dataset": str(damaged), "data.val_dataset": str(damaged)}
    with pytest.raises(DecodeError, match="sample 3"):
        collected(training(tiny(**arguments)))
    images, labels = collected(training(tiny(**arguments, **{"data.on_error": "substitute"})))
    assert len(labels) == 20 and np.isfinite(images).all()
    with pytest.raises(DecodeError, match="sample 3"):
        collected(validation(tiny(**arguments, **{"data.on_error": "substitute"})))


def test_file_may_have_other_fields_and_any_order(tmp_path, tiny):
    samples = [(number, np.full((8, 8, 3), number, np.uint8), 0.5) for number in range(4)]
    fields = {"label": IntField(), "image": RGBImageField(write_mode="raw"), "weight": FloatField()}
    DatasetWriter(tmp_path / "odd.ffcv", fields, num_workers=1, progress=False).from_indexed_dataset(samples)
    images, labels = collected(validation(tiny(**{"data.val_dataset": str(tmp_path / "odd.ffcv")})), 8)
    assert labels.tolist() == [0, 1, 2, 3]
    assert images.mean(axis=(1, 2, 3)) == pytest.approx([0, 1, 2, 3], abs=1e-3)


@pytest.mark.parametrize("kind", [0, 1], ids=["file", "folder"])
def test_batches_have_the_models_type_and_memory_format(kind, both):
    source = training(both()[kind])
    images, labels = next(iter(source.epoch(0, 32)))
    source.close()
    assert (images.dtype, labels.dtype) == (torch.float32, torch.int64)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.shape == (4,)


def test_ranks_share_a_folder(both):
    config = both()[1]
    shares = [collected(validation(config, Ranks(rank, 5)))[1].tolist() for rank in range(5)]
    assert [len(share) for share in shares] == [3, 3, 2, 2, 2]
    assert sorted(label for share in shares for label in share) == sorted(collected(validation(config))[1].tolist())
    assert [len(training(config, Ranks(rank, 3))) for rank in range(3)] == [3, 3, 3]


def test_other_ranks_take_what_is_left_of_a_folders_epoch(both):
    _, folder = both(**{"data.num_workers": 0, "training.batch_size": 5})

    def seen(batches):
        return [image.numpy().tobytes() for images, _ in batches for image in images]

    whole = seen(training(folder).epoch(3, 32))
    begun = training(folder)
    first = seen(itertools.islice(begun.epoch(3, 32), 2))
    rest = []
    for rank in (0, 1):
        source = training(folder, Ranks(rank, 2, rank))
        source.load_state_dict(begun.state_dict())
        assert source.steps_left(10) == 3
        rest += seen(source.epoch(3, 32))
    assert first == whole[:10]
    assert sorted(first + rest) == sorted(whole)


def test_number_of_classes_comes_from_names_then_labels_then_is_1000(both, tiny, tmp_path):
    sources = [validation(config) for config in both()]
    assert count_classes(0, sources) == 4
    assert count_classes(9, sources) == 9
    nameless = FfxSource.__new__(FfxSource)
    nameless.path, nameless.classes, nameless.class_names = "old.beton", 12, None
    assert count_classes(0, [nameless]) == 12
    nameless.classes = 0
    assert count_classes(0, [nameless]) == 1000


def test_labels_beyond_the_classes_are_refused(both):
    with pytest.raises(DataError, match="labels go up to 3, but there are 3 classes"):
        count_classes(3, [validation(both()[0])])


def test_data_sets_of_different_classes_are_refused(both, tmp_path):
    source, other = (validation(config) for config in both())
    other.class_names = [*other.class_names[:2], "else", other.class_names[3]]
    with pytest.raises(DataError, match=r"label 2 is 'else' in one and 'n03_cloud' in the other"):
        count_classes(0, [source, other])


def test_missing_and_unfit_data_are_named(tiny, tmp_path):
    with pytest.raises(DataError, match=r"none.ffcv: no such file or folder"):
        training(tiny(**{"data.train_dataset": str(tmp_path / "none.ffcv")}))
    with pytest.raises(DataError, match="20 images make no batch of 64 for each of 1"):
        training(tiny(**{"training.batch_size": 64}))
    samples = [(number,) for number in range(4)]
    writer = DatasetWriter(tmp_path / "bare.ffcv", {"number": IntField()}, num_workers=1, progress=False)
    writer.from_indexed_dataset(samples)
    with pytest.raises(DataError, match="expected the fields image and label, found number"):
        validation(tiny(**{"data.val_dataset": str(tmp_path / "bare.ffcv")}))
