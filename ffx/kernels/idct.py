"""The inverse DCT of an 8 x 8 block, as accurate integers: sums as libjpeg's slow integer method has them.

The multiplications of the odd and even parts of the flow graph (`ffx.kernels.dct`) are gathered into pairs of
products. For coefficients that no encoder makes, sums of 16 bits wrap and results are held to 16 bits, as in
vector code for x86.
"""

from __future__ import annotations

from llvmlite import ir
from numba import njit

from .compiling import compiled
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
from .memory import store_i64
from .simd import Vectors, i8, i16, i32, i64, vector_kernel

__all__ = ["fill_block", "inverse_dct"]


def _pass(vectors: Vectors, inputs, shift: int):
    """One dimension: eight vectors int16[8] to eight vectors int32[8], rounded and shifted."""
    builder, wide = vectors.builder, ir.VectorType(i32, 8)
    in0, in1, in2, in3, in4, in5, in6, in7 = inputs
    # Even part.
    even2, even3 = products(vectors, in2, in6, (C0_541, C0_541 - C1_847), (C0_541 + C0_765, C0_541))
    half = vectors.fill(wide, 1 << (shift - 1))
    whole = [
        builder.add(builder.shl(builder.sext(value, wide), vectors.fill(wide, BITS)), half)
        for value in (builder.add(in0, in4), builder.sub(in0, in4))
    ]
    even = [
        builder.add(whole[0], even3),
        builder.add(whole[1], even2),
        builder.sub(whole[1], even2),
        builder.sub(whole[0], even3),
    ]
    # Odd part.
    sum3, sum4 = products(
        vectors,
        builder.add(in7, in3),
        builder.add(in5, in1),
        (C1_175 - C1_961, C1_175),
        (C1_175, C1_175 - C0_390),
    )
    odd0, odd3 = products(vectors, in7, in1, (C0_298 - C0_899, -C0_899), (-C0_899, C1_501 - C0_899))
    odd1, odd2 = products(vectors, in5, in3, (C2_053 - C2_562, -C2_562), (-C2_562, C3_072 - C2_562))
    odd = [builder.add(odd3, sum4), builder.add(odd2, sum3), builder.add(odd1, sum4), builder.add(odd0, sum3)]
    results = [builder.add(a, b) for a, b in zip(even, odd, strict=True)]
    results += [builder.sub(a, b) for a, b in zip(reversed(even), reversed(odd), strict=True)]
    return [builder.ashr(value, vectors.fill(wide, shift)) for value in results]


def _inverse_dct(vectors: Vectors, target, stride, coefficients, quantisers):
    builder, sixteen = vectors.builder, ir.VectorType(i16, 16)
    raw = [vectors.load(vectors.at(coefficients, 16 * row), EIGHT) for row in range(8)]
    for part in range(4):
        vectors.store(vectors.fill(sixteen, 0), vectors.at(coefficients, 32 * part))
    rows = [builder.mul(value, vectors.load(vectors.at(quantisers, 16 * row), EIGHT)) for row, value in enumerate(raw)]
    # Without vertical frequencies libjpeg's vector code only shifts the first row, which wraps where the sum
    # would be held to 16 bits: the highest two bits do not count.
    any_vertical = raw[1]
    for value in raw[2:]:
        any_vertical = builder.or_(any_vertical, value)
    flat = builder.icmp_unsigned("==", builder.bitcast(any_vertical, ir.IntType(128)), ir.Constant(ir.IntType(128), 0))
    mask = vectors.spread(builder.sext(flat, i16), 8)
    wrapped = builder.ashr(builder.shl(rows[0], vectors.fill(EIGHT, BETWEEN)), vectors.fill(EIGHT, BETWEEN))
    rows[0] = builder.xor(rows[0], builder.and_(mask, builder.xor(rows[0], wrapped)))
    columns = transposed(vectors, _pass(vectors, rows, BITS - BETWEEN))
    halves = [vectors.halves(pair) for pair in columns]
    columns = [pair[half] for half in range(2) for pair in halves]
    pixels = transposed(vectors, _pass(vectors, columns, BITS + BETWEEN + 3))
    for row in (0, 2):
        # Rows row, row + 1, row + 4, row + 5, as signed bytes around 128.
        samples = vectors.pack_signed_bytes(pixels[row], pixels[row + 1])
        samples = builder.xor(samples, ir.Constant(samples.type, [ir.Constant(i8, -128)] * 32))
        lanes = builder.bitcast(samples, ir.VectorType(i64, 4))
        for lane, place in enumerate((row, row + 1, row + 4, row + 5)):
            address = builder.add(target, builder.mul(stride, ir.Constant(i64, place)))
            vectors.store(builder.extract_element(lanes, ir.Constant(i32, lane)), address)


_inverse = vector_kernel(_inverse_dct, 4)


@njit(inline="always")
def inverse_dct(target, stride, coefficients, quantisers):
    """A block's samples, 8 rows of 8 bytes `stride` bytes apart, from int16[64] in natural order, which become zero.

    Args:
        target, stride: address of the first row, and bytes from row to row.
        coefficients: address of int16[8, 8]; row 0 has no vertical frequency.
        quantisers: address of int16[8, 8], the factor of each coefficient.
    """
    _inverse((target, stride, coefficients, quantisers))


@compiled
def fill_block(target, stride, coefficient, quantiser):
    """The samples of a block that has nothing but its first coefficient, as `inverse_dct` would make them."""
    # To 14 bits, as products and shifts of 16 bits leave it.
    level = ((coefficient * quantiser) & 0x3FFF ^ 0x2000) - 0x2000
    level = min(max((level + 4) >> 3, -128), 127) + 128
    eight = level * 0x0101010101010101
    for row in range(8):
        store_i64(target + row * stride, eight)
