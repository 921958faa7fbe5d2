"""The forward DCT and the division by quantisers beside integers of NumPy, and beside cosines."""

import hashlib

import numpy as np
from numba import njit

from ffx.kernels.forward_dct import MASK_ROWS, divisors, forward_dct
from ffx.kernels.simd import Vectors, i16, ir, vector_kernel
from tests.kernels.portable import by_portable_code


@njit
def run(target, mask, samples, table):
    forward_dct(target.ctypes.data, mask.ctypes.data, samples.ctypes.data, samples.strides[0], table.ctypes.data)


def found_for(samples, quantisers):
    """Quotients in natural order, and which of them the mask says are not 0."""
    target, mask = np.full((8, 8), 12345, np.int16), np.zeros(8, np.uint8)
    run(target, mask, samples, divisors(quantisers.reshape(64)))
    there = np.zeros((8, 8), bool)
    there[list(MASK_ROWS)] = np.unpackbits(mask[:, None], axis=1, bitorder="little").astype(bool)
    return target, there


def reference_pass(rows, shift):
    """Jpeg's slow integer method along axis 0, in int64, as its formulas stand in the literature."""

    def fixed(number):
        return round(number * 8192)

    def rounded(value, bits):
        return (value + (1 << (bits - 1))) >> bits if bits > 0 else value << -bits

    sums = [rows[place] + rows[7 - place] for place in range(4)]
    in7, in6, in5, in4 = (rows[place] - rows[7 - place] for place in range(4))
    even0, even3, even1, even2 = sums[0] + sums[3], sums[0] - sums[3], sums[1] + sums[2], sums[1] - sums[2]
    middle = (even2 + even3) * fixed(0.541196100)
    sum5 = (in4 + in6 + in5 + in7) * fixed(1.175875602)
    sum3 = sum5 - (in4 + in6) * fixed(1.961570560)
    sum4 = sum5 - (in5 + in7) * fixed(0.390180644)
    sum1, sum2 = -(in4 + in7) * fixed(0.899976223), -(in5 + in6) * fixed(2.562915447)
    results = [
        None,
        in7 * fixed(1.501321110) + sum1 + sum4,
        middle + even3 * fixed(0.765366865),
        in6 * fixed(3.072711026) + sum2 + sum3,
        None,
        in5 * fixed(2.053119869) + sum2 + sum4,
        middle - even2 * fixed(1.847759065),
        in4 * fixed(0.298631336) + sum1 + sum3,
    ]
    whole = {0: even0 + even1, 4: even0 - even1}
    return np.stack(
        [rounded(whole[n], shift - 13) if n in whole else rounded(value, shift) for n, value in enumerate(results)]
    )


def reference(samples, quantisers):
    rows = reference_pass(samples.astype(np.int64).T - 128, 11).T
    coefficients = reference_pass(rows, 15)
    divisor = 8 * quantisers.astype(np.int64)
    return np.sign(coefficients) * ((np.abs(coefficients) + divisor // 2) // divisor)


def blocks(generator):
    """Noise, waves of each frequency at full height (the largest coefficients), and flat blocks."""
    for _ in range(200):
        least, most = sorted(generator.integers(0, 256, 2))
        yield generator.integers(least, most + 1, (8, 8)).astype(np.uint8)
        yield generator.choice(np.array([0, 255], np.uint8), (8, 8))
    angles = (2 * np.arange(8) + 1) * np.pi / 16
    waves = np.cos(angles * np.arange(8)[:, None])
    for vertical in range(8):
        for horizontal in range(8):
            wave = np.where(np.outer(waves[vertical], waves[horizontal]) > 0, 255, 0).astype(np.uint8)
            yield wave
            yield 255 - wave


def test_matches_integers_of_numpy(generator):
    for number, samples in enumerate(blocks(generator)):
        quantisers = generator.integers(1, (2, 20, 256)[number % 3], (8, 8)).astype(np.uint8)
        found, there = found_for(samples, quantisers)
        np.testing.assert_array_equal(found, reference(samples, quantisers))
        np.testing.assert_array_equal(there, found != 0)


def test_is_the_cosine_transform(generator):
    basis = np.cos((2 * np.arange(8) + 1) * np.arange(8)[:, None] * np.pi / 16) / 2
    basis[0] /= np.sqrt(2)
    for _ in range(50):
        samples = generator.integers(0, 256, (8, 8)).astype(np.uint8)
        found, _ = found_for(samples, np.ones((8, 8), np.uint8))
        assert np.abs(found - basis @ (samples - 128.0) @ basis.T).max() < 1.0


def test_rows_may_lie_apart(generator):
    plane = generator.integers(0, 256, (8, 100), np.uint8)
    quantisers = np.full((8, 8), 3, np.uint8)
    np.testing.assert_array_equal(
        found_for(plane[:, 40:48], quantisers)[0], found_for(np.ascontiguousarray(plane[:, 40:48]), quantisers)[0]
    )


def _divide(vectors: Vectors, target, numbers, table):
    kind = ir.VectorType(i16, 16)
    half, reciprocal, scale = (vectors.load(vectors.at(table, 128 * part), kind) for part in range(3))
    total = vectors.builder.add(vectors.load(numbers, kind), half)
    vectors.store(vectors.multiply_high_unsigned(vectors.multiply_high_unsigned(total, reciprocal), scale), target)


_divide_kernel = vector_kernel(_divide, 3)


@njit
def divide_all(target, numbers, table):
    for start in range(0, numbers.size, 16):
        _divide_kernel((target.ctypes.data + 2 * start, numbers.ctypes.data + 2 * start, table.ctypes.data))


def test_quotients_are_right_for_every_quantiser_and_magnitude():
    for quantiser in range(1, 256):
        divisor = 8 * quantiser
        # The largest coefficient is 8 * 8 * 128 * 2.
        numbers = np.arange(1 << 14, dtype=np.uint16)
        found = np.empty_like(numbers)
        divide_all(found, numbers, divisors(np.full(64, quantiser, np.uint8)))
        np.testing.assert_array_equal(found, (numbers.astype(np.int64) + divisor // 2) // divisor)


def digest(thread=0):
    """Of many blocks' quotients and masks."""
    generator, total = np.random.default_rng(3), hashlib.sha256()
    for samples in blocks(generator):
        for result in found_for(samples, generator.integers(1, 60, (8, 8)).astype(np.uint8)):
            total.update(result.tobytes())
    return total.hexdigest()


def test_portable_code_gives_the_same_quotients():
    assert by_portable_code(digest) == digest()
