"""What a file's image modes decide: which kernel reads it, what is compiled, and what happens when a mode changes."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ffx.errors import DecodeError
from ffx.fields.decoders import (
    CenterCropRGBImageDecoder,
    RandomResizedCropRGBImageDecoder,
    SimpleRGBImageDecoder,
)
from ffx.fields.rgb_image import RGBImageField
from ffx.format import IMAGE_MODES
from ffx.kernels import image
from ffx.kernels.memory import THREAD_WORDS, release_thread
from ffx.kernels.step import OK, UNKNOWN_MODE, failure
from ffx.loader import Loader
from ffx.reader import Reader
from ffx.writer import DatasetWriter
from tests.fields.decoding import Stored
from tests.pictures import make_picture

ROOT = Path(__file__).resolve().parents[2]
JPG, RAW, YUV420 = (IMAGE_MODES[name] for name in ("jpg", "raw", "yuv420"))
DECODERS = {
    "random crop": lambda: RandomResizedCropRGBImageDecoder((24, 20)),
    "centre crop": lambda: CenterCropRGBImageDecoder((24, 20), 0.9),
    "whole": SimpleRGBImageDecoder,
}


class Pictures:
    """Pictures of one size."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return (make_picture(37, 46, index),)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of each mode, by the mode's name."""
    folder = tmp_path_factory.mktemp("modes")
    for mode in IMAGE_MODES:
        fields = {"image": RGBImageField(write_mode=mode)}
        DatasetWriter(folder / f"{mode}.beton", fields, num_workers=1, progress=False).from_indexed_dataset(Pictures())
    return {mode: folder / f"{mode}.beton" for mode in IMAGE_MODES}


@pytest.fixture
def thread():
    """Address of a thread's words."""
    words = np.zeros(THREAD_WORDS, np.int64)
    yield words.ctypes.data
    release_thread(words)


def joined(files):
    """The files of all modes as if they were one, which no writer makes."""
    parts = [Stored(Reader(path), "image") for path in files.values()]
    starts = np.cumsum([0] + [part.data.size for part in parts])[:-1].astype(np.uint64)
    stored = Stored(Reader(files["raw"]), "image")
    stored.data = np.concatenate([part.data for part in parts])
    stored.metadata = np.concatenate([part.metadata for part in parts])
    stored.metadata["data_ptr"] += np.repeat(starts, [len(part.metadata) for part in parts])
    indices = [part.reader.index for part in parts]
    pointers = np.concatenate([index.pointers + start for index, start in zip(indices, starts, strict=True)])
    sizes = np.concatenate([index.sizes for index in indices])
    index = SimpleNamespace(pointers=pointers, sizes=sizes)
    stored.reader = SimpleNamespace(index=index, handlers=stored.reader.handlers)
    return stored


@pytest.mark.parametrize(
    ("modes", "cropping", "whole"),
    [
        ([], "crop_raw_images", "copy_raw_images"),
        ([RAW], "crop_raw_images", "copy_raw_images"),
        ([YUV420], "crop_yuv420_images", "decode_yuv420_images"),
        ([JPG], "crop_rgb_images", "decode_rgb_images"),
        ([JPG, RAW], "crop_rgb_images", "decode_rgb_images"),
        ([JPG, YUV420], "crop_any_images", "decode_any_images"),
        ([RAW, YUV420, 77], "crop_any_images", "decode_any_images"),
    ],
)
def test_kernel_knows_the_modes_of_the_file_and_little_else(modes, cropping, whole):
    assert image.cropping_kernel(modes).__name__ == cropping
    assert image.whole_kernel(modes).__name__ == whole


@pytest.mark.parametrize("decoder", ["centre crop", "whole"])
def test_file_of_all_modes_gives_what_files_of_each_give(decoder, files, thread):
    expected = []
    for path in files.values():
        status, batch = Stored(Reader(path), "image").native(DECODERS[decoder](), range(6), thread=thread)
        assert status == OK
        expected.append(batch)
    status, batch = joined(files).native(DECODERS[decoder](), range(18), thread=thread)
    assert status == OK
    np.testing.assert_array_equal(batch, np.concatenate(expected))


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize(("mode", "later"), [("raw", [0, 2, 3, 255]), ("jpg", [2, 3, 64]), ("yuv420", [0, 1, 3])])
def test_mode_that_comes_later_is_refused(mode, later, decoder, files, thread):
    for value in later:
        stored = Stored(Reader(files[mode]), "image")
        stored.metadata = np.array(stored.metadata)
        changing = DECODERS[decoder]()
        original = changing.native_step

        def native_step(state, stored=stored, original=original, value=value):
            chosen = original(state)
            stored.metadata["mode"][3] = value
            return chosen

        changing.native_step = native_step
        status, batch = stored.native(changing, range(6), thread=thread)
        assert status == failure(3, UNKNOWN_MODE)
        # It stops there, and wrote nothing.
        assert (batch[3:] == 0xA5).all() and not (batch[2] == 0xA5).all()


@pytest.mark.parametrize("mode", IMAGE_MODES)
def test_loader_names_the_sample_whose_mode_changed_under_it(mode, files, tmp_path):
    path = tmp_path / "file.beton"
    path.write_bytes(files[mode].read_bytes())
    pipelines = {"image": [DECODERS["centre crop"]()]}
    with Loader(str(path), 3, num_workers=1, os_cache=True, drop_last=False, pipelines=pipelines) as loader:
        assert len(list(loader)) == 2
        record = path.read_bytes().index(loader.reader.metadata["f0"][4].tobytes())
        with open(path, "r+b") as file:
            file.seek(record)
            file.write(bytes([77]))
        with pytest.raises(DecodeError, match=r"sample 4.*image mode") as caught:
            list(loader)
    assert caught.value.sample_id == 4


BATCH = """
import sys
from ffx.fields.decoders import CenterCropRGBImageDecoder
from ffx.loader import Loader
for path in sys.argv[1:]:
    with Loader(path, 6, num_workers=1, pipelines={"image": [CenterCropRGBImageDecoder((24, 20), 0.9)]}) as loader:
        assert len(list(loader)) == 1
"""


def compiled_by_reading(folder, *paths):
    """The modules and functions of which copies lie in `folder` after a process has read a batch of each file."""
    environment = {**os.environ, "FFX_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", BATCH, *paths], env=environment, cwd=folder.parent, check=True)
    return {path.name.split("-")[0] for path in folder.glob("ffx/kernels-*/kernels/*.nbc")}


def modules(names):
    return {name.split(".")[0] for name in names}


DECODING_JPEG = {"entropy", "huffman", "huffman_tables", "idct", "jpeg_baseline", "jpeg_color", "jpeg_header"}
CONVERTING_PLANES = {"yuv", "yuv_passes", "yuv_taps"}


@pytest.mark.slow
def test_only_what_the_modes_need_is_compiled(files, tmp_path):
    cache = tmp_path / "cache"
    raw = compiled_by_reading(cache, files["raw"])
    assert {"image.crop_raw_images", "resize.resize_crop"} <= raw
    assert not modules(raw) & (DECODING_JPEG | CONVERTING_PLANES)
    both = compiled_by_reading(cache, files["raw"], files["yuv420"])
    assert both > raw and modules(both) >= CONVERTING_PLANES
    assert not modules(both) & DECODING_JPEG
    # What the JPEG kernel shares with that of raw images is not compiled again.
    times = {path: path.stat().st_mtime_ns for path in cache.rglob("resize.*.nbc")}
    every = compiled_by_reading(cache, *files.values())
    assert modules(every) >= DECODING_JPEG
    assert times == {path: path.stat().st_mtime_ns for path in cache.rglob("resize.*.nbc")}
