"""From rows of RGB to a JPEG's planes: ITU-R BT.601's YCbCr at full range, chroma of half the columns and rows.

The integers are libjpeg's: 16 fractional bits in the conversion, each chroma sample the mean of four converted pixels,
rounded down and up in turns.
"""

from __future__ import annotations

from llvmlite import ir

from .compiling import compiled
from .simd import Vectors, i8, i16, i64, vector_kernel

__all__ = ["STEP", "convert_rows"]

STEP = 32  # pixels that one vector step takes

_WORDS = ir.VectorType(i16, 16)
_BYTES = ir.VectorType(i8, 32)


def _fixed(number: float) -> int:
    return round(number * 65536)


# The factor of green in luma has 17 bits with its sign: a quarter of green goes with blue.
_QUARTER = 1 << 14
_LUMA = ((_fixed(0.299), _fixed(0.587) - _QUARTER), (_fixed(0.114), _QUARTER))
_BLUE_OF_RED_GREEN = (-_fixed(0.16874), -_fixed(0.33126))
_RED_OF_BLUE_GREEN = (-_fixed(0.08131), -_fixed(0.41869))
# The other factor is a half, of 17 bits again, so its negative is subtracted.
_MINUS_HALF = (-(1 << 15), 0)
_LUMA_ROUNDING = 1 << 15
_CHROMA_ROUNDING = (128 << 16) + (1 << 15) - 1


def _channels(vectors: Vectors, address):
    """32 pixels from an address on as three vectors of 32 bytes."""
    builder, half = vectors.builder, ir.VectorType(i8, 16)
    # Each lane of 128 bits gets 16 pixels.
    parts = [
        vectors.join(*(vectors.load(vectors.at(address, lane + 16 * part), half) for lane in (0, 48)))
        for part in range(3)
    ]
    channels = []
    for channel in range(3):
        picked = []
        for part in range(3):
            places = [3 * pixel + channel - 16 * part for pixel in range(16)]
            picked.append(vectors.pick_in_lanes(parts[part], [place if 0 <= place < 16 else -1 for place in places]))
        channels.append(builder.or_(builder.or_(*picked[:2]), picked[2]))
    return channels


def _pair_sums(vectors: Vectors, pairs, factors: tuple[int, int]):
    constant = ir.Constant(_WORDS, [ir.Constant(i16, factor) for factor in factors * 8])
    return [vectors.multiply_add_pairs(pair, constant) for pair in pairs]


def _combined(vectors: Vectors, first, second, subtract: bool, rounding: int):
    """Two int32[8] and two more, added or subtracted, rounded, without their fraction: int16[16]."""
    builder, results = vectors.builder, []
    for one, other in zip(first, second, strict=True):
        total = builder.sub(one, other) if subtract else builder.add(one, other)
        total = builder.add(total, vectors.fill(total.type, rounding))
        results.append(builder.ashr(total, vectors.fill(total.type, 16)))
    return vectors.pack_words(*results)


def _convert_words(vectors: Vectors, red, green, blue):
    """Luma, blue and red chroma of int16[16] each."""
    both = [[vectors.interleave(other, green, upper) for upper in (False, True)] for other in (red, blue)]
    luma = _combined(
        vectors,
        *(_pair_sums(vectors, pairs, factors) for pairs, factors in zip(both, _LUMA, strict=True)),
        False,
        _LUMA_ROUNDING,
    )
    chroma = []
    for main, other, factors in ((1, 0, _BLUE_OF_RED_GREEN), (0, 1, _RED_OF_BLUE_GREEN)):
        sums = _pair_sums(vectors, both[other], factors)
        half = _pair_sums(vectors, both[main], _MINUS_HALF)
        chroma.append(_combined(vectors, sums, half, True, _CHROMA_ROUNDING))
    return luma, *chroma


def _convert_row(vectors: Vectors, target, source):
    """Store 32 pixels' luma; of each chroma the sums of two neighbours, int16[16]."""
    builder = vectors.builder
    even, odd = [], []
    for channel in _channels(vectors, source):
        both = builder.bitcast(channel, _WORDS)
        even.append(builder.and_(both, vectors.fill(_WORDS, 255)))
        odd.append(builder.lshr(both, vectors.fill(_WORDS, 8)))
    even, odd = _convert_words(vectors, *even), _convert_words(vectors, *odd)
    luma = builder.or_(even[0], builder.shl(odd[0], vectors.fill(_WORDS, 8)))
    vectors.store(builder.bitcast(luma, _BYTES), target)
    return [builder.add(left, right) for left, right in zip(even[1:], odd[1:], strict=True)]


def _convert_body(vectors: Vectors, upper_luma, lower_luma, blues, reds, upper, lower):
    builder = vectors.builder
    sums = zip(_convert_row(vectors, upper_luma, upper), _convert_row(vectors, lower_luma, lower), strict=True)
    turns = ir.Constant(_WORDS, [ir.Constant(i16, rounding) for rounding in (1, 2) * 8])
    for target, (above, below) in zip((blues, reds), sums, strict=True):
        total = builder.add(builder.add(above, below), turns)
        mean = builder.lshr(total, vectors.fill(_WORDS, 2))
        lanes = builder.bitcast(vectors.pack_bytes_by_lane(mean, mean), ir.VectorType(i64, 4))
        vectors.store(vectors.pick(lanes, None, [0, 2]), target)


_convert = vector_kernel(_convert_body, 6)


@compiled
def convert_rows(upper, lower, width, upper_luma, lower_luma, blues, reds):
    """Two rows of RGB as two rows of luma and one row of each chroma.

    Args:
        upper, lower: addresses of the rows' first pixels.
        width: pixels, a multiple of `STEP`.
        upper_luma, lower_luma, blues, reds: addresses of room for `width` and `width / 2` bytes.
    """
    for start in range(0, width, STEP):
        _convert(
            (
                upper_luma + start,
                lower_luma + start,
                blues + start // 2,
                reds + start // 2,
                upper + 3 * start,
                lower + 3 * start,
            )
        )
