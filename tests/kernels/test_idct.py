"""The inverse DCT beside integers of NumPy, and beside cosines."""

import numpy as np
import pytest
from numba import njit

from ffx.kernels.idct import fill_block, inverse_dct


@njit
def run(target, coefficients, quantisers):
    inverse_dct(target.ctypes.data, 8, coefficients.ctypes.data, quantisers.ctypes.data)


def found_for(coefficients, quantisers):
    target = np.zeros((8, 8), np.uint8)
    block = coefficients.astype(np.int16)
    run(target, block, quantisers.astype(np.int16))
    assert not block.any()
    return target


def reference_pass(rows, shift):
    """Jpeg's slow integer method along axis 0, in int64, as its formulas stand in the literature."""

    def fixed(number):
        return round(number * 8192)

    in0, in1, in2, in3, in4, in5, in6, in7 = rows
    middle = (in2 + in6) * fixed(0.541196100)
    even2, even3 = middle - in6 * fixed(1.847759065), middle + in2 * fixed(0.765366865)
    even0, even1 = (in0 + in4) << 13, (in0 - in4) << 13
    even = [even0 + even3, even1 + even2, even1 - even2, even0 - even3]
    sum5 = (in7 + in3 + in5 + in1) * fixed(1.175875602)
    sum3 = sum5 - (in7 + in3) * fixed(1.961570560)
    sum4 = sum5 - (in5 + in1) * fixed(0.390180644)
    sum1, sum2 = -(in7 + in1) * fixed(0.899976223), -(in5 + in3) * fixed(2.562915447)
    odd = [
        in1 * fixed(1.501321110) + sum1 + sum4,
        in3 * fixed(3.072711026) + sum2 + sum3,
        in5 * fixed(2.053119869) + sum2 + sum4,
        in7 * fixed(0.298631336) + sum1 + sum3,
    ]
    results = [a + b for a, b in zip(even, odd, strict=True)]
    results += [a - b for a, b in zip(reversed(even), reversed(odd), strict=True)]
    return np.stack([(value + (1 << (shift - 1))) >> shift for value in results])


def reference(coefficients):
    columns = reference_pass(coefficients.astype(np.int64), 11)
    return np.clip(reference_pass(columns.T, 18).T + 128, 0, 255)


@pytest.mark.parametrize("most", [3, 40, 300, 1000])
def test_matches_integers_of_numpy(most, generator):
    for number in range(300):
        coefficients = generator.integers(-most, most + 1, (8, 8))
        # Blocks of few frequencies, too.
        coefficients[generator.random((8, 8)) < number % 5 / 5] = 0
        np.testing.assert_array_equal(found_for(coefficients, np.ones((8, 8))), reference(coefficients))


def test_multiplies_by_the_quantisers(generator):
    coefficients, quantisers = generator.integers(-20, 21, (8, 8)), generator.integers(1, 50, (8, 8))
    np.testing.assert_array_equal(found_for(coefficients, quantisers), reference(coefficients * quantisers))


def test_matches_cosines(generator):
    place = np.arange(8)
    basis = np.cos((2 * place[:, None] + 1) * place * np.pi / 16) / 2
    basis[:, 0] /= np.sqrt(2)
    for _ in range(50):
        coefficients = generator.integers(-60, 61, (8, 8))
        exact = np.clip(basis @ coefficients @ basis.T + 128, 0, 255)
        assert np.abs(found_for(coefficients, np.ones((8, 8))) - exact).max() <= 1


def test_a_first_coefficient_alone_fills_the_block_in_the_same_way():
    for coefficient in [*range(-2048, 2048, 7), -32768, -16384, -8192, 8191, 8192, 16383, 32767]:
        for quantiser in (1, 3, 16, 255):
            coefficients, target = np.zeros((8, 8), np.int16), np.zeros((8, 8), np.uint8)
            coefficients[0, 0] = coefficient
            fill_block(target.ctypes.data, 8, coefficient, quantiser)
            expected = found_for(coefficients, np.full((8, 8), quantiser))
            np.testing.assert_array_equal(target, expected, err_msg=f"{coefficient} * {quantiser}")
