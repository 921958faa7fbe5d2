"""FFCV itself opens what ffx writes and reads the same samples, and stores the same bytes for the same pictures.

Pictures in tiles have other bytes than FFCV's, and it decodes them to the same pixels.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ffx.fields import BytesField, FloatField, IntField, JSONField, NDArrayField, RGBImageField
from ffx.reader import Reader
from ffx.writer import DatasetWriter
from tests.pictures import make_picture

pytestmark = pytest.mark.skipif(importlib.util.find_spec("ffcv") is None, reason="needs FFCV")


class Samples:
    """Pictures of one size (FFCV's simple decoder wants that), and one value of every other kind."""

    def __len__(self):
        return 13

    def __getitem__(self, index):
        text = np.arange(1, 1 + (index * 7) % 20, dtype=np.uint8)
        array = np.full((2, 2), index, dtype=np.int32)
        picture = make_picture(400, 500, seed=index)
        return picture, text, index * 3 - 5, index / 7, {"index": index}, array


FIELDS = {
    "image": RGBImageField("raw"),
    "text": BytesField(),
    "a label with a long name": IntField(),
    "real": FloatField(),
    "json": JSONField(),
    "array": NDArrayField(np.dtype("<i4"), (2, 2)),
}


class Pictures:
    """Pictures of one size whose rows have 7 MCUs, and two values that tell them apart."""

    def __len__(self):
        return 9

    def __getitem__(self, index):
        return make_picture(90, 105, seed=index), index


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where FFCV has read what ffx wrote, and has written itself."""
    folder = tmp_path_factory.mktemp("ffcv")
    writer = DatasetWriter(folder / "ours.beton", FIELDS, num_workers=2, progress=False)
    writer.from_indexed_dataset(Samples(), chunksize=3)
    for name, in_tiles in (("tiled", True), ("plain", False)):
        fields = {"image": RGBImageField("jpg", tiled=in_tiles), "label": IntField()}
        DatasetWriter(folder / f"{name}.beton", fields, progress=False).from_indexed_dataset(Pictures())
    script = Path(__file__).with_name("ffcv_peer.py")
    done = subprocess.run([sys.executable, str(script), str(folder)], capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    return folder


def test_ffcv_reads_what_ffx_writes(folder):
    # The page grew while it was written, so that some samples lie before the first whole page.
    assert Reader(folder / "ours.beton").page_size == 16 << 20
    dataset = Samples()
    for cache in ("os", "process"):
        with np.load(folder / f"{cache}.npz") as columns:
            loaded = dict(columns)
        assert list(loaded) == [name[:16] for name in FIELDS]
        for index in range(len(dataset)):
            picture, text, label, real, described, array = dataset[index]
            np.testing.assert_array_equal(loaded["image"][index], picture)
            np.testing.assert_array_equal(loaded["text"][index][: len(text)], text)
            assert (loaded["a label with a l"][index], loaded["real"][index]) == (label, real)
            assert JSONField.unpack(loaded["json"][index]) == described
            np.testing.assert_array_equal(loaded["array"][index], array)


def stored_images(reader):
    data, index = np.fromfile(reader.file_name, dtype=np.uint8), reader.index
    for record in reader.metadata["f0"]:
        row = np.searchsorted(index.pointers, record["data_ptr"], side="right") - 1
        start, size = int(record["data_ptr"]), int(index.sizes[row])
        yield int(record["mode"]), int(record["height"]), int(record["width"]), data[start : start + size].tobytes()


def test_stored_images_are_those_that_ffcv_stores(folder, write):
    pictures = [(make_picture(40 + index, 90 - index, seed=index), index) for index in range(30)]
    seen = set()
    for mode in ("raw", "jpg", "smart"):
        image = RGBImageField(mode, max_resolution=64, smart_threshold=64 * 60 * 3, jpeg_quality=85, tiled=False)
        ours = write(pictures, {"image": image, "label": IntField()})
        theirs = Reader(folder / f"theirs_{mode}.beton")
        for mine, yours in zip(stored_images(ours), stored_images(theirs), strict=True):
            assert mine == yours
            seen.add((mode, mine[0]))
        np.testing.assert_array_equal(ours.metadata["f1"], theirs.metadata["f1"])
    assert seen == {("raw", 1), ("jpg", 0), ("smart", 0), ("smart", 1)}


def test_ffcv_decodes_pictures_in_tiles_to_the_same_pixels(folder):
    stored = {name: list(stored_images(Reader(folder / f"{name}.beton"))) for name in ("tiled", "plain")}
    assert all(b"\xff\xdd\x00\x04" in image[3] for image in stored["tiled"])
    assert not any(b"\xff\xdd\x00\x04" in image[3] for image in stored["plain"])
    with np.load(folder / "tiled.npz") as tiled, np.load(folder / "plain.npz") as plain:
        np.testing.assert_array_equal(tiled["label"].ravel(), np.arange(9))
        assert tiled["image"].shape == (9, 90, 105, 3)
        np.testing.assert_array_equal(tiled["image"], plain["image"])
