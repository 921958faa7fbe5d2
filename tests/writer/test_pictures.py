"""torchvision's ImageFolder is read as encoded pictures where that changes nothing."""

import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from ffx.errors import SampleError
from ffx.fields import IntField, RGBImageField
from ffx.writer.pictures import EncodedFolder, with_encoded_pictures


class Pictures:
    """The same samples from a data set that nobody knows."""

    def __init__(self, folder):
        self.folder, self.classes = folder, folder.classes

    def __len__(self):
        return len(self.folder)

    def __getitem__(self, index):
        return self.folder[index]


def fields(mode, **options):
    return {"image": RGBImageField(mode, **options), "label": IntField()}


@pytest.mark.parametrize("mode", ["raw", "jpg", "proportion"])
@pytest.mark.parametrize("workers", [1, 2])
def test_the_file_is_that_of_pillow_s_pictures(mode, workers, write, digest, picture_folder):
    folder = ImageFolder(str(picture_folder / "val"))
    assert type(with_encoded_pictures(folder, fields(mode))) is EncodedFolder
    # The trailer holds the settings, which are the same, too.
    expected = digest(write(Pictures(folder), fields(mode, max_resolution=70)))
    written = write(folder, fields(mode, max_resolution=70), "folder.beton", workers)
    assert written.class_names == folder.classes
    assert digest(written) == expected


def open_grey(path):
    return Image.open(path).convert("L").convert("RGB")


class Another(ImageFolder):
    pass


class AnotherField(RGBImageField):
    pass


def test_data_sets_that_do_more_are_left_as_they_are(picture_folder):
    root = str(picture_folder / "val")
    changed = [
        ImageFolder(root, transform=lambda image: image),
        ImageFolder(root, target_transform=lambda label: label),
        ImageFolder(root, loader=open_grey),
        Another(root),
        [1, 2, 3],
    ]
    for dataset in changed:
        assert with_encoded_pictures(dataset, fields("raw")) is dataset
    folder = ImageFolder(root)
    for others in ({"image": AnotherField(), "label": IntField()}, {"label": IntField(), "image": RGBImageField()}):
        assert with_encoded_pictures(folder, others) is folder


def test_a_damaged_picture_is_named(write, tmp_path, picture_folder):
    (tmp_path / "train" / "class").mkdir(parents=True)
    (tmp_path / "train" / "class" / "b.jpg").write_bytes(b"no picture")
    folder = ImageFolder(str(tmp_path / "train"))
    with pytest.raises(SampleError, match=r"sample 0 \(.*b\.jpg\): field 'image': expected an encoded image"):
        write(folder, fields("raw"))
