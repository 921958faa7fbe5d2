"""The inverse DCT of an 8 x 8 block, as accurate integers: sums as libjpeg's slow integer method has them.

The flow graph is that of C. Loeffler, A. Ligtenberg and G. Moschytz, "Practical fast 1-D DCT algorithms with
11 multiplications" (ICASSP 1989), with the multiplications of the odd and even parts gathered into pairs of
products, 13 fractional bits in the constants and 2 more between the passes. For coefficients that
no encoder makes, sums of 16 bits wrap and results are held to 16 bits, as in vector code for x86.
"""

from __future__ import annotations

from llvmlite import ir
from numba import njit

from .compiling import compiled
from .memory import store_i64
from .simd import Vectors, i8, i16, i32, i64, vector_kernel

__all__ = ["fill_block", "inverse_dct"]

_BITS = 13
_BETWEEN = 2  # fractional bits more of what goes from the first pass to the second
_EIGHT = ir.VectorType(i16, 8)
_INTERLEAVED = [place for lane in range(8) for place in (lane, 8 + lane)]
# Within lanes of 128 bits: the words of the lower halves of two vectors in turns, and of the upper halves.
_LOW_WORDS = [place for lane in (0, 8) for word in range(4) for place in (lane + word, 16 + lane + word)]
_HIGH_WORDS = [place + 4 for place in _LOW_WORDS]


def _fixed(number: float) -> int:
    return round(number * (1 << _BITS))


# The constants of the flow graph, by the sums of cosines that they are.
_C0_298, _C0_390, _C0_541, _C0_765, _C0_899, _C1_175 = map(
    _fixed, (0.298631336, 0.390180644, 0.541196100, 0.765366865, 0.899976223, 1.175875602)
)
_C1_501, _C1_847, _C1_961, _C2_053, _C2_562, _C3_072 = map(
    _fixed, (1.501321110, 1.847759065, 1.961570560, 2.053119869, 2.562915447, 3.072711026)
)


def _products(vectors: Vectors, first, second, *factors: tuple[int, int]):
    """For each pair of factors: `first * factor + second * factor` of int16[8], as int32[8]."""
    pairs = vectors.pick(first, second, _INTERLEAVED)
    kind = pairs.type
    return [
        vectors.multiply_add_pairs(pairs, ir.Constant(kind, [ir.Constant(i16, factor) for factor in two * 8]))
        for two in factors
    ]


def _pass(vectors: Vectors, inputs, shift: int):
    """One dimension: eight vectors int16[8] to eight vectors int32[8], rounded and shifted."""
    builder, wide = vectors.builder, ir.VectorType(i32, 8)
    in0, in1, in2, in3, in4, in5, in6, in7 = inputs
    # Even part.
    even2, even3 = _products(vectors, in2, in6, (_C0_541, _C0_541 - _C1_847), (_C0_541 + _C0_765, _C0_541))
    half = vectors.fill(wide, 1 << (shift - 1))
    whole = [
        builder.add(builder.shl(builder.sext(value, wide), vectors.fill(wide, _BITS)), half)
        for value in (builder.add(in0, in4), builder.sub(in0, in4))
    ]
    even = [
        builder.add(whole[0], even3),
        builder.add(whole[1], even2),
        builder.sub(whole[1], even2),
        builder.sub(whole[0], even3),
    ]
    # Odd part.
    sum3, sum4 = _products(
        vectors,
        builder.add(in7, in3),
        builder.add(in5, in1),
        (_C1_175 - _C1_961, _C1_175),
        (_C1_175, _C1_175 - _C0_390),
    )
    odd0, odd3 = _products(vectors, in7, in1, (_C0_298 - _C0_899, -_C0_899), (-_C0_899, _C1_501 - _C0_899))
    odd1, odd2 = _products(vectors, in5, in3, (_C2_053 - _C2_562, -_C2_562), (-_C2_562, _C3_072 - _C2_562))
    odd = [builder.add(odd3, sum4), builder.add(odd2, sum3), builder.add(odd1, sum4), builder.add(odd0, sum3)]
    results = [builder.add(a, b) for a, b in zip(even, odd, strict=True)]
    results += [builder.sub(a, b) for a, b in zip(reversed(even), reversed(odd), strict=True)]
    return [builder.ashr(value, vectors.fill(wide, shift)) for value in results]


def _transposed(vectors: Vectors, rows):
    """Eight vectors int32[8], held to int16 and transposed: four int16[16], of rows (0, 4), (1, 5), (2, 6), (3, 7)."""
    builder, pairs = vectors.builder, ir.VectorType(i64, 4)
    packed = [vectors.pack_words(rows[place], rows[place + 1]) for place in range(0, 8, 2)]
    quads = []
    for first, second in (packed[:2], packed[2:]):
        low, high = vectors.pick(first, second, _LOW_WORDS), vectors.pick(first, second, _HIGH_WORDS)
        quads.append([vectors.pick(low, high, order) for order in (_LOW_WORDS, _HIGH_WORDS)])
    columns = []
    for first, second in zip(*quads, strict=True):
        first, second = builder.bitcast(first, pairs), builder.bitcast(second, pairs)
        for order in ([0, 4, 2, 6], [1, 5, 3, 7]):
            columns.append(builder.bitcast(vectors.pick(first, second, order), ir.VectorType(i16, 16)))
    return columns


def _inverse_dct(vectors: Vectors, target, stride, coefficients, quantisers):
    builder, sixteen = vectors.builder, ir.VectorType(i16, 16)
    raw = [vectors.load(vectors.at(coefficients, 16 * row), _EIGHT) for row in range(8)]
    for part in range(4):
        vectors.store(vectors.fill(sixteen, 0), vectors.at(coefficients, 32 * part))
    rows = [builder.mul(value, vectors.load(vectors.at(quantisers, 16 * row), _EIGHT)) for row, value in enumerate(raw)]
    # Without vertical frequencies libjpeg's vector code only shifts the first row, which wraps where the sum
    # would be held to 16 bits: the highest two bits do not count.
    any_vertical = raw[1]
    for value in raw[2:]:
        any_vertical = builder.or_(any_vertical, value)
    flat = builder.icmp_unsigned("==", builder.bitcast(any_vertical, ir.IntType(128)), ir.Constant(ir.IntType(128), 0))
    mask = vectors.spread(builder.sext(flat, i16), 8)
    wrapped = builder.ashr(builder.shl(rows[0], vectors.fill(_EIGHT, _BETWEEN)), vectors.fill(_EIGHT, _BETWEEN))
    rows[0] = builder.xor(rows[0], builder.and_(mask, builder.xor(rows[0], wrapped)))
    columns = _transposed(vectors, _pass(vectors, rows, _BITS - _BETWEEN))
    halves = [vectors.halves(pair) for pair in columns]
    columns = [pair[half] for half in range(2) for pair in halves]
    pixels = _transposed(vectors, _pass(vectors, columns, _BITS + _BETWEEN + 3))
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
