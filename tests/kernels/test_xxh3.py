"""XXH3 against the xxHash library itself, for every length, beside forbidden pages, with and without vector code."""

import numpy as np
import pytest
import xxhash

from ffx.kernels.xxh3 import xxh3, xxh3_at
from tests.kernels.guarded import Guarded
from tests.kernels.portable import by_portable_code

# All lengths up to more than two blocks of 1,024 bytes, and some beyond.
LENGTHS = [*range(2200), 4096, 4097, 65_535, 100_003]


def pieces():
    generator = np.random.default_rng(3)
    return [generator.bytes(length) for length in LENGTHS]


def digest(thread=0):
    """All checksums as text."""
    return repr([xxh3(piece) for piece in pieces()])


def test_every_length_is_that_of_the_library():
    for piece in pieces():
        assert xxh3(piece) == xxhash.xxh3_64_intdigest(piece), len(piece)


def test_portable_code_gives_the_same():
    assert by_portable_code(digest) == digest()


def test_nothing_beside_the_bytes_is_read():
    memory = Guarded(4096)
    for piece in pieces():
        if len(piece) > 4096:
            continue
        for at_end in (False, True):
            part = memory.place(np.frombuffer(piece, np.uint8), at_end)
            assert int(xxh3_at(part.ctypes.data, part.size)) == xxhash.xxh3_64_intdigest(piece)


def test_arrays_of_any_type_are_taken_as_bytes():
    array = np.arange(400, dtype="<f4").reshape(50, 8)
    assert xxh3(array) == xxhash.xxh3_64_intdigest(array.tobytes())
    assert xxh3(memoryview(b"sample")) == xxh3(bytearray(b"sample")) == xxhash.xxh3_64_intdigest(b"sample")


def test_gaps_in_an_array_are_refused():
    with pytest.raises(ValueError, match="C-contiguous"):
        xxh3(np.arange(10)[::2])
