"""The passes of a resize that shrinks, in vector steps: rows first.

`sum_row` sums a target row's source rows into one row of int16 with 7 fractional bits; `make_row` sums its columns
into the target's pixels. `ffx.kernels.spread_passes` has the passes of one that enlarges.

All addresses and sizes are int64. Weights are integers: `ROW_ONE` or `COLUMN_ONE` stands for 1.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from .compiling import compiled
from .memory import array_at
from .simd import Vectors, i8, i16, i32, i64, vector_kernel

__all__ = [
    "BLOCK",
    "COLUMN_ONE",
    "FRACTION",
    "GROUP",
    "GROUP_WEIGHT_BYTES",
    "PAIR_BYTES",
    "ROW_ONE",
    "WITHOUT_FOURTHS",
    "column_table",
    "make_row",
    "prefetch_row",
    "sum_row",
]

ROW_ONE = 1 << 15
COLUMN_ONE = 1 << 14
BLOCK = 32  # source bytes that one vector step of the rows' pass takes
GROUP = 4  # target pixels that one vector step of the columns' pass makes

FRACTION = 7  # bits behind the point, between the passes
_LINE = 64  # bytes of a cache line


# Rows


def _weighed_row(vectors: Vectors, address, weight):
    """One row's 32 samples, with 7 fractional bits, times a weight (i64 with 15 fractional bits)."""
    builder, words = vectors.builder, ir.VectorType(i16, BLOCK)
    samples = vectors.widen(vectors.load(address, ir.VectorType(i8, BLOCK)), i16)
    samples = builder.shl(samples, vectors.fill(words, FRACTION))
    return vectors.multiply_round(samples, vectors.spread(builder.trunc(weight, i16), BLOCK))


def _sum_rows(taps: int):
    """Words: (target int16[32], source, stride, weight, …). Sums `taps` rows of 32 bytes."""

    def body(vectors: Vectors, target, source, stride, *weights):
        builder = vectors.builder
        total = _weighed_row(vectors, source, weights[0])
        for weight in weights[1:]:
            source = builder.add(source, stride)
            total = builder.add(total, _weighed_row(vectors, source, weight))
        vectors.store(total, target)

    return vector_kernel(body, 3 + taps)


def _sum_any_rows():
    """Words: (target int16[32], source, stride, weights, weight_bytes, taps); a weight is an int32."""

    def body(vectors: Vectors, target, source, stride, weights, weight_bytes, taps):
        builder = vectors.builder

        def add_tap(tap, totals):
            weight = vectors.load(builder.add(weights, builder.mul(tap, weight_bytes)), i32)
            row = builder.add(source, builder.mul(stride, tap))
            return [builder.add(totals[0], _weighed_row(vectors, row, builder.sext(weight, i64)))]

        totals = vectors.repeat(taps, [vectors.fill(ir.VectorType(i16, BLOCK), 0)], add_tap)
        vectors.store(totals[0], target)

    return vector_kernel(body, 6)


def _copy_row():
    """Words: (target int16[32], source). One row with weight one."""

    def body(vectors: Vectors, target, source):
        samples = vectors.widen(vectors.load(source, ir.VectorType(i8, BLOCK)), i16)
        vectors.store(vectors.builder.shl(samples, vectors.fill(samples.type, FRACTION)), target)

    return vector_kernel(body, 2)


_row_1 = _copy_row()
_rows_2, _rows_3, _rows_4 = (_sum_rows(taps) for taps in (2, 3, 4))
_rows_any = _sum_any_rows()
_prefetch = vector_kernel(Vectors.prefetch, 1)


@compiled
def prefetch_row(address, count):
    """Ask for `count` bytes: rows of a crop are too short for the processor to see them coming."""
    for offset in range(0, count, _LINE):
        _prefetch((address + offset,))
    # The last byte may lie in a line of its own.
    _prefetch((address + count - 1,))


@compiled
def _narrow_row(source, stride, samples, count, weights, place, row):
    """`_wide_row` for a few samples, one at a time: nothing is read beyond them."""
    pixels = array_at(source, ((count - 1) * stride + samples,), np.uint8)
    for sample in range(samples):
        if count == 1:
            row[sample] = np.int16(np.int64(pixels[sample]) << FRACTION)
            continue
        total = 0
        for tap in range(count):
            weight = min(np.int64(weights[tap, place]), 32767)
            total += ((np.int64(pixels[tap * stride + sample]) << FRACTION) * weight + (1 << 14)) >> 15
        row[sample] = total


@compiled
def _wide_row(source, stride, samples, count, weights, place, row):
    """Sum `count` source rows of at least 32 samples into int16; the last block overlaps the one before."""
    last = samples - BLOCK
    # A weight of one does not fit into 15 bits; a pixel loses 1/128 of a grey level there, which no result shows.
    weight_0, weight_1 = min(weights[0, place], 32767), min(weights[1, place], 32767)
    weight_2, weight_3 = weights[2, place], weights[3, place]
    start = 0
    while True:
        if count == 1:
            while start <= last:
                _row_1((row + 2 * start, source + start))
                start += BLOCK
        elif count == 2:
            while start <= last:
                _rows_2((row + 2 * start, source + start, stride, weight_0, weight_1))
                start += BLOCK
        elif count == 3:
            while start <= last:
                _rows_3((row + 2 * start, source + start, stride, weight_0, weight_1, weight_2))
                start += BLOCK
        elif count == 4:
            while start <= last:
                _rows_4((row + 2 * start, source + start, stride, weight_0, weight_1, weight_2, weight_3))
                start += BLOCK
        else:
            first_weight = weights.ctypes.data + 4 * place
            while start <= last:
                _rows_any((row + 2 * start, source + start, stride, first_weight, 4 * weights.shape[1], count))
                start += BLOCK
        if start >= samples:
            break
        start = last


@compiled
def sum_row(source, stride, samples, count, weights, place, row):
    """Sum the source rows of one target row.

    Args:
        source, stride: address of the first of them, and bytes from one to the next.
        samples: bytes of a row.
        count: rows.
        weights: int32[taps, target rows], at least four rows of it readable; `ROW_ONE` is 1.
        place: the target row.
        row: address of int16[samples], set.
    """
    if samples < BLOCK:
        _narrow_row(source, stride, samples, count, weights, place, array_at(row, (samples,), np.int16))
    else:
        _wide_row(source, stride, samples, count, weights, place, row)


# Columns of a summed row

# Where a pixel's two neighbours (r0 g0 b0 r1 g1 b1 and what follows) go, so that the two samples of a
# colour lie together.
_PAIRED = [0, 3, 1, 4, 2, 5, 6, 7]
GROUP_WEIGHT_BYTES = 64  # of one pair of taps of a group: 4 pixels x 4 times two int16
PAIR_BYTES = 12  # from a pair of taps to the next in the summed row
WITHOUT_FOURTHS = [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14]  # the bytes of four pixels of four


def _group_sums(vectors: Vectors, starts, weights, step):
    """One pair of taps of four pixels: `starts` their addresses, `step` and `weights` the pair's; int32[16]."""
    builder, eight = vectors.builder, ir.VectorType(i16, 8)
    pixels = [vectors.load(builder.add(start, step), eight) for start in starts]
    paired = [vectors.pick(a, b, _PAIRED + [8 + index for index in _PAIRED]) for a, b in (pixels[:2], pixels[2:])]
    return vectors.multiply_add_pairs(vectors.join(*paired), vectors.load(weights, ir.VectorType(i16, 32)))


def _sum_columns(pairs: int, spills: bool):
    """Words: (target u8[12], row int16, offsets int32[4], weights, pairs). Makes four pixels.

    `pairs` 0 takes the number of pairs from the words. With `spills`, four bytes more are written: one
    store instead of two, for groups that others follow.
    """

    def body(vectors: Vectors, target, row, offsets, weights, count):
        builder = vectors.builder
        starts = [
            builder.add(row, builder.zext(vectors.load(vectors.at(offsets, 4 * pixel), i32), i64))
            for pixel in range(GROUP)
        ]

        def add_pair(pair, totals):
            place = builder.add(weights, builder.mul(pair, ir.Constant(i64, GROUP_WEIGHT_BYTES)))
            step = builder.mul(pair, ir.Constant(i64, PAIR_BYTES))
            return [builder.add(totals[0], _group_sums(vectors, starts, place, step))]

        shift = FRACTION + 14
        # Begin with a half, so that the shift rounds.
        totals = [vectors.fill(ir.VectorType(i32, 16), 1 << (shift - 1))]
        if pairs:
            for pair in range(pairs):
                totals = add_pair(ir.Constant(i64, pair), totals)
        else:
            totals = vectors.repeat(count, totals, add_pair)
        samples = vectors.saturate_to_bytes(builder.ashr(totals[0], vectors.fill(totals[0].type, shift)))
        order = WITHOUT_FOURTHS + ([15, 15, 15, 15] if spills else [])
        vectors.store(vectors.pick(samples, None, order), target)

    return vector_kernel(body, 5)


_columns_1, _columns_2, _columns_3 = (_sum_columns(pairs, True) for pairs in (1, 2, 3))
_columns_any = _sum_columns(0, False)


def _arrange_pair(flip: bool):
    """Words: (table, first weights int32[4], second weights int32[4]). A group's pair of weights."""

    def body(vectors: Vectors, table, first, second):
        builder, four = vectors.builder, ir.VectorType(i32, GROUP)
        low = builder.and_(vectors.load(first, four), vectors.fill(four, 0xFFFF))
        words = builder.or_(low, builder.shl(vectors.load(second, four), vectors.fill(four, 16)))
        lanes = reversed(range(GROUP)) if flip else range(GROUP)
        vectors.store(vectors.pick(words, None, [lane for lane in lanes for _ in range(4)]), table)

    return vector_kernel(body, 3)


_arrange, _arrange_flipped = _arrange_pair(False), _arrange_pair(True)


@compiled
def column_table(target_width, flip, pairs, firsts, weights, offsets, table):
    """Arrange the columns' taps for `make_row`: pixels in groups of four, mirrored if `flip`.

    Args:
        target_width: at least four pixels.
        pairs: of taps of a pixel.
        firsts, weights: int32[target_width], int32[taps, target_width] (`ffx.kernels.taps.axis_table`).
        offsets: int32[groups, 4], set to the bytes from the row's begin to a pixel's first tap.
        table: address of `GROUP_WEIGHT_BYTES` for each pair of each group, set.

    A last group that would reach over the end is moved back.
    """
    taps, row_bytes = weights.ctypes.data, 4 * weights.shape[1]
    for group in range(offsets.shape[0]):
        begin = min(GROUP * group, target_width - GROUP)
        if flip:
            begin = target_width - GROUP - begin
        for lane in range(GROUP):
            offsets[group, lane] = 6 * firsts[begin + (GROUP - 1 - lane if flip else lane)]
        for pair in range(pairs):
            place = table + GROUP_WEIGHT_BYTES * (group * pairs + pair)
            first = taps + 2 * pair * row_bytes + 4 * begin
            if flip:
                _arrange_flipped((place, first, first + row_bytes))
            else:
                _arrange((place, first, first + row_bytes))


@compiled
def make_row(row, offsets, table, groups, pairs, target, target_width):
    """The target row from a summed row: `3 * target_width` bytes at `target`; at least four pixels."""
    step = pairs * GROUP_WEIGHT_BYTES
    # So many groups may write four bytes more than their own.
    spilling = (3 * target_width - 4) // 12
    if pairs == 1:
        for group in range(spilling):
            _columns_1((target + 12 * group, row, offsets + 16 * group, table + step * group, pairs))
    elif pairs == 2:
        for group in range(spilling):
            _columns_2((target + 12 * group, row, offsets + 16 * group, table + step * group, pairs))
    elif pairs == 3:
        for group in range(spilling):
            _columns_3((target + 12 * group, row, offsets + 16 * group, table + step * group, pairs))
    else:
        spilling = np.int64(0)
    for group in range(spilling, groups):
        place = target + min(12 * group, 3 * (target_width - GROUP))
        _columns_any((place, row, offsets + 16 * group, table + step * group, pairs))
