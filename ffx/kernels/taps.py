"""Which source samples a target sample of a resize is made of, and with which weights: its *taps*.

A *rule* says so for one axis:

- `AREA_MEAN`: the mean of the source area under the target sample. OpenCV's `INTER_AREA` where both axes
  shrink or stay.
- `AREA_NEIGHBOURS`: two neighbours, weighed by how far the target sample reaches over the edge between
  them. `INTER_AREA` where either axis grows, on both (read off OpenCV's results).
- `CENTRED`: two neighbours, weighed by the distances of the samples' centres: plain bilinear.
- `TRIANGLE`: all neighbours under a triangle as wide as two target samples: bilinear with antialiasing,
  as Pillow and torchvision shrink.

Tables are laid out tap by tap (`weights[tap, place]`), so that the compiler makes vector code of their
loops: they cost as much as a tenth of a resize otherwise.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .compiling import compiled

__all__ = [
    "ANTIALIAS",
    "AREA",
    "AREA_MEAN",
    "AREA_NEIGHBOURS",
    "BILINEAR",
    "CENTRED",
    "INTERPOLATIONS",
    "TRIANGLE",
    "axis_rule",
    "axis_table",
    "float_taps",
    "most_taps",
]

# What a user asks for.
AREA = 0
ANTIALIAS = 1
BILINEAR = 2
INTERPOLATIONS = {"area": AREA, "antialias": ANTIALIAS, "bilinear": BILINEAR}

# The rule of an axis.
AREA_MEAN = 0
AREA_NEIGHBOURS = 1
CENTRED = 2
TRIANGLE = 3

# OpenCV leaves out parts of a source sample below a thousandth.
_LEAST_PART = 1e-3


@compiled
def axis_rule(interpolation, length, target_length, other_length, other_target_length):
    """The rule of an axis, given both axes' lengths before and after."""
    if interpolation == ANTIALIAS:
        return TRIANGLE if length > target_length else CENTRED
    if interpolation == BILINEAR:
        return CENTRED
    if length >= target_length and other_length >= other_target_length:
        return AREA_MEAN
    return AREA_NEIGHBOURS


@compiled
def most_taps(rule, length, target_length):
    """An upper bound of the taps on an axis; even, and at least the 4 that a step may look at."""
    if rule == AREA_MEAN:
        return max((length // target_length + 3 + 1) // 2 * 2, 4)
    if rule == TRIANGLE:
        return max(2 * (length // target_length) + 4, 4)
    return np.int64(4)


@njit(inline="always")
def _axis_scale(length, target_length):
    """Source samples a target sample, rounded as OpenCV rounds it."""
    return 1.0 / (np.float64(target_length) / np.float64(length))


@njit(inline="always")
def _area_span(scale, length, place):
    """The source samples under a target sample: `(start, stop, begin, count)`."""
    start = place * scale
    stop = min(start + scale, np.float64(length))
    begin = min(np.floor(start + _LEAST_PART), length - 1.0)
    count = max(np.ceil(stop - _LEAST_PART) - begin, 1.0)
    return start, stop, begin, count


@njit(inline="always")
def _area_part(start, stop, begin, tap):
    """How much of source sample `begin + tap` lies under the target sample, 0 to 1."""
    part = min(stop, begin + tap + 1.0) - max(start, begin + tap)
    return part if part > _LEAST_PART else 0.0


@njit(inline="always")
def _neighbour_share(scale, inverse, length, place):
    """`AREA_NEIGHBOURS`: the first neighbour, and the second's share."""
    first = np.floor(place * scale)
    # OpenCV rounds the share to float32 before it takes the fraction: where it rounds up to one, the
    # first neighbour gets all.
    share = np.float64(np.float32((place + 1.0) - (first + 1.0) * inverse))
    share = 0.0 if share <= 0.0 else share - np.floor(share)
    inside = first < length - 1.0
    return (first if inside else length - 1.0), (share if inside else 0.0)


@njit(inline="always")
def _centred_share(ratio, length, place):
    """`CENTRED`: the first neighbour, and the second's share."""
    position = min(max((place + 0.5) * ratio - 0.5, 0.0), length - 1.0)
    first = np.floor(position)
    return first, position - first


@njit(inline="always")
def _triangle_span(ratio, length, place):
    """`TRIANGLE`: `(centre, begin, count)`, as Pillow rounds them."""
    centre = (place + 0.5) * ratio
    begin = np.floor(max(centre - ratio + 0.5, 0.0))
    count = min(np.floor(centre + ratio + 0.5), np.float64(length)) - begin
    return centre, begin, count


@njit(inline="always")
def _triangle_part(ratio, centre, begin, tap):
    return max(1.0 - abs(begin + tap + 0.5 - centre) / ratio, 0.0)


@compiled
def _area_mean_table(length, target_length, one, firsts, counts, weights):
    scale = _axis_scale(length, target_length)
    factor = one / scale
    for place in range(target_length):
        _, _, begin, count = _area_span(scale, length, np.float64(np.int32(place)))
        firsts[place] = np.int32(begin)
        counts[place] = np.int32(count)
    most = np.int64(counts[:target_length].max())
    for tap in range(max(most, 2)):
        row = weights[tap]
        for place in range(target_length):
            start, stop, begin, _ = _area_span(scale, length, np.float64(np.int32(place)))
            row[place] = np.int32(_area_part(start, stop, begin, np.float64(tap)) * factor + 0.5)
    return most


@compiled
def _neighbours_table(rule, length, target_length, one, firsts, counts, weights):
    scale = _axis_scale(length, target_length)
    inverse = np.float64(target_length) / np.float64(length)
    ratio = np.float64(length) / np.float64(target_length)
    if rule == AREA_NEIGHBOURS:
        for place in range(target_length):
            first, share = _neighbour_share(scale, inverse, length, np.float64(np.int32(place)))
            firsts[place] = np.int32(first)
            weights[1, place] = np.int32(share * one + 0.5)
    else:
        for place in range(target_length):
            first, share = _centred_share(ratio, length, np.float64(np.int32(place)))
            firsts[place] = np.int32(first)
            weights[1, place] = np.int32(share * one + 0.5)
    for place in range(target_length):
        weights[0, place] = np.int32(one) - weights[1, place]
        counts[place] = np.int32(2) if weights[1, place] > 0 else np.int32(1)
    return np.int64(counts[:target_length].max())


@compiled
def _triangle_table(length, target_length, one, firsts, counts, weights):
    ratio = np.float64(length) / np.float64(target_length)
    most = np.int64(1)
    for place in range(target_length):
        centre, begin, count = _triangle_span(ratio, length, np.float64(place))
        firsts[place] = np.int32(begin)
        counts[place] = np.int32(count)
        most = max(most, np.int64(count))
        total = 0.0
        for tap in range(counts[place]):
            total += _triangle_part(ratio, centre, begin, np.float64(tap))
        for tap in range(counts[place]):
            part = _triangle_part(ratio, centre, begin, np.float64(tap))
            weights[tap, place] = np.int32(part / total * one + 0.5)
    for place in range(target_length):
        for tap in range(counts[place], max(most, 2)):
            weights[tap, place] = 0
    return most


@compiled
def _give_rest(target_length, most, one, counts, weights, rest):
    """Make each target sample's weights sum to `one`: rounding goes to a tap that is as large as any, or nearly."""
    for place in range(target_length):
        rest[place] = np.int32(one)
    for tap in range(most):
        for place in range(target_length):
            rest[place] -= weights[tap, place]
    for place in range(target_length):
        if counts[place] < 3:
            tap = 1 if weights[1, place] > weights[0, place] else 0
        else:
            tap = counts[place] >> 1
        weights[tap, place] += rest[place]


@compiled
def axis_table(rule, length, target_length, one, firsts, counts, weights):
    """Each target sample's first source sample, number of taps, and weights as integers that sum to `one`.

    Args:
        rule: of this axis.
        length, target_length: in samples.
        one: what stands for a weight of 1.
        firsts: int32[target_length], set.
        counts: int32[target_length], set.
        weights: int32[`most_taps` + 1, target_length]; rows up to the result (at least two) are set, and 0 where
            a target sample has no such tap. The last row is working memory.

    Returns:
        The largest number of taps.
    """
    if rule == AREA_MEAN:
        most = _area_mean_table(length, target_length, one, firsts, counts, weights)
    elif rule == TRIANGLE:
        most = _triangle_table(length, target_length, one, firsts, counts, weights)
    else:
        return _neighbours_table(rule, length, target_length, one, firsts, counts, weights)
    _give_rest(target_length, most, one, counts, weights, weights[weights.shape[0] - 1])
    return most


@compiled
def float_taps(rule, length, target_length, place, weights):
    """The taps of one target sample in float64: `(first, count)`; `weights` is float64[`most_taps`]."""
    scale = _axis_scale(length, target_length)
    ratio = np.float64(length) / np.float64(target_length)
    if rule == AREA_MEAN:
        start, stop, begin, count = _area_span(scale, length, np.float64(place))
        total = 0.0
        for tap in range(np.int64(count)):
            weights[tap] = _area_part(start, stop, begin, np.float64(tap))
            total += weights[tap]
    elif rule == TRIANGLE:
        centre, begin, count = _triangle_span(ratio, length, np.float64(place))
        total = 0.0
        for tap in range(np.int64(count)):
            weights[tap] = _triangle_part(ratio, centre, begin, np.float64(tap))
            total += weights[tap]
    else:
        if rule == AREA_NEIGHBOURS:
            begin, share = _neighbour_share(scale, 1.0 / ratio, length, np.float64(place))
        else:
            begin, share = _centred_share(ratio, length, np.float64(place))
        weights[0], weights[1] = 1.0 - share, share
        count, total = (2.0 if share > 0.0 else 1.0), 1.0
    for tap in range(np.int64(count)):
        weights[tap] /= total
    return np.int64(begin), np.int64(count)
