"""Crop, resize and mirror an RGB image in one go.

The two axes are separate sums of *taps*, source samples times weights (`ffx.kernels.taps` has the rules,
`ffx.kernels.passes` and `ffx.kernels.spread_passes` the vector steps). Where the image shrinks, a target row's source
rows are summed first, and then the columns of that sum. Where it grows, each source row's columns are made first, once
for all target rows that want it. Weights are int16 whose sum is exactly one, so a flat area keeps its
value. The mirror costs nothing: the columns' table is written backwards.

Very strong reductions (more than `MOST_TAPS` taps) need finer weights than 15 bits, and pictures of a few
pixels fit into no vector: both go through a plain float path.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .compiling import compiled
from .memory import array_at, copy_bytes, scratch
from .passes import (
    COLUMN_ONE,
    GROUP,
    GROUP_WEIGHT_BYTES,
    PAIR_BYTES,
    ROW_ONE,
    column_table,
    make_row,
    prefetch_row,
    sum_row,
)
from .spread_passes import LEAST_SPREAD, SPREAD_GROUP_BYTES, blend_rows, spread_row, spread_table
from .step import NO_MEMORY, OK, OUT_OF_FILE
from .taps import AREA_MEAN, TRIANGLE, axis_rule, axis_table, float_taps, most_taps

__all__ = ["MOST_TAPS", "resize_crop"]

_ALIGNMENT = 64  # of what vector steps read and write: a cache line

# Above this many taps on an axis the 16-bit weights' errors could add up to a grey level.
MOST_TAPS = 32

# Source rows are asked for so many target rows (rows first) or source rows (columns first) ahead.
_TARGET_ROWS_AHEAD = 3
_SOURCE_ROWS_AHEAD = 4


@njit(inline="always")
def _aligned(count):
    return (count + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT


@compiled
def _resize_float(
    source, stride, height, width, target, target_height, target_width, row_rule, column_rule, flip, thread
):
    """The plain path: any number of taps, float32 sums."""
    samples = 3 * width
    most = max(most_taps(row_rule, height, target_height), most_taps(column_rule, width, target_width))
    block = scratch(thread, 0, 8 * most + 4 * samples)
    if block == 0:
        return NO_MEMORY
    weights = array_at(block, (most,), np.float64)
    sums = array_at(block + 8 * most, (samples,), np.float32)
    for row in range(target_height):
        first, count = float_taps(row_rule, height, target_height, row, weights)
        sums[:] = np.float32(0.0)
        for tap in range(count):
            weight = np.float32(weights[tap])
            pixels = array_at(source + (first + tap) * stride, (samples,), np.uint8)
            for sample in range(samples):
                sums[sample] += weight * np.float32(pixels[sample])
        out = array_at(target + 3 * target_width * row, (target_width, 3), np.uint8)
        for place in range(target_width):
            first, count = float_taps(column_rule, width, target_width, place, weights)
            column = target_width - 1 - place if flip else place
            for channel in range(3):
                total = 0.0
                for tap in range(count):
                    total += weights[tap] * sums[3 * (first + tap) + channel]
                out[column, channel] = np.uint8(min(max(np.rint(total), 0.0), 255.0))
    return OK


@njit(inline="always")
def _axis_bytes(taps, target_length):
    """Memory of an axis's firsts, counts and weights."""
    return _aligned(4 * target_length * (taps + 3))


@njit(inline="always")
def _axis_arrays(place, taps, target_length):
    firsts = array_at(place, (target_length,), np.int32)
    counts = array_at(place + 4 * target_length, (target_length,), np.int32)
    weights = array_at(place + 8 * target_length, (taps + 1, target_length), np.int32)
    return firsts, counts, weights


@compiled
def _rows_first(
    source, stride, height, width, target, target_height, target_width, row_rule, column_rule, flip, thread
):
    """At most `MOST_TAPS` taps an axis, at least four target columns."""
    row_taps, column_taps = most_taps(row_rule, height, target_height), most_taps(column_rule, width, target_width)
    groups = (target_width + GROUP - 1) // GROUP
    samples = 3 * width
    # A vector step reads 8 int16 from a pair's place, which may lie past the row's last sample.
    row_bytes = _aligned(2 * samples + PAIR_BYTES * column_taps // 2 + 64)
    offset_bytes = _aligned(16 * groups)
    row_axis, column_axis = _axis_bytes(row_taps, target_height), _axis_bytes(column_taps, target_width)
    table_bytes = groups * column_taps // 2 * GROUP_WEIGHT_BYTES
    block = scratch(thread, 0, _ALIGNMENT + row_bytes + offset_bytes + row_axis + column_axis + table_bytes)
    if block == 0:
        return NO_MEMORY
    row = _aligned(block)
    offsets = row + row_bytes
    firsts, counts, weights = _axis_arrays(offsets + offset_bytes, row_taps, target_height)
    column_place = offsets + offset_bytes + row_axis
    column_firsts, column_counts, column_weights = _axis_arrays(column_place, column_taps, target_width)
    table = column_place + column_axis
    axis_table(row_rule, height, target_height, ROW_ONE, firsts, counts, weights)
    most = axis_table(column_rule, width, target_width, COLUMN_ONE, column_firsts, column_counts, column_weights)
    pairs = (most + 1) // 2
    # The second of a last pair may be a tap that nobody has.
    if most % 2 == 1:
        column_weights[most, :] = 0
    column_table(
        target_width, flip, pairs, column_firsts, column_weights, array_at(offsets, (groups, GROUP), np.int32), table
    )
    target_stride = 3 * target_width
    asked = np.int64(0)
    for index in range(target_height):
        first, count = np.int64(firsts[index]), np.int64(counts[index])
        place = target + target_stride * index
        # Enlarging repeats rows.
        if index > 0 and count == 1 and counts[index - 1] == 1 and firsts[index - 1] == first:
            copy_bytes(place, place - target_stride, target_stride)
            continue
        ahead = min(index + _TARGET_ROWS_AHEAD, target_height - 1)
        while asked < firsts[ahead] + counts[ahead]:
            prefetch_row(source + asked * stride, samples)
            asked += 1
        sum_row(source + first * stride, stride, samples, count, weights, index, row)
        make_row(row, offsets, table, groups, pairs, place, target_width)
    return OK


@compiled
def _columns_first(
    source, stride, height, width, target, target_height, target_width, row_rule, column_rule, flip, thread
):
    """Two taps on both axes, no wider than the target, at least `LEAST_SPREAD` bytes and four target columns."""
    row_bytes = _aligned(8 * target_width)
    row_axis, column_axis = _axis_bytes(4, target_height), _axis_bytes(4, target_width)
    table_bytes = (target_width + GROUP - 1) // GROUP * SPREAD_GROUP_BYTES
    block = scratch(thread, 0, _ALIGNMENT + 2 * row_bytes + row_axis + column_axis + table_bytes)
    if block == 0:
        return NO_MEMORY
    rows = _aligned(block)
    firsts, counts, weights = _axis_arrays(rows + 2 * row_bytes, 4, target_height)
    column_place = rows + 2 * row_bytes + row_axis
    column_firsts, column_counts, column_weights = _axis_arrays(column_place, 4, target_width)
    table = column_place + column_axis
    axis_table(row_rule, height, target_height, ROW_ONE, firsts, counts, weights)
    axis_table(column_rule, width, target_width, COLUMN_ONE, column_firsts, column_counts, column_weights)
    samples = 3 * width
    spread_table(samples, target_width, flip, column_firsts, column_weights, table)
    target_stride = 3 * target_width
    asked = np.int64(0)
    # The source rows below this one were spread; the last two of them are kept, by their lowest bit.
    spread = np.int64(firsts[0])
    for index in range(target_height):
        first, count = np.int64(firsts[index]), np.int64(counts[index])
        place = target + target_stride * index
        if index > 0 and count == 1 and counts[index - 1] == 1 and firsts[index - 1] == first:
            copy_bytes(place, place - target_stride, target_stride)
            continue
        while asked < min(first + count + _SOURCE_ROWS_AHEAD, height):
            prefetch_row(source + asked * stride, samples)
            asked += 1
        # Rows that nobody wants are left out.
        spread = max(spread, first)
        while spread < first + count:
            spread_row(source + spread * stride, table, target_width, rows + row_bytes * (spread & 1))
            spread += 1
        blend_rows(
            rows + row_bytes * (first & 1),
            rows + row_bytes * ((first + 1) & 1),
            np.int64(weights[0, index]),
            np.int64(weights[1, index]),
            place,
            target_width,
        )
    return OK


@compiled
def _copy(source, stride, height, width, target):
    for row in range(height):
        copy_bytes(target + 3 * width * row, source + stride * row, 3 * width)


@compiled
def resize_crop(
    source,
    source_stride,
    source_height,
    source_width,
    top,
    left,
    height,
    width,
    target,
    target_height,
    target_width,
    flip,
    interpolation,
    thread,
):
    """Resize a crop of an RGB uint8 image, and mirror it if `flip` is not 0; all arguments int64.

    Results are within one grey level of `cv2.resize(crop, (target_width, target_height),
    interpolation=cv2.INTER_AREA)`, of torchvision's antialiased bilinear `resize` or of plain bilinear;
    equal sizes copy exactly. Nothing outside the crop is read, nothing outside the target written.

    Args:
        source, source_stride: address of the image's first row, and bytes from one row to the next.
        source_height, source_width: in pixels.
        top, left, height, width: the crop, at least one pixel, within the image.
        target: address of `target_height` rows of `3 * target_width` bytes.
        flip: 1 mirrors left and right.
        interpolation: `AREA`, `ANTIALIAS` or `BILINEAR` of `ffx.kernels.taps`.
        thread: address of the thread's words; scratch area 0 is used.

    Returns:
        A status of `ffx.kernels.step`: `OK`, `NO_MEMORY`, or `OUT_OF_FILE` for a crop outside the image.
    """
    if top < 0 or left < 0 or height < 1 or width < 1:
        return OUT_OF_FILE
    if top + height > source_height or left + width > source_width:
        return OUT_OF_FILE
    if target_height < 1 or target_width < 1:
        return OK
    source += top * source_stride + 3 * left
    if height == target_height and width == target_width and flip == 0:
        _copy(source, source_stride, height, width, target)
        return OK
    row_rule = axis_rule(interpolation, height, target_height, width, target_width)
    column_rule = axis_rule(interpolation, width, target_width, height, target_height)
    most = max(most_taps(row_rule, height, target_height), most_taps(column_rule, width, target_width))
    two_taps = row_rule != AREA_MEAN and row_rule != TRIANGLE and column_rule != AREA_MEAN and column_rule != TRIANGLE
    if most > MOST_TAPS or target_width < GROUP:
        return _resize_float(
            source, source_stride, height, width, target, target_height, target_width, row_rule, column_rule,
            flip != 0, thread,
        )  # fmt: skip
    if two_taps and height <= target_height and width <= target_width and 3 * width >= LEAST_SPREAD:
        return _columns_first(
            source, source_stride, height, width, target, target_height, target_width, row_rule, column_rule,
            flip != 0, thread,
        )  # fmt: skip
    return _rows_first(
        source, source_stride, height, width, target, target_height, target_width, row_rule, column_rule,
        flip != 0, thread,
    )  # fmt: skip
