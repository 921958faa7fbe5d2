"""Vector building blocks: what the processor's instructions give, their portable twins give too."""

import numpy as np
import pytest
from llvmlite import ir
from numba import njit

from ffx.kernels.simd import i16, i32, vector_kernel


def binary(operation, count, portable):
    """An njit function that applies a `Vectors` method to int16 arrays of `count` elements."""

    def body(vectors, target, left, right):
        kind = ir.VectorType(i16, count)
        vectors.store(getattr(vectors, operation)(vectors.load(left, kind), vectors.load(right, kind)), target)

    kernel = vector_kernel(body, 3, portable)

    @njit
    def run(target, left, right):
        kernel((target.ctypes.data, left.ctypes.data, right.ctypes.data))

    return run


@pytest.fixture
def operands(generator):
    """int16 pairs, the extremes among them."""
    extremes = np.array([-32768, -32767, -1, 0, 1, 2, 16384, 32767], np.int16)
    left = np.concatenate([np.repeat(extremes, 8), generator.integers(-32768, 32768, 192).astype(np.int16)])
    right = np.concatenate([np.tile(extremes, 8), generator.integers(-32768, 32768, 192).astype(np.int16)])
    both = (left == -32768) & (right == -32768)
    return left[~both][:224], right[~both][:224]


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("count", [16, 32])
def test_multiply_round_matches_numpy(count, portable, operands):
    run = binary("multiply_round", count, portable)
    for start in range(0, 224 - count + 1, count):
        left, right = (np.ascontiguousarray(operand[start : start + count]) for operand in operands)
        target = np.zeros(count, np.int16)
        run(target, left, right)
        expected = (left.astype(np.int64) * right + (1 << 14)) >> 15
        np.testing.assert_array_equal(target, expected)


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("count", [16, 32])
def test_multiply_add_pairs_matches_numpy(count, portable, operands):
    run = binary("multiply_add_pairs", count, portable)
    for start in range(0, 224 - count + 1, count):
        left, right = (np.ascontiguousarray(operand[start : start + count]) for operand in operands)
        target = np.zeros(count // 2, np.int32)
        run(target, left, right)
        np.testing.assert_array_equal(target, (left.astype(np.int64) * right).reshape(-1, 2).sum(1))


@pytest.mark.parametrize("portable", [False, True])
def test_saturate_to_bytes_matches_numpy(portable, generator):
    def body(vectors, target, source):
        vectors.store(vectors.saturate_to_bytes(vectors.load(source, ir.VectorType(i32, 16))), target)

    kernel = vector_kernel(body, 2, portable)

    @njit
    def run(target, source):
        kernel((target.ctypes.data, source.ctypes.data))

    extremes = [-(2**31), -70000, -32769, -1, 0, 1, 127, 128, 254, 255, 256, 32767, 32768, 65536, 70000, 2**31 - 1]
    for values in (extremes, generator.integers(-100, 400, 16)):
        source, target = np.array(values, np.int32), np.zeros(16, np.uint8)
        run(target, source)
        np.testing.assert_array_equal(target, np.clip(source, 0, 255))


@pytest.mark.parametrize("count", [1, 2, 7])
def test_repeat_carries_its_values(count):
    def body(vectors, target, count):
        builder, kind = vectors.builder, ir.VectorType(i32, 4)

        def step(index, values):
            return [builder.add(values[0], vectors.spread(builder.trunc(index, i32), 4))]

        vectors.store(vectors.repeat(count, [vectors.fill(kind, 100)], step)[0], target)

    kernel = vector_kernel(body, 2)

    @njit
    def run(target, count):
        kernel((target.ctypes.data, count))

    target = np.zeros(4, np.int32)
    run(target, count)
    assert (target == 100 + sum(range(count))).all()


def run_on(operation, arguments, result, portable):
    """A `Vectors` method on arrays of one type; `operation(vectors, *values)`."""

    def body(vectors, target, *sources):
        kinds = [ir.VectorType(ir.IntType(8 * array.itemsize), array.size) for array in arguments]
        values = [vectors.load(source, kind) for source, kind in zip(sources, kinds, strict=True)]
        vectors.store(operation(vectors, *values), target)

    kernel = vector_kernel(body, 1 + len(arguments), portable)

    @njit
    def run(*addresses):
        kernel(addresses)

    run(result.ctypes.data, *(array.ctypes.data for array in arguments))
    return result


@pytest.mark.parametrize("portable", [False, True])
def test_products_high_halves_match_numpy(portable, operands):
    for start in range(0, 208, 16):
        pair = [np.ascontiguousarray(operand[start : start + 16]) for operand in operands]
        found = run_on(lambda vectors, *values: vectors.multiply_high(*values), pair, np.zeros(16, np.int16), portable)
        np.testing.assert_array_equal(found, (pair[0].astype(np.int64) * pair[1]) >> 16)


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize(("name", "least", "most"), [("pack_bytes_by_lane", 0, 255), ("pack_signed_bytes", -128, 127)])
def test_packs_by_lane_hold_and_order(name, least, most, portable, operands):
    for start in range(0, 208, 16):
        pair = [np.ascontiguousarray(operand[start : start + 16] >> (start % 9)) for operand in operands]
        dtype = np.uint8 if least == 0 else np.int8
        found = run_on(lambda vectors, *values: getattr(vectors, name)(*values), pair, np.zeros(32, dtype), portable)
        left, right = (np.clip(operand, least, most) for operand in pair)
        np.testing.assert_array_equal(found, np.concatenate([left[:8], right[:8], left[8:], right[8:]]))


@pytest.mark.parametrize("portable", [False, True])
def test_bytes_are_picked_within_lanes(portable, generator):
    source = generator.integers(0, 256, 32, np.uint8)
    indices = [3, -1, 15, 0, 0, 7, -1, 8, 1, 2, 4, 5, 14, 13, -1, 9]
    found = run_on(
        lambda vectors, value: vectors.pick_in_lanes(value, indices), [source], np.zeros(32, np.uint8), portable
    )
    expected = [source[lane + index] if index >= 0 else 0 for lane in (0, 16) for index in indices]
    np.testing.assert_array_equal(found, expected)


def clip16(values):
    return np.clip(values, -32768, 32767)


def interleaved_lanes(left, right):
    """Lower halves of lanes of 8 elements in turns."""
    pairs = np.stack([left.reshape(-1, 8), right.reshape(-1, 8)], axis=2)
    return pairs[:, :4].reshape(-1)


# For planes: what each does to int16 vectors of 16 elements, in NumPy.
PLANE_OPERATIONS = {
    "add_saturated": lambda left, right: clip16(left.astype(np.int64) + right),
    "subtract_saturated": lambda left, right: clip16(left.astype(np.int64) - right),
    "multiply_high_unsigned": lambda left, right: (
        (left.astype(np.uint16).astype(np.int64) * right.astype(np.uint16)) >> 16
    ).astype(np.int16),
    "interleave_lower": interleaved_lanes,
}


@pytest.mark.parametrize("portable", [False, True])
@pytest.mark.parametrize("name", PLANE_OPERATIONS)
def test_operations_of_planes_match_numpy(name, portable, operands):
    def body(vectors, target, left, right):
        kind = ir.VectorType(i16, 16)
        given = vectors.load(left, kind), vectors.load(right, kind)
        found = vectors.interleave(*given, False) if name == "interleave_lower" else getattr(vectors, name)(*given)
        vectors.store(found, target)

    kernel = vector_kernel(body, 3, portable)

    @njit
    def run(target, left, right):
        kernel((target.ctypes.data, left.ctypes.data, right.ctypes.data))

    for start in range(0, 224, 16):
        left, right = (np.ascontiguousarray(operand[start : start + 16]) for operand in operands)
        target = np.zeros(16, np.int16)
        run(target, left, right)
        np.testing.assert_array_equal(target, PLANE_OPERATIONS[name](left, right))
