"""The forward DCT of an 8 x 8 block and the division by its quantisers, with libjpeg's integers.

The same flow graph as the inverse (`ffx.kernels.dct`), rows first, sums and roundings of libjpeg's slow integer method,
whose coefficients are 8 times too large; so a quantiser counts 8 times here. Quotients are rounded to the nearest,
halves away from zero, by exact reciprocals: T. Granlund and P. Montgomery, "Division by invariant integers using
multiplication" (PLDI 1994).
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit

from .dct import (
    BETWEEN,
    BITS,
    C0_298,
    C0_390,
    C0_541,
    C0_765,
    C0_899,
    C1_175,
    C1_501,
    C1_847,
    C1_961,
    C2_053,
    C2_562,
    C3_072,
    EIGHT,
    products,
    transposed,
)
from .simd import Vectors, i8, i16, i32, i64, vector_kernel

__all__ = ["MASK_ROWS", "divisors", "forward_dct"]

# The rows of coefficients that the eight bytes of a mask stand for.
MASK_ROWS = (0, 2, 1, 3, 4, 6, 5, 7)
_SIXTEEN = ir.VectorType(i16, 16)
_SCALE = 8


def divisors(quantisers: np.ndarray) -> np.ndarray:
    """What `forward_dct` divides by: uint16[3, 64] from a JPEG's quantisers, uint8[64] of 1 to 255 in natural order.

    A coefficient's magnitude, half of the divisor added, is below 2 ** 15. So for a divisor d from 2 ** k to
    2 ** (k + 1) the upper half of its product with 2 ** (16 + k) / d, rounded up, and a shift by k give the quotient.
    """
    divisor = quantisers.astype(np.int64) * _SCALE
    power = np.floor(np.log2(divisor)).astype(np.int64)
    # The reciprocal of a power of two would have 17 bits.
    power -= divisor == 1 << power
    reciprocal = -(-(1 << (16 + power)) // divisor)
    return np.stack([divisor // 2, reciprocal, 1 << (16 - power)]).astype(np.uint16)


def _pass(vectors: Vectors, inputs, first: bool):
    """One dimension: eight vectors int16[8] to eight vectors int32[8], rounded and shifted."""
    builder, wide = vectors.builder, ir.VectorType(i32, 8)
    sums = [builder.add(inputs[place], inputs[7 - place]) for place in range(4)]
    # From the middle outwards.
    in4, in5, in6, in7 = (builder.sub(inputs[place], inputs[7 - place]) for place in (3, 2, 1, 0))
    # Even part.
    even0, even3 = builder.add(sums[0], sums[3]), builder.sub(sums[0], sums[3])
    even1, even2 = builder.add(sums[1], sums[2]), builder.sub(sums[1], sums[2])
    whole = [builder.add(even0, even1), builder.sub(even0, even1)]
    if first:
        whole = [builder.shl(value, vectors.fill(EIGHT, BETWEEN)) for value in whole]
    else:
        half = vectors.fill(EIGHT, 1 << (BETWEEN - 1))
        whole = [builder.ashr(builder.add(value, half), vectors.fill(EIGHT, BETWEEN)) for value in whole]
    out0, out4 = (builder.sext(value, wide) for value in whole)
    out2, out6 = products(vectors, even3, even2, (C0_541 + C0_765, C0_541), (C0_541, C0_541 - C1_847))
    # Odd part.
    sum3, sum4 = products(
        vectors, builder.add(in4, in6), builder.add(in5, in7), (C1_175 - C1_961, C1_175), (C1_175, C1_175 - C0_390)
    )
    out7, out1 = products(vectors, in4, in7, (C0_298 - C0_899, -C0_899), (-C0_899, C1_501 - C0_899))
    out5, out3 = products(vectors, in5, in6, (C2_053 - C2_562, -C2_562), (-C2_562, C3_072 - C2_562))
    shift = BITS - BETWEEN if first else BITS + BETWEEN

    def rounded(value):
        return builder.ashr(builder.add(value, vectors.fill(wide, 1 << (shift - 1))), vectors.fill(wide, shift))

    out1, out3, out5, out7 = (
        builder.add(out, common) for out, common in ((out1, sum4), (out3, sum3), (out5, sum4), (out7, sum3))
    )
    return [out0, *(rounded(out) for out in (out1, out2, out3)), out4, *(rounded(out) for out in (out5, out6, out7))]


def _columns(vectors: Vectors, samples, stride):
    """The eight columns of a block of bytes, each int16[8], around zero."""
    builder, eight = vectors.builder, ir.VectorType(i8, 8)
    rows = []
    for row in range(8):
        address = builder.add(samples, builder.mul(stride, ir.Constant(i64, row)))
        rows.append(vectors.load(address, eight))
    turns = [place for lane in range(8) for place in (lane, 8 + lane)]
    pairs = [vectors.pick(rows[row], rows[row + 1], turns) for row in range(0, 8, 2)]
    for element in (i16, i32):
        # Twos, then fours of rows in turns.
        kind = ir.VectorType(element, 128 // element.width)
        pairs = [builder.bitcast(pair, kind) for pair in pairs]
        half = len(pairs) // 2 if element is i32 else 1
        ordered = []
        for place in (0, 2) if half == 1 else (0, 1):
            other = place + half
            ordered += [vectors.interleave(pairs[place], pairs[other], upper) for upper in (False, True)]
        pairs = ordered
    columns = []
    for pair in pairs:
        for part in vectors.halves(builder.bitcast(pair, ir.VectorType(i8, 16))):
            columns.append(builder.sub(vectors.widen(part, i16), vectors.fill(EIGHT, 128)))
    return columns


def _quantised(vectors: Vectors, value, table, part: int):
    """int16[16] divided by divisors of a table, from its element `16 * part` on."""
    builder = vectors.builder
    half, reciprocal, scale = (vectors.load(vectors.at(table, 128 * kind + 32 * part), _SIXTEEN) for kind in range(3))
    sign = builder.ashr(value, vectors.fill(_SIXTEEN, 15))
    magnitude = builder.add(builder.sub(builder.xor(value, sign), sign), half)
    quotient = vectors.multiply_high_unsigned(vectors.multiply_high_unsigned(magnitude, reciprocal), scale)
    return builder.sub(builder.xor(quotient, sign), sign)


def _forward_dct(vectors: Vectors, target, mask, samples, stride, table):
    builder = vectors.builder
    rows = transposed(vectors, _pass(vectors, _columns(vectors, samples, stride), True))
    halves = [vectors.halves(pair) for pair in rows]
    results = _pass(vectors, [pair[half] for half in range(2) for pair in halves], False)
    quotients = []
    for part in range(4):
        packed = builder.bitcast(vectors.pack_words(results[2 * part], results[2 * part + 1]), ir.VectorType(i64, 4))
        packed = builder.bitcast(vectors.pick(packed, None, [0, 2, 1, 3]), _SIXTEEN)
        quotients.append(_quantised(vectors, packed, table, part))
        vectors.store(quotients[-1], vectors.at(target, 32 * part))
    for half in range(2):
        signs = vectors.pack_signed_bytes(*quotients[2 * half : 2 * half + 2])
        there = builder.icmp_signed("!=", signs, vectors.fill(signs.type, 0))
        vectors.store(builder.bitcast(there, i32), vectors.at(mask, 4 * half))


_forward = vector_kernel(_forward_dct, 5)


@njit(inline="always")
def forward_dct(target, mask, samples, stride, table):
    """A block's quantised coefficients, and which of them are not 0.

    Args:
        target: address of int16[8, 8], set in natural order; row 0 has no vertical frequency.
        mask: address of eight bytes, set: a bit for each coefficient, byte i for row `MASK_ROWS[i]`.
        samples, stride: address of the first of 8 rows of 8 bytes, and bytes from row to row.
        table: address of what `divisors` made.
    """
    _forward((target, mask, samples, stride, table))
