"""Taps of an axis of planar YUV 4:2:0: those of luma, and those of chroma that follow from them.

A sample of chroma belongs to two samples of luma on each axis. So a target sample's weight of a chroma
sample is the sum of its weights of these two.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .compiling import compiled
from .memory import array_at
from .taps import axis_table, most_taps

__all__ = ["ONE", "axis_bytes", "column_records", "prepare_rows", "read_axis"]

ONE = 1 << 15

# Rows of zeros around luma's weights that folding looks at: one before, six behind.
_SPARE_ROWS = 7


@njit(inline="always")
def _luma_rows(rule, length, target_length):
    return max(most_taps(rule, length, target_length), 4) + _SPARE_ROWS


@njit(inline="always")
def _chroma_rows(most):
    """Rows of chroma's weights that are set: at least as many as the vector steps take."""
    return max(most // 2 + 1, 3)


@compiled
def axis_bytes(rule, length, target_length):
    """Memory for `read_axis`."""
    rows = _luma_rows(rule, length, target_length)
    return 4 * target_length * (4 + rows + _chroma_rows(rows))


@compiled
def read_axis(rule, first, length, target_length, place):
    """An axis's taps.

    Args:
        rule: of the axis (`ffx.kernels.taps`).
        first: the part's first sample of luma in the image.
        length, target_length: of the part and of the target, in samples of luma.
        place: address of `axis_bytes` bytes that hold the result.

    Returns:
        `(firsts, counts, weights, most)` of luma and the same of chroma: int32[target_length] twice, int32[rows,
        target_length], and the largest count. Firsts are counted from the part's first sample of luma, and of
        chroma. Weights sum to `ONE`; the rows behind `most` are 0, up to the four and three that vector steps take.
    """
    rows = _luma_rows(rule, length, target_length)
    step = 4 * target_length
    firsts, counts = array_at(place, (target_length,), np.int32), array_at(place + step, (target_length,), np.int32)
    chroma_firsts = array_at(place + 2 * step, (target_length,), np.int32)
    chroma_counts = array_at(place + 3 * step, (target_length,), np.int32)
    padded = array_at(place + 4 * step, (rows, target_length), np.int32)
    weights = array_at(place + 5 * step, (rows - 1, target_length), np.int32)
    most = axis_table(rule, length, target_length, ONE, firsts, counts, weights)
    chroma_rows = _chroma_rows(most)
    chroma_weights = array_at(place + (4 + rows) * step, (chroma_rows, target_length), np.int32)
    padded[0, :] = 0
    for tap in range(max(most, 2), rows - 1):
        weights[tap, :] = 0
    parity = np.int32(first & 1)
    for tap in range(chroma_rows):
        before, here, behind = padded[2 * tap], padded[2 * tap + 1], padded[2 * tap + 2]
        row = chroma_weights[tap]
        for target in range(target_length):
            odd = (firsts[target] + parity) & 1
            row[target] = here[target] + (before[target] if odd else behind[target])
    for target in range(target_length):
        begin = firsts[target] + parity
        chroma_firsts[target] = begin >> 1
        chroma_counts[target] = ((begin + counts[target] - 1) >> 1) - (begin >> 1) + 1
    chroma_most = np.int64(chroma_counts.max())
    return (firsts, counts, weights, most), (chroma_firsts, chroma_counts, chroma_weights, chroma_most)


@compiled
def prepare_rows(length, axis):
    """Make an axis's taps fit for `ffx.kernels.yuv_passes.sum_rows`.

    Weights are put into both halves of their int32. A few taps become as many for all rows, the further ones with
    no weight: their number would be different from row to row in no order that a processor could foresee. Rows at
    the end, where there is no further source row, keep theirs.
    """
    firsts, counts, weights, most = axis
    for tap in range(most):
        row = weights[tap]
        for target in range(row.size):
            row[target] |= row[target] << 16
    if most <= 4:
        for target in range(firsts.size):
            if firsts[target] + most <= length:
                counts[target] = most


@compiled
def column_records(luma, chroma, luma_taps, chroma_taps, luma_bytes, chroma_bytes, flip, records):
    """Arrange the columns' taps for `ffx.kernels.yuv_passes.make_block`, mirrored if `flip`.

    Args:
        luma, chroma: what `read_axis` returned.
        luma_taps, chroma_taps: weights of a record.
        luma_bytes, chroma_bytes: from one turned column to the next.
        records: int32[target columns or more, 2 + luma_taps + chroma_taps], set; those behind the last column
            are like the last.
    """
    firsts, _, weights, _ = luma
    chroma_firsts, _, chroma_weights, _ = chroma
    width = firsts.size
    for column in range(records.shape[0]):
        place = min(column, width - 1)
        if flip:
            place = width - 1 - place
        record = records[column]
        record[0] = firsts[place] * luma_bytes
        record[1] = chroma_firsts[place] * chroma_bytes
        for tap in range(luma_taps):
            # A weight of one does not fit into 15 bits; a hundredth of a grey level is lost.
            weight = min(weights[tap, place], ONE - 1)
            record[2 + tap] = weight | weight << 16
        for tap in range(chroma_taps):
            weight = min(chroma_weights[tap, place], ONE - 1)
            record[2 + luma_taps + tap] = weight | weight << 16
