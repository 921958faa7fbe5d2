"""The passes of a resize that enlarges, in vector steps: columns first.

Two taps on both axes, nothing wider than its target. `spread_row` makes the target's columns from one source row of
bytes, as int16 red, green, blue and nothing, with 7 fractional bits; `blend_rows` sums two of those. Each source row is
spread once however many target rows want it.

Addresses, sizes and weights are as in `ffx.kernels.passes`.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from .compiling import compiled
from .memory import array_at
from .passes import FRACTION, GROUP, WITHOUT_FOURTHS
from .simd import Vectors, i8, i16, i32, i64, vector_kernel

__all__ = ["LEAST_SPREAD", "SPREAD_GROUP_BYTES", "blend_rows", "spread_row", "spread_table"]

LEAST_SPREAD = 16  # bytes that a source row has at least for `spread_row`
# A group's words: where its 16 source bytes begin (int64), which of them are its pixels' pairs of samples
# (u8[64]), and their weights (int16[64 / 2]).
SPREAD_GROUP_BYTES = 8 + 64 + 64
_NOTHING = 128
# A pixel's bytes, counted from its first neighbour: the samples of a colour together, each with a zero above it.
_PAIRED_BYTES = [0, _NOTHING, 3, _NOTHING, 1, _NOTHING, 4, _NOTHING, 2, _NOTHING, 5, *[_NOTHING] * 5]
# Packing words goes lane by lane: pixels in this order come out as 0, 1, 2, 3.
_SPREAD_ORDER = [0, 2, 1, 3]


def _arrange_spread(flip: bool):
    """Words: (group's words, begins int32[4], first weights int32[4], second weights int32[4]).

    `begins`: a pixel's first neighbour, in bytes from the begin of the group's 16.
    """

    def body(vectors: Vectors, group, begins, first, second):
        builder, four, bytes_64 = vectors.builder, ir.VectorType(i32, GROUP), ir.VectorType(i8, 64)
        lanes = list(reversed(range(GROUP)) if flip else range(GROUP))
        lanes = [lanes[pixel] for pixel in _SPREAD_ORDER]
        places = builder.trunc(vectors.load(begins, four), ir.VectorType(i8, GROUP))
        places = vectors.pick(places, None, [lane for lane in lanes for _ in range(16)])
        pattern = ir.Constant(bytes_64, [ir.Constant(i8, place) for place in _PAIRED_BYTES * GROUP])
        vectors.store(builder.add(places, pattern), vectors.at(group, 8))
        low = builder.and_(vectors.load(first, four), vectors.fill(four, 0xFFFF))
        words = builder.or_(low, builder.shl(vectors.load(second, four), vectors.fill(four, 16)))
        vectors.store(vectors.pick(words, None, [lane for lane in lanes for _ in range(4)]), vectors.at(group, 72))

    return vector_kernel(body, 4)


_arrange_spread_upright, _arrange_spread_flipped = _arrange_spread(False), _arrange_spread(True)


@compiled
def spread_table(samples, target_width, flip, firsts, weights, table):
    """Arrange the columns' taps for `spread_row`, mirrored if `flip`.

    Args:
        samples: bytes of a source row, at least `LEAST_SPREAD`.
        target_width: at least four pixels and at least as many as the source has.
        firsts, weights: int32[target_width], int32[2 or more, target_width] (`ffx.kernels.taps.axis_table`).
        table: address of `SPREAD_GROUP_BYTES` for each group of four pixels, set.
    """
    taps, row_bytes = weights.ctypes.data, 4 * weights.shape[1]
    begins = np.empty(GROUP, np.int32)
    for group in range((target_width + GROUP - 1) // GROUP):
        begin = min(GROUP * group, target_width - GROUP)
        if flip:
            begin = target_width - GROUP - begin
        start = min(3 * np.int64(firsts[begin]), samples - LEAST_SPREAD)
        for lane in range(GROUP):
            begins[lane] = 3 * firsts[begin + lane] - start
        words = table + SPREAD_GROUP_BYTES * group
        array_at(words, (1,), np.int64)[0] = start
        first = taps + 4 * begin
        if flip:
            _arrange_spread_flipped((words, begins.ctypes.data, first, first + row_bytes))
        else:
            _arrange_spread_upright((words, begins.ctypes.data, first, first + row_bytes))


def _spread_body(vectors: Vectors, target, source, group):
    builder = vectors.builder
    start = builder.add(source, vectors.load(group, i64))
    samples = vectors.load(start, ir.VectorType(i8, 16))
    sums = []
    for half in range(2):
        places = vectors.load(vectors.at(group, 8 + 32 * half), ir.VectorType(i8, 32))
        weights = vectors.load(vectors.at(group, 72 + 32 * half), ir.VectorType(i16, 16))
        pairs = builder.bitcast(vectors.choose_bytes(samples, places), weights.type)
        total = vectors.multiply_add_pairs(pairs, weights)
        sums.append(builder.ashr(total, vectors.fill(total.type, 14 - FRACTION)))
    vectors.store(vectors.pack_words(*sums), target)


_spread_group = vector_kernel(_spread_body, 3)


@compiled
def spread_row(source, table, target_width, row):
    """A source row's bytes as the target's columns: int16[target_width, 4] at `row`."""
    for group in range((target_width + GROUP - 1) // GROUP):
        begin = min(GROUP * group, target_width - GROUP)
        _spread_group((row + 8 * begin, source, table + SPREAD_GROUP_BYTES * group))


def _blend(rows: int, pixels: int):
    """Words: (target u8[3 * pixels], row, row, weight, weight). Pixels of one row or of two, weighed.

    With 8 pixels, four bytes more are written.
    """

    def body(vectors: Vectors, target, first, second, first_weight, second_weight):
        builder, half = vectors.builder, ir.VectorType(i16, 16)
        sums = []
        for part in range(pixels // GROUP):
            total = vectors.load(vectors.at(first, 32 * part), half)
            if rows == 2:
                other = vectors.load(vectors.at(second, 32 * part), half)
                total = builder.add(
                    vectors.multiply_round(total, vectors.spread(builder.trunc(first_weight, i16), 16)),
                    vectors.multiply_round(other, vectors.spread(builder.trunc(second_weight, i16), 16)),
                )
            total = builder.add(total, vectors.fill(half, 1 << (FRACTION - 1)))
            sums.append(builder.lshr(total, vectors.fill(half, FRACTION)))
        samples = vectors.pack_bytes(sums[0], sums[-1])
        low, high = vectors.halves(samples)
        if pixels == GROUP:
            vectors.store(vectors.pick(low, None, WITHOUT_FOURTHS), target)
        else:
            order = [*WITHOUT_FOURTHS, 15, 15, 15, 15]
            vectors.store(vectors.pick(low, None, order), target)
            vectors.store(vectors.pick(high, None, order), vectors.at(target, 12))

    return vector_kernel(body, 5)


_blend_1, _blend_2 = (_blend(rows, 2 * GROUP) for rows in (1, 2))
_blend_1_group, _blend_2_group = (_blend(rows, GROUP) for rows in (1, 2))


@compiled
def blend_rows(first, second, first_weight, second_weight, target, target_width):
    """The target row from two spread rows, or from `first` alone where `second_weight` is 0.

    Weights are as in `sum_row`; at least four pixels.
    """
    first_weight, second_weight = min(first_weight, 32767), min(second_weight, 32767)
    # The rest, at most twelve pixels, goes by fours, which write no more than their bytes.
    wide = max(target_width - GROUP - 1, 0) // (2 * GROUP)
    for step in range(wide):
        place = target + 24 * step
        if second_weight == 0:
            _blend_1((place, first + 64 * step, second, first_weight, second_weight))
        else:
            _blend_2((place, first + 64 * step, second + 64 * step, first_weight, second_weight))
    begin = 2 * GROUP * wide
    while begin < target_width:
        begin = min(begin, target_width - GROUP)
        place = target + 3 * begin
        if second_weight == 0:
            _blend_1_group((place, first + 8 * begin, second, first_weight, second_weight))
        else:
            _blend_2_group((place, first + 8 * begin, second + 8 * begin, first_weight, second_weight))
        begin += GROUP
