"""EXIF orientation: pictures as they stand in their files, or upright as Pillow turns them, in whatever form."""

import io

import numpy as np
import pytest
from PIL import Image, ImageOps
from torchvision.datasets import ImageFolder

from ffx import Reader
from ffx.errors import FieldError
from ffx.fields import IntField, RGBImageField
from ffx.fields.orientation import orientation_of, turned
from ffx.fields.rgb_image import as_pixels
from ffx.writer import DatasetWriter
from tests.pictures import decode_jpeg, make_picture

ORIENTATIONS = range(1, 9)


def picture_with(orientation, kind="JPEG", height=40, width=28):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    options = {"quality": 92} if kind == "JPEG" else {}
    Image.fromarray(make_picture(height, width, 3)).save(stream, kind, exif=exif, **options)
    return stream.getvalue()


def upright(data):
    picture = Image.open(io.BytesIO(data))
    # Some kinds are turned by Pillow as they are decoded.
    picture.load()
    return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_pixels_are_turned_as_pillow_turns_them(orientation, kind):
    data = picture_with(orientation, kind)
    plain = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    if kind == "JPEG":
        assert orientation_of(data) == orientation
        np.testing.assert_array_equal(turned(plain, orientation), upright(data))
    for value in (data, bytearray(data), memoryview(data), Image.open(io.BytesIO(data))):
        np.testing.assert_array_equal(as_pixels(value, upright=True), upright(data))
        np.testing.assert_array_equal(as_pixels(value), plain)


def test_orientation_may_stand_in_xmp_or_far_behind():
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    xmp += b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'
    stream = io.BytesIO()
    Image.fromarray(make_picture(40, 28, 3)).save(stream, "JPEG", xmp=xmp)
    for data in (stream.getvalue(), with_comments(picture_with(6))):
        assert as_pixels(data, upright=True).shape == (28, 40, 3)
        np.testing.assert_array_equal(as_pixels(data, upright=True), upright(data))


def with_comments(jpeg):
    """With 200,000 bytes of comments before everything else."""
    return jpeg[:2] + b"".join(b"\xff\xfe\xc3\x52" + bytes(50_000) for _ in range(4)) + jpeg[2:]


@pytest.mark.parametrize("number", [0, 9, 255, -1])
def test_numbers_that_mean_nothing_are_passed_over(number):
    assert orientation_of(picture_with(number & 0xFFFF)) == 1


def test_damaged_exif_is_no_reason_to_lose_a_picture():
    data = picture_with(6)
    place = data.index(b"Exif\0\0") + 6
    for value in (0, 0xFF):
        damaged = data[:place] + bytes([value]) * 24 + data[place + 24 :]
        assert orientation_of(damaged) in ORIENTATIONS
        assert as_pixels(damaged, upright=True).size == 40 * 28 * 3


@pytest.fixture
def folder(tmp_path):
    for orientation in ORIENTATIONS:
        path = tmp_path / "pictures" / "class" / f"{orientation}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture_with(orientation))
    return tmp_path / "pictures"


def stored(path):
    reader = Reader(str(path))
    data, records, table = path.read_bytes(), reader.metadata["f0"], reader.alloc_table
    sizes = dict(zip(table["ptr"].tolist(), table["size"].tolist(), strict=True))
    for record in records:
        start = int(record["data_ptr"])
        blob = data[start : start + sizes[start]]
        shape = (int(record["height"]), int(record["width"]), 3)
        yield decode_jpeg(blob) if record["mode"] == 0 else np.frombuffer(blob, np.uint8).reshape(shape)


@pytest.mark.parametrize("mode", ["raw", "jpg"])
@pytest.mark.parametrize("orientation", ["ignore", "apply"])
def test_folder_is_written_either_way(folder, tmp_path, mode, orientation):
    path = tmp_path / "file.beton"
    fields = {"image": RGBImageField(mode, jpeg_quality=95, orientation=orientation), "label": IntField()}
    DatasetWriter(str(path), fields, num_workers=1, progress=False).from_indexed_dataset(ImageFolder(str(folder)))
    assert Reader(str(path)).settings["fields"]["image"]["orientation"] == orientation
    for number, pixels in zip(ORIENTATIONS, stored(path), strict=True):
        data = picture_with(number)
        expected = upright(data) if orientation == "apply" else np.asarray(Image.open(io.BytesIO(data)))
        assert pixels.shape == expected.shape
        assert np.abs(pixels.astype(int) - expected).mean() < (1 if mode == "raw" else 6)
        assert mode == "jpg" or np.array_equal(pixels, expected)


@pytest.mark.parametrize("orientation", ["ignore", "apply"])
def test_only_pictures_that_are_upright_pass_through(tmp_path, orientation):
    path = tmp_path / "file.beton"
    values = [(picture_with(number),) for number in ORIENTATIONS]
    field = RGBImageField("jpg", tiled=False, retile=False, orientation=orientation)
    DatasetWriter(str(path), {"image": field}, num_workers=1, progress=False).from_indexed_dataset(values)
    kept = [value in path.read_bytes() for (value,) in values]
    assert kept == [orientation == "ignore" or number == 1 for number in ORIENTATIONS]


def test_unknown_choice_is_refused():
    with pytest.raises(FieldError, match="orientation: expected one of ignore, apply, found 'upright'"):
        RGBImageField(orientation="upright")
