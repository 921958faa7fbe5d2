"""Decode the part of an ordinary JPEG that a crop needs, faster than a decoder of whole pictures.

MCUs (the units of blocks that a JPEG is coded in) beside the crop are read over without coefficients, and
jumped over where a restart marker allows it. Those under the crop go through the inverse DCT into two rows of
MCUs, out of which rows of RGB are made as soon as the chroma below is there. Pixels equal libjpeg's, with its
smooth upsampling of chroma, which looks one sample beyond the crop, and with its fast one, which repeats samples.

Only what encoders usually write is decoded (`ffx.kernels.jpeg_header`). Everything else, and all that is
damaged, is declined, so that one decoder judges it.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from . import huffman
from .compiling import compiled
from .entropy import unstuff
from .huffman import (
    NATURAL_BYTES,
    SCAN_WORDS,
    SLACK_BYTES,
    begin_scan,
    bits_consumed_to,
    decode_mcu,
    natural_order,
    skip_mcus,
)
from .huffman_tables import TABLE_BYTES, make_table
from .idct import fill_block, inverse_dct
from .jpeg_color import (
    SPILL_BYTES,
    SUMS_SPILL,
    convert_full,
    convert_grey,
    convert_halved,
    convert_repeated,
    sum_chroma,
)
from .jpeg_header import (
    AC_TABLES,
    COMPONENTS,
    DC_TABLES,
    DECLINED,
    EOI,
    FRAME_WORDS,
    HORIZONTAL,
    QUANTISERS,
    RESTART_INTERVAL,
    SCAN_START,
    TABLE_NUMBERS,
    VERTICAL,
    read_frame,
)
from .memory import array_at, load_i64, load_u8, load_u16, scratch, store_i64, zeroed_scratch
from .step import OK

__all__ = ["DECLINED", "decode_baseline_region"]

_PIXELS_AREA, _TABLES_AREA, _DATA_AREA, _PLANES_AREA = 1, 3, 5, 6

# The tables' area: what is kept between pictures, and small things.
_FRAME = 0
_SCAN = _FRAME + 8 * FRAME_WORDS
_PROGRESS = _SCAN + 8 * SCAN_WORDS
_NATURAL = _PROGRESS + 8 * 16
_QUANTISERS = _NATURAL + NATURAL_BYTES
_COEFFICIENTS = (_QUANTISERS + 3 * 128 + 63) // 64 * 64
_COEFFICIENT_BYTES = 6 * 128 + 64
_HUFFMAN = _COEFFICIENTS + _COEFFICIENT_BYTES
_TABLES_BYTES = _HUFFMAN + 8 * TABLE_BYTES

# Words of progress through the scan.
_MCU = 0  # the next
_SEGMENT = 1  # restarts before it
_INTERVAL = 2  # MCUs from one restart to the next
_SEGMENTS = 3  # how many were found
_STARTS = 4  # address of int64[segments + 1]: where each begins, and where the last ends
_MCUS = 5  # of the picture


@compiled
def _prepare_tables(area, frame):
    """Huffman tables, quantisers in natural order, and which of them each block of an MCU has."""
    scan, natural = area + _SCAN, area + _NATURAL
    if load_u8(natural + 1) != 1:
        natural_order(natural)
    array_at(area + _COEFFICIENTS, (_COEFFICIENT_BYTES,), np.uint8)[:] = 0
    block = np.int64(0)
    for component in range(frame[COMPONENTS]):
        dc, ac = frame[TABLE_NUMBERS + component] >> 2, frame[TABLE_NUMBERS + component] & 3
        dc_table, ac_table = area + _HUFFMAN + TABLE_BYTES * dc, area + _HUFFMAN + TABLE_BYTES * (4 + ac)
        if not make_table(dc_table, frame[DC_TABLES + dc], True) or not make_table(
            ac_table, frame[AC_TABLES + ac], False
        ):
            return False
        quantisers = array_at(area + _QUANTISERS + 128 * component, (64,), np.int16)
        for place in range(64):
            quantisers[np.int64(load_u8(natural + place))] = np.int16(load_u8(frame[QUANTISERS + component] + place))
        for _ in range(frame[HORIZONTAL] * frame[VERTICAL] if component == 0 else 1):
            words = scan + 8 * huffman.BLOCKS + huffman.BLOCK_BYTES * block
            store_i64(words + 8 * huffman.COMPONENT, component)
            store_i64(words + 8 * huffman.DC_TABLE, dc_table)
            store_i64(words + 8 * huffman.AC_TABLE, ac_table)
            block += 1
    store_i64(scan + 8 * huffman.BLOCKS_AN_MCU, block)
    store_i64(scan + 8 * huffman.COEFFICIENTS, area + _COEFFICIENTS)
    store_i64(scan + 8 * huffman.NATURAL, natural)
    return True


@compiled
def _prepare_data(thread, area, frame, end, last_mcu, mcus):
    """Take the markers out of the data as far as MCU `last_mcu` needs; the marker that ends them, or DECLINED."""
    source, interval = frame[SCAN_START], frame[RESTART_INTERVAL]
    room = end - source
    most_starts = min(last_mcu // interval, room // 2) if interval > 0 else np.int64(0)
    starts_bytes = (8 * (most_starts + 2) + 63) // 64 * 64
    starts = scratch(thread, _DATA_AREA, starts_bytes + room + SLACK_BYTES)
    if starts == 0:
        return np.int64(DECLINED)
    target = starts + starts_bytes
    data_end, count, marker = unstuff(source, end, target, starts + 8, most_starts)
    store_i64(starts, target)
    store_i64(starts + 8 * (count + 1), data_end)
    # What is looked at behind the end should be the same each time.
    array_at(data_end, (64,), np.uint8)[:] = 0
    progress = array_at(area + _PROGRESS, (8,), np.int64)
    progress[_MCU] = progress[_SEGMENT] = 0
    progress[_INTERVAL] = interval if interval > 0 else mcus
    progress[_SEGMENTS] = count + 1
    progress[_MCUS] = mcus
    progress[_STARTS] = starts
    store_i64(area + _SCAN + 8 * huffman.LIMIT, data_end)
    begin_scan(area + _SCAN, target)
    return marker


@compiled
def _leave_segment(area):
    """Whether no more was consumed than the segment has, and at its end all but the filling bits."""
    progress = array_at(area + _PROGRESS, (8,), np.int64)
    segment = progress[_SEGMENT]
    left = bits_consumed_to(area + _SCAN, load_i64(progress[_STARTS] + 8 * (segment + 1)))
    # The last segment may have fewer MCUs than the others.
    return left >= 0 and (left < 8 or progress[_MCU] < min((segment + 1) * progress[_INTERVAL], progress[_MCUS]))


@compiled
def _move_to(area, mcu):
    """Make MCU `mcu` the next: jump to the restart before it, skip the rest."""
    progress = array_at(area + _PROGRESS, (8,), np.int64)
    segment = mcu // progress[_INTERVAL]
    if segment != progress[_SEGMENT]:
        if segment >= progress[_SEGMENTS] or not _leave_segment(area):
            return False
        progress[_SEGMENT] = segment
        progress[_MCU] = segment * progress[_INTERVAL]
        begin_scan(area + _SCAN, load_i64(progress[_STARTS] + 8 * segment))
    count = mcu - progress[_MCU]
    progress[_MCU] = mcu
    return count == 0 or skip_mcus(area + _SCAN, count)


@compiled
def _read_to_end(area, mcus):
    """Skip the rest of `mcus` MCUs, which must end with the last segment."""
    progress = array_at(area + _PROGRESS, (8,), np.int64)
    if progress[_MCU] < mcus:
        if not _move_to(area, mcus - 1) or not skip_mcus(area + _SCAN, 1):
            return False
        progress[_MCU] = mcus
    return progress[_SEGMENT] == progress[_SEGMENTS] - 1


@njit(inline="always")
def _plane_row(plane, stride, rows, row):
    return plane + (row & (rows - 1)) * stride


@compiled
def _decode_row(area, frame, planes, stride, first, count, mcu_row, mcus_a_row):
    """Decode `count` MCUs of a row from column `first` into the planes; False for damage."""
    scan = area + _SCAN
    progress = array_at(area + _PROGRESS, (8,), np.int64)
    horizontal, vertical = frame[HORIZONTAL], frame[VERTICAL]
    lumas = horizontal * vertical
    blocks = load_i64(scan + 8 * huffman.BLOCKS_AN_MCU)
    # Two rows of MCUs take turns.
    luma_stride = horizontal * stride
    luma = planes + (mcu_row & 1) * 8 * vertical * luma_stride
    chroma = planes + 16 * vertical * luma_stride + (mcu_row & 1) * 8 * stride
    for column in range(count):
        if column == 0 or progress[_MCU] == (progress[_SEGMENT] + 1) * progress[_INTERVAL]:
            if not _move_to(area, mcu_row * mcus_a_row + first + column):
                return False
        if not decode_mcu(scan):
            return False
        progress[_MCU] += 1
        for block in range(blocks):
            words = scan + 8 * huffman.BLOCKS + huffman.BLOCK_BYTES * block
            coefficients = area + _COEFFICIENTS + 128 * block
            if block < lumas:
                down, right = block // horizontal, block % horizontal
                step = luma_stride
                target = luma + 8 * down * step + 8 * (horizontal * column + right)
                quantisers = area + _QUANTISERS
            else:
                step = stride
                target = chroma + (block - lumas) * 16 * stride + 8 * column
                quantisers = area + _QUANTISERS + 128 * (1 + block - lumas)
            if load_i64(words + 8 * huffman.LAST) == 0:
                fill_block(target, step, np.int64(load_u16(coefficients)), np.int64(load_u16(quantisers)))
            else:
                inverse_dct(target, step, coefficients, quantisers)
    return True


@compiled
def _make_row(
    frame, planes, stride, row, left, width, first_column, chroma_height, chroma_width, fast_upsampling, target
):
    """One row of RGB from the planes, which begin at chroma's `first_column`: `width` pixels from column `left`."""
    horizontal, vertical = frame[HORIZONTAL], frame[VERTICAL]
    luma = _plane_row(planes, horizontal * stride, 16 * vertical, row) + left - horizontal * first_column
    if frame[COMPONENTS] == 1:
        convert_grey(target, luma, width)
        return
    blue = planes + 16 * vertical * horizontal * stride
    red = blue + 16 * stride
    near = far = row
    if vertical == 2:
        near = row >> 1
        far = min(max(near + (1 if row & 1 else -1), 0), chroma_height - 1)
    near, far = _plane_row(np.int64(0), stride, 16, near), _plane_row(np.int64(0), stride, 16, far)
    if horizontal == 1:
        convert_full(target, luma, blue + near + left - first_column, red + near + left - first_column, width)
        return
    first, last = left >> 1, (left + width - 1) >> 1
    if fast_upsampling != 0:
        beyond = near + first - first_column
        convert_repeated(target, luma, blue + beyond, red + beyond, width)
        return
    blue_sums = red + 16 * stride + SPILL_BYTES
    red_sums = blue_sums + 2 * (last - first + 3 + SUMS_SPILL)
    halves_rows = vertical == 2
    for plane, sums in ((blue, blue_sums), (red, red_sums)):
        near_row, far_row = plane + near - first_column, plane + far - first_column
        sum_chroma(near_row, far_row, halves_rows, first, last, chroma_width - 1, sums)
    convert_halved(target, luma, blue_sums, red_sums, halves_rows, width)


@compiled
def _decode(thread, area, frame, end, image_height, image_width, top, left, height, width, fast_upsampling):
    """Decode into the pixels' area; its address, or DECLINED. `left` is even where chroma has half the columns."""
    declined = np.int64(DECLINED)
    horizontal, vertical = frame[HORIZONTAL], frame[VERTICAL]
    mcus_a_row = (image_width + 8 * horizontal - 1) // (8 * horizontal)
    mcu_rows = (image_height + 8 * vertical - 1) // (8 * vertical)
    chroma_width = (image_width + horizontal - 1) // horizontal
    chroma_height = (image_height + vertical - 1) // vertical
    around_columns = around_rows = np.int64(0)
    if fast_upsampling == 0:
        # libjpeg repeats samples where there are no more than two.
        if horizontal == 2 and chroma_width <= 2:
            return declined
        around_columns, around_rows = horizontal - 1, vertical - 1
    first_mcu = max(left // horizontal - around_columns, 0) >> 3
    last_mcu = min((left + width - 1) // horizontal + around_columns, chroma_width - 1) >> 3
    first_row = max((top + around_rows) // vertical - around_rows, 0) >> 3
    last_row = min((top + height - 1 + around_rows) // vertical, chroma_height - 1) >> 3
    count = last_mcu - first_mcu + 1
    to_the_end = last_row == mcu_rows - 1
    mcus = mcus_a_row * mcu_rows
    last_needed = mcus - 1 if to_the_end else last_row * mcus_a_row + last_mcu
    marker = _prepare_data(thread, area, frame, end, last_needed, mcus)
    if marker == DECLINED or (to_the_end and marker != EOI):
        return declined
    stride = 8 * count
    planes = scratch(
        thread,
        _PLANES_AREA,
        16 * stride * (horizontal * vertical + 2) + 2 * SPILL_BYTES + 4 * (width + 3 + SUMS_SPILL),
    )
    pixels = scratch(thread, _PIXELS_AREA, 3 * height * width + SPILL_BYTES)
    if planes == 0 or pixels == 0:
        return declined
    row = top
    for mcu_row in range(first_row, last_row + 1):
        if not _decode_row(area, frame, planes, stride, first_mcu, count, mcu_row, mcus_a_row):
            return declined
        # A last row waits for the chroma below it.
        ready = top + height
        if mcu_row < last_row:
            ready = min(ready, 8 * vertical * (mcu_row + 1) - around_rows)
        while row < ready:
            target = pixels + 3 * width * (row - top)
            _make_row(
                frame,
                planes,
                stride,
                row,
                left,
                width,
                8 * first_mcu,
                chroma_height,
                chroma_width,
                fast_upsampling,
                target,
            )
            row += 1
    if to_the_end and not _read_to_end(area, mcus):
        return declined
    return pixels if _leave_segment(area) else declined


@compiled
def decode_baseline_region(thread, data, size, image_height, image_width, top, left, height, width, fast_upsampling):
    """Decode the part of a JPEG that covers a crop, as `ffx.kernels.jpeg.decode_region`.

    Returns:
        As `decode_region` does, with status OK or DECLINED.
    """
    zero, declined = np.int64(0), np.int64(DECLINED)
    if top < 0 or left < 0 or height < 1 or width < 1 or top + height > image_height or left + width > image_width:
        return declined, zero, zero, zero, zero, zero, zero
    area = zeroed_scratch(thread, _TABLES_AREA, _TABLES_BYTES)
    if area == 0 or not read_frame(data, size, image_height, image_width, area + _FRAME):
        return declined, zero, zero, zero, zero, zero, zero
    frame = array_at(area + _FRAME, (FRAME_WORDS,), np.int64)
    if not _prepare_tables(area, frame):
        return declined, zero, zero, zero, zero, zero, zero
    # Two pixels share a sample of chroma.
    right = left + width
    left = left // frame[HORIZONTAL] * frame[HORIZONTAL]
    width = right - left
    end = data + size
    pixels = _decode(thread, area, frame, end, image_height, image_width, top, left, height, width, fast_upsampling)
    if pixels == DECLINED:
        return declined, zero, zero, zero, zero, zero, zero
    return np.int64(OK), pixels, 3 * width, np.int64(top), left, np.int64(height), width
