"""Crop, resize and mirror an image of planar YUV 4:2:0, and make it RGB, in one go.

The planes lie one behind the other without gaps: Y (height x width), U and V (half of each, rounded up),
BT.601 over the full range as in JPEG. The result is that of repeating each sample of chroma for the (up to)
four pixels that it stands for, resizing the three planes by the rules of `ffx.kernels.taps`, converting to RGB
and only then holding the colours to 0 … 255. (Interpolating chroma instead is further from the RGB image that
was stored, because a sample of chroma is its pixels' mean.)

A target is made in blocks of rows. Source rows are summed into them as they lie; then the block is turned on
its side, so that summing columns needs no gathering either (`ffx.kernels.yuv_passes`). Strong reductions (more
than `MOST_TAPS` taps) need finer weights than 15 bits and go through a plain float path.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .compiling import compiled
from .memory import array_at, copy_bytes, scratch
from .passes import prefetch_row
from .step import NO_MEMORY, OK, OUT_OF_FILE
from .taps import axis_rule, float_taps, most_taps
from .yuv_passes import (
    CHROMA_BYTES,
    CHROMA_START,
    GROUP,
    LUMA_BYTES,
    LUMA_START,
    NARROWEST,
    OFFSETS,
    ROWS,
    SUMS_BYTES,
    make_block,
    sum_rows,
)
from .yuv_taps import axis_bytes, column_records, prepare_rows, read_axis

__all__ = ["MOST_TAPS", "resize_crop_yuv420", "yuv420_bytes"]

_ALIGNMENT = 64  # of what vector steps read and write: a cache line

# Above this many taps on an axis the 16-bit weights' errors could add up to a grey level.
MOST_TAPS = 32


@njit(inline="always")
def _aligned(count):
    return (count + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT


@njit(inline="always")
def yuv420_bytes(height, width):
    """Bytes of an image's three planes."""
    return height * width + 2 * ((height + 1) // 2) * ((width + 1) // 2)


@compiled
def _parts(source, source_height, source_width, top, left, height, width):
    """Where a crop's planes lie: `(address, stride, rows, columns)` of Y, U and V."""
    chroma_width = (source_width + 1) // 2
    first_row, first_column = top >> 1, left >> 1
    rows, columns = ((top + height - 1) >> 1) - first_row + 1, ((left + width - 1) >> 1) - first_column + 1
    blue = source + source_height * source_width
    red = blue + (source_height + 1) // 2 * chroma_width
    within = first_row * chroma_width + first_column
    return (
        (source + top * source_width + left, source_width, height, width),
        (blue + within, chroma_width, rows, columns),
        (red + within, chroma_width, rows, columns),
    )


# The plain path


@compiled
def _sum_float(plane, parity, halved, first, count, weights, sums):
    """Sum a target row's source rows of one plane; taps are of luma, two of which share a row if `halved`."""
    address, stride, _, columns = plane
    sums[:] = np.float32(0.0)
    for tap in range(count):
        row = (first + tap + parity) >> 1 if halved else first + tap
        weight = np.float32(weights[tap])
        samples = array_at(address + row * stride, (columns,), np.uint8)
        for column in range(columns):
            sums[column] += weight * np.float32(samples[column])


@njit(inline="always")
def _held(value):
    return np.uint8(min(max(np.floor(value + 0.5), 0.0), 255.0))


@compiled
def _resize_float(parts, first, target, target_height, target_width, rules, flip, thread):
    """Any number of taps, float32 sums. `first`: the crop's top and left in the image."""
    luma, blue, red = parts
    (_, _, height, width), (_, _, _, chroma_width) = luma, blue
    most = max(most_taps(rules[0], height, target_height), most_taps(rules[1], width, target_width))
    block = scratch(thread, 0, 8 * most + 4 * (width + 2 * chroma_width))
    if block == 0:
        return NO_MEMORY
    weights = array_at(block, (most,), np.float64)
    bright = array_at(block + 8 * most, (width,), np.float32)
    blues = array_at(block + 8 * most + 4 * width, (chroma_width,), np.float32)
    reds = array_at(block + 8 * most + 4 * (width + chroma_width), (chroma_width,), np.float32)
    top_parity, left_parity = first[0] & 1, first[1] & 1
    for row in range(target_height):
        begin, count = float_taps(rules[0], height, target_height, row, weights)
        _sum_float(luma, top_parity, False, begin, count, weights, bright)
        _sum_float(blue, top_parity, True, begin, count, weights, blues)
        _sum_float(red, top_parity, True, begin, count, weights, reds)
        out = array_at(target + 3 * target_width * row, (target_width, 3), np.uint8)
        for place in range(target_width):
            begin, count = float_taps(rules[1], width, target_width, place, weights)
            y, u, v = 0.0, 0.0, 0.0
            for tap in range(count):
                column = (begin + tap + left_parity) >> 1
                y += weights[tap] * bright[begin + tap]
                u += weights[tap] * (blues[column] - 128.0)
                v += weights[tap] * (reds[column] - 128.0)
            pixel = out[target_width - 1 - place if flip else place]
            pixel[0] = _held(y + 1.402 * v)
            pixel[1] = _held(y - 0.344136 * u - 0.714136 * v)
            pixel[2] = _held(y + 1.772 * u)
    return OK


# The vector path


@njit(inline="always")
def _spare_bytes(part):
    _, _, rows, columns = part
    return _aligned(rows * NARROWEST) if columns < NARROWEST else 0


@compiled
def _wide_part(part, spare):
    """A part whose rows may be read in vector steps: itself, or a copy of a narrow one."""
    address, stride, rows, columns = part
    if columns >= NARROWEST:
        return part
    for row in range(rows):
        copy_bytes(spare + NARROWEST * row, address + stride * row, columns)
    return spare, np.int64(NARROWEST), rows, np.int64(NARROWEST)


@njit(inline="always")
def _vector_taps(most, chroma_most):
    """The taps of a column's record."""
    if most <= 2:
        return np.int64(2), np.int64(2)
    if most <= 3:
        return np.int64(3), np.int64(2)
    if most <= 4:
        return np.int64(4), np.int64(3)
    return np.int64(most), np.int64(chroma_most)


@compiled
def _prefetch_rows(part, asked, stop):
    """Ask for a part's rows up to `stop`; how many were asked for."""
    address, stride, rows, columns = part
    stop = min(stop, rows)
    while asked < stop:
        prefetch_row(address + stride * asked, columns)
        asked += 1
    return asked


@compiled
def _make_blocks(parts, row_axis, chroma_row_axis, records, luma_taps, chroma_taps, memory, target, width):
    """All rows of a target that has room for `ROWS` rows and `GROUP` columns at least."""
    luma, blue, red = parts
    firsts, counts, weights, _ = row_axis
    chroma_firsts, chroma_counts, chroma_weights, _ = chroma_row_axis
    sums, luma_columns, chroma_columns = memory
    height = firsts.size
    groups = (width + GROUP - 1) // GROUP
    asked, chroma_asked = np.int64(0), np.int64(0)
    for block in range((height + ROWS - 1) // ROWS):
        row = max(min(ROWS * block, height - ROWS), 0)
        sum_rows(
            luma[0], luma[0], luma[1], luma[3], row, firsts, counts, weights, LUMA_START,
            sums, luma_columns, luma_columns, LUMA_BYTES,
        )  # fmt: skip
        sum_rows(
            blue[0], red[0], blue[1], blue[3], row, chroma_firsts, chroma_counts, chroma_weights, CHROMA_START,
            sums, chroma_columns, chroma_columns + LUMA_BYTES, CHROMA_BYTES,
        )  # fmt: skip
        # What the next block reads is asked for while this one is computed.
        later = min(row + 2 * ROWS, height) - 1
        stop = np.int64(firsts[later] + counts[later])
        chroma_stop = np.int64(chroma_firsts[later] + chroma_counts[later])
        asked = max(asked, np.int64(firsts[min(row + ROWS, height - 1)]))
        chroma_asked = max(chroma_asked, np.int64(chroma_firsts[min(row + ROWS, height - 1)]))
        begin, chroma_begin = asked, chroma_asked
        place = target + 3 * width * row
        # In halves: more calls would cost more than they hide.
        step = (groups + 1) // 2
        for group in range(0, groups, step):
            stop_group = min(group + step, groups)
            asked = _prefetch_rows(luma, asked, begin + (stop - begin) * stop_group // groups)
            until = chroma_begin + (chroma_stop - chroma_begin) * stop_group // groups
            _prefetch_rows(blue, chroma_asked, until)
            chroma_asked = _prefetch_rows(red, chroma_asked, until)
            make_block(
                records, luma_taps, chroma_taps, luma_columns, chroma_columns, place, 3 * width,
                group, stop_group, width,
            )  # fmt: skip


@compiled
def _resize_fixed(parts, first, target, target_height, target_width, rules, flip, thread):
    """At most `MOST_TAPS` taps of luma an axis."""
    height, width = parts[0][2], parts[0][3]
    # Targets that are too small for a block are made elsewhere.
    room_width = max(target_width, GROUP)
    apart = target_height < ROWS or target_width < GROUP
    row_bytes = _aligned(axis_bytes(rules[0], height, target_height))
    column_bytes = _aligned(axis_bytes(rules[1], width, target_width))
    # Taps without weight reach over the last column.
    spare_columns = most_taps(rules[1], width, target_width) + 4
    record_bytes = _aligned(4 * (OFFSETS + 2 * spare_columns) * room_width)
    luma_bytes = LUMA_BYTES * (max(width, NARROWEST) + spare_columns)
    chroma_bytes = CHROMA_BYTES * (max(parts[1][3], NARROWEST) + spare_columns)
    apart_bytes = _aligned(3 * room_width * max(target_height, ROWS)) if apart else 0
    spare_luma, spare_chroma = _spare_bytes(parts[0]), _spare_bytes(parts[1])
    block = scratch(
        thread, 0,
        _ALIGNMENT + SUMS_BYTES + luma_bytes + chroma_bytes + row_bytes + column_bytes + record_bytes
        + apart_bytes + spare_luma + 2 * spare_chroma,
    )  # fmt: skip
    if block == 0:
        return NO_MEMORY
    sums = _aligned(block)
    luma_columns = sums + SUMS_BYTES
    chroma_columns = luma_columns + luma_bytes
    row_place = chroma_columns + chroma_bytes
    column_place = row_place + row_bytes
    record_place = column_place + column_bytes
    apart_place = record_place + record_bytes
    spare = apart_place + apart_bytes
    wide = (
        _wide_part(parts[0], spare),
        _wide_part(parts[1], spare + spare_luma),
        _wide_part(parts[2], spare + spare_luma + spare_chroma),
    )
    begin_rows = ROWS * height // target_height + 2
    _prefetch_rows(wide[0], np.int64(0), begin_rows)
    _prefetch_rows(wide[1], np.int64(0), begin_rows // 2 + 1)
    _prefetch_rows(wide[2], np.int64(0), begin_rows // 2 + 1)
    row_axis, chroma_row_axis = read_axis(rules[0], first[0], height, target_height, row_place)
    prepare_rows(height, row_axis)
    prepare_rows(parts[1][2], chroma_row_axis)
    column_axis, chroma_column_axis = read_axis(rules[1], first[1], width, target_width, column_place)
    luma_taps, chroma_taps = _vector_taps(column_axis[3], chroma_column_axis[3])
    records = array_at(record_place, (room_width, OFFSETS + luma_taps + chroma_taps), np.int32)
    column_records(
        column_axis, chroma_column_axis, luma_taps, chroma_taps, LUMA_BYTES, CHROMA_BYTES, flip, records
    )  # fmt: skip
    place = apart_place if apart else target
    _make_blocks(
        wide, row_axis, chroma_row_axis, record_place, luma_taps, chroma_taps, (sums, luma_columns, chroma_columns),
        place, room_width,
    )  # fmt: skip
    if apart:
        for row in range(target_height):
            copy_bytes(target + 3 * target_width * row, place + 3 * room_width * row, 3 * target_width)
    return OK


@compiled
def resize_crop_yuv420(
    source,
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
    """Resize a crop of a planar YUV 4:2:0 image to RGB uint8, and mirror it if `flip` is not 0; all arguments int64.

    Results are within one grey level of the exact sums (see the module). Nothing outside the planes is read,
    nothing outside the target written.

    Args:
        source: address of the image's `yuv420_bytes`.
        source_height, source_width: in pixels.
        top, left, height, width: the crop, at least one pixel, within the image.
        target: address of `target_height` rows of `3 * target_width` bytes.
        flip: 1 mirrors left and right.
        interpolation: `AREA`, `ANTIALIAS` or `BILINEAR` of `ffx.kernels.taps`.
        thread: address of the thread's words; scratch area 0 is used.

    Returns:
        A status of `ffx.kernels.step`: `OK`, `NO_MEMORY`, or `OUT_OF_FILE` for a crop outside the image.
    """
    # Metadata have unsigned sides: with an int64, numba would make a float64 of them.
    source_height, source_width = np.int64(source_height), np.int64(source_width)
    height, width = np.int64(height), np.int64(width)
    target_height, target_width = np.int64(target_height), np.int64(target_width)
    if top < 0 or left < 0 or height < 1 or width < 1:
        return OUT_OF_FILE
    if top + height > source_height or left + width > source_width:
        return OUT_OF_FILE
    if target_height < 1 or target_width < 1:
        return OK
    parts = _parts(source, source_height, source_width, top, left, height, width)
    rules = (
        axis_rule(interpolation, height, target_height, width, target_width),
        axis_rule(interpolation, width, target_width, height, target_height),
    )
    most = max(most_taps(rules[0], height, target_height), most_taps(rules[1], width, target_width))
    first = (top, left)
    if most > MOST_TAPS:
        return _resize_float(parts, first, target, target_height, target_width, rules, flip != 0, thread)
    return _resize_fixed(parts, first, target, target_height, target_width, rules, flip != 0, thread)
