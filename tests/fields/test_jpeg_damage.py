"""What counts as a JPEG's damage, and what only looks like it: against what Pillow makes of the same bytes."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from ffx.errors import FfxWarning
from ffx.fields.jpeg_damage import jpeg_damage
from ffx.fields.jpeg_header import read_jpeg_header
from ffx.fields.jpeg_markers import Segment, count_scans, segments
from ffx.fields.pixels import is_bomb
from ffx.kernels.jpeg import decode_whole
from ffx.kernels.memory import THREAD_WORDS
from ffx.kernels.step import OK
from tests.fuzz.jpeg_mutations import split
from tests.kernels.jpegs import make_jpeg
from tests.pictures import make_picture
from tests.strange_images import scan_bomb

PICTURE = make_picture(80, 96, seed=4)
JPEG = make_jpeg(PICTURE).tobytes()
PROGRESSIVE = make_jpeg(PICTURE, progressive=True).tobytes()
END = b"\xff\xd9"
SCAN_BYTES = len(split(JPEG)[-2])
JUNK = np.random.default_rng(3).integers(1, 255, SCAN_BYTES, np.uint8).tobytes()


def by_pillow(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def with_strays(jpeg, first, last):
    """With bytes before segments `first` to `last` of `split`."""
    parts = split(jpeg)
    return b"".join(b"junk" * (first <= number <= last) + part for number, part in enumerate(parts))


def scans(jpeg):
    return [number for number, part in enumerate(split(jpeg)) if part[1:2] == b"\xda"]


@pytest.mark.parametrize("jpeg", [JPEG, PROGRESSIVE], ids=["baseline", "progressive"])
def test_bytes_between_segments_are_no_damage_and_hide_none(jpeg):
    strange = with_strays(jpeg, 2, scans(jpeg)[0])
    np.testing.assert_array_equal(by_pillow(strange), by_pillow(jpeg))
    assert jpeg_damage(strange) is None
    for part in (60, 80, 95):
        assert jpeg_damage(strange[: len(strange) * part // 100]) is not None
    parts = split(jpeg)
    first = scans(jpeg)[0]
    parts[first] = parts[first][: len(parts[first]) // 2]
    assert "premature" in jpeg_damage(with_strays(b"".join(parts), 2, first))


def test_bytes_between_a_table_and_its_scan_are_no_damage():
    parts = split(PROGRESSIVE)
    table = next(number for number in range(scans(PROGRESSIVE)[0], len(parts)) if parts[number][1:2] == b"\xc4")
    strange = with_strays(PROGRESSIVE, table + 1, table + 1)
    np.testing.assert_array_equal(by_pillow(strange), by_pillow(PROGRESSIVE))
    assert jpeg_damage(strange) is None


def test_bytes_behind_a_scan_before_another_are_damage():
    for number in scans(PROGRESSIVE)[:-1]:
        assert "extraneous" in jpeg_damage(with_strays(PROGRESSIVE, number + 1, number + 1).replace(b"junk", JUNK[:40]))


@pytest.mark.parametrize("jpeg", [JPEG, PROGRESSIVE], ids=["baseline", "progressive"])
@pytest.mark.parametrize("padding", [bytes(10_000), b"\xff" * 999, b"\xff\0" * 999, b"\0\xff\xff\0" * 999 + b"\xff"])
def test_padding_of_any_length_is_no_damage(jpeg, padding):
    strange = jpeg[:-2] + padding + END
    np.testing.assert_array_equal(by_pillow(strange), by_pillow(jpeg))
    assert jpeg_damage(strange) is None
    assert jpeg_damage(strange + b"\xff\xda and more") is None
    assert jpeg_damage(jpeg[:-2] + padding + b"\xff\xfe\0\4hi" + END) is None


def test_other_bytes_left_over_are_told_and_where_they_are_many_refused():
    assert jpeg_damage(JPEG[:-2] + JUNK[:12] + END) is None
    for count in (30, SCAN_BYTES // 9):
        strange = JPEG[:-2] + JUNK[:count] + END
        np.testing.assert_array_equal(by_pillow(strange), by_pillow(JPEG))
        with pytest.warns(FfxWarning, match=f"a JPEG of {len(strange)} bytes has ({count}|{count - 1}) bytes"):
            assert jpeg_damage(strange) is None
    for count in (SCAN_BYTES // 6, SCAN_BYTES):
        assert "extraneous" in jpeg_damage(JPEG[:-2] + JUNK[:count] + END)


@pytest.mark.parametrize("kind", ["grey", "4:2:0"])
@pytest.mark.parametrize("quality", [30, 90])
def test_zeros_that_were_taken_for_codes_are_a_hole_not_padding(kind, quality):
    jpeg = make_jpeg(PICTURE, kind, quality=quality).tobytes()
    assert jpeg_damage(jpeg[:-2] + bytes(20_000) + END) is None
    for kept in (60, 80):
        assert "extraneous" in jpeg_damage(jpeg[: len(jpeg) * kept // 100] + bytes(20_000) + END)


@pytest.mark.parametrize("extra", [b"\xff\xda" * 600, JPEG * 600, PROGRESSIVE * 100])
def test_scans_behind_the_picture_are_not_its_own(extra):
    for jpeg, own in ((JPEG, 1), (PROGRESSIVE, len(scans(PROGRESSIVE)))):
        header = read_jpeg_header(jpeg + extra)
        assert header.scans == own == count_scans(jpeg)
        assert not is_bomb(header) and jpeg_damage(jpeg + extra) is None
        # The loader's decoder, which counts for itself, takes it, too.
        words, pixels = np.zeros(THREAD_WORDS, np.int64), np.empty(PICTURE.shape, np.uint8)
        data = np.frombuffer(jpeg + extra, np.uint8)
        place = words.ctypes.data, data.ctypes.data, data.size, *PICTURE.shape[:2], pixels.ctypes.data
        assert decode_whole(*place, pixels.strides[0]) == OK
        np.testing.assert_array_equal(pixels, by_pillow(jpeg))


def test_scans_in_previews_are_not_the_picture_s():
    preview = b"\xff\xe1\xff\xff" + b"\xff\xda" * 32766 + b"\0"
    data = PROGRESSIVE[:2] + preview + PROGRESSIVE[2:]
    assert read_jpeg_header(data).scans == len(scans(PROGRESSIVE))
    assert jpeg_damage(data) is None


@pytest.mark.parametrize("number", [499, 501, 1000])
def test_scans_of_the_picture_are_counted_whatever_stands_around(number):
    bomb = scan_bomb(number - len(scans(PROGRESSIVE)), 64)
    for data in (bomb, bomb + b"\xff\xda" * 9, with_strays(bomb, 2, 4)):
        assert count_scans(data) == number
        assert (jpeg_damage(data) is not None) == (number > 500)
    # A length of nothing is no way to hide them.
    assert count_scans(bomb[:2] + b"\xff\xfe\0\0" + bomb[2:]) == number


def test_segments_lie_within_the_data_and_end():
    generator = np.random.default_rng(2)
    for _ in range(300):
        data = bytearray(PROGRESSIVE)
        for place in generator.integers(2, len(data), 20):
            data[place] = generator.choice([0, 255, 0xDA, 0xD9, 0xC4, 0xE0])
        data = bytes(data[: generator.integers(0, len(data))])
        found = list(segments(data))
        places = [place for segment in found for place in (segment.start, segment.stop)]
        assert places == sorted(places) and all(2 <= place <= len(data) for place in places)
    assert list(segments(b"\xff\xd8\xff")) == []
    assert list(segments(b"\xff\xd8\xff\xda")) == [Segment(0xDA, 2, 4)]


def test_segments_without_number_are_refused_at_once():
    start = time.process_time()
    for segment in (b"\xff\xfe\0\2", b"\xff\xdd\0\4\0\0"):
        assert "65536 segments" in jpeg_damage(JPEG[:20] + segment * 5_000_000 + JPEG[20:])
        assert jpeg_damage(JPEG[:20] + segment * 5_000 + JPEG[20:]) is None
    # To look at all of them takes more than ten.
    assert time.process_time() - start < 2.0


def test_much_behind_the_picture_costs_little():
    data = JPEG + b"\xff\xda\0\1" * 10_000_000
    start = time.process_time()
    assert read_jpeg_header(data).scans == 1 and jpeg_damage(data) is None
    # Fractions of a second; to look at each of them would take many.
    assert time.process_time() - start < 2.0
