"""What the inverse and the forward DCT share: their flow graph's constants, pairs of products, transposition.

The flow graph is that of C. Loeffler, A. Ligtenberg and G. Moschytz, "Practical fast 1-D DCT algorithms with
11 multiplications" (ICASSP 1989), with 13 fractional bits in the constants and 2 more between the passes, as
libjpeg's slow integer method has them.
"""

from __future__ import annotations

from llvmlite import ir

from .simd import Vectors, i16, i64

__all__ = [
    "BETWEEN",
    "BITS",
    "C0_298",
    "C0_390",
    "C0_541",
    "C0_765",
    "C0_899",
    "C1_175",
    "C1_501",
    "C1_847",
    "C1_961",
    "C2_053",
    "C2_562",
    "C3_072",
    "EIGHT",
    "products",
    "transposed",
]

BITS = 13
BETWEEN = 2  # fractional bits more of what goes from the first pass to the second
EIGHT = ir.VectorType(i16, 8)
_INTERLEAVED = [place for lane in range(8) for place in (lane, 8 + lane)]
# Within lanes of 128 bits: the words of the lower halves of two vectors in turns, and of the upper halves.
_LOW_WORDS = [place for lane in (0, 8) for word in range(4) for place in (lane + word, 16 + lane + word)]
_HIGH_WORDS = [place + 4 for place in _LOW_WORDS]


def _fixed(number: float) -> int:
    return round(number * (1 << BITS))


# The constants of the flow graph, by the sums of cosines that they are.
C0_298, C0_390, C0_541, C0_765, C0_899, C1_175 = map(
    _fixed, (0.298631336, 0.390180644, 0.541196100, 0.765366865, 0.899976223, 1.175875602)
)
C1_501, C1_847, C1_961, C2_053, C2_562, C3_072 = map(
    _fixed, (1.501321110, 1.847759065, 1.961570560, 2.053119869, 2.562915447, 3.072711026)
)


def products(vectors: Vectors, first, second, *factors: tuple[int, int]):
    """For each pair of factors: `first * factor + second * factor` of int16[8], as int32[8]."""
    pairs = vectors.pick(first, second, _INTERLEAVED)
    kind = pairs.type
    return [
        vectors.multiply_add_pairs(pairs, ir.Constant(kind, [ir.Constant(i16, factor) for factor in two * 8]))
        for two in factors
    ]


def transposed(vectors: Vectors, rows):
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
