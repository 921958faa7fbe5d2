"""Strange images through writer and loader: each has the outcome that `docs/strange_images.md` promises."""

import io
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from ffx import Loader, Reader
from ffx.errors import FfxWarning, FieldError, SampleError
from ffx.fields import IntField, RGBImageField
from ffx.fields.decoders import SimpleRGBImageDecoder
from ffx.fields.rgb_image import as_pixels
from ffx.format import IMAGE_MODES
from ffx.writer import DatasetWriter
from tests.pictures import encode_jpeg, make_picture
from tests.strange_images import HEIGHT, WIDTH, damaged_images, jpeg_bomb, scan_bomb, sound_images

ROOT = Path(__file__).resolve().parent.parent
MODES = {
    "raw": {},
    "jpg": {},
    "smart": {"smart_threshold": 1},
    "proportion": {"compress_probability": 0.5},
    "yuv420": {},
}


def table() -> dict[str, tuple[str, str]]:
    """The rows of the document: outcome, and what is done where JPEG is stored."""
    lines = (ROOT / "docs" / "strange_images.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    return {name: (outcome, as_jpeg) for name, outcome, as_jpeg in rows[1:]}


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def write(path, images, mode):
    field = RGBImageField(mode, jpeg_quality=95, **MODES[mode])
    samples = [(image, number) for number, image in enumerate(images)]
    writer = DatasetWriter(path, {"image": field, "label": IntField()}, num_workers=1, progress=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "a JPEG of .* bytes too many before its end", FfxWarning)
        writer.from_indexed_dataset(samples)


def decoded(path) -> np.ndarray:
    loader = Loader(str(path), 8, 1, drop_last=False, pipelines={"image": [SimpleRGBImageDecoder()], "label": None})
    return np.concatenate([np.asarray(images) for (images,) in loader])


def test_the_document_has_these_images():
    outcomes = {name: outcome for name, (outcome, _) in table().items()}
    refused = {name for name, outcome in outcomes.items() if outcome == "error"}
    assert refused == set(damaged_images())
    # Of arithmetic codes only some versions of the library can make one.
    assert set(outcomes) - refused - set(sound_images()) <= {"JPEG, arithmetic codes"}
    assert all(outcome.startswith("Pillow's pixels") for outcome in set(outcomes.values()) - {"error"})


@pytest.mark.parametrize("mode", MODES)
def test_sound_images_become_what_pillow_makes_of_them(mode, tmp_path):
    images, names = list(sound_images().values()), list(sound_images())
    write(tmp_path / "file.beton", images, mode)
    modes = Reader(tmp_path / "file.beton").metadata["f0"]["mode"]
    jpegs, some = (modes == IMAGE_MODES["jpg"]).sum(), range(1, len(images))
    assert jpegs in {"raw": [0], "yuv420": [0], "proportion": some}.get(mode, [len(images)])
    for name, found, data, stored in zip(names, decoded(tmp_path / "file.beton"), images, modes):
        expected = by_pillow(data).astype(int)
        loss = np.abs(found - expected).mean()
        kept = stored == IMAGE_MODES["jpg"] and table()[name][1] == "kept"
        # The loader's library may upsample chroma of rare kinds in another way than Pillow's.
        most = 2 if kept else 0 if stored == IMAGE_MODES["raw"] else 12
        assert loss <= most, name
        assert not kept or "4:4:0" in name or "4:1:1" in name or loss == 0, name


def test_jpegs_are_kept_or_encoded_again_as_the_document_says():
    field = RGBImageField("jpg")
    for name, data in sound_images().items():
        header = field._suitable_jpeg(data)
        kept = header is not None and field._kept_jpeg(data, header) is not None
        assert table()[name][1] == ("kept" if kept else "encoded again"), name


def test_the_ending_of_a_name_says_nothing(tmp_path):
    (tmp_path / "n01234.JPEG").write_bytes(sound_images()["PNG"])
    write(tmp_path / "file.beton", [str(tmp_path / "n01234.JPEG")], "raw")
    np.testing.assert_array_equal(decoded(tmp_path / "file.beton")[0], by_pillow(sound_images()["PNG"]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", damaged_images())
def test_damaged_images_are_an_error_that_names_the_sample(name, mode, tmp_path):
    path = tmp_path / "file.beton"
    with pytest.raises(SampleError, match="sample 1") as caught:
        write(path, [sound_images()["PNG"], damaged_images()[name][0]], mode)
    assert caught.value.index == 1 and not path.exists()


@pytest.mark.parametrize("mode", ["raw", "jpg"])
@pytest.mark.parametrize("name", damaged_images())
def test_no_damaged_image_becomes_grey(name, mode):
    field = RGBImageField(mode)
    for data in damaged_images()[name]:
        with pytest.raises(FieldError, match="expected an encoded image"):
            field.encode(np.zeros(1, field.metadata_type), data, lambda size: (0, np.zeros(size, np.uint8)))


def test_who_asks_pillow_for_it_gets_its_grey(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data = damaged_images()["JPEG, cut"][60]
    np.testing.assert_array_equal(as_pixels(data), by_pillow(data))


@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
@pytest.mark.long("start methods")
def test_what_pillow_was_asked_for_reaches_other_processes(method, tmp_path, monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    cut = damaged_images()["JPEG, cut"][60]
    fields = {"image": RGBImageField("raw")}
    writer = DatasetWriter(tmp_path / "cut.beton", fields, num_workers=2, progress=False, start_method=method)
    writer.from_indexed_dataset([(cut,)] * 8, chunksize=1)
    assert len(Reader(tmp_path / "cut.beton").metadata) == 8
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 2 - 1)
    with pytest.raises(SampleError, match="exceeds limit"):
        writer.from_indexed_dataset([(sound_images()["PNG"],)] * 8, chunksize=1)


@pytest.mark.parametrize("mode", ["raw", "jpg"])
def test_bytes_too_many_are_warned_of_and_refused_where_warnings_are_errors(mode, tmp_path):
    data = sound_images()["JPEG with up to an eighth too many"]
    writer = DatasetWriter(tmp_path / "file.beton", {"image": RGBImageField(mode)}, num_workers=1, progress=False)
    with pytest.warns(FfxWarning, match=f"a JPEG of {len(data)} bytes has"):
        writer.from_indexed_dataset([(data,)])
    with warnings.catch_warnings():
        warnings.simplefilter("error", FfxWarning)
        with pytest.raises(SampleError, match=r"sample 0.*bytes too many before its end"):
            writer.from_indexed_dataset([(data,)])


def test_the_limit_of_pixels_is_pillow_s(monkeypatch):
    data = encode_jpeg(make_picture(60, 80))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 80 // 2)
    with pytest.warns(Image.DecompressionBombWarning):
        assert as_pixels(data).shape == (60, 80, 3)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 80 // 2 - 1)
    field = RGBImageField("jpg")
    with pytest.raises(FieldError, match="exceeds limit"):
        field.encode(np.zeros(1, field.metadata_type), data, lambda size: (0, np.zeros(size, np.uint8)))


# --- Bombs, in a process of their own ---

# With the sizes that the metadata may give: the header's own, and another.
BOMBS = {
    "a JPEG of 65,500 x 65,500": (jpeg_bomb(65500, 65500), 65500),
    "a progressive JPEG of 13,000 x 13,000": (jpeg_bomb(13000, 13000, progressive=True), 13000),
    "a JPEG of 13,000 x 13,000": (jpeg_bomb(13000, 13000), 13000),
    "a JPEG of 1,000 scans": (scan_bomb(1000), 2000),
    "a PNG of 65,500 x 65,500": (damaged_images()["PNG bomb"][0], 65500),
}
MOST_SECONDS, MOST_MEMORY = 1.0, 64 << 20
MEASURING = """
import resource, sys, time
import numpy as np
{preparation}
attempt(open(sys.argv[1], "rb").read(), 64, False)
for path, side in zip(sys.argv[2::2], sys.argv[3::2]):
    bomb = open(path, "rb").read()
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for size in (int(side), 64):
        attempt(bomb, size, True)
    print(time.process_time() - start, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""
WRITING = """
from ffx.errors import FieldError
from ffx.fields import RGBImageField
def attempt(data, size, is_bomb):
    for mode in ("raw", "jpg"):
        field = RGBImageField(mode)
        try:
            field.encode(np.zeros(1, field.metadata_type), data, lambda size: (0, np.zeros(size, np.uint8)))
        except FieldError:
            assert is_bomb
        else:
            assert not is_bomb
"""
LOADING = """
from ffx.kernels.jpeg import decode_region, decode_scaled, decode_whole
from ffx.kernels.memory import THREAD_WORDS
from ffx.kernels.step import OK
words, target = np.zeros(THREAD_WORDS, np.int64), np.empty((64, 64, 3), np.uint8)
def attempt(data, size, is_bomb):
    data = np.array(bytearray(data))
    place = words.ctypes.data, data.ctypes.data, data.size, size, size
    statuses = [decode_region(*place, 0, 0, 64, 64)[0], decode_region(*place, size - 64, size - 64, 64, 64)[0]]
    statuses.append(decode_scaled(*place, 1, 8)[0])
    if size == 64:
        statuses.append(decode_whole(*place, target.ctypes.data, 192))
    assert all((status != OK) == is_bomb for status in statuses)
"""


@pytest.mark.parametrize("preparation", [WRITING, LOADING], ids=["writer", "loader"])
def test_bombs_are_refused_at_once_and_in_little_memory(preparation, tmp_path):
    (good := tmp_path / "good").write_bytes(encode_jpeg(make_picture(64, 64)))
    command = [sys.executable, "-c", MEASURING.format(preparation=preparation), str(good)]
    for number, (bomb, side) in enumerate(BOMBS.values()):
        (path := tmp_path / f"{number}").write_bytes(bomb)
        command += [str(path), str(side)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for name, line in zip(BOMBS, done.stdout.splitlines(), strict=True):
        seconds, memory = map(float, line.split())
        assert seconds < MOST_SECONDS and memory < MOST_MEMORY, f"{name}: {seconds:.2f} s, {memory / 2**20:.0f} MiB"
