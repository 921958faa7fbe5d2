"""From a baseline JPEG's coefficients to RGB: inverse DCT, upsampling of chroma and colours, in vector code.

Integer for integer what libjpeg's "islow" DCT, "fancy" upsampling and colour conversion compute (described in
its `jidctint.c`, `jdsample.c` and `jdcolor.c`), so that the pixels are the same. Vectors hold two blocks, one
in each half, and nothing ever moves between the halves.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit

from .memory import KERNEL_OPTIONS, array_at, copy_bytes
from .simd import Vectors, i8, i16, i32, vector_kernel

__all__ = ["BLOCK_BYTES", "STEP_PIXELS", "convert_row", "inverse_transform_pair", "stretch_row"]

BLOCK_BYTES = 128  # of 64 int16 coefficients
STEP_PIXELS = 16  # pixels of a row that one vector step makes; rows of planes are padded to it

_words = ir.VectorType(i16, 16)
_longs = ir.VectorType(i32, 8)
_CONSTANT_BITS, _BETWEEN_BITS = 13, 2
# Sines and cosines with 13 fractional bits, named by their values.
_0_298, _0_390, _0_541, _0_765, _0_899, _1_175 = 2446, 3196, 4433, 6270, 7373, 9633
_1_501, _1_847, _1_961, _2_053, _2_562, _3_072 = 12299, 15137, 16069, 16819, 20995, 25172


def _interleave(vectors: Vectors, first, second, size: int, upper: bool):
    """Groups of `size` elements of two vectors in turn, from the lower or the upper part of each half."""
    half = first.type.count // 2
    indices: list[int] = []
    for start in (0, half):
        begin = start + (half // 2 if upper else 0)
        for group in range(begin, begin + half // 2, size):
            indices += range(group, group + size)
            indices += range(2 * half + group, 2 * half + group + size)
    return vectors.pick(first, second, indices)


def _both(vectors: Vectors, first, second, size: int = 1):
    return [_interleave(vectors, first, second, size, upper) for upper in (False, True)]


def _clamped(vectors: Vectors, value, bits: int):
    builder, most = vectors.builder, (1 << (bits - 1)) - 1
    high, low = vectors.fill(value.type, most), vectors.fill(value.type, -most - 1)
    value = builder.select(builder.icmp_signed("<", value, high), value, high)
    value = builder.select(builder.icmp_signed(">", value, low), value, low)
    return builder.trunc(value, ir.VectorType(ir.IntType(bits), value.type.count))


def _narrow(vectors: Vectors, lower, upper):
    """Two vectors of wide integers as one of half as wide ones, saturated, half by half."""
    bits, count = lower.type.element.width // 2, lower.type.count
    if vectors.has_avx2:
        name = "packssdw" if bits == 16 else "packsswb"
        return vectors._named(f"llvm.x86.avx2.{name}", ir.VectorType(ir.IntType(bits), 2 * count), lower, upper)
    parts = [_clamped(vectors, value, bits) for value in (lower, upper)]
    half = count // 2
    order = [*range(half), *range(count, count + half), *range(half, count), *range(count + half, 2 * count)]
    return vectors.pick(*parts, order)


def _weighed(vectors: Vectors, pair, first: int, second: int):
    """`first * a + second * b` of interleaved a and b."""
    constant = ir.Constant(_words, [ir.Constant(i16, value) for value in (first, second) * 8])
    return vectors.multiply_add_pairs(pair, constant)


def _scaled(vectors: Vectors, part):
    """Words in the upper halves of longs, with 13 fractional bits."""
    return vectors.builder.ashr(vectors.builder.bitcast(part, _longs), vectors.fill(_longs, 16 - _CONSTANT_BITS))


def _even_part(vectors: Vectors, rows: list, upper: bool) -> list:
    builder = vectors.builder
    pair = _interleave(vectors, rows[2], rows[6], 1, upper)
    two = _weighed(vectors, pair, _0_541, _0_541 - _1_847)
    three = _weighed(vectors, pair, _0_541 + _0_765, _0_541)
    nothing = vectors.fill(_words, 0)
    sums = builder.add(rows[0], rows[4]), builder.sub(rows[0], rows[4])
    zero, one = (_scaled(vectors, _interleave(vectors, nothing, value, 1, upper)) for value in sums)
    return [builder.add(zero, three), builder.add(one, two), builder.sub(one, two), builder.sub(zero, three)]


def _odd_part(vectors: Vectors, rows: list, upper: bool) -> list:
    builder = vectors.builder
    sums = [builder.add(rows[7], rows[3]), builder.add(rows[5], rows[1])]
    pair = _interleave(vectors, *sums, 1, upper)
    three = _weighed(vectors, pair, _1_175 - _1_961, _1_175)
    four = _weighed(vectors, pair, _1_175, _1_175 - _0_390)
    outer = _interleave(vectors, rows[7], rows[1], 1, upper)
    inner = _interleave(vectors, rows[5], rows[3], 1, upper)
    return [
        builder.add(_weighed(vectors, outer, _0_298 - _0_899, -_0_899), three),
        builder.add(_weighed(vectors, inner, _2_053 - _2_562, -_2_562), four),
        builder.add(_weighed(vectors, inner, -_2_562, _3_072 - _2_562), three),
        builder.add(_weighed(vectors, outer, -_0_899, _1_501 - _0_899), four),
    ]


def _transform(vectors: Vectors, rows: list, shift: int) -> list:
    """One pass of the inverse DCT over eight vectors."""
    builder = vectors.builder
    halves = []
    for upper in (False, True):
        even, odd = _even_part(vectors, rows, upper), _odd_part(vectors, rows, upper)[::-1]
        values = [builder.add(a, b) for a, b in zip(even, odd, strict=True)]
        values += [builder.sub(a, b) for a, b in zip(even[::-1], odd[::-1], strict=True)]
        half = vectors.fill(_longs, 1 << (shift - 1))
        halves.append([builder.ashr(builder.add(value, half), vectors.fill(_longs, shift)) for value in values])
    return [_narrow(vectors, lower, upper) for lower, upper in zip(*halves, strict=True)]


def _transposed(vectors: Vectors, rows: list) -> list:
    """Each half's 8 x 8 words transposed."""
    first = [part for index in (0, 2, 4, 6) for part in _both(vectors, rows[index], rows[index + 1])]
    second = [part for a, b in ((0, 2), (1, 3), (4, 6), (5, 7)) for part in _both(vectors, first[a], first[b], 2)]
    return [part for index in range(4) for part in _both(vectors, second[index], second[index + 4], 4)]


def _excess(vectors: Vectors, value, factor, product):
    """Bits of words that are not 0 where a product is not within 12 bits and its sign."""
    builder, wide = vectors.builder, ir.VectorType(i32, value.type.count)
    whole = builder.mul(builder.sext(value, wide), builder.sext(factor, wide))
    upper = builder.trunc(builder.ashr(whole, vectors.fill(wide, 16)), value.type)
    sign = builder.ashr(product, vectors.fill(product.type, 15))
    large = builder.and_(builder.xor(product, sign), vectors.fill(product.type, -(1 << 12)))
    return builder.or_(builder.xor(upper, sign), large)


def _inverse_transform():
    """Words: (two blocks of coefficients, quantiser int16[64], target, stride, excess): 8 rows of 16 samples.

    No picture of bytes has coefficients that take more than 12 bits. Libraries differ in what they make of
    larger ones; `excess` (32 bytes) is then no longer 0.
    """

    def body(vectors: Vectors, blocks, quantiser, target, stride, excess):
        builder, eight = vectors.builder, ir.VectorType(i16, 8)
        rows = []
        beyond = vectors.load(excess, _words)
        for row in range(8):
            both = [vectors.load(vectors.at(blocks, 128 * block + 16 * row), eight) for block in range(2)]
            factors = vectors.load(vectors.at(quantiser, 16 * row), eight)
            value, factor = vectors.join(*both), vectors.join(factors, factors)
            rows.append(builder.mul(value, factor))
            beyond = builder.or_(beyond, _excess(vectors, value, factor, rows[-1]))
        vectors.store(beyond, excess)
        rows = _transposed(vectors, _transform(vectors, rows, _CONSTANT_BITS - _BETWEEN_BITS))
        rows = _transposed(vectors, _transform(vectors, rows, _CONSTANT_BITS + _BETWEEN_BITS + 3))
        for row in range(0, 8, 2):
            samples = _narrow(vectors, rows[row], rows[row + 1])
            samples = builder.xor(samples, vectors.fill(samples.type, -128))
            for start in (0, 8):
                indices = [*range(start, start + 8), *range(16 + start, 16 + start + 8)]
                vectors.store(vectors.pick(samples, None, indices), target)
                target = builder.add(target, stride)

    return vector_kernel(body, 5)


inverse_transform_pair = _inverse_transform()


def _high(vectors: Vectors, value, factor: int):
    """`value * factor >> 16` of words."""
    builder, wide = vectors.builder, ir.VectorType(i32, value.type.count)
    product = builder.mul(builder.sext(value, wide), vectors.fill(wide, factor))
    return builder.trunc(builder.ashr(product, vectors.fill(wide, 16)), value.type)


def _as_bytes(vectors: Vectors, value):
    """Words held to 0 … 255, as bytes in the same order."""
    builder = vectors.builder
    zero, most = vectors.fill(value.type, 0), vectors.fill(value.type, 255)
    value = builder.select(builder.icmp_signed(">", value, zero), value, zero)
    value = builder.select(builder.icmp_signed("<", value, most), value, most)
    return builder.trunc(value, ir.VectorType(i8, value.type.count))


def _convert():
    """Words: (target u8[48], luma, blue and red chroma u8[16] each): sixteen RGB pixels."""

    def body(vectors: Vectors, target, luma, blue, red):
        builder = vectors.builder
        y, cb, cr = (vectors.widen(vectors.load(place, ir.VectorType(i8, 16)), i16) for place in (luma, blue, red))
        cb, cr = (builder.sub(value, vectors.fill(_words, 128)) for value in (cb, cr))
        one = vectors.fill(_words, 1)

        def rounded(value, factor):
            # Twice the value times the factor, with 16 fractional bits, halves up.
            return builder.ashr(builder.add(_high(vectors, builder.add(value, value), factor), one), one)

        # Factors are 1.402, 1.772, 0.34414 and 0.71414 less the whole numbers that bring them into 16 bits.
        to_red = builder.add(rounded(cr, 26345), cr)
        to_blue = builder.add(builder.add(rounded(cb, -14942), cb), cb)
        parts = []
        for pair in _both(vectors, cb, cr):
            total = builder.add(_weighed(vectors, pair, -22554, 18734), vectors.fill(_longs, 1 << 15))
            parts.append(builder.ashr(total, vectors.fill(_longs, 16)))
        to_green = builder.sub(_narrow(vectors, *parts), cr)
        r, g, b = (_as_bytes(vectors, builder.add(y, part)) for part in (to_red, to_green, to_blue))
        both, other = vectors.join(r, g), vectors.join(b, b)
        for third in range(3):
            places = range(16 * third, 16 * third + 16)
            indices = [(0, 16, 32)[place % 3] + place // 3 for place in places]
            vectors.store(vectors.pick(both, other, indices), vectors.at(target, 16 * third))

    return vector_kernel(body, 4)


_convert_16 = _convert()


def _copy_grey():
    """Words: (target u8[48], luma u8[16])."""

    def body(vectors: Vectors, target, luma):
        grey = vectors.load(luma, ir.VectorType(i8, 16))
        for third in range(3):
            indices = [place // 3 for place in range(16 * third, 16 * third + 16)]
            vectors.store(vectors.pick(grey, None, indices), vectors.at(target, 16 * third))

    return vector_kernel(body, 2)


_grey_16 = _copy_grey()


@njit(**KERNEL_OPTIONS)
def convert_row(target, luma, blue, red, width, spare):
    """A row of RGB from a row of each plane (grey where `blue` is 0); `spare` has room for 48 bytes."""
    for start in range(0, width, STEP_PIXELS):
        place = target + 3 * start
        if start + STEP_PIXELS > width:
            place = spare
        if blue == 0:
            _grey_16((place, luma + start))
        else:
            _convert_16((place, luma + start, blue + start, red + start))
        if start + STEP_PIXELS > width:
            copy_bytes(target + 3 * start, spare, 3 * (width - start))


def _blend():
    """Words: (target int16[16], near u8[16], far u8[16]): three parts of the near sample, one of the far one."""

    def body(vectors: Vectors, target, near, far):
        builder, kind = vectors.builder, ir.VectorType(i8, 16)
        first, second = (vectors.widen(vectors.load(place, kind), i16) for place in (near, far))
        vectors.store(builder.add(builder.mul(first, vectors.fill(_words, 3)), second), target)

    return vector_kernel(body, 3)


def _stretch():
    """Words: (target u8[32], samples int16[16] with one more before and after, two roundings, bits to drop)."""

    def body(vectors: Vectors, target, samples, before_half, after_half, shift):
        builder = vectors.builder
        before, this, after = (vectors.load(vectors.at(samples, 2 * step), _words) for step in (-1, 0, 1))
        three, results = builder.mul(this, vectors.fill(_words, 3)), []
        bits = vectors.spread(builder.trunc(shift, i16), 16)
        for other, half in ((before, before_half), (after, after_half)):
            total = builder.add(builder.add(three, other), vectors.spread(builder.trunc(half, i16), 16))
            results.append(builder.trunc(builder.lshr(total, bits), ir.VectorType(i8, 16)))
        order = [index for lane in range(16) for index in (lane, 16 + lane)]
        vectors.store(vectors.pick(*results, order), target)

    return vector_kernel(body, 5)


_blend_16, _stretch_16 = _blend(), _stretch()


@njit(**KERNEL_OPTIONS)
def stretch_row(target, near, far, width, room):
    """A row of chroma at twice its width, between its neighbours; `far` 0 where only the width is doubled.

    Args:
        target: room for `2 * width` bytes, rounded up to 32.
        near, far: the row's samples, and those of the next nearest row.
        width: samples of these rows.
        room: `2 * (width + 2)` bytes, rounded up to 64, and 64 more.
    """
    samples = room + 2
    words = array_at(room, (width + 2,), np.int16)
    if far == 0:
        source = array_at(near, (width,), np.uint8)
        for index in range(width):
            words[index + 1] = source[index]
    else:
        for start in range(0, width, STEP_PIXELS):
            _blend_16((samples + 2 * start, near + start, far + start))
    words[0] = words[1]
    words[width + 1] = words[width]
    for start in range(0, width, STEP_PIXELS):
        if far == 0:
            _stretch_16((target + 2 * start, samples + 2 * start, 1, 2, 2))
        else:
            _stretch_16((target + 2 * start, samples + 2 * start, 8, 7, 4))
