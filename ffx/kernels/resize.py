"""Crop, resize and mirror an RGB image in one go, with OpenCV's `INTER_AREA` weights.

The two axes are separate sums of *taps*: source samples times weights. For each target row the source
rows are summed first, into one row of int16 with 7 fractional bits; then the columns of that row into
the target's pixels. Weights are int16 (15 fractional bits for rows, 14 for columns) whose sum is exactly
one, so a flat area keeps its value. The mirror costs nothing: the columns' table is written backwards.

`INTER_AREA` is three rules (OpenCV's documentation names two, its results show the third):

- both axes shrink or stay: each target pixel is the mean of the source area under it;
- otherwise both axes take two neighbours, weighed by how far the target pixel reaches over the edge
  between them, also on the axis that shrinks;
- equal sizes are a copy.

Very strong reductions (more than `MOST_TAPS` taps) need finer weights than 15 bits and go through a
plain float path.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit

from .memory import KERNEL_OPTIONS, array_at, copy_bytes, scratch
from .simd import Vectors, i8, i16, i32, i64, vector_kernel
from .step import NO_MEMORY, OK, OUT_OF_FILE

__all__ = ["MOST_TAPS", "resize_crop"]

_AREA = 0
_MOST_ALIGNMENT = 64

# Above this many taps on an axis the 16-bit weights' errors could add up to a grey level.
MOST_TAPS = 32

_BLOCK = 32  # source bytes that one vector step of the rows' pass takes
_ROW_ONE = 1 << 15
_COLUMN_ONE = 1 << 14
_FRACTION = 7
_GROUP = 4  # target pixels that one vector step of the columns' pass makes


def _sum_rows(taps: int, accumulate: bool):
    """Words: (target int16[32], source, stride, weight, …). Sums `taps` rows of 32 bytes."""

    def body(vectors: Vectors, target, source, stride, *weights):
        builder, words = vectors.builder, ir.VectorType(i16, _BLOCK)
        total = vectors.load(target, words) if accumulate else None
        for tap in range(taps):
            row = builder.add(source, builder.mul(stride, ir.Constant(i64, tap)))
            samples = vectors.widen(vectors.load(row, ir.VectorType(i8, _BLOCK)), i16)
            samples = builder.shl(samples, vectors.fill(words, _FRACTION))
            weight = vectors.spread(builder.trunc(weights[tap], i16), _BLOCK)
            part = vectors.multiply_round(samples, weight)
            total = part if total is None else builder.add(total, part)
        vectors.store(total, target)

    return vector_kernel(body, 3 + taps)


def _copy_row():
    """Words: (target int16[32], source). One row with weight one."""

    def body(vectors: Vectors, target, source):
        samples = vectors.widen(vectors.load(source, ir.VectorType(i8, _BLOCK)), i16)
        vectors.store(vectors.builder.shl(samples, vectors.fill(samples.type, _FRACTION)), target)

    return vector_kernel(body, 2)


_row_1 = _copy_row()
_rows_2, _rows_3, _rows_4 = (_sum_rows(taps, False) for taps in (2, 3, 4))
_more_rows_4 = _sum_rows(4, True)

# Where a pixel's two neighbours (r0 g0 b0 r1 g1 b1 …) go so that pairs of one colour lie together.
_PAIRED = [0, 3, 1, 4, 2, 5, 6, 7]


def _group_step(vectors: Vectors, row, offsets, weights, step):
    """The four pixels' sums of one pair of taps, as two vectors of int32[8]: pixels (0, 1) and (2, 3)."""
    sums = []
    for half in (0, 1):
        pixels = [
            vectors.load(vectors.builder.add(vectors.builder.add(row, offsets[2 * half + lane]), step), _EIGHT)
            for lane in (0, 1)
        ]
        paired = vectors.pick(*pixels, _PAIRED + [8 + index for index in _PAIRED])
        weight = vectors.load(vectors.at(weights, 32 * half), ir.VectorType(i16, 16))
        sums.append(vectors.multiply_add_pairs(paired, weight))
    return sums


_EIGHT = ir.VectorType(i16, 8)
_GROUP_WEIGHT_BYTES = 64  # of one pair of taps of a group: 4 pixels x 4 pairs of int16


def _sum_columns(pairs: int):
    """Words: (target u8[12], row int16, offsets int32[4], weights, pairs). Makes four pixels.

    `pairs` 0 takes the number of pairs from the words.
    """

    def body(vectors: Vectors, target, row, offsets, weights, count):
        builder = vectors.builder
        starts = [builder.zext(vectors.load(vectors.at(offsets, 4 * pixel), i32), i64) for pixel in range(_GROUP)]
        if pairs:
            sums = None
            for pair in range(pairs):
                place = vectors.at(weights, _GROUP_WEIGHT_BYTES * pair)
                part = _group_step(vectors, row, starts, place, ir.Constant(i64, 12 * pair))
                sums = part if sums is None else [builder.add(a, b) for a, b in zip(sums, part, strict=True)]
        else:
            sums = _looped_pairs(vectors, row, starts, weights, count)
        shift = _FRACTION + 14
        rounded = [
            builder.ashr(builder.add(s, vectors.fill(s.type, 1 << (shift - 1))), vectors.fill(s.type, shift))
            for s in sums
        ]
        samples = vectors.saturate_to_bytes(vectors.join(*rounded))
        vectors.store(vectors.pick(samples, None, [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14]), target)

    return vector_kernel(body, 5)


def _looped_pairs(vectors: Vectors, row, starts, weights, count):
    builder, kind = vectors.builder, ir.VectorType(i32, 8)
    before = builder.block
    loop = builder.append_basic_block("pairs")
    after = builder.append_basic_block("after_pairs")
    builder.branch(loop)
    builder.position_at_end(loop)
    index = builder.phi(i64)
    totals = [builder.phi(kind) for _ in (0, 1)]
    place = builder.add(weights, builder.mul(index, ir.Constant(i64, _GROUP_WEIGHT_BYTES)))
    part = _group_step(vectors, row, starts, place, builder.mul(index, ir.Constant(i64, 12)))
    sums = [builder.add(a, b) for a, b in zip(totals, part, strict=True)]
    following = builder.add(index, ir.Constant(i64, 1))
    last = builder.block
    builder.cbranch(builder.icmp_signed("<", following, count), loop, after)
    index.add_incoming(ir.Constant(i64, 0), before)
    index.add_incoming(following, last)
    for total, value in zip(totals, sums, strict=True):
        total.add_incoming(vectors.fill(kind, 0), before)
        total.add_incoming(value, last)
    builder.position_at_end(after)
    return sums


_columns_1, _columns_2, _columns_3, _columns_any = (_sum_columns(pairs) for pairs in (1, 2, 3, 0))


@njit(**KERNEL_OPTIONS)
def _area_taps(length, target_length, place, weights):
    """The taps of target sample `place` when shrinking; `(first, count)`, weights as float64.

    The part of a source sample that lies under the target sample; parts of less than a thousandth of a
    sample are left out, as OpenCV does.
    """
    scale = 1.0 / (np.float64(target_length) / np.float64(length))
    start = place * scale
    stop = start + scale
    inverse = 1.0 / min(scale, length - start)
    last = min(np.int64(np.floor(stop)), length - 1)
    first = min(np.int64(np.ceil(start)), last)
    count = 0
    begin = first
    if first - start > 1e-3:
        begin = first - 1
        weights[0] = (first - start) * inverse
        count = 1
    for _ in range(first, last):
        weights[count] = inverse
        count += 1
    if stop - last > 1e-3:
        weights[count] = min(stop - last, 1.0, length - start) * inverse
        count += 1
    return begin, count


@njit(**KERNEL_OPTIONS)
def _linear_taps(length, target_length, place, weights):
    """The one or two taps of target sample `place` when either axis grows."""
    inverse = np.float64(target_length) / np.float64(length)
    first = np.int64(np.floor(place * (1.0 / inverse)))
    # OpenCV rounds this share to float32 before it takes the fraction; where it rounds up to one,
    # the first neighbour gets all.
    share = np.float64(np.float32((place + 1) - (first + 1) * inverse))
    share = 0.0 if share <= 0.0 else share - np.floor(share)
    if first >= length - 1:
        first, share = length - 1, 0.0
    weights[0] = 1.0 - share
    weights[1] = share
    return first, 2 if share > 0.0 else 1


@njit(**KERNEL_OPTIONS)
def _taps(area, length, target_length, place, weights):
    if area:
        return _area_taps(length, target_length, place, weights)
    return _linear_taps(length, target_length, place, weights)


@njit(**KERNEL_OPTIONS)
def _quantise(weights, count, one, quantised):
    """Weights as integers whose sum is exactly `one`; the largest takes the rounding."""
    total = 0
    largest = 0
    for tap in range(count):
        value = np.int64(weights[tap] * one + 0.5)
        quantised[tap] = value
        total += value
        if value > quantised[largest]:
            largest = tap
    # One in 15 bits does not fit: a pixel loses 1/128 of a grey level there, which no result shows.
    quantised[largest] = min(quantised[largest] + one - total, 32767)


@njit(**KERNEL_OPTIONS)
def _row_table(area, length, target_length, weights, row_first, row_count, row_weight):
    for place in range(target_length):
        first, count = _taps(area, length, target_length, place, weights)
        row_first[place] = first
        row_count[place] = count
        _quantise(weights, count, _ROW_ONE, row_weight[place])


@njit(**KERNEL_OPTIONS)
def _column_table(area, length, target_length, flip, weights, quantised, offsets, table):
    """Offsets of each target pixel's first tap in the row, and the weights in the vector step's order.

    Pixels come in groups of four; a last group that would reach over the end is moved back.
    """
    pairs = table.shape[1]
    for group in range(table.shape[0]):
        for lane in range(_GROUP):
            pixel = max(min(_GROUP * group, target_length - _GROUP), 0) + lane
            if pixel >= target_length:
                pixel = target_length - 1
            place = target_length - 1 - pixel if flip else pixel
            first, count = _taps(area, length, target_length, place, weights)
            _quantise(weights, count, _COLUMN_ONE, quantised)
            offsets[group, lane] = 6 * first
            for pair in range(pairs):
                low = quantised[2 * pair] if 2 * pair < count else 0
                high = quantised[2 * pair + 1] if 2 * pair + 1 < count else 0
                word = low | high << 16
                table[group, pair, lane, 0] = word | word << 32
                table[group, pair, lane, 1] = word | word << 32


@njit(**KERNEL_OPTIONS)
def _narrow_row(source, stride, samples, count, weights, row):
    """`_wide_row` for a few samples, one at a time: nothing is read beyond them."""
    pixels = array_at(source, ((count - 1) * stride + samples,), np.uint8)
    for sample in range(samples):
        if count == 1:
            row[sample] = np.int16(np.int64(pixels[sample]) << _FRACTION)
            continue
        total = 0
        for tap in range(count):
            total += ((np.int64(pixels[tap * stride + sample]) << _FRACTION) * weights[tap] + (1 << 14)) >> 15
        row[sample] = total


@njit(**KERNEL_OPTIONS)
def _wide_row(source, stride, samples, count, weights, row):
    """Sum `count` source rows of at least 32 samples into int16; the last block overlaps the one before."""
    last = samples - _BLOCK
    weight_0, weight_1, weight_2, weight_3 = weights[0], weights[1], weights[2], weights[3]
    start = 0
    while True:
        if count == 1:
            while start <= last:
                _row_1((row + 2 * start, source + start))
                start += _BLOCK
        elif count == 2:
            while start <= last:
                _rows_2((row + 2 * start, source + start, stride, weight_0, weight_1))
                start += _BLOCK
        elif count == 3:
            while start <= last:
                _rows_3((row + 2 * start, source + start, stride, weight_0, weight_1, weight_2))
                start += _BLOCK
        else:
            while start <= last:
                _rows_4((row + 2 * start, source + start, stride, weight_0, weight_1, weight_2, weight_3))
                start += _BLOCK
        if start >= samples:
            break
        start = last


@njit(**KERNEL_OPTIONS)
def _add_rows(source, stride, samples, count, weights, row):
    """Add taps 4 and on to a row that holds the first four; each sample exactly once."""
    pixels = array_at(source, ((count - 1) * stride + samples,), np.uint8)
    sums = array_at(row, (samples,), np.int16)
    tap = 4
    while tap < count:
        start = 0
        if tap + 4 <= count:
            weight_0, weight_1, weight_2, weight_3 = weights[tap], weights[tap + 1], weights[tap + 2], weights[tap + 3]
            place = source + tap * stride
            while start + _BLOCK <= samples:
                _more_rows_4((row + 2 * start, place + start, stride, weight_0, weight_1, weight_2, weight_3))
                start += _BLOCK
        stop = min(tap + 4, count)
        for sample in range(start, samples):
            total = np.int64(sums[sample])
            for index in range(tap, stop):
                total += ((np.int64(pixels[index * stride + sample]) << _FRACTION) * weights[index] + (1 << 14)) >> 15
            sums[sample] = total
        tap = stop


@njit(**KERNEL_OPTIONS)
def _sum_row(source, stride, samples, count, weights, row):
    if samples < _BLOCK:
        _narrow_row(source, stride, samples, count, weights, array_at(row, (samples,), np.int16))
        return
    _wide_row(source, stride, samples, count, weights, row)
    if count > 4:
        _add_rows(source, stride, samples, count, weights, row)


@njit(**KERNEL_OPTIONS)
def _make_row(row, offsets, table, groups, pairs, target, target_width, spare):
    """The target row from a summed row."""
    if target_width < _GROUP:
        _columns_any((spare, row, offsets, table, pairs))
        copy_bytes(target, spare, 3 * target_width)
        return
    step = pairs * _GROUP_WEIGHT_BYTES
    whole = target_width // _GROUP
    if pairs == 1:
        for group in range(whole):
            _columns_1((target + 12 * group, row, offsets + 16 * group, table + step * group, pairs))
    elif pairs == 2:
        for group in range(whole):
            _columns_2((target + 12 * group, row, offsets + 16 * group, table + step * group, pairs))
    elif pairs == 3:
        for group in range(whole):
            _columns_3((target + 12 * group, row, offsets + 16 * group, table + step * group, pairs))
    else:
        for group in range(whole):
            _columns_any((target + 12 * group, row, offsets + 16 * group, table + step * group, pairs))
    if whole < groups:
        place = target + 3 * (target_width - _GROUP)
        _columns_any((place, row, offsets + 16 * whole, table + step * whole, pairs))


@njit(**KERNEL_OPTIONS)
def _most_taps(area, length, target_length):
    """An upper bound of the taps on an axis."""
    return length // target_length + 3 if area else np.int64(2)


@njit(**KERNEL_OPTIONS)
def _aligned(count):
    return (count + _MOST_ALIGNMENT - 1) // _MOST_ALIGNMENT * _MOST_ALIGNMENT


@njit(**KERNEL_OPTIONS)
def _resize_float(source, stride, height, width, target, target_height, target_width, area, flip, thread):
    """The plain path: any number of taps, float32 sums."""
    samples = 3 * width
    row_taps, column_taps = _most_taps(area, height, target_height), _most_taps(area, width, target_width)
    weight_bytes = _aligned(8 * max(row_taps, column_taps))
    block = scratch(thread, 0, weight_bytes + 4 * samples)
    if block == 0:
        return NO_MEMORY
    weights = array_at(block, (max(row_taps, column_taps),), np.float64)
    sums = array_at(block + weight_bytes, (samples,), np.float32)
    for row in range(target_height):
        first, count = _taps(area, height, target_height, row, weights)
        sums[:] = np.float32(0.0)
        for tap in range(count):
            weight = np.float32(weights[tap])
            pixels = array_at(source + (first + tap) * stride, (samples,), np.uint8)
            for sample in range(samples):
                sums[sample] += weight * np.float32(pixels[sample])
        out = array_at(target + 3 * target_width * row, (target_width, 3), np.uint8)
        for place in range(target_width):
            first, count = _taps(area, width, target_width, place, weights)
            column = target_width - 1 - place if flip else place
            for channel in range(3):
                total = 0.0
                for tap in range(count):
                    total += weights[tap] * sums[3 * (first + tap) + channel]
                out[column, channel] = np.uint8(min(max(np.rint(total), 0.0), 255.0))
    return OK


@njit(**KERNEL_OPTIONS)
def _resize_fixed(source, stride, height, width, target, target_height, target_width, area, flip, thread):
    """The vector path, at most `MOST_TAPS` taps an axis."""
    row_taps = max(_most_taps(area, height, target_height), 4)
    column_taps = _most_taps(area, width, target_width)
    pairs = (column_taps + 1) // 2
    groups = (target_width + _GROUP - 1) // _GROUP
    samples = 3 * width
    # A vector step reads up to 8 int16 from a pair's place, which may lie past the row's last sample.
    row_bytes = _aligned(2 * samples + 12 * pairs + 64)
    weight_bytes = _aligned(16 * max(row_taps, column_taps))
    first_bytes = _aligned(16 * target_height)
    row_weight_bytes = _aligned(4 * target_height * row_taps)
    offset_bytes = _aligned(16 * groups)
    table_bytes = _aligned(groups * pairs * _GROUP_WEIGHT_BYTES)
    total = row_bytes + weight_bytes + first_bytes + row_weight_bytes + offset_bytes + table_bytes + 64
    place = scratch(thread, 0, total)
    if place == 0:
        return NO_MEMORY
    row = place
    place += row_bytes
    weights = array_at(place, (max(row_taps, column_taps),), np.float64)
    quantised = array_at(place + weight_bytes // 2, (max(row_taps, column_taps),), np.int64)
    place += weight_bytes
    row_first = array_at(place, (target_height,), np.int64)
    row_count = array_at(place + 8 * target_height, (target_height,), np.int64)
    place += first_bytes
    row_weight = array_at(place, (target_height, row_taps), np.int32)
    place += row_weight_bytes
    offset_place = place
    offsets = array_at(place, (groups, _GROUP), np.int32)
    place += offset_bytes
    table_place = place
    table = array_at(place, (groups, pairs, _GROUP, 2), np.int64)
    spare = place + table_bytes
    _row_table(area, height, target_height, weights, row_first, row_count, row_weight)
    _column_table(area, width, target_width, flip, weights, quantised, offsets, table)
    target_stride = 3 * target_width
    for index in range(target_height):
        first, count = row_first[index], row_count[index]
        place = target + target_stride * index
        # Enlarging repeats rows.
        if index > 0 and count == 1 and row_count[index - 1] == 1 and row_first[index - 1] == first:
            copy_bytes(place, place - target_stride, target_stride)
            continue
        _sum_row(source + first * stride, stride, samples, count, row_weight[index], row)
        _make_row(row, offset_place, table_place, groups, pairs, place, target_width, spare)
    return OK


@njit(**KERNEL_OPTIONS)
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
    thread,
):
    """Resize a crop of an RGB uint8 image, and mirror it if `flip` is not 0; all arguments int64.

    Results are within one grey level of `cv2.resize(crop, (target_width, target_height),
    interpolation=cv2.INTER_AREA)`; equal sizes copy exactly. Nothing outside the crop is read, nothing
    outside the target written.

    Args:
        source, source_stride: address of the image's first row, and bytes from one row to the next.
        source_height, source_width: in pixels.
        top, left, height, width: the crop, at least one pixel, within the image.
        target: address of `target_height` rows of `3 * target_width` bytes.
        flip: 1 mirrors left and right.
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
        for row in range(height):
            copy_bytes(target + 3 * width * row, source + source_stride * row, 3 * width)
        return OK
    area = height >= target_height and width >= target_width
    most = max(_most_taps(area, height, target_height), _most_taps(area, width, target_width))
    if most > MOST_TAPS:
        return _resize_float(
            source, source_stride, height, width, target, target_height, target_width, area, flip != 0, thread
        )
    return _resize_fixed(
        source, source_stride, height, width, target, target_height, target_width, area, flip != 0, thread
    )
