"""Shrink an RGB image by area averaging to exactly the bytes of OpenCV's `INTER_AREA`, in vector code.

OpenCV sums in float32, first along a source row, then over the rows, tap after tap; its loop over the
taps is plain code for three channels. Here the same products are added in the same order, so that every
rounding is the same, but for two pixels at a time. That order is the whole contract: nothing may be
regrouped, no product and sum may become one operation.

For the loader, where a grey level more or less does not matter, `ffx.kernels.resize` is several times faster.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit

from .compiling import compiled
from .memory import array_at, copy_bytes, scratch
from .simd import Vectors, i8, i32, i64, vector_kernel
from .step import NO_MEMORY, OK, OUT_OF_FILE

__all__ = ["shrink_area"]

_PAIR = 2  # target pixels that one vector step along a row makes
_BLOCK = 16  # samples that one vector step over the rows makes
_f32 = ir.FloatType()
_four, _eight, _sixteen = (ir.VectorType(_f32, count) for count in (4, 8, 16))
_PAIR_BYTES = 32  # of a pair's weights for one tap: two times four float32
_PIXEL_BYTES = 12  # of three float32
# Adding it leaves no fractional bits: the sum is rounded to the nearest integer, halves to the even one.
_ROUNDS = 12582912.0
_ROUNDS_BITS = 0x4B400000


def _filled(kind: ir.VectorType, value: float) -> ir.Constant:
    return ir.Constant(kind, [ir.Constant(kind.element, value)] * kind.count)


def _spread(vectors: Vectors, address, kind: ir.VectorType):
    return vectors.spread(vectors.load(address, _f32), kind.count)


def _widen_row():
    """Words: (target float32[16], source u8[16])."""

    def body(vectors: Vectors, target, source):
        samples = vectors.widen(vectors.load(source, ir.VectorType(i8, _BLOCK)), i32)
        vectors.store(vectors.builder.sitofp(samples, _sixteen), target)

    return vector_kernel(body, 2)


def _sum_taps(taps: int):
    """Words: (target float32[8], source row, its two pixels' offsets int64[2], weights, taps): two target pixels.

    `taps` 0 takes the number of taps from the words.
    """

    def body(vectors: Vectors, target, row, offsets, weights, count):
        builder = vectors.builder
        starts = [builder.add(row, vectors.load(vectors.at(offsets, place), i64)) for place in (0, 8)]

        def product(tap):
            step = builder.mul(tap, ir.Constant(i64, _PIXEL_BYTES))
            pixels = [vectors.load(builder.add(start, step), _four) for start in starts]
            place = builder.add(weights, builder.mul(tap, ir.Constant(i64, _PAIR_BYTES)))
            return builder.fmul(vectors.join(*pixels), vectors.load(place, _eight))

        if taps:
            total = product(ir.Constant(i64, 0))
            for tap in range(1, taps):
                total = builder.fadd(total, product(ir.Constant(i64, tap)))
        else:
            nothing = [_filled(_eight, 0.0)]
            (total,) = vectors.repeat(count, nothing, lambda tap, sums: [builder.fadd(sums[0], product(tap))])
        vectors.store(vectors.pick(total, None, [0, 1, 2, 4, 5, 6, 6, 6]), target)

    return vector_kernel(body, 5)


def _sum_rows(taps: int):
    """Words: (target u8[16], addresses of the rows int64[taps], weights float32[taps], byte offset, taps).

    `taps` 0 takes the number of taps from the words.
    """

    def body(vectors: Vectors, target, rows, weights, offset, count):
        builder = vectors.builder

        def product(tap):
            row = vectors.load(builder.add(rows, builder.mul(tap, ir.Constant(i64, 8))), i64)
            weight = _spread(vectors, builder.add(weights, builder.mul(tap, ir.Constant(i64, 4))), _sixteen)
            return builder.fmul(vectors.load(builder.add(row, offset), _sixteen), weight)

        if taps:
            total = product(ir.Constant(i64, 0))
            for tap in range(1, taps):
                total = builder.fadd(total, product(ir.Constant(i64, tap)))
        else:
            nothing = [_filled(_sixteen, 0.0)]
            (total,) = vectors.repeat(count, nothing, lambda tap, sums: [builder.fadd(sums[0], product(tap))])
        kind = ir.VectorType(i32, _BLOCK)
        whole = builder.bitcast(builder.fadd(total, _filled(_sixteen, _ROUNDS)), kind)
        vectors.store(vectors.saturate_to_bytes(builder.sub(whole, vectors.fill(kind, _ROUNDS_BITS))), target)

    return vector_kernel(body, 5)


_widen_16 = _widen_row()
_taps_2, _taps_3, _taps_4, _taps_any = (_sum_taps(taps) for taps in (2, 3, 4, 0))
_rows_2, _rows_3, _rows_4, _rows_any = (_sum_rows(taps) for taps in (2, 3, 4, 0))


@compiled
def _axis_table(length, target_length, firsts, counts, weights):
    """Each target sample's first source sample, its number of taps and their float32 weights, as OpenCV has them.

    Args:
        weights: float32[target_length, most taps]; what a sample does not use is set to 0.

    Returns:
        The largest number of taps.
    """
    scale = 1.0 / (np.float64(target_length) / np.float64(length))
    largest = np.int64(1)
    weights[:] = np.float32(0.0)
    for place in range(target_length):
        start = place * scale
        stop = start + scale
        cell = min(scale, length - start)
        last = min(np.int64(np.floor(stop)), length - 1)
        first = min(np.int64(np.ceil(start)), last)
        begin, count = first, 0
        if first - start > 1e-3:
            begin, count = first - 1, 1
            weights[place, 0] = np.float32((first - start) / cell)
        for _ in range(first, last):
            weights[place, count] = np.float32(1.0 / cell)
            count += 1
        if stop - last > 1e-3:
            weights[place, count] = np.float32(min(stop - last, 1.0, cell) / cell)
            count += 1
        firsts[place], counts[place] = begin, count
        largest = max(largest, count)
    return largest


@compiled
def _pair_table(target_width, taps, firsts, weights, offsets, table):
    """The columns' taps as the vector step reads them: byte offsets int64[pairs, 2], float32[pairs, taps, 2, 4]."""
    for pair in range(table.shape[0]):
        for lane in range(_PAIR):
            place = min(_PAIR * pair + lane, target_width - 1)
            offsets[pair, lane] = _PIXEL_BYTES * firsts[place]
            for tap in range(taps):
                for copy in range(4):
                    table[pair, tap, lane, copy] = weights[place, tap]


@compiled
def _sum_columns(wide, offsets, table, pairs, taps, row):
    """One source row's samples (float32, at `wide`) into target pixels (float32, at `row`)."""
    step = taps * _PAIR_BYTES
    if taps == 3:
        for pair in range(pairs):
            _taps_3((row + 24 * pair, wide, offsets + 16 * pair, table + step * pair, taps))
    elif taps == 2:
        for pair in range(pairs):
            _taps_2((row + 24 * pair, wide, offsets + 16 * pair, table + step * pair, taps))
    elif taps == 4:
        for pair in range(pairs):
            _taps_4((row + 24 * pair, wide, offsets + 16 * pair, table + step * pair, taps))
    else:
        for pair in range(pairs):
            _taps_any((row + 24 * pair, wide, offsets + 16 * pair, table + step * pair, taps))


@compiled
def _widen(source, samples, wide):
    """One source row as float32."""
    blocks = samples // _BLOCK
    for block in range(blocks):
        _widen_16((wide + 4 * _BLOCK * block, source + _BLOCK * block))
    pixels, floats = array_at(source, (samples,), np.uint8), array_at(wide, (samples,), np.float32)
    for sample in range(_BLOCK * blocks, samples):
        floats[sample] = np.float32(pixels[sample])


@compiled
def _make_row(target, blocks, rows, weights, taps):
    """A target row's bytes from summed rows, whose addresses stand at `rows`."""
    if taps == 2:
        for block in range(blocks):
            _rows_2((target + _BLOCK * block, rows, weights, 4 * _BLOCK * block, taps))
    elif taps == 3:
        for block in range(blocks):
            _rows_3((target + _BLOCK * block, rows, weights, 4 * _BLOCK * block, taps))
    elif taps == 4:
        for block in range(blocks):
            _rows_4((target + _BLOCK * block, rows, weights, 4 * _BLOCK * block, taps))
    else:
        for block in range(blocks):
            _rows_any((target + _BLOCK * block, rows, weights, 4 * _BLOCK * block, taps))


@njit(inline="always")
def _aligned(count):
    return (count + 63) // 64 * 64


@compiled
def shrink_area(source, stride, height, width, target, target_height, target_width, thread):
    """Shrink a picture to the bytes of `cv2.resize(…, interpolation=cv2.INTER_AREA)`; all arguments int64.

    Args:
        source, stride: address of RGB uint8 rows, and bytes from one to the next.
        height, width: in pixels.
        target: address of `target_height` rows of `3 * target_width` bytes.
        target_height, target_width: neither larger than the source's. Where both divide the source's
            sides, OpenCV goes another way, which is not the one here.
        thread: address of the thread's words; scratch area 0 is used.

    Returns:
        A status of `ffx.kernels.step`: `OK`, `NO_MEMORY`, or `OUT_OF_FILE` for impossible sides.
    """
    if target_height < 1 or target_width < 1 or target_height > height or target_width > width:
        return OUT_OF_FILE
    row_taps, column_taps = height // target_height + 3, width // target_width + 3
    samples, target_samples = 3 * width, 3 * target_width
    pairs, blocks = (target_width + 1) // _PAIR, (target_samples + _BLOCK - 1) // _BLOCK
    # A tap that a pixel does not use has weight 0 and may lie past the row's end; a step reads 4 and writes 8.
    wide_bytes = _aligned(4 * (samples + 3 * column_taps + 8))
    row_bytes = _aligned(4 * (_BLOCK * blocks + 8))
    axis_bytes = _aligned(16 * target_height + 4 * target_height * row_taps)
    column_bytes = _aligned(16 * target_width + 4 * target_width * column_taps)
    offset_bytes = _aligned(16 * pairs)
    table_bytes = _aligned(pairs * column_taps * _PAIR_BYTES)
    made_bytes, list_bytes = _aligned(_BLOCK * blocks), _aligned(8 * row_taps)
    total = wide_bytes + row_taps * row_bytes + axis_bytes + column_bytes + offset_bytes + table_bytes
    wide = scratch(thread, 0, total + made_bytes + list_bytes + 64)
    if wide == 0:
        return NO_MEMORY
    wide = _aligned(wide)
    rows = wide + wide_bytes
    axis = rows + row_taps * row_bytes
    columns = axis + axis_bytes
    offsets = columns + column_bytes
    table = offsets + offset_bytes
    made = table + table_bytes
    chosen_place = made + made_bytes
    firsts = array_at(axis, (target_height,), np.int64)
    counts = array_at(axis + 8 * target_height, (target_height,), np.int64)
    weights = array_at(axis + 16 * target_height, (target_height, row_taps), np.float32)
    column_firsts = array_at(columns, (target_width,), np.int64)
    column_counts = array_at(columns + 8 * target_width, (target_width,), np.int64)
    column_weights = array_at(columns + 16 * target_width, (target_width, column_taps), np.float32)
    _axis_table(height, target_height, firsts, counts, weights)
    taps = max(_axis_table(width, target_width, column_firsts, column_counts, column_weights), 2)
    pair_offsets = array_at(offsets, (pairs, _PAIR), np.int64)
    pair_table = array_at(table, (pairs, taps, _PAIR, 4), np.float32)
    _pair_table(target_width, taps, column_firsts, column_weights, pair_offsets, pair_table)
    array_at(wide, (wide_bytes // 4,), np.float32)[samples:] = np.float32(0.0)
    chosen = array_at(chosen_place, (row_taps,), np.int64)
    summed = np.int64(0)
    for place in range(target_height):
        first, count = firsts[place], counts[place]
        # Two target rows may share a source row; a place is free again after `row_taps` rows.
        for row in range(max(first, summed), first + count):
            _widen(source + stride * row, samples, wide)
            _sum_columns(wide, offsets, table, pairs, taps, rows + row % row_taps * row_bytes)
        summed = first + count
        for tap in range(count):
            chosen[tap] = rows + (first + tap) % row_taps * row_bytes
        _make_row(made, blocks, chosen_place, weights[place].ctypes.data, count)
        copy_bytes(target + target_samples * place, made, target_samples)
    return OK
