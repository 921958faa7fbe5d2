"""The passes of a resize of planar YUV, in vector steps, for blocks of `ROWS` target rows.

1. `sum_rows` sums each target row's source rows, as int16 with 7 fractional bits, and turns the block on its
   side: a source column's sums for all rows of the block lie together.
2. `make_block` sums such columns into target columns, which needs no gathering now; makes RGB of them; and
   turns the block back.

Weights come doubled: an int16 in both halves of an int32, which fills a vector with one load.
All addresses and sizes are int64.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from .compiling import compiled
from .simd import Vectors, i8, i16, i32, i64, vector_kernel

__all__ = [
    "CHROMA_BYTES",
    "CHROMA_START",
    "GROUP",
    "LUMA_BYTES",
    "LUMA_START",
    "NARROWEST",
    "OFFSETS",
    "ROWS",
    "SUMS_BYTES",
    "make_block",
    "sum_rows",
]

ROWS = 16  # target rows of a block: what an int16 vector of AVX2 holds
GROUP = 4  # target columns that one vector step makes
NARROWEST = 32  # samples of a source row that one vector step takes, so it has at least as many
LUMA_BYTES = 2 * ROWS  # of a turned column
CHROMA_BYTES = 4 * ROWS  # U, and V behind it
STEP_BYTES = 4 * NARROWEST  # sums of one vector step, which takes twice as many samples
STRIP_STEPS = 4  # vector steps of a row whose sums lie in the cache until they are turned
SUMS_BYTES = ROWS * STRIP_STEPS * STEP_BYTES
OFFSETS = 2  # int32 words of a target column's record before its weights

_FRACTION = 7
# Sums begin with the half that makes the last shift round; chroma is counted from its middle.
LUMA_START = 1 << (_FRACTION - 1)
CHROMA_START = -(128 << _FRACTION)

# BT.601 over the full range, as JPEG has it, with 15 fractional bits, less 1 where the factor is above 1.
_V_TO_RED, _U_TO_BLUE = round(0.402 * 2**15), round(0.772 * 2**15)
_U_TO_GREEN, _V_TO_GREEN = round(0.344136 * 2**15), round(0.714136 * 2**15)


def _doubled_weight(vectors: Vectors, address):
    """The weight at an address in all 16 elements."""
    return vectors.builder.bitcast(vectors.spread(vectors.load(address, i32), 8), ir.VectorType(i16, 16))


# Rows


def _weighed_rows(vectors: Vectors, source, weight):
    """32 samples times a weight in two vectors: samples 0-7 and 16-23, 8-15 and 24-31."""
    builder, words = vectors.builder, ir.VectorType(i16, 16)
    samples = vectors.load(source, ir.VectorType(i8, NARROWEST))
    zero = vectors.fill(samples.type, 0)
    # A sample becomes the upper byte of a word: times a weight of 15 fractional bits, its upper half has 7.
    halves = (builder.bitcast(vectors.interleave(zero, samples, upper), words) for upper in (False, True))
    return [vectors.multiply_high_unsigned(half, weight) for half in halves]


def _sum_samples(taps: int):
    """Words: (target int16[64], source, other source, stride, weights, weight_bytes, taps, start).

    Sums 32 samples of each source. `taps` 0 takes their number from the words; `weight_bytes` lead from one
    weight to the next.
    """

    def body(vectors: Vectors, target, source, other, stride, weights, weight_bytes, count, start):
        builder = vectors.builder

        def add_tap(tap, totals):
            weight = _doubled_weight(vectors, builder.add(weights, builder.mul(tap, weight_bytes)))
            step = builder.mul(tap, stride)
            parts = [
                part for place in (source, other) for part in _weighed_rows(vectors, builder.add(place, step), weight)
            ]
            return [builder.add(total, part) for total, part in zip(totals, parts, strict=True)]

        totals = [vectors.spread(builder.trunc(start, i16), 16)] * 4
        if taps:
            for tap in range(taps):
                totals = add_tap(ir.Constant(i64, tap), totals)
        else:
            totals = vectors.repeat(count, totals, add_tap)
        for index, total in enumerate(totals):
            vectors.store(total, vectors.at(target, 32 * index))

    return vector_kernel(body, 8)


_sum_1, _sum_2, _sum_3, _sum_4, _sum_any = (_sum_samples(taps) for taps in (1, 2, 3, 4, 0))


@compiled
def _sum_row(target, source, other, stride, last, step, first, stop, weights, weight_bytes, count, start):
    """Steps `first` to `stop` of one target row."""
    start += count >> 1  # what cutting off loses in the mean
    other += step - NARROWEST
    behind = last - (step - NARROWEST)
    index = first
    if count == 2:
        while index < stop:
            place, place_2 = source + min(step * index, last), other + min(step * index, behind)
            _sum_2((target, place, place_2, stride, weights, weight_bytes, count, start))
            target += STEP_BYTES
            index += 1
    elif count == 3:
        while index < stop:
            place, place_2 = source + min(step * index, last), other + min(step * index, behind)
            _sum_3((target, place, place_2, stride, weights, weight_bytes, count, start))
            target += STEP_BYTES
            index += 1
    elif count == 4:
        while index < stop:
            place, place_2 = source + min(step * index, last), other + min(step * index, behind)
            _sum_4((target, place, place_2, stride, weights, weight_bytes, count, start))
            target += STEP_BYTES
            index += 1
    elif count == 1:
        while index < stop:
            place, place_2 = source + min(step * index, last), other + min(step * index, behind)
            _sum_1((target, place, place_2, stride, weights, weight_bytes, count, start))
            target += STEP_BYTES
            index += 1
    else:
        while index < stop:
            place, place_2 = source + min(step * index, last), other + min(step * index, behind)
            _sum_any((target, place, place_2, stride, weights, weight_bytes, count, start))
            target += STEP_BYTES
            index += 1


def _turn_columns():
    """Words: (source, row_bytes, target, column_bytes). Turns 16 rows of int16[8] into 8 columns of int16[16]."""

    def body(vectors: Vectors, source, row_bytes, target, column_bytes):
        builder, eight = vectors.builder, ir.VectorType(i16, 8)

        def row(index):
            return vectors.load(builder.add(source, builder.mul(row_bytes, ir.Constant(i64, index))), eight)

        lines = [vectors.join(row(index), row(index + 8)) for index in range(8)]
        # Each round moves one bit of an element's column to its row's number.
        for _ in range(3):
            lines = [
                vectors.interleave(lines[index], lines[index + 4], upper)
                for index in range(4)
                for upper in (False, True)
            ]
        for index, line in enumerate(lines):
            vectors.store(line, builder.add(target, builder.mul(column_bytes, ir.Constant(i64, index))))

    return vector_kernel(body, 4)


_turn = _turn_columns()


@compiled
def _turn_block(place, column, column_bytes):
    """The sums of 32 samples of 16 rows."""
    row_bytes = STRIP_STEPS * STEP_BYTES
    _turn((place, row_bytes, column, column_bytes))
    _turn((place + 32, row_bytes, column + 8 * column_bytes, column_bytes))
    _turn((place + 16, row_bytes, column + 16 * column_bytes, column_bytes))
    _turn((place + 48, row_bytes, column + 24 * column_bytes, column_bytes))


@compiled
def sum_rows(
    source,
    other,
    stride,
    samples,
    first_row,
    firsts,
    counts,
    weights,
    start,
    sums,
    columns,
    other_columns,
    column_bytes,
):
    """Sum the source rows of `ROWS` target rows, and turn them on their side, of two planes or of one.

    Args:
        source, other: addresses of the planes' parts; equal for one plane.
        stride: bytes from one row to the next.
        samples: bytes of a row, at least `NARROWEST`.
        first_row: the first target row.
        firsts, counts: int32[target rows], the source rows of each.
        weights: int32[taps, target rows], doubled, of 15 fractional bits.
        start: `LUMA_START` or `CHROMA_START`.
        sums: address of `SUMS_BYTES` bytes of working memory.
        columns, other_columns: addresses of the first turned column of each; set.
        column_bytes: from one turned column to the next.

    Rows after the last are made like the last.
    """
    # A vector step takes 32 samples of each of two planes, or 64 of one; the last ones are moved back to the row's end.
    step = np.int64(NARROWEST if source != other else 2 * NARROWEST)
    last = samples - NARROWEST
    steps = (samples + step - 1) // step
    weight_bytes = 4 * weights.shape[1]
    for first in range(0, steps, STRIP_STEPS):
        stop = min(first + STRIP_STEPS, steps)
        for row in range(ROWS):
            place = min(first_row + row, firsts.size - 1)
            begin = stride * np.int64(firsts[place])
            _sum_row(
                sums + STRIP_STEPS * STEP_BYTES * row, source + begin, other + begin, stride, last, step, first, stop,
                weights.ctypes.data + 4 * place, weight_bytes, np.int64(counts[place]), start,
            )  # fmt: skip
        for index in range(first, stop):
            place = sums + STEP_BYTES * (index - first)
            _turn_block(place, columns + column_bytes * min(step * index, last), column_bytes)
            behind = min(step * index + step - NARROWEST, last)
            _turn_block(place + STEP_BYTES // 2, other_columns + column_bytes * behind, column_bytes)


# Columns


def _column_sums(vectors: Vectors, record, luma, chroma, taps):
    """Y, U and V of one target column, int16[16] with 7 fractional bits. `taps`: (luma, chroma)."""
    builder, words = vectors.builder, ir.VectorType(i16, 16)
    luma_taps, chroma_taps = taps
    luma = builder.add(luma, builder.sext(vectors.load(record, i32), i64))
    chroma = builder.add(chroma, builder.sext(vectors.load(vectors.at(record, 4), i32), i64))
    luma_weights = vectors.at(record, 4 * OFFSETS)

    def weighed(tap, weights, column, column_bytes, parts):
        weight = _doubled_weight(vectors, builder.add(weights, builder.mul(tap, ir.Constant(i64, 4))))
        place = builder.add(column, builder.mul(tap, ir.Constant(i64, column_bytes)))
        return [
            vectors.multiply_round(vectors.load(vectors.at(place, LUMA_BYTES * part), words), weight)
            for part in range(parts)
        ]

    def sums(count, weights, column, column_bytes, parts):
        def add_tap(tap, totals):
            found = weighed(tap, weights, column, column_bytes, parts)
            return [builder.add(total, part) for total, part in zip(totals, found, strict=True)]

        if isinstance(count, int):
            totals = weighed(ir.Constant(i64, 0), weights, column, column_bytes, parts)
            for tap in range(1, count):
                totals = add_tap(ir.Constant(i64, tap), totals)
            return totals
        return vectors.repeat(count, [vectors.fill(words, 0)] * parts, add_tap)

    (bright,) = sums(luma_taps, luma_weights, luma, LUMA_BYTES, 1)
    if isinstance(luma_taps, int):
        chroma_weights = vectors.at(luma_weights, 4 * luma_taps)
    else:
        chroma_weights = builder.add(luma_weights, builder.mul(luma_taps, ir.Constant(i64, 4)))
    blue, red = sums(chroma_taps, chroma_weights, chroma, CHROMA_BYTES, 2)
    return bright, blue, red


def _to_rgb(vectors: Vectors, bright, blue, red):
    """Y, U and V as R, G and B, int16 in whole grey levels, not yet held to 0 … 255."""
    builder, words = vectors.builder, bright.type

    def times(value, factor):
        return vectors.multiply_round(value, vectors.fill(words, factor))

    green = builder.add(times(blue, _U_TO_GREEN), times(red, _V_TO_GREEN))
    colours = (
        vectors.add_saturated(bright, builder.add(red, times(red, _V_TO_RED))),
        vectors.subtract_saturated(bright, green),
        vectors.add_saturated(bright, builder.add(blue, times(blue, _U_TO_BLUE))),
    )
    return [builder.ashr(colour, vectors.fill(words, _FRACTION)) for colour in colours]


def _pixels(vectors: Vectors, red, green, blue):
    """Pixels of four bytes, the fourth anything: int32[8] of rows 0-3 and 8-11, and of rows 4-7 and 12-15."""
    words, builder = ir.VectorType(i16, 16), vectors.builder
    red_blue, greens = vectors.pack_bytes_by_lane(red, blue), vectors.pack_bytes_by_lane(green, green)
    lower, upper = (builder.bitcast(vectors.interleave(red_blue, greens, upper), words) for upper in (False, True))
    return [builder.bitcast(vectors.interleave(lower, upper, later), ir.VectorType(i32, 8)) for later in (False, True)]


_THREE_OF_FOUR = [*(4 * pixel + colour for pixel in range(GROUP) for colour in range(3)), 15, 15, 15, 15]


def _store_twelve(vectors: Vectors, sixteen, address):
    """The first twelve bytes. (Left to itself, LLVM takes `insertq` for it, which costs more than all the rest.)"""
    builder = vectors.builder
    for kind, place in ((i64, 0), (i32, 2)):
        parts = builder.bitcast(sixteen, ir.VectorType(kind, 128 // kind.width))
        vectors.store(builder.extract_element(parts, ir.Constant(i32, place)), vectors.at(address, 4 * place))


def _make_group(luma_taps: int, chroma_taps: int, spills: bool):
    """Words: (target, target_stride, records, luma, chroma, luma taps, chroma taps). Four columns of 16 rows.

    Taps of 0 take their number from the words. With `spills`, four bytes more are written in each row: one
    store instead of two, for groups that others follow.
    """

    def body(vectors: Vectors, target, target_stride, records, luma, chroma, luma_count, chroma_count):
        builder = vectors.builder
        taps = (luma_taps, chroma_taps) if luma_taps else (luma_count, chroma_count)
        record_bytes = builder.mul(builder.add(luma_count, chroma_count), ir.Constant(i64, 4))
        record_bytes = builder.add(record_bytes, ir.Constant(i64, 4 * OFFSETS))
        columns = []
        for lane in range(GROUP):
            if luma_taps:
                record = vectors.at(records, 4 * (OFFSETS + luma_taps + chroma_taps) * lane)
            else:
                record = builder.add(records, builder.mul(record_bytes, ir.Constant(i64, lane)))
            columns.append(_pixels(vectors, *_to_rgb(vectors, *_column_sums(vectors, record, luma, chroma, taps))))
        for part in range(2):
            lines = [column[part] for column in columns]
            for _ in range(2):
                lines = [
                    vectors.interleave(lines[index], lines[index + 2], upper)
                    for index in range(2)
                    for upper in (False, True)
                ]
            for index, line in enumerate(lines):
                samples = builder.bitcast(line, ir.VectorType(i8, 32))
                for lane in range(2):
                    row = ir.Constant(i64, 8 * lane + 4 * part + index)
                    place = builder.add(target, builder.mul(target_stride, row))
                    pixels = vectors.pick(samples, None, [16 * lane + byte for byte in _THREE_OF_FOUR])
                    if spills:
                        vectors.store(pixels, place)
                    else:
                        _store_twelve(vectors, pixels, place)

    return vector_kernel(body, 7)


_group_2, _group_3, _group_4 = (_make_group(*taps, True) for taps in ((2, 2), (3, 2), (4, 3)))
_group_any = _make_group(0, 0, False)


@compiled
def make_block(records, luma_taps, chroma_taps, luma, chroma, target, target_stride, first_group, stop_group, width):
    """Some groups of four columns of `ROWS` target rows; in order, since a group may spill into the next.

    Args:
        records: address of int32[target columns, `OFFSETS` + luma_taps + chroma_taps]: where a column's first
            luma and chroma lie, in bytes from `luma` and `chroma`, and their doubled weights.
        luma_taps, chroma_taps: (2, 2), (3, 2), (4, 3) or anything, which is slower.
        luma, chroma: addresses of the turned columns.
        target, target_stride: address of the block's first row, and bytes from one row to the next.
        first_group, stop_group: a last group that would reach over the end is moved back.
        width: of the target, at least `GROUP`.
    """
    record_bytes = 4 * (OFFSETS + luma_taps + chroma_taps)
    spilling = (3 * width - 4) // (3 * GROUP)
    for group in range(first_group, stop_group):
        column = min(GROUP * group, width - GROUP)
        place, record = target + 3 * column, records + record_bytes * column
        if group >= spilling or luma_taps > 4:
            _group_any((place, target_stride, record, luma, chroma, luma_taps, chroma_taps))
        elif luma_taps == 2:
            _group_2((place, target_stride, record, luma, chroma, luma_taps, chroma_taps))
        elif luma_taps == 3:
            _group_3((place, target_stride, record, luma, chroma, luma_taps, chroma_taps))
        else:
            _group_4((place, target_stride, record, luma, chroma, luma_taps, chroma_taps))
