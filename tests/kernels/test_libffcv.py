"""FFCV's helpers, from plain Python and from compiled code, beside NumPy, OpenCV and FFCV itself."""

import os
import threading

import cv2
import numpy as np
import pytest
from numba import njit

from ffx.libffcv import ctypes_resize, imdecode, memcpy, read, resize_crop
from ffx.pipeline.compiler import Compiler
from tests.pictures import decode_jpeg, encode_jpeg


@pytest.fixture
def picture(make_picture):
    return make_picture(96, 128)


@pytest.fixture
def jpeg(picture):
    return np.frombuffer(encode_jpeg(picture), np.uint8)


@pytest.fixture
def decoded(jpeg):
    return decode_jpeg(jpeg.tobytes())


def close(left, right, most=2):
    return left.shape == right.shape and np.abs(left.astype(int) - right).max() <= most


def test_imdecode_decodes_the_whole_by_default(jpeg, decoded):
    target = np.zeros((96, 128, 3), np.uint8)
    assert imdecode(jpeg, target, 96, 128) == 0
    assert close(target, decoded)


def test_imdecode_takes_ffcv_s_twelve_arguments_with_numpy_integers(jpeg, decoded):
    target = np.zeros(96 * 128 * 3 + 50, np.uint8)
    height, width = np.uint32(96), np.uint32(128)
    assert imdecode(jpeg, target, height, width, height, width, 0, 0, 1, 1, False, False) == 0
    assert close(target[: decoded.size].reshape(decoded.shape), decoded)
    assert not target[decoded.size :].any()


@pytest.mark.parametrize("flip", [False, True])
def test_imdecode_crops_at_any_pixel(flip, jpeg, decoded):
    target = np.zeros((41, 53, 3), np.uint8)
    assert imdecode(jpeg, target, 96, 128, 41, 53, offset_x=19, offset_y=7, enable_crop=True, do_flip=flip) == 0
    whole = decoded[:, ::-1] if flip else decoded
    assert close(target, whole[7:48, 19:72])


def test_imdecode_flips_the_whole(jpeg, decoded):
    target = np.zeros((96, 128, 3), np.uint8)
    assert imdecode(jpeg, target, 96, 128, do_flip=True) == 0
    assert close(target, decoded[:, ::-1])


@pytest.mark.parametrize("denominator", [2, 4, 8])
def test_imdecode_scales(denominator, jpeg):
    flag = {2: cv2.IMREAD_REDUCED_COLOR_2, 4: cv2.IMREAD_REDUCED_COLOR_4, 8: cv2.IMREAD_REDUCED_COLOR_8}[denominator]
    expected = cv2.imdecode(jpeg, flag)[..., ::-1]
    target = np.zeros_like(expected)
    assert imdecode(jpeg, target, 96, 128, None, None, 0, 0, 1, denominator) == 0
    assert close(target, expected)
    half = np.zeros((48 // denominator, 64 // denominator, 3), np.uint8)
    assert imdecode(jpeg, half, 96, 128, 48, 64, 32, 16, 1, denominator, True) == 0
    assert close(half, expected[16 // denominator :, 32 // denominator :][: half.shape[0], : half.shape[1]])


@pytest.mark.parametrize(
    "arguments",
    [
        (95, 128),
        (96, 128, 97, 128),
        (96, 128, 96, 100, 29, 0, 1, 1, True),
        (96, 128, 96, 100, -1, 0, 1, 1, True),
        (96, 128, 0, 10),
        (96, 128, 96, 128, 0, 0, 1, 3),
        (96, 128, 96, 128, 0, 0, 0, 1),
    ],
)
def test_imdecode_refuses_what_does_not_fit_the_image(arguments, jpeg):
    target = np.zeros((100, 130, 3), np.uint8)
    assert imdecode(jpeg, target, *arguments) == -1
    assert not target.any()


def test_imdecode_reports_damage(jpeg):
    target = np.zeros((96, 128, 3), np.uint8)
    assert imdecode(jpeg[:300].copy(), target, 96, 128) == -1
    assert imdecode(jpeg[:0].copy(), target, 96, 128) == -1


def test_imdecode_never_writes_past_its_target(jpeg):
    with pytest.raises(ValueError, match="destination is too small"):
        imdecode(jpeg, np.zeros((96, 127, 3), np.uint8), 96, 128)
    with pytest.raises(ValueError, match="destination is too small"):
        imdecode(jpeg, np.zeros((47, 64, 3), np.uint8), 96, 128, None, None, 0, 0, 1, 2)


def test_resize_crop_matches_opencv(decoded):
    target = np.zeros((40, 50, 3), np.uint8)
    resize_crop(decoded, 5, 90, 11, 120, target)
    assert close(target, cv2.resize(decoded[5:90, 11:120], (50, 40), interpolation=cv2.INTER_AREA), 1)


def test_resize_crop_takes_a_view(decoded):
    whole, part = np.zeros((30, 30, 3), np.uint8), np.zeros((30, 30, 3), np.uint8)
    resize_crop(decoded, 20, 80, 30, 100, whole)
    resize_crop(decoded[10:, 16:], 10, 70, 14, 84, part)
    np.testing.assert_array_equal(whole, part)


@pytest.mark.parametrize("part", [(-1, 5, 0, 5), (0, 97, 0, 5), (5, 5, 0, 5), (0, 5, 120, 129), (9, 3, 0, 5)])
def test_resize_crop_refuses_a_part_outside(part, decoded):
    with pytest.raises(ValueError, match="within the source"):
        resize_crop(decoded, *part, np.zeros((8, 8, 3), np.uint8))
    target = np.zeros((8, 8, 3), np.uint8)
    with pytest.raises(ValueError, match="within the source"):
        ctypes_resize(0, decoded.ctypes.data, 96, 128, *part, target.ctypes.data, 8, 8)


def test_resize_crop_refuses_other_arrays(decoded):
    target = np.zeros((8, 8, 3), np.uint8)
    for source in (decoded.astype(np.float32), decoded[..., :2].copy(), decoded[:, ::2], decoded[..., ::-1]):
        with pytest.raises(ValueError, match="the source must be"):
            resize_crop(source, 0, 8, 0, 8, target)
    with pytest.raises(ValueError, match="the destination must be"):
        resize_crop(decoded, 0, 8, 0, 8, np.zeros((8, 8, 4), np.uint8))


def test_ctypes_resize_is_resize_crop_by_addresses(decoded):
    one, other = np.zeros((31, 29, 3), np.uint8), np.zeros((31, 29, 3), np.uint8)
    resize_crop(decoded, 3, 80, 4, 90, one)
    ctypes_resize(0, decoded.ctypes.data, 96, 128, 3, 80, 4, 90, other.ctypes.data, 31, 29)
    np.testing.assert_array_equal(one, other)


def test_memcpy_copies_bytes_whatever_the_types(generator):
    source = generator.random(7)
    target = np.zeros(60, np.uint8)
    memcpy(source, target)
    np.testing.assert_array_equal(target[:56].view(np.float64), source)
    assert not target[56:].any()


def test_memcpy_never_writes_past_its_target():
    with pytest.raises(ValueError, match="fewer bytes"):
        memcpy(np.zeros(5, np.int64), np.zeros(39, np.uint8))


def test_read_fills_the_array_from_an_offset(tmp_path, generator):
    content = generator.integers(0, 256, 1000, np.uint8)
    (tmp_path / "file").write_bytes(content.tobytes())
    with open(tmp_path / "file", "rb") as file:
        target = np.zeros((10, 10), np.uint8)
        assert read(file.fileno(), target, 123) == 100
        np.testing.assert_array_equal(target.ravel(), content[123:223])
        assert read(file.fileno(), target, 960) == 40
        assert read(file.fileno(), target, 2000) == 0
        assert os.lseek(file.fileno(), 0, os.SEEK_CUR) == 0
    assert read(2**20, target, 0) == -1


@pytest.mark.parametrize("enabled", [True, False])
def test_helpers_work_through_the_compiler_inside_user_code(enabled, monkeypatch, jpeg, decoded):
    monkeypatch.setattr(Compiler, "is_enabled", enabled)
    decode, resize, copy = Compiler.compile(imdecode), Compiler.compile(resize_crop), Compiler.compile(memcpy)

    def user(data, small, kept):
        pixels = np.zeros((96, 128, 3), np.uint8)
        failed = decode(data, pixels, 96, 128, 96, 128, 0, 0, 1, 1, False, False)
        resize(pixels, 10, 70, 20, 90, small)
        copy(pixels, kept)
        return failed

    small, kept = np.zeros((24, 32, 3), np.uint8), np.zeros((96, 128, 3), np.uint8)
    assert Compiler.compile(user)(jpeg, small, kept) == 0
    assert close(kept, decoded)
    assert close(small, cv2.resize(kept[10:70, 20:90], (32, 24), interpolation=cv2.INTER_AREA), 1)


def test_imdecode_in_many_threads_at_once(jpeg, decoded):
    @njit(nogil=True)
    def many(data, target, rounds):
        failed = 0
        for _ in range(rounds):
            failed += imdecode(data, target, 96, 128)
        return failed

    targets = [np.zeros((96, 128, 3), np.uint8) for _ in range(4)]
    many(jpeg, targets[0], 1)
    failures = []
    threads = [threading.Thread(target=lambda t=t: failures.append(many(jpeg, t, 20))) for t in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [0] * 4
    assert all(close(target, decoded) for target in targets)


@pytest.fixture
def ffcv():
    pytest.importorskip("ffcv", exc_type=ImportError)
    import ffcv.libffcv

    return ffcv.libffcv


def test_imdecode_is_ffcv_s_up_to_its_fast_dct(ffcv, jpeg):
    ours, theirs = (np.zeros((96, 128, 3), np.uint8) for _ in range(2))
    for arguments in (
        (96, 128, 96, 128, 0, 0, 1, 1, False, False),
        (96, 128, 96, 128, 0, 0, 1, 1, False, True),
    ):
        assert imdecode(jpeg, ours, *arguments) == ffcv.imdecode(jpeg, theirs, *arguments) == 0
        assert np.abs(ours.astype(int) - theirs).mean() < 1.5
    ours, theirs = (np.zeros((48, 64, 3), np.uint8) for _ in range(2))
    for arguments in (
        (96, 128, 48, 64, 32, 16, 1, 1, True, False),
        (96, 128, 48, 64, 32, 16, 1, 1, True, True),
        (96, 128, 96, 128, 0, 0, 1, 2, False, False),
    ):
        assert imdecode(jpeg, ours, *arguments) == ffcv.imdecode(jpeg, theirs, *arguments) == 0
        # FFCV crops before it decodes and so knows nothing beyond the edges.
        assert np.abs(ours[2:-2, 2:-2].astype(int) - theirs[2:-2, 2:-2]).mean() < 1.5, arguments


def test_resize_copy_and_read_are_ffcv_s(ffcv, decoded, tmp_path):
    ours, theirs = (np.zeros((45, 51, 3), np.uint8) for _ in range(2))
    resize_crop(decoded, 2, 94, 3, 100, ours)
    ffcv.resize_crop(decoded, 2, 94, 3, 100, theirs)
    assert close(ours, theirs, 1)
    address = decoded.ctypes.data
    ctypes_resize(0, address, 96, 128, 50, 70, 60, 100, ours.ctypes.data, 45, 51)
    ffcv.ctypes_resize(0, address, 96, 128, 50, 70, 60, 100, theirs.ctypes.data, 45, 51)
    assert close(ours, theirs, 1)
    source = np.arange(30, dtype=np.int32)
    copies = [np.zeros(130, np.uint8) for _ in range(2)]
    memcpy(source, copies[0])
    ffcv.memcpy(source, copies[1])
    np.testing.assert_array_equal(*copies)
    (tmp_path / "file").write_bytes(decoded.tobytes())
    with open(tmp_path / "file", "rb") as file:
        ours, theirs = (np.zeros(5000, np.uint8) for _ in range(2))
        assert read(file.fileno(), ours, 33000) == ffcv.read(file.fileno(), theirs, 33000)
    np.testing.assert_array_equal(ours, theirs)
