"""Images as planar YUV 4:2:0: what is stored, every way of reading it, and what FFCV and damaged files lead to."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from ffx.errors import FieldError, FormatError
from ffx.fields import IntField, RGBImageField
from ffx.fields.decoders import (
    CenterCropRGBImageDecoder,
    RandomResizedCropRGBImageDecoder,
    SimpleRGBImageDecoder,
)
from ffx.format import IMAGE_MODES, TypeId, pack_image_extension
from ffx.kernels.crop import center_crop
from ffx.kernels.memory import THREAD_WORDS, release_thread
from ffx.loader import Loader, OrderOption
from ffx.reader import Reader
from ffx.writer import DatasetWriter
from tests.fields.decoding import Stored
from tests.format.beton import SAMPLES, PlainFile
from tests.pictures import decode_jpeg, make_picture
from tests.yuv_planes import exact_resize, pack

SIZES = [(40, 50), (41, 51), (1, 1), (2, 1), (1, 7), (33, 90), (64, 64), (75, 31)]


class Pictures:
    """Pictures of the given sizes, each with its number."""

    def __init__(self, sizes):
        self.pictures = [make_picture(*size, seed=index) for index, size in enumerate(sizes)]

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, index):
        return self.pictures[index], index


def write(path, dataset, **options):
    fields = {"image": RGBImageField(**options), "label": IntField()}
    DatasetWriter(path, fields, num_workers=1, progress=False).from_indexed_dataset(dataset)
    return Reader(path)


def blobs(reader):
    data, sizes = np.fromfile(reader.file_name, np.uint8), reader.index.sizes
    for record in reader.metadata["f0"]:
        pointer = int(record["data_ptr"])
        size = int(sizes[np.searchsorted(reader.index.pointers, pointer)])
        yield int(record["mode"]), data[pointer : pointer + size]


@pytest.fixture(scope="module")
def dataset():
    return Pictures(SIZES)


@pytest.fixture(scope="module")
def reader(tmp_path_factory, dataset):
    return write(tmp_path_factory.mktemp("yuv") / "yuv.beton", dataset, write_mode="yuv420")


def test_planes_are_stored(reader, dataset):
    assert reader.field_descriptors["type_id"].tolist() == [TypeId.CUSTOM, TypeId.INT]
    assert type(reader.handlers["image"]) is RGBImageField
    assert reader.handlers["image"].raw_format == "yuv420"
    assert reader.settings["fields"]["image"]["raw_format"] == "yuv420"
    for (mode, stored), picture in zip(blobs(reader), dataset.pictures, strict=True):
        assert mode == IMAGE_MODES["yuv420"] == 2
        planes = pack(picture)
        assert stored.size == planes.size
        # A mean of four that lies on a half may be rounded either way.
        assert np.abs(stored.astype(int) - planes).max() <= 1
        assert np.mean(stored != planes) < 0.01


@pytest.mark.parametrize(
    "options, modes, type_id",
    [
        ({"write_mode": "raw", "raw_format": "yuv420"}, {2}, TypeId.CUSTOM),
        ({"write_mode": "proportion", "raw_format": "yuv420"}, {0, 2}, TypeId.CUSTOM),
        ({"write_mode": "smart", "smart_threshold": 5000, "raw_format": "yuv420"}, {0, 2}, TypeId.CUSTOM),
        ({"write_mode": "jpg", "raw_format": "yuv420"}, {0}, TypeId.IMAGE),
        ({"write_mode": "raw"}, {1}, TypeId.IMAGE),
    ],
)
def test_raw_format_is_that_of_samples_that_are_not_jpeg(options, modes, type_id, tmp_path, dataset):
    reader = write(tmp_path / "file.beton", dataset, **options)
    assert {mode for mode, _ in blobs(reader)} == modes
    assert reader.field_descriptors["type_id"][0] == type_id


def test_unknown_raw_format_is_refused():
    with pytest.raises(FieldError, match="raw_format: expected one of rgb, yuv420, found 'yuv444'"):
        RGBImageField(raw_format="yuv444")


class OwnImageField(RGBImageField):
    """A field that somebody derived."""


def test_derived_field_reads_planes(reader):
    again = Reader(reader.file_name, custom_fields={"image": OwnImageField})
    assert type(again.handlers["image"]) is OwnImageField


CROP = (24, 26)


@pytest.fixture
def thread():
    """Address of a thread's words, as the engine gives it to kernels."""
    words = np.zeros(THREAD_WORDS, np.int64)
    yield words.ctypes.data
    release_thread(words)


def decode(way, stored, decoder, count, thread):
    """The first `count` samples, by the native step, compiled or as plain Python."""
    ids = np.arange(count)
    if way != "native":
        return stored.generated(decoder, ids, enabled=way == "compiled")
    status, batch = stored.native(decoder, ids, thread=thread)
    assert status == 0
    return batch


def exact_crops(dataset, ratio=0.9):
    for picture in dataset.pictures:
        height, width = picture.shape[:2]
        yield exact_resize(pack(picture), height, width, center_crop(height, width, ratio), CROP)


@pytest.mark.parametrize("way", ["native", "compiled", "plain"])
def test_every_way_of_reading_gives_the_crop(way, reader, dataset, thread):
    batch = decode(way, Stored(reader, "image"), CenterCropRGBImageDecoder(CROP, 0.9), len(dataset), thread)
    for found, exact in zip(batch, exact_crops(dataset), strict=True):
        # A stored sample may be one off the reference's (a half rounded the other way).
        assert np.abs(found - exact).max() <= 2.5
        assert np.abs(found - exact).mean() <= 0.6


@pytest.mark.parametrize("way", ["native", "compiled", "plain"])
def test_whole_images(way, tmp_path, thread):
    dataset = Pictures([(37, 45)] * 4)
    stored = Stored(write(tmp_path / "file.beton", dataset, write_mode="yuv420"), "image")
    batch = decode(way, stored, SimpleRGBImageDecoder(), 4, thread)
    for found, picture in zip(batch, dataset.pictures, strict=True):
        assert np.abs(found - exact_resize(pack(picture), 37, 45, (0, 0, 37, 45), (37, 45))).max() <= 2.5


def load(path, decoder, **options):
    loader = Loader(str(path), 3, num_workers=2, seed=7, drop_last=False, pipelines={"image": [decoder]}, **options)
    return [np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*loader, strict=True)]


@pytest.mark.parametrize("os_cache", [True, False])
def test_loader_gives_batches_of_a_mixed_file(os_cache, tmp_path, dataset):
    reader = write(tmp_path / "mixed.beton", dataset, write_mode="proportion", raw_format="yuv420")
    images, _ = load(
        reader.file_name, CenterCropRGBImageDecoder(CROP, 0.9), order=OrderOption.SEQUENTIAL, os_cache=os_cache
    )
    modes = []
    for (mode, data), picture, found in zip(blobs(reader), dataset.pictures, images, strict=True):
        modes.append(mode)
        height, width = picture.shape[:2]
        pixels = decode_jpeg(data.tobytes()) if mode == 0 else picture
        exact = exact_resize(pack(pixels), height, width, center_crop(height, width, 0.9), CROP)
        assert np.abs(found - exact).mean() <= (4 if mode == 0 else 0.6)
    assert set(modes) == {0, 2}


def test_random_crops_are_those_of_the_raw_file(tmp_path):
    dataset = Pictures([(100, 90 + index) for index in range(12)])
    batches = []
    for mode in ("yuv420", "raw"):
        write(tmp_path / f"{mode}.beton", dataset, write_mode=mode)
        decoder = RandomResizedCropRGBImageDecoder((32, 32))
        batches.append(load(tmp_path / f"{mode}.beton", decoder, order=OrderOption.RANDOM))
    np.testing.assert_array_equal(batches[0][1], batches[1][1])
    assert np.abs(batches[0][0].astype(int) - batches[1][0]).mean() < 3


# --- Files that are wrong ---


def planar_file():
    """`PlainFile` with its images in mode 2: 4 pixels wide, 1 to 6 high."""
    file = PlainFile()
    file.type_ids[0], file.arguments[0] = TypeId.CUSTOM, pack_image_extension()
    for sample in range(SAMPLES):
        height = sample + 1
        file.metadata["f0"]["mode"][sample] = 2
        file.table["size"][3 * sample] = 4 * height + 2 * ((height + 1) // 2) * 2
    return file


def test_plain_planar_file_is_accepted(tmp_path):
    reader = Reader(planar_file().write(tmp_path / "good.beton"))
    assert reader.handlers["image"].raw_mode == "yuv420"


@pytest.mark.parametrize("change", [-1, 1])
@pytest.mark.parametrize("sample", [0, SAMPLES - 1])
def test_planes_of_another_size_are_refused(change, sample, tmp_path):
    file = planar_file()
    file.table["size"][3 * sample] = int(file.table["size"][3 * sample]) + change
    with pytest.raises(FormatError, match=f"field 'image', sample {sample}.*mode 2"):
        Reader(file.write(tmp_path / "bad.beton"))


@pytest.mark.parametrize("mode", [3, 255])
def test_later_modes_are_refused(mode, tmp_path):
    file = planar_file()
    file.metadata["f0"]["mode"][2] = mode
    with pytest.raises(FormatError, match=f"sample 2: expected image mode 0 .* found {mode}"):
        Reader(file.write(tmp_path / "bad.beton"))


@pytest.mark.parametrize(
    "place, value, where", [(8, 2, "version of the field"), (12, 3, "field type"), (16, 1, "arguments of the field")]
)
def test_later_arguments_are_refused(place, value, where, tmp_path):
    file = planar_file()
    arguments = file.arguments[0].copy()
    arguments[place] = value
    file.arguments[0] = arguments
    with pytest.raises(FormatError, match=where):
        Reader(file.write(tmp_path / "bad.beton"))


def test_image_field_of_ffcv_has_no_planes(tmp_path):
    file = planar_file()
    file.type_ids[0], file.arguments[0] = TypeId.IMAGE, np.zeros(1024, np.uint8)
    with pytest.raises(FormatError, match=r"mode 0 \(JPEG\) or 1 \(raw\)"):
        Reader(file.write(tmp_path / "bad.beton"))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ffcv") is None, reason="needs FFCV")
def test_ffcv_refuses_the_file_at_once(reader):
    code = f"from ffcv.loader import Loader; print(next(iter(Loader({reader.file_name!r}, 2, num_workers=1))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "custom" in done.stderr.lower() or "255" in done.stderr
