"""XXH64 against its published vectors, and against a plain transcription of its specification."""

import numpy as np
import pytest

from ffx.kernels.checksum import xxh64, xxh64_at

MASK = (1 << 64) - 1
P1, P2, P3 = 0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9
P4, P5 = 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5


def rotate(value, bits):
    return (value << bits | value >> (64 - bits)) & MASK


def reference(data, seed=0):
    """XXH64 as its specification describes it, in Python integers."""

    def mix(lane, word):
        return rotate((lane + word * P2) & MASK, 31) * P1 & MASK

    def words(size, start, stop):
        return [int.from_bytes(data[at : at + size], "little") for at in range(start, stop, size)]

    whole = len(data) // 32 * 32
    if whole:
        lanes = [(seed + P1 + P2) & MASK, (seed + P2) & MASK, seed, (seed - P1) & MASK]
        for number, word in enumerate(words(8, 0, whole)):
            lanes[number % 4] = mix(lanes[number % 4], word)
        total = sum(rotate(lane, bits) for lane, bits in zip(lanes, (1, 7, 12, 18), strict=True)) & MASK
        for lane in lanes:
            total = ((total ^ mix(0, lane)) * P1 + P4) & MASK
    else:
        total = (seed + P5) & MASK
    total = (total + len(data)) & MASK
    eights = whole + (len(data) - whole) // 8 * 8
    for word in words(8, whole, eights):
        total = (rotate(total ^ mix(0, word), 27) * P1 + P4) & MASK
    fours = eights + (len(data) - eights) // 4 * 4
    for word in words(4, eights, fours):
        total = (rotate(total ^ (word * P1 & MASK), 23) * P2 + P3) & MASK
    for byte in data[fours:]:
        total = rotate(total ^ (byte * P5 & MASK), 11) * P1 & MASK
    total = ((total ^ (total >> 33)) * P2) & MASK
    total = ((total ^ (total >> 29)) * P3) & MASK
    return total ^ (total >> 32)


def sanity_buffer(length):
    """The bytes that xxHash's own self-test is made on."""
    state, data = 2654435761, bytearray()
    for _ in range(length):
        data.append(state >> 56)
        state = state * 11400714785074694797 & MASK
    return bytes(data)


# From the self-test of the xxHash distribution: (length, seed, XXH64).
PUBLISHED = [
    (0, 0, 0xEF46DB3751D8E999),
    (0, 2654435761, 0xAC75FDA2929B17EF),
    (1, 0, 0xE934A84ADB052768),
    (1, 2654435761, 0x5014607643A9B4C3),
    (4, 0, 0x9136A0DCA57457EE),
    (14, 0, 0x8282DCC4994E35C8),
    (14, 2654435761, 0xC3BD6BF63DEB6DF0),
    (222, 0, 0xB641AE8CB691C174),
    (222, 2654435761, 0x20CB8AB7AE10C14A),
]


@pytest.mark.parametrize("length, seed, expected", PUBLISHED)
def test_published_vectors(length, seed, expected):
    assert xxh64(sanity_buffer(length), seed) == expected
    assert reference(sanity_buffer(length), seed) == expected


def test_published_strings():
    assert xxh64(b"a") == 0xD24EC4F1A98C6E5B
    assert xxh64(b"abc") == 0x44BC2CF5AD770999
    assert xxh64(b"xxhash", 20141025) == 0xB559B98D844E0635


@pytest.mark.parametrize("length", [*range(70), 127, 128, 1000, 4096])
def test_every_length_matches_the_specification(length):
    data = np.random.default_rng(length).integers(0, 256, length, dtype=np.uint8).tobytes()
    assert xxh64(data, length) == reference(data, length)


def test_address_and_bytes_agree_at_any_alignment(generator):
    data = generator.integers(0, 256, 300, dtype=np.uint8)
    for shift in range(9):
        part = data[shift : shift + 211]
        assert int(xxh64_at(part.ctypes.data, part.size, np.uint64(5))) == reference(part.tobytes(), 5)


def test_arrays_of_any_type_are_taken_as_bytes():
    array = np.arange(40, dtype="<f4").reshape(5, 8)
    assert xxh64(array) == reference(array.tobytes())
    assert xxh64(np.empty((0, 3))) == reference(b"")


def test_gaps_in_an_array_are_refused():
    with pytest.raises(ValueError, match="C-contiguous"):
        xxh64(np.arange(10)[::2])
