"""JPEG kernels beside a full decode, OpenCV and Pillow; damaged data."""

import ctypes
import io
import threading

import cv2
import numpy as np
import pytest
from PIL import Image

from ffx.kernels.jpeg import decode_region, decode_scaled, decode_whole, release_decoder
from ffx.kernels.memory import THREAD_WORDS, release_thread
from ffx.kernels.step import BAD_JPEG, OK, OUT_OF_FILE, SIZE_MISMATCH
from ffx.kernels.turbojpeg import library_info
from tests.kernels import jpegs
from tests.kernels.jpegs import FAST_KINDS, decode_by_library, find_segment, make_jpeg, random_crop

KINDS = [*jpegs.KINDS, "RGB"]


def encode(picture, kind="4:2:0", progressive=False, restarts=0):
    """A JPEG of one kind, as uint8 array."""
    if kind == "RGB":
        stream = io.BytesIO()
        Image.fromarray(picture).save(stream, "jpeg", quality=90, keep_rgb=True, progressive=progressive)
        return np.frombuffer(stream.getvalue(), np.uint8)
    return make_jpeg(picture, kind, restarts, quality=95, progressive=progressive)


def whole(data, height, width, thread, fast=0):
    pixels = np.empty((height, width, 3), np.uint8)
    status = decode_whole(thread, data.ctypes.data, data.size, height, width, pixels.ctypes.data, 3 * width, fast)
    return status, pixels


def pixels_at(address, height, width, stride):
    memory = np.ctypeslib.as_array((ctypes.c_uint8 * (height * stride)).from_address(address))
    return memory.reshape(height, stride)[:, : 3 * width].reshape(height, width, 3)


def region(data, height, width, crop, thread, fast=0):
    """The crop out of `decode_region`'s part; its status otherwise."""
    status, address, stride, top, left, rows, columns = decode_region(
        thread, data.ctypes.data, data.size, height, width, *crop, fast
    )
    if status != OK:
        return status
    assert top <= crop[0] and left <= crop[1]
    assert top + rows >= crop[0] + crop[2] and left + columns >= crop[1] + crop[3]
    assert top + rows <= height and left + columns <= width
    part = pixels_at(address, rows, columns, stride)
    return part[crop[0] - top :, crop[1] - left :][: crop[2], : crop[3]].copy()


@pytest.mark.parametrize("fast", [0, 1])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_crop_and_whole_equal_a_full_decode(kind, progressive, fast, generator, thread):
    for number in range(24):
        height, width = (int(side) for side in generator.integers(1, (24, 130)[number % 2], 2))
        # Noise makes every error of upsampling at a crop's edge visible.
        picture = generator.integers(0, 256, (height, width, 3), np.uint8)
        data = encode(picture, kind, progressive, restarts=number % 3)
        full = decode_by_library(data, height, width, bool(fast) and kind in FAST_KINDS and not progressive)
        assert full is not None
        status, found = whole(data, height, width, thread, fast)
        assert status == OK
        np.testing.assert_array_equal(found, full)
        for _ in range(6):
            crop = random_crop(generator, height, width)
            top, left, rows, columns = crop
            found = region(data, height, width, crop, thread, fast)
            np.testing.assert_array_equal(found, full[top : top + rows, left : left + columns], err_msg=str(crop))


@pytest.mark.parametrize("kind", KINDS)
def test_full_decode_matches_opencv_and_pillow(kind, make_picture, thread):
    picture = make_picture(75, 101)
    data = encode(picture, kind)
    status, found = whole(data, 75, 101, thread)
    assert status == OK
    opencv = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    pillow = np.asarray(Image.open(io.BytesIO(data.tobytes())).convert("RGB"))
    for reference in (opencv, pillow):
        # Other versions of the library may upsample 4:4:0 more simply.
        assert np.abs(found.astype(int) - reference).max() <= (40 if kind == "4:4:0" else 2)


def test_whole_is_written_with_the_target_s_stride(make_picture, thread):
    picture = make_picture(20, 30)
    data = encode(picture)
    expected = decode_by_library(data, 20, 30)
    canvas = np.full((20, 40, 3), 9, np.uint8)
    part = canvas[:, 4:34]
    assert decode_whole(thread, data.ctypes.data, data.size, 20, 30, part.ctypes.data, canvas.strides[0]) == OK
    np.testing.assert_array_equal(part, expected)
    assert (canvas[:, :4] == 9).all() and (canvas[:, 34:] == 9).all()


@pytest.mark.skipif(library_info().version != 3, reason="version 2 of the library decodes whole images")
def test_a_small_crop_decodes_a_small_part(make_picture, thread):
    data = encode(make_picture(300, 400))
    status, _, stride, top, left, rows, columns = decode_region(
        thread, data.ctypes.data, data.size, 300, 400, 100, 200, 50, 60
    )
    assert status == OK and stride == 3 * columns
    assert rows <= 50 + 16 and columns <= 60 + 32 and top >= 84 and left >= 176


def test_scaled_decode_matches_pillow_s_draft(make_picture, thread):
    data = encode(make_picture(61, 83))
    for denominator in (2, 4, 8):
        status, address, height, width = decode_scaled(thread, data.ctypes.data, data.size, 61, 83, 1, denominator)
        assert status == OK
        draft = Image.open(io.BytesIO(data.tobytes()))
        draft.draft("RGB", (83 // denominator, 61 // denominator))
        expected = np.asarray(draft)
        assert expected.shape == (height, width, 3)
        assert np.abs(pixels_at(address, height, width, 3 * width).astype(int) - expected).max() <= 2
    # Afterwards nothing is scaled any more.
    status, full = whole(data, 61, 83, thread)
    assert status == OK
    np.testing.assert_array_equal(full, decode_by_library(data, 61, 83))


@pytest.mark.parametrize("fraction", [(3, 5), (1, 16), (17, 8), (0, 1)])
def test_scales_that_the_library_does_not_know_are_refused(fraction, make_picture, thread):
    data = encode(make_picture(16, 16))
    assert decode_scaled(thread, data.ctypes.data, data.size, 16, 16, *fraction)[0] == BAD_JPEG


@pytest.mark.parametrize("size", [(50, 61), (51, 60), (60, 50), (1, 1), (0, 0), (65535, 65535)])
def test_header_of_another_size_is_a_mismatch(size, make_picture, thread):
    data = encode(make_picture(50, 60))
    target = np.zeros((50, 60, 3), np.uint8)
    assert decode_whole(thread, data.ctypes.data, data.size, *size, target.ctypes.data, 180) == SIZE_MISMATCH
    assert not target.any()
    assert decode_region(thread, data.ctypes.data, data.size, *size, 0, 0, 1, 1)[0] == SIZE_MISMATCH


@pytest.mark.parametrize(
    "crop", [(-1, 0, 5, 5), (0, -3, 5, 5), (46, 0, 5, 5), (0, 56, 5, 5), (0, 0, 0, 5), (0, 0, 5, -1)]
)
def test_crop_outside_the_image_is_refused(crop, make_picture, thread):
    assert region(encode(make_picture(50, 60)), 50, 60, crop, thread) == OUT_OF_FILE


@pytest.mark.parametrize("progressive", [False, True])
def test_data_that_end_early_are_damage(progressive, make_picture, thread):
    data = encode(make_picture(64, 64), progressive=progressive)
    for size in (0, 1, 2, 20, data.size // 2, data.size - 20):
        assert whole(data[:size].copy(), 64, 64, thread)[0] == BAD_JPEG, size
        assert region(data[:size].copy(), 64, 64, (20, 20, 44, 44), thread) == BAD_JPEG, size


def test_other_bytes_are_damage(thread):
    for data in (b"", b"\x89PNG\r\n\x1a\n" + bytes(100), b"\xff\xd8\xff", bytes(1000)):
        assert whole(np.frombuffer(data + b" ", np.uint8)[:-1], 8, 8, thread)[0] == BAD_JPEG


@pytest.mark.parametrize("adobe", [0, 2])
def test_cmyk_is_refused(adobe, make_picture, thread):
    stream = io.BytesIO()
    Image.fromarray(make_picture(24, 24)).convert("CMYK").save(stream, "jpeg")
    data = bytearray(stream.getvalue())
    place = data.find(b"Adobe")
    assert place > 0
    data[place + 11] = adobe
    data = np.frombuffer(bytes(data), np.uint8)
    assert whole(data, 24, 24, thread)[0] == BAD_JPEG
    assert region(data, 24, 24, (4, 4, 10, 10), thread) == BAD_JPEG


def test_decoder_goes_on_after_damage(make_picture, thread):
    sound = encode(make_picture(80, 90))
    expected = decode_by_library(sound, 80, 90)
    for _ in range(3):
        assert region(sound[: sound.size // 3].copy(), 80, 90, (40, 40, 30, 30), thread) == BAD_JPEG
        np.testing.assert_array_equal(region(sound, 80, 90, (30, 33, 40, 50), thread), expected[30:70, 33:83])
        np.testing.assert_array_equal(whole(sound, 80, 90, thread)[1], expected)


def test_damage_of_the_tables_does_not_spoil_what_is_decoded_next(make_picture, generator, thread):
    sound = encode(make_picture(70, 90))
    expected = decode_by_library(sound, 70, 90)
    for _ in range(200):
        data = sound.copy()
        data[generator.integers(0, 600, 2)] = generator.integers(0, 256, 2)
        region(data, 70, 90, (5, 6, 30, 40), thread)
        np.testing.assert_array_equal(region(sound, 70, 90, (5, 6, 30, 40), thread), expected[5:35, 6:46])


def without_segments(jpeg, *kinds):
    """A JPEG that lacks all segments with these markers."""
    data, place = bytearray(jpeg), 2
    while data[place + 1] != 0xDA:
        length = 2 + int.from_bytes(data[place + 2 : place + 4], "big")
        if data[place + 1] in kinds:
            del data[place : place + length]
        else:
            place += length
    return np.frombuffer(bytes(data), np.uint8)


@pytest.mark.parametrize("tables", [(0xDB,), (0xC4,), (0xDB, 0xC4)])
def test_a_jpeg_that_lacks_tables_does_not_get_those_of_the_one_before(tables, make_picture, thread):
    # 4:1:1 goes to the library.
    lacking = without_segments(make_jpeg(make_picture(40, 50), "4:1:1"), *tables)
    alone = whole(lacking, 40, 50, thread)
    for quality in (20, 95):
        before = make_jpeg(make_picture(40, 50, seed=2), "4:1:1", optimised=True, quality=quality)
        assert whole(before, 40, 50, thread)[0] == OK
        found = whole(lacking, 40, 50, thread)
        assert found[0] == alone[0]
        assert found[0] != OK or np.array_equal(found[1], alone[1])


def test_tables_alone_are_no_picture(make_picture, thread):
    # The library's second version reads such a header without a complaint.
    sound = make_jpeg(make_picture(40, 50))
    data = np.concatenate([sound[: find_segment(sound, 0xC0)], np.array([0xFF, 0xD9], np.uint8)])
    for _ in range(20):
        # The size of the picture before must not be taken for this one's.
        assert whole(make_jpeg(make_picture(40, 50), progressive=True), 40, 50, thread)[0] == OK
        assert whole(data, 40, 50, thread)[0] in (BAD_JPEG, SIZE_MISMATCH)
    assert len({whole(data, 40, 50, thread)[0] for _ in range(100)}) == 1


@pytest.mark.parametrize("progressive", [False, True])
def test_random_damage_never_leaves_the_kernels_vocabulary(progressive, make_picture, generator, thread):
    sound = encode(make_picture(70, 90), progressive=progressive)
    statuses = set()
    for _ in range(400):
        data = sound.copy()
        places = generator.integers(0, data.size, int(generator.integers(1, 12)))
        data[places] = generator.integers(0, 256, places.size)
        status, *_ = decode_region(thread, data.ctypes.data, data.size, 70, 90, *random_crop(generator, 70, 90))
        statuses.add(status)
    assert statuses <= {OK, BAD_JPEG, SIZE_MISMATCH}
    assert {OK, BAD_JPEG} <= statuses


def test_threads_have_decoders_of_their_own(make_picture):
    pictures = [encode(make_picture(100, 120, seed=seed)) for seed in range(4)]
    failures = []

    def work(data):
        words = np.zeros(THREAD_WORDS, np.int64)
        expected = decode_by_library(data, 100, 120)
        if not np.array_equal(whole(data, 100, 120, words.ctypes.data)[1], expected):
            failures.append("whole")
        for number in range(40):
            found = region(data, 100, 120, (number, number, 60, 50), words.ctypes.data)
            if not np.array_equal(found, expected[number : number + 60, number : number + 50]):
                failures.append(number)
        release_decoder(words)
        release_thread(words)

    threads = [threading.Thread(target=work, args=(data,)) for data in pictures]
    for running in threads:
        running.start()
    for running in threads:
        running.join()
    assert not failures


def test_releasing_twice_is_safe_and_a_decoder_comes_back(make_picture):
    words = np.zeros(THREAD_WORDS, np.int64)
    release_decoder(words)
    # A progressive JPEG, which the library decodes.
    data = encode(make_picture(16, 16), progressive=True)
    for _ in range(2):
        assert whole(data, 16, 16, words.ctypes.data)[0] == OK
        assert words[0] != 0
        release_decoder(words)
        release_decoder(words)
        assert words[0] == 0
    release_thread(words)
