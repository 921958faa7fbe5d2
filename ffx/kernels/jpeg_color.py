"""From a JPEG's planes to rows of RGB: chroma made smooth, then ITU-R BT.601's YCbCr at full range.

Chroma of half the columns is weighed 3 : 1 between the two nearest samples, chroma of half the rows likewise before
that, with libjpeg's rounding ("fancy upsampling"); at the picture's edge the last sample counts twice. Fast upsampling
repeats samples instead. The conversion is libjpeg's, in integers with 16 fractional bits.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from .compiling import compiled
from .memory import array_at
from .simd import Vectors, i8, i16, vector_kernel

__all__ = [
    "SPILL_BYTES",
    "SUMS_SPILL",
    "convert_full",
    "convert_grey",
    "convert_halved",
    "convert_repeated",
    "sum_chroma",
]

_PIXELS = 32  # that one vector step makes
_SUMS = 16  # chroma samples that one vector step takes
SPILL_BYTES = 3 * _PIXELS  # that may be written behind a row's end, and read behind a plane's
SUMS_SPILL = _SUMS + 2  # sums that may be written behind those that are asked for

_WORDS = ir.VectorType(i16, 16)
_BYTES = ir.VectorType(i8, 32)

# Fractions of 2 ** 16 that libjpeg multiplies chroma by; those above a half without their whole part.
_RED, _BLUE = round(1.402 * 65536) - 65536, round(1.772 * 65536) - 131072
_GREEN_BLUE, _GREEN_RED = -round(0.34414 * 65536), 65536 - round(0.71414 * 65536)


def _rounded_product(vectors: Vectors, value, factor: int):
    """`(value * factor + 2**15) >> 16` of small int16."""
    builder = vectors.builder
    product = vectors.multiply_high(builder.add(value, value), vectors.fill(_WORDS, factor))
    return builder.ashr(builder.add(product, vectors.fill(_WORDS, 1)), vectors.fill(_WORDS, 1))


def _green(vectors: Vectors, blue, red):
    """What green has besides luma."""
    builder = vectors.builder
    low = [place for lane in (0, 8) for word in range(4) for place in (lane + word, 16 + lane + word)]
    factors = ir.Constant(_WORDS, [ir.Constant(i16, factor) for factor in (_GREEN_BLUE, _GREEN_RED) * 8])
    sums = []
    for order in (low, [place + 4 for place in low]):
        total = vectors.multiply_add_pairs(vectors.pick(blue, red, order), factors)
        total = builder.add(total, vectors.fill(total.type, 1 << 15))
        sums.append(builder.ashr(total, vectors.fill(total.type, 16)))
    return builder.sub(vectors.pack_words(*sums), red)


def _store_pixels(vectors: Vectors, target, channels):
    """32 pixels from bytes of three channels, each lane of 128 bits: its 8 even pixels, its 8 odd ones."""
    builder = vectors.builder
    for part in range(3):
        picked = []
        for channel, samples in enumerate(channels):
            places = [-1] * 16
            for byte in range(16):
                pixel, own = divmod(16 * part + byte, 3)
                if own == channel:
                    places[byte] = pixel // 2 + 8 * (pixel % 2)
            picked.append(vectors.pick_in_lanes(samples, places))
        for lane, half in enumerate(vectors.halves(builder.or_(builder.or_(*picked[:2]), picked[2]))):
            vectors.store(half, vectors.at(target, 48 * lane + 16 * part))


def _even_and_odd(vectors: Vectors, address):
    """32 bytes as int16: those at even places, those at odd ones."""
    builder = vectors.builder
    both = builder.bitcast(vectors.load(address, _BYTES), _WORDS)
    return builder.and_(both, vectors.fill(_WORDS, 255)), builder.lshr(both, vectors.fill(_WORDS, 8))


def _store_colours(vectors: Vectors, target, lumas, blues, reds):
    """Even and odd pixels of luma 0 … 255 and chroma -128 … 127."""
    builder = vectors.builder
    channels = []
    for luma, blue, red in zip(lumas, blues, reds, strict=True):
        channels.append(
            (
                builder.add(builder.add(luma, red), _rounded_product(vectors, red, _RED)),
                builder.add(luma, _green(vectors, blue, red)),
                builder.add(builder.add(luma, builder.add(blue, blue)), _rounded_product(vectors, blue, _BLUE)),
            )
        )
    _store_pixels(vectors, target, [vectors.pack_bytes_by_lane(*both) for both in zip(*channels, strict=True)])


def _halved(shift: int):
    """Words: (target u8[96], luma, blue sums, red sums). Sums weigh 4 with a `shift` of 4, else 1.

    Sums are int16; the first is the one left of the pixels' own.
    """

    def upsampled(vectors: Vectors, sums):
        builder = vectors.builder
        before, here, after = (vectors.load(vectors.at(sums, 2 * place), _WORDS) for place in range(3))
        three = builder.add(here, builder.add(here, here))
        half = 1 << (shift - 1)
        # Rounding goes down and up in turns; chroma's middle of 128 goes off on the way.
        roundings = (half, half - 1) if shift == 4 else (half - 1, half)
        return [
            builder.ashr(
                builder.add(builder.add(three, other), vectors.fill(_WORDS, rounding - (128 << shift))),
                vectors.fill(_WORDS, shift),
            )
            for other, rounding in zip((before, after), roundings, strict=True)
        ]

    def body(vectors: Vectors, target, luma, blue, red):
        chroma = [upsampled(vectors, sums) for sums in (blue, red)]
        _store_colours(vectors, target, _even_and_odd(vectors, luma), *chroma)

    return vector_kernel(body, 4)


_halved_columns, _halved_both = _halved(2), _halved(4)


def _full_body(vectors: Vectors, target, luma, blue, red):
    middle = vectors.fill(_WORDS, 128)
    chroma = [
        [vectors.builder.sub(samples, middle) for samples in _even_and_odd(vectors, address)] for address in (blue, red)
    ]
    _store_colours(vectors, target, _even_and_odd(vectors, luma), *chroma)


_full = vector_kernel(_full_body, 4)


def _repeated_body(vectors: Vectors, target, luma, blue, red):
    middle = vectors.fill(_WORDS, 128)
    chroma = []
    for address in (blue, red):
        samples = vectors.widen(vectors.load(address, ir.VectorType(i8, _SUMS)), i16)
        # An even pixel and the odd one behind it have the same sample.
        chroma.append([vectors.builder.sub(samples, middle)] * 2)
    _store_colours(vectors, target, _even_and_odd(vectors, luma), *chroma)


_repeated = vector_kernel(_repeated_body, 4)


def _grey_body(vectors: Vectors, target, luma):
    packed = vectors.pack_bytes_by_lane(*_even_and_odd(vectors, luma))
    _store_pixels(vectors, target, [packed] * 3)


_grey = vector_kernel(_grey_body, 2)


def _sum_body(vectors: Vectors, target, near, far):
    builder = vectors.builder
    near, far = (vectors.widen(vectors.load(row, ir.VectorType(i8, _SUMS)), i16) for row in (near, far))
    vectors.store(builder.add(builder.add(near, far), builder.add(near, near)), target)


_sum = vector_kernel(_sum_body, 3)


def _widen_body(vectors: Vectors, target, row):
    vectors.store(vectors.widen(vectors.load(row, ir.VectorType(i8, _SUMS)), i16), target)


_widen = vector_kernel(_widen_body, 2)


@compiled
def sum_chroma(near, far, halves_rows, first, last, most, sums):
    """A row of chroma for `convert_halved`, from one row of samples or the two nearest ones.

    Args:
        near, far: addresses of sample 0 of the nearest row and of the next nearest.
        halves_rows: whether both count, 3 : 1.
        first, last: samples wanted; one more on each side is read where the picture has it.
        most: the picture's last sample.
        sums: address of int16[last - first + 3 + SUMS_SPILL], set: sample `first - 1` comes first.
    """
    begin = first - 1
    place = max(begin, 0)
    while place <= min(last + 1, most):
        target = sums + 2 * (place - begin)
        if halves_rows:
            _sum((target, near + place, far + place))
        else:
            _widen((target, near + place))
        place += _SUMS
    row = array_at(sums, (last - begin + 2,), np.int16)
    if first == 0:
        row[0] = row[1]
    if last == most:
        row[last + 1 - begin] = row[last - begin]


@compiled
def convert_halved(target, luma, blue, red, halves_rows, width):
    """A row of RGB from luma and two rows of sums; the first pixel is an even one of the picture."""
    for start in range(0, width, _PIXELS):
        if halves_rows:
            _halved_both((target + 3 * start, luma + start, blue + start, red + start))
        else:
            _halved_columns((target + 3 * start, luma + start, blue + start, red + start))


@compiled
def convert_full(target, luma, blue, red, width):
    """A row of RGB from samples of all three."""
    for start in range(0, width, _PIXELS):
        _full((target + 3 * start, luma + start, blue + start, red + start))


@compiled
def convert_repeated(target, luma, blue, red, width):
    """A row of RGB from luma and chroma of half the columns, each sample for two pixels; the first is an even one."""
    for start in range(0, width, _PIXELS):
        _repeated((target + 3 * start, luma + start, blue + start // 2, red + start // 2))


@compiled
def convert_grey(target, luma, width):
    """A row of RGB from luma alone."""
    for start in range(0, width, _PIXELS):
        _grey((target + 3 * start, luma + start))
