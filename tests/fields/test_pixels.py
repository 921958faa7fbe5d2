"""Decoding and shrinking for the writer: what Pillow and OpenCV give, by whichever way."""

import io
import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from ffx.fields import RGBImageField, pixels
from ffx.fields.jpeg_header import read_jpeg_header
from ffx.fields.pixels import EncodedPicture, decode_ordinary_jpeg, decoded_strictly, is_ordinary, shrink
from ffx.fields.rgb_image import as_pixels, resizer
from tests.fields.test_encoding import encode
from tests.pictures import encode_jpeg, make_picture

PICTURE = make_picture(61, 83)


def jpeg(picture=PICTURE, mode="RGB", **options):
    stream = io.BytesIO()
    Image.fromarray(picture).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


def by_pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def sampled(factors):
    options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, factors]
    return cv2.imencode(".jpg", PICTURE[..., ::-1], options)[1].tobytes()


EXIF = Image.Exif()
EXIF[0x0112] = 6
ORDINARY = {
    "4:4:4": jpeg(subsampling=0),
    "4:2:2": jpeg(subsampling=1),
    "4:2:0": jpeg(subsampling=2),
    "grey": jpeg(mode="L"),
    "progressive": jpeg(progressive=True),
    "restarts": jpeg(restart_marker_blocks=3),
    "turned by EXIF": jpeg(exif=EXIF),
    "with an ICC profile": jpeg(icc_profile=bytes(5000)),
    "trailing bytes": jpeg() + b"trailing",
    "narrow": jpeg(make_picture(40, 3)),
    "one pixel": jpeg(make_picture(1, 1)),
}
STRANGE = {
    "CMYK": jpeg(mode="CMYK"),
    "red, green, blue": jpeg(keep_rgb=True),
    "4:4:0": sampled(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440),
    "4:1:1": sampled(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_411),
    "cut": jpeg()[:-300],
    "PNG": cv2.imencode(".png", PICTURE)[1].tobytes(),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_ordinary_jpegs_have_pillow_s_pixels(name):
    data = ORDINARY[name]
    decoded = decode_ordinary_jpeg(data)
    assert decoded is not None
    np.testing.assert_array_equal(decoded, by_pillow(data))
    np.testing.assert_array_equal(as_pixels(data), by_pillow(data))


@pytest.mark.parametrize("name", STRANGE)
def test_strange_files_are_left_to_pillow(name):
    assert decode_ordinary_jpeg(STRANGE[name]) is None
    if name != "cut":
        np.testing.assert_array_equal(as_pixels(STRANGE[name]), by_pillow(STRANGE[name]))


def test_pillow_s_limit_of_pixels_holds(monkeypatch):
    assert is_ordinary(read_jpeg_header(ORDINARY["4:4:4"]))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 61 * 83 - 1)
    assert decode_ordinary_jpeg(ORDINARY["4:4:4"]) is None
    with pytest.warns(Image.DecompressionBombWarning):
        as_pixels(ORDINARY["4:4:4"])


def test_another_decoder_s_pixels_are_not_taken(monkeypatch):
    monkeypatch.setattr(pixels, "_decoder_agrees", lambda: False)
    assert decode_ordinary_jpeg(ORDINARY["4:4:4"]) is None
    np.testing.assert_array_equal(as_pixels(ORDINARY["4:4:4"]), by_pillow(ORDINARY["4:4:4"]))


def test_both_agree_here():
    assert pixels._decoder_agrees()
    assert pixels._shrinking_agrees()


@pytest.mark.parametrize("agrees", [True, False])
@pytest.mark.parametrize("size", [(41, 30), (83, 30), (1, 1), (83, 61)])
def test_shrinking_is_opencv_s(agrees, size, monkeypatch):
    monkeypatch.setattr(pixels, "_shrinking_agrees", lambda: agrees)
    expected = cv2.resize(PICTURE, size, interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(shrink(PICTURE, size), expected)


@pytest.mark.parametrize("divisor", [2, 3, 4])
def test_whole_fractions_are_opencv_s(divisor):
    picture = make_picture(60, 84)
    expected = cv2.resize(picture, (84 // divisor, 60 // divisor), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(resizer(picture, 84 // divisor), expected)


def test_other_arrays_are_shrunk_by_opencv():
    for picture in (PICTURE[:, ::-1], PICTURE[..., 0], PICTURE.astype(np.float32)):
        expected = cv2.resize(picture, (40, 30), interpolation=cv2.INTER_AREA)
        np.testing.assert_array_equal(shrink(picture, (40, 30)), expected)


def test_results_for_a_moment_share_memory_and_others_do_not():
    first, second = jpeg(subsampling=0), jpeg(make_picture(61, 83, 5), subsampling=0)
    moment = as_pixels(first, for_a_moment=True)
    assert np.shares_memory(moment, as_pixels(second, for_a_moment=True))
    kept = as_pixels(first)
    as_pixels(second)
    resizer(kept, 40, for_a_moment=True)
    np.testing.assert_array_equal(kept, by_pillow(first))


def test_threads_do_not_share_memory():
    data = [jpeg(make_picture(50, 60, seed)) for seed in range(4)]
    wrong = []

    def work(number):
        for _ in range(30):
            result = as_pixels(data[number], for_a_moment=True)
            if not np.array_equal(result, by_pillow(data[number])):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_thread_that_ends_gives_its_decoder_back(monkeypatch):
    released = []
    monkeypatch.setattr(pixels, "release_thread", lambda words: released.append(words[2:].any()))
    data = encode_jpeg(make_picture(20, 30))
    thread = threading.Thread(target=decoded_strictly, args=(data, 20, 30))
    thread.start()
    thread.join()
    # It had scratch memory.
    assert released == [True]


def test_whether_the_loader_takes_a_jpeg():
    for name in ("4:2:0", "grey", "progressive", "restarts"):
        assert decoded_strictly(ORDINARY[name], 61, 83) is not None
        assert decoded_strictly(ORDINARY[name], 60, 83) is None
    damaged = bytearray(ORDINARY["4:2:0"])
    damaged[-200:-190] = b"\xff\xd9" * 5
    assert decoded_strictly(bytes(damaged), 61, 83) is None
    # A failure leaves nothing behind.
    assert decoded_strictly(ORDINARY["progressive"], 61, 83) is not None


def test_an_encoded_picture_stands_for_its_pixels():
    data = encode_jpeg(PICTURE, 95)
    field = RGBImageField("jpg", jpeg_quality=80, tiled=False, retile=False)
    assert encode(field, data)[1] == data
    assert encode(field, EncodedPicture(data))[1] == encode_jpeg(by_pillow(data), 80)
