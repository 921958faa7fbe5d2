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

_ALIGNMENT = 64  # of what vector steps read and write: a cache line

# Above this many taps on an axis the 16-bit weights' errors could add up to a grey level.
MOST_TAPS = 32

_BLOCK = 32  # source bytes that one vector step of the rows' pass takes
_ROW_ONE = 1 << 15
_COLUMN_ONE = 1 << 14
_FRACTION = 7
_GROUP = 4  # target pixels that one vector step of the columns' pass makes


def _weighed_row(vectors: Vectors, address, weight):
    """One row's 32 samples, with 7 fractional bits, times a weight (i64 with 15 fractional bits)."""
    builder, words = vectors.builder, ir.VectorType(i16, _BLOCK)
    samples = vectors.widen(vectors.load(address, ir.VectorType(i8, _BLOCK)), i16)
    samples = builder.shl(samples, vectors.fill(words, _FRACTION))
    return vectors.multiply_round(samples, vectors.spread(builder.trunc(weight, i16), _BLOCK))


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
    """Words: (target int16[32], source, stride, weights int32[taps], taps)."""

    def body(vectors: Vectors, target, source, stride, weights, taps):
        builder = vectors.builder

        def add_tap(tap, totals):
            weight = vectors.load(builder.add(weights, builder.mul(tap, ir.Constant(i64, 4))), i32)
            row = builder.add(source, builder.mul(stride, tap))
            return [builder.add(totals[0], _weighed_row(vectors, row, builder.sext(weight, i64)))]

        totals = vectors.repeat(taps, [vectors.fill(ir.VectorType(i16, _BLOCK), 0)], add_tap)
        vectors.store(totals[0], target)

    return vector_kernel(body, 5)


def _copy_row():
    """Words: (target int16[32], source). One row with weight one."""

    def body(vectors: Vectors, target, source):
        samples = vectors.widen(vectors.load(source, ir.VectorType(i8, _BLOCK)), i16)
        vectors.store(vectors.builder.shl(samples, vectors.fill(samples.type, _FRACTION)), target)

    return vector_kernel(body, 2)


_row_1 = _copy_row()
_rows_2, _rows_3, _rows_4 = (_sum_rows(taps) for taps in (2, 3, 4))
_rows_any = _sum_any_rows()

# Where a pixel's two neighbours (r0 g0 b0 r1 g1 b1 and what follows) go, so that the two samples of a
# colour lie together.
_PAIRED = [0, 3, 1, 4, 2, 5, 6, 7]
_GROUP_WEIGHT_BYTES = 64  # of one pair of taps of a group: 4 pixels x 4 times two int16
_PAIR_BYTES = 12  # from a pair of taps to the next in the summed row


def _group_sums(vectors: Vectors, starts, weights, step):
    """One pair of taps of four pixels: `starts` their addresses, `step` and `weights` the pair's; int32[16]."""
    builder, eight = vectors.builder, ir.VectorType(i16, 8)
    pixels = [vectors.load(builder.add(start, step), eight) for start in starts]
    paired = [vectors.pick(a, b, _PAIRED + [8 + index for index in _PAIRED]) for a, b in (pixels[:2], pixels[2:])]
    return vectors.multiply_add_pairs(vectors.join(*paired), vectors.load(weights, ir.VectorType(i16, 32)))


def _sum_columns(pairs: int):
    """Words: (target u8[12], row int16, offsets int32[4], weights, pairs). Makes four pixels.

    `pairs` 0 takes the number of pairs from the words.
    """

    def body(vectors: Vectors, target, row, offsets, weights, count):
        builder = vectors.builder
        starts = [
            builder.add(row, builder.zext(vectors.load(vectors.at(offsets, 4 * pixel), i32), i64))
            for pixel in range(_GROUP)
        ]

        def add_pair(pair, totals):
            place = builder.add(weights, builder.mul(pair, ir.Constant(i64, _GROUP_WEIGHT_BYTES)))
            step = builder.mul(pair, ir.Constant(i64, _PAIR_BYTES))
            return [builder.add(totals[0], _group_sums(vectors, starts, place, step))]

        shift = _FRACTION + 14
        # Begin with a half, so that the shift rounds.
        totals = [vectors.fill(ir.VectorType(i32, 16), 1 << (shift - 1))]
        if pairs:
            for pair in range(pairs):
                totals = add_pair(ir.Constant(i64, pair), totals)
        else:
            totals = vectors.repeat(count, totals, add_pair)
        samples = vectors.saturate_to_bytes(builder.ashr(totals[0], vectors.fill(totals[0].type, shift)))
        vectors.store(vectors.pick(samples, None, [0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14]), target)

    return vector_kernel(body, 5)


_columns_1, _columns_2, _columns_3, _columns_any = (_sum_columns(pairs) for pairs in (1, 2, 3, 0))


@njit(**KERNEL_OPTIONS)
def _axis_scale(length, target_length):
    """Source samples a target sample, rounded as OpenCV rounds it."""
    return 1.0 / (np.float64(target_length) / np.float64(length))


@njit(inline="always")
def _area_span(scale, length, place):
    """The source samples under a target sample: `(begin, first_whole, last_whole, begin_part, last_part)`.

    Samples `first_whole … last_whole - 1` lie under it wholly. `begin` is `first_whole - 1` where that
    sample lies under it in part, else `first_whole`; the parts are shares of a sample. Parts below a
    thousandth are left out, as OpenCV does.
    """
    start = place * scale
    stop = start + scale
    last = min(np.int64(stop), length - 1)
    first = min(np.int64(np.ceil(start)), last)
    begin_part = first - start
    last_part = min(stop - last, 1.0, length - start)
    begin = first
    if begin_part > 1e-3:
        begin = first - 1
    else:
        begin_part = 0.0
    if last_part <= 1e-3:
        last_part = 0.0
    return begin, first, last, begin_part, last_part


@njit(inline="always")
def _linear_share(scale, length, target_length, place):
    """When either axis grows: the first of two neighbours, and the second's share."""
    inverse = np.float64(target_length) / np.float64(length)
    first = np.int64(place * scale)
    # OpenCV rounds the share to float32 before it takes the fraction: where it rounds up to one, the
    # first neighbour gets all.
    share = np.float64(np.float32((place + 1) - (first + 1) * inverse))
    share = 0.0 if share <= 0.0 else share - np.floor(share)
    if first >= length - 1:
        return length - 1, 0.0
    return first, share


@njit(**KERNEL_OPTIONS)
def _axis_table(area, length, target_length, one, firsts, counts, weights):
    """Each target sample's first source sample, number of taps, and weights as integers that sum to `one`.

    Args:
        weights: int32[target_length, most taps]; what a sample does not use is set to 0.

    Returns:
        The largest number of taps.
    """
    scale = _axis_scale(length, target_length)
    most = weights.shape[1]
    factor = one / scale
    whole = np.int32(factor + 0.5)
    largest = np.int64(1)
    for place in range(target_length):
        if area:
            begin, first, last, begin_part, last_part = _area_span(scale, length, place)
            count = 0
            rest = np.int32(one)
            if begin < first:
                weights[place, 0] = np.int32(begin_part * factor + 0.5)
                rest -= weights[place, 0]
                count = 1
            for _ in range(first, last):
                weights[place, count] = whole
                rest -= whole
                count += 1
            if last_part > 0.0:
                weights[place, count] = np.int32(last_part * factor + 0.5)
                rest -= weights[place, count]
                count += 1
            # The rounding goes to a tap that is as large as any.
            heaviest = np.int64(first - begin)
            if last <= first and begin_part > last_part:
                heaviest = 0
            weights[place, heaviest] += rest
        else:
            begin, share = _linear_share(scale, length, target_length, place)
            weights[place, 1] = np.int32(share * one + 0.5)
            weights[place, 0] = one - weights[place, 1]
            count = 2 if weights[place, 1] > 0 else 1
        # One in 15 bits does not fit; a pixel loses 1/128 of a grey level there, which no result shows.
        weights[place, 0] = min(weights[place, 0], 32767)
        weights[place, 1] = min(weights[place, 1], 32767)
        for tap in range(count, most):
            weights[place, tap] = 0
        firsts[place] = begin
        counts[place] = count
        largest = max(largest, count)
    return largest


@njit(**KERNEL_OPTIONS)
def _column_table(target_length, flip, pairs, firsts, weights, offsets, table):
    """Arrange the columns' taps for the vector step: pixels in groups of four, mirrored if `flip`.

    Args:
        offsets: int32[groups, 4], set to the bytes from the row's begin to a pixel's first tap.
        table: int64[groups, pairs, 4, 2], set to a pixel's pair of weights four times over.

    A last group that would reach over the end is moved back.
    """
    for group in range(offsets.shape[0]):
        begin = max(min(_GROUP * group, target_length - _GROUP), 0)
        for lane in range(_GROUP):
            place = min(begin + lane, target_length - 1)
            if flip:
                place = target_length - 1 - place
            offsets[group, lane] = 6 * firsts[place]
            for pair in range(pairs):
                word = np.int64(weights[place, 2 * pair]) | np.int64(weights[place, 2 * pair + 1]) << 16
                word |= word << 32
                table[group, pair, lane, 0] = word
                table[group, pair, lane, 1] = word


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
        elif count == 4:
            while start <= last:
                _rows_4((row + 2 * start, source + start, stride, weight_0, weight_1, weight_2, weight_3))
                start += _BLOCK
        else:
            while start <= last:
                _rows_any((row + 2 * start, source + start, stride, weights.ctypes.data, count))
                start += _BLOCK
        if start >= samples:
            break
        start = last


@njit(**KERNEL_OPTIONS)
def _sum_row(source, stride, samples, count, weights, row):
    if samples < _BLOCK:
        _narrow_row(source, stride, samples, count, weights, array_at(row, (samples,), np.int16))
    else:
        _wide_row(source, stride, samples, count, weights, row)


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
    """An upper bound of the taps on an axis; even, and at least the 4 that a step may look at."""
    return max((length // target_length + 3 + 1) // 2 * 2, 4) if area else np.int64(4)


@njit(inline="always")
def _aligned(count):
    return (count + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT


@njit(**KERNEL_OPTIONS)
def _float_taps(area, length, target_length, place, weights):
    """The taps of one target sample in float64: `(first, count)`."""
    scale = _axis_scale(length, target_length)
    if not area:
        first, share = _linear_share(scale, length, target_length, place)
        weights[0] = 1.0 - share
        weights[1] = share
        return first, 2 if share > 0.0 else 1
    begin, first, last, begin_part, last_part = _area_span(scale, length, place)
    count = 0
    if begin < first:
        weights[0] = begin_part / scale
        count = 1
    for _ in range(first, last):
        weights[count] = 1.0 / scale
        count += 1
    if last_part > 0.0:
        weights[count] = last_part / scale
        count += 1
    return begin, count


@njit(**KERNEL_OPTIONS)
def _resize_float(source, stride, height, width, target, target_height, target_width, area, flip, thread):
    """The plain path: any number of taps, float32 sums."""
    samples = 3 * width
    most = max(_most_taps(area, height, target_height), _most_taps(area, width, target_width))
    block = scratch(thread, 0, 8 * most + 4 * samples)
    if block == 0:
        return NO_MEMORY
    weights = array_at(block, (most,), np.float64)
    sums = array_at(block + 8 * most, (samples,), np.float32)
    for row in range(target_height):
        first, count = _float_taps(area, height, target_height, row, weights)
        sums[:] = np.float32(0.0)
        for tap in range(count):
            weight = np.float32(weights[tap])
            pixels = array_at(source + (first + tap) * stride, (samples,), np.uint8)
            for sample in range(samples):
                sums[sample] += weight * np.float32(pixels[sample])
        out = array_at(target + 3 * target_width * row, (target_width, 3), np.uint8)
        for place in range(target_width):
            first, count = _float_taps(area, width, target_width, place, weights)
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
    row_taps, column_taps = _most_taps(area, height, target_height), _most_taps(area, width, target_width)
    groups = (target_width + _GROUP - 1) // _GROUP
    samples = 3 * width
    # A vector step reads 8 int16 from a pair's place, which may lie past the row's last sample.
    row_bytes = _aligned(2 * samples + _PAIR_BYTES * column_taps // 2 + 64)
    table_bytes = groups * column_taps // 2 * _GROUP_WEIGHT_BYTES
    offset_bytes = _aligned(16 * groups)
    axis_bytes = _aligned(16 * target_height + 4 * target_height * row_taps)
    column_bytes = 16 * target_width + 4 * target_width * column_taps
    block = scratch(thread, 0, 2 * _ALIGNMENT + row_bytes + table_bytes + offset_bytes + axis_bytes + column_bytes)
    if block == 0:
        return NO_MEMORY
    spare = _aligned(block)
    row = spare + _ALIGNMENT
    table_place = row + row_bytes
    offset_place = table_place + table_bytes
    axis_place = offset_place + offset_bytes
    firsts = array_at(axis_place, (target_height,), np.int64)
    counts = array_at(axis_place + 8 * target_height, (target_height,), np.int64)
    weights = array_at(axis_place + 16 * target_height, (target_height, row_taps), np.int32)
    column_place = axis_place + axis_bytes
    column_firsts = array_at(column_place, (target_width,), np.int64)
    column_counts = array_at(column_place + 8 * target_width, (target_width,), np.int64)
    column_weights = array_at(column_place + 16 * target_width, (target_width, column_taps), np.int32)
    _axis_table(area, height, target_height, _ROW_ONE, firsts, counts, weights)
    most = _axis_table(area, width, target_width, _COLUMN_ONE, column_firsts, column_counts, column_weights)
    pairs = (most + 1) // 2
    offsets = array_at(offset_place, (groups, _GROUP), np.int32)
    table = array_at(table_place, (groups, pairs, _GROUP, 2), np.int64)
    _column_table(target_width, flip, pairs, column_firsts, column_weights, offsets, table)
    target_stride = 3 * target_width
    for index in range(target_height):
        first, count = firsts[index], counts[index]
        place = target + target_stride * index
        # Enlarging repeats rows.
        if index > 0 and count == 1 and counts[index - 1] == 1 and firsts[index - 1] == first:
            copy_bytes(place, place - target_stride, target_stride)
            continue
        _sum_row(source + first * stride, stride, samples, count, weights[index], row)
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
