"""Finding libturbojpeg, and doing without it."""

import ctypes.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import njit
from PIL import Image

from ffx.kernels import turbojpeg
from ffx.kernels.turbojpeg import library_info, library_version, load, pack_two

ROOT = Path(__file__).resolve().parents[2]

# Decodes a crop in a process of its own and says what became of it.
SCRIPT = """
import sys, numpy as np
from PIL import Image
from ffx.errors import LibraryError
from ffx.kernels import jpeg, memory, turbojpeg
try:
    version = turbojpeg.library_info().version
except LibraryError as error:
    version = 0
    print(error, file=sys.stderr)
data = np.fromfile(sys.argv[1], np.uint8)
words = np.zeros(memory.THREAD_WORDS, np.int64)
pixels = np.zeros((45, 67, 3), np.uint8)
whole = jpeg.decode_whole(words.ctypes.data, data.ctypes.data, data.size, 45, 67, pixels.ctypes.data, 201)
crop = jpeg.decode_region(words.ctypes.data, data.ctypes.data, data.size, 45, 67, 20, 20, 10, 10)
np.save(sys.argv[2], pixels)
print(version, whole, crop[0], crop[5], crop[6])
jpeg.release_decoder(words)
memory.release_thread(words)
"""


@pytest.fixture
def decode_elsewhere(tmp_path, make_picture):
    """`decode_elsewhere(library)`: (words printed, pixels, error text) of a process with that FFX_TURBOJPEG.

    The picture is progressive, so that ffx's own decoder leaves it to the library.
    """

    def run(library, progressive=True):
        picture = Image.fromarray(make_picture(45, 67))
        picture.save(tmp_path / "picture.jpg", quality=90, progressive=progressive)
        environment = {**os.environ, "FFX_TURBOJPEG": library, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", SCRIPT, str(tmp_path / "picture.jpg"), str(tmp_path / "pixels.npy")]
        outcome = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        return [int(word) for word in outcome.stdout.split()], np.load(tmp_path / "pixels.npy"), outcome.stderr

    return run


def older_library():
    """The system's libturbojpeg of version 2, or None."""
    found = ctypes.util.find_library("turbojpeg")
    if found is None or hasattr(ctypes.CDLL(found), "tj3Decompress8"):
        return None
    return found


def test_library_is_found_once():
    info = library_info()
    assert info == load()
    assert info.version == library_version()
    assert info.version in (2, 3)


@pytest.mark.skipif(older_library() is None, reason="needs a system's libturbojpeg of version 2")
def test_version_2_decodes_whole_images_to_the_same_pixels(decode_elsewhere):
    words, pixels, _ = decode_elsewhere(older_library())
    assert words == [2, 0, 0, 45, 67]
    words, expected, _ = decode_elsewhere(library_info().path)
    assert np.abs(pixels.astype(int) - expected).max() <= 2


@pytest.mark.skipif(library_info().version != 3, reason="needs libturbojpeg of version 3")
def test_version_3_decodes_a_part(decode_elsewhere):
    version, whole, crop, height, width = decode_elsewhere(library_info().path)[0]
    assert (version, whole, crop) == (3, 0, 0)
    assert height < 45 and width < 67


def test_without_a_library_kernels_say_so_and_the_error_says_how_to_get_one(decode_elsewhere):
    words, pixels, message = decode_elsewhere("/nowhere/libturbojpeg.so")
    assert words == [0, 7, 7, 0, 0]
    assert not pixels.any()
    for part in ("/nowhere/libturbojpeg.so", "pip install turbojpeg", "libturbojpeg0", "FFX_TURBOJPEG"):
        assert part in message


def test_without_a_library_ordinary_jpegs_are_decoded_all_the_same(decode_elsewhere):
    words, pixels, _ = decode_elsewhere("/nowhere/libturbojpeg.so", progressive=False)
    assert words[:3] == [0, 0, 0]
    assert pixels.any()


def test_a_library_without_the_functions_is_named(decode_elsewhere):
    libc = ctypes.util.find_library("c")
    if libc is None:
        pytest.skip("no C library by that name")
    words, _, message = decode_elsewhere(libc)
    assert words[0] == 0
    assert "has neither tj3Decompress8 nor tjDecompress2" in message


def test_two_ints_travel_as_a_struct_of_two_ints():
    class Pair(ctypes.Structure):
        _fields_ = [("first", ctypes.c_int), ("second", ctypes.c_int)]

    for first, second in ((1, 2), (0, 0), (65535, 1), (2**31 - 1, 2**31 - 1), (-1, 5), (5, -1)):
        expected = int.from_bytes(bytes(Pair(first, second)), sys.byteorder, signed=True)
        assert pack_two(first, second) == expected


@pytest.mark.skipif(library_info().version != 3, reason="needs libturbojpeg of version 3")
def test_parameters_reach_the_library():
    @njit
    def set_and_get(parameter, value):
        handle = turbojpeg.tj3_init((1,))
        status = turbojpeg.tj3_set((handle, parameter, value))
        found = turbojpeg.tj3_get((handle, parameter))
        turbojpeg.tj3_destroy((handle,))
        return status, found

    for parameter, value in ((0, 1), (9, 1), (10, 1), (13, 500)):  # as numbered in turbojpeg.h
        assert set_and_get(parameter, value) == (0, value)
    assert set_and_get(1000, 1)[0] == -1
