"""JPEGs in tiles as the image field stores them: ordinary for everybody, without loss, the same bytes each time."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from ffx.errors import FieldError, PipelineError
from ffx.fields import RGBImageField, tiled_jpeg
from ffx.fields.rgb_image import CenterCropRGBImageDecoder, RandomResizedCropRGBImageDecoder
from ffx.fields.tiled_jpeg import tile_interval, tiled
from ffx.kernels.tiles import tile_layout
from ffx.libffcv import imdecode
from tests.kernels.jpegs import decode_by_library, random_crop
from tests.pictures import decode_jpeg, encode_jpeg, make_picture


def store(field, value):
    """The bytes that a field stores for a value."""
    pieces = []

    def malloc(size):
        pieces.append(np.zeros(size, np.uint8))
        return 4096, pieces[-1]

    field.encode(np.zeros(1, field.metadata_type), value, malloc)
    return pieces[0].tobytes()


def interval(jpeg):
    data = np.frombuffer(jpeg, np.uint8)
    return tile_layout(data.ctypes.data, data.size)[1]


def pil_jpeg(picture, **options):
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "unit_width, expected",
    [
        (16, {1: 1, 2: 2, 3: 3, 6: 2, 9: 3, 19: 1, 25: 1, 32: 2}),
        (8, {1: 1, 2: 2, 3: 3, 4: 4, 10: 5, 18: 6, 19: 1, 49: 7, 50: 5, 62: 2, 64: 4}),
        (32, {1: 1, 2: 1, 16: 1}),
    ],
)
def test_interval_divides_the_row_into_tiles_of_about_32_pixels(unit_width, expected):
    assert {across: tile_interval(across, unit_width) for across in expected} == expected


@pytest.mark.parametrize("size", [(1, 1), (16, 16), (17, 33), (120, 400), (99, 304)])
def test_made_jpegs_are_in_tiles_and_everybody_reads_the_same_pixels(size):
    picture = make_picture(*size)
    for mode, options in (
        ("jpg", {}),
        ("smart", {"smart_threshold": 1}),
        ("proportion", {"compress_probability": 1.0}),
    ):
        stored = store(RGBImageField(mode, **options), picture)
        plain = encode_jpeg(picture)
        assert interval(stored) == tile_interval(-(-size[1] // 16), 16)
        np.testing.assert_array_equal(decode_jpeg(stored), decode_jpeg(plain))
        opened = Image.open(io.BytesIO(stored))
        assert opened.size == (size[1], size[0])
        np.testing.assert_array_equal(np.asarray(opened), np.asarray(Image.open(io.BytesIO(plain))))
        assert stored == store(RGBImageField(mode, **options), picture)


def test_settings_tell_of_tiles():
    assert RGBImageField("jpg").settings()["tiled"] is True
    settings = RGBImageField("jpg", tiled=False, retile=False).settings()
    assert settings["tiled"] is False and settings["retile"] is False


KEPT = {
    "ordinary": encode_jpeg,
    "no subsampling": lambda picture: pil_jpeg(picture, subsampling=0),
    "4:2:2": lambda picture: pil_jpeg(picture, subsampling=1),
    "optimised": lambda picture: pil_jpeg(picture, optimize=True),
    "progressive": lambda picture: pil_jpeg(picture, progressive=True),
    "progressive, grey": lambda picture: pil_jpeg(picture[..., 0], progressive=True),
    "grey": lambda picture: pil_jpeg(picture[..., 0]),
    "restarts": lambda picture: pil_jpeg(picture, restart_marker_rows=1),
    "trailing bytes": lambda picture: encode_jpeg(picture) + b"junk",
}


@pytest.mark.parametrize("name", KEPT)
def test_jpegs_that_pass_through_get_tiles_without_loss(name):
    picture = make_picture(75, 133)
    data = KEPT[name](picture)
    stored = store(RGBImageField("jpg", jpeg_quality=5), data)
    assert interval(stored) > 0 and interval(data) in (0, 9)
    np.testing.assert_array_equal(decode_jpeg(stored), decode_jpeg(data))
    assert store(RGBImageField("jpg", jpeg_quality=5, retile=False), data) == data


@pytest.mark.parametrize("progressive", [False, True])
def test_descriptions_stay_with_a_jpeg_that_passes_through(progressive):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = pil_jpeg(make_picture(40, 50), exif=exif, comment=b"a remark", progressive=progressive)
    stored = store(RGBImageField("jpg"), data)
    assert interval(stored) > 0
    image = Image.open(io.BytesIO(stored))
    assert image.getexif()[0x0112] == 6 and image.info["comment"] == b"a remark"


def test_fill_bytes_in_the_header_of_a_progressive_jpeg_leave_it_as_it_is():
    data = pil_jpeg(make_picture(40, 48), progressive=True)
    place = data.index(b"\xff\xc2")
    data = data[:place] + b"\xff" + data[place:]
    assert store(RGBImageField("jpg"), data) == data


def two_scans(picture):
    """A baseline JPEG whose components come one after the other, made of three grey ones."""
    planes = [pil_jpeg(np.ascontiguousarray(picture[..., channel])) for channel in range(3)]
    starts = [plane.index(b"\xff\xda") for plane in planes]
    frame = planes[0].index(b"\xff\xc0")
    head = planes[0][: frame + 9] + bytes([3, 1, 0x11, 0, 2, 0x11, 0, 3, 0x11, 0]) + planes[0][frame + 13 : starts[0]]
    head = head[: frame + 2] + (17).to_bytes(2, "big") + head[frame + 4 :]
    scans = [
        plane[start : start + 5] + bytes([number + 1]) + plane[start + 6 : -2]
        for number, (plane, start) in enumerate(zip(planes, starts, strict=True))
    ]
    return head + b"".join(scans) + b"\xff\xd9"


def test_what_cannot_get_tiles_is_kept_byte_for_byte():
    data = two_scans(make_picture(40, 48))
    assert tiled(np.frombuffer(data, np.uint8)) is None
    assert store(RGBImageField("jpg"), data) == data


def test_a_progressive_jpeg_is_kept_without_a_library_to_change_it(monkeypatch):
    data = pil_jpeg(make_picture(40, 48), progressive=True)
    monkeypatch.setattr(tiled_jpeg, "library", lambda: None)
    assert store(RGBImageField("jpg"), data) == data


def test_a_result_that_does_not_decode_or_has_other_pixels_is_not_stored(monkeypatch):
    plain, other = encode_jpeg(make_picture(40, 48)), encode_jpeg(make_picture(40, 48, seed=1))
    progressive = pil_jpeg(make_picture(40, 48), progressive=True)
    monkeypatch.setattr(tiled_jpeg, "tiled", lambda jpeg: jpeg[: jpeg.size // 2].copy())
    for data in (plain, progressive):
        assert store(RGBImageField("jpg"), data) == data
    monkeypatch.setattr(tiled_jpeg, "tiled", lambda jpeg: np.frombuffer(other, np.uint8))
    assert store(RGBImageField("jpg"), progressive) == progressive


def test_bytes_that_are_no_picture_are_still_refused():
    with pytest.raises(FieldError):
        store(RGBImageField("jpg"), encode_jpeg(make_picture(40, 48))[:-200])


# --- Encoding in one pass ---


@pytest.fixture
def fresh_headers():
    tiled_jpeg._header_for.cache_clear()
    yield
    tiled_jpeg._header_for.cache_clear()


def test_every_quality_gives_the_bytes_of_opencv_s_jpeg_in_tiles():
    picture = make_picture(50, 68)
    for quality in range(1, 101):
        assert tiled_jpeg._header_for(quality) is not None, quality
        expected = tiled(tiled_jpeg.encode_untiled(picture, quality))
        np.testing.assert_array_equal(tiled_jpeg.encode_in_tiles(picture, quality), expected)


@pytest.mark.parametrize("change", ["sampling", "coefficients", "precision of the tables", "no frame"])
def test_an_opencv_that_encodes_otherwise_does_it_itself(monkeypatch, fresh_headers, change):
    usual = tiled_jpeg.encode_untiled

    def otherwise(image, quality):
        if change == "sampling":
            encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, 0x111111])[1]
        elif change == "coefficients":
            encoded = usual(cv2.GaussianBlur(image, (3, 3), 0), quality)
        else:
            encoded = usual(image, quality).copy()
            data, marker = encoded.tobytes(), b"\xff\xdb" if change == "precision of the tables" else b"\xff\xc0"
            encoded[data.index(marker) + (4 if marker == b"\xff\xdb" else 1)] ^= 0x10 if marker == b"\xff\xdb" else 0x02
        return encoded.reshape(-1)

    monkeypatch.setattr(tiled_jpeg, "encode_untiled", otherwise)
    picture = make_picture(50, 68)
    expected = otherwise(picture, 90)
    in_tiles = tiled(expected)
    expected = expected if in_tiles is None else in_tiles
    np.testing.assert_array_equal(tiled_jpeg.encode_in_tiles(picture, 90), expected)
    assert tiled_jpeg._header_for(90) is None


def test_what_a_field_prepares_serves_its_first_picture(fresh_headers):
    for field, expected in (
        (RGBImageField("raw"), 0),
        (RGBImageField("jpg", tiled=False), 0),
        (RGBImageField("jpg"), 1),
    ):
        field.prepare_encoding()
        assert tiled_jpeg._header_for.cache_info().currsize == expected
    store(RGBImageField("jpg"), make_picture(40, 48))
    assert tiled_jpeg._header_for.cache_info().misses == 1


@pytest.mark.parametrize("value", ["Pillow's", "encoded", "changing"])
def test_kernels_get_arrays_of_one_kind_so_that_nothing_is_compiled_twice(monkeypatch, value):
    given = []

    def watched(name, place):
        kernel = getattr(tiled_jpeg, name)

        def call(*arguments):
            given.append(arguments[place])
            return kernel(*arguments)

        monkeypatch.setattr(tiled_jpeg, name, call)

    watched("encode_jpeg", 2)
    watched("retile", 0)
    picture = make_picture(40, 48)
    data = encode_jpeg(picture)
    chosen = {"Pillow's": Image.fromarray(picture), "encoded": data, "changing": bytearray(data)}[value]
    store(RGBImageField("jpg"), chosen)
    assert given and all(array.flags.c_contiguous and array.flags.writeable for array in given)
    if value != "Pillow's":
        # A copy: nobody else can change what was checked.
        assert not any(np.shares_memory(array, np.frombuffer(chosen, np.uint8)) for array in given)


def test_pictures_may_lie_in_memory_as_they_like():
    picture = make_picture(50, 68)
    wide = np.zeros((50, 68, 4), np.uint8)
    wide[..., :3] = picture
    for image in (picture[:, ::-1], picture[::-1], picture[3:30, 5:40], picture[::2, ::3], wide[..., :3]):
        expected = tiled(tiled_jpeg.encode_untiled(image, 90))
        np.testing.assert_array_equal(tiled_jpeg.encode_in_tiles(image, 90), expected)


def test_pictures_that_no_jpeg_holds_are_refused():
    with pytest.raises(FieldError, match="65501"):
        store(RGBImageField("jpg"), np.zeros((65501, 1, 3), np.uint8))


# --- Upsampling ---


def test_fast_upsampling_repeats_chroma():
    # Grey values do not change; of chroma in 4:2:0 each sample covers two by two pixels.
    picture = np.full((32, 48, 3), 128, np.uint8)
    picture[:, 20:] = (180, 100, 128)
    data = np.frombuffer(encode_jpeg(picture), np.uint8)
    smooth, fast = np.empty_like(picture), np.empty_like(picture)
    assert imdecode(data, smooth, 32, 48) == 0
    assert imdecode(data, fast, 32, 48, fast_upsampling=True) == 0
    for pixels, equal in ((smooth, False), (fast, True)):
        chroma = cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb)[..., 1:].astype(int)
        assert (np.abs(chroma[::2, ::2] - chroma[1::2, 1::2]).max() <= 2) == equal
    np.testing.assert_array_equal(smooth[..., ::-1], cv2.imdecode(data, cv2.IMREAD_COLOR))


@pytest.mark.parametrize("name", ["ordinary", "no subsampling", "4:2:2", "progressive", "grey"])
@pytest.mark.parametrize("in_tiles", [False, True])
def test_crops_with_fast_upsampling_are_the_library_s_pixels(in_tiles, name, generator):
    data = np.frombuffer(store(RGBImageField("jpg", retile=in_tiles), KEPT[name](make_picture(75, 133))), np.uint8)
    # A progressive JPEG in tiles is a baseline one.
    full = decode_by_library(data, 75, 133, fast=name != "progressive" or in_tiles)
    for _ in range(20):
        top, left, rows, columns = random_crop(generator, 75, 133)
        found = np.empty((rows, columns, 3), np.uint8)
        arguments = (75, 133, rows, columns, left, top, 1, 1, True, False, True)
        assert imdecode(data, found, *arguments) == 0
        np.testing.assert_array_equal(found, full[top : top + rows, left : left + columns])


@pytest.mark.parametrize("wrong", ["Fast", "", None, True])
def test_unknown_upsampling_is_refused(wrong):
    with pytest.raises(PipelineError, match="upsampling"):
        RandomResizedCropRGBImageDecoder((8, 8), upsampling=wrong)
    with pytest.raises(PipelineError, match="upsampling"):
        CenterCropRGBImageDecoder((8, 8), 1, upsampling=wrong)
