"""The weights of MixUp: beta variates that depend on a batch's samples alone.

Images and labels of a batch are mixed by two operations that must agree, so both draw from a key that
is computed from the batch's sample indices.
"""

from __future__ import annotations

import math

import numpy as np
from numba import types
from numba.extending import overload

from .compiling import compiled
from .rng import uniform

__all__ = ["blend", "content_key", "symmetric_beta", "weights"]


@compiled
def content_key(sample_ids):
    """A 64-bit key of a row of sample indices and their order.

    Each index goes through the finaliser of SplitMix64 (Steele, Lea, Flood: "Fast splittable
    pseudorandom number generators", OOPSLA 2014) together with what came before.
    """
    key = np.uint64(len(sample_ids))
    for sample in sample_ids:
        key = key + np.uint64(sample) + np.uint64(0x9E3779B97F4A7C15)
        key = (key ^ (key >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        key = (key ^ (key >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        key = key ^ (key >> np.uint64(31))
    return key


@compiled
def _open_uniform(key, stream, number):
    """In (0, 1): the middle of one of 2**32 intervals."""
    return uniform(key, stream, np.uint64(0), number) + 0.5 / 4294967296.0


@compiled
def _johnk(alpha, key, stream):
    attempt = np.uint64(0)
    while True:
        log_x = math.log(_open_uniform(key, stream, attempt)) / alpha
        log_y = math.log(_open_uniform(key, stream, attempt + np.uint64(1))) / alpha
        # log(x + y) without underflow, which small alphas bring.
        larger = max(log_x, log_y)
        log_sum = larger + math.log(math.exp(log_x - larger) + math.exp(log_y - larger))
        if log_sum <= 0.0:
            return math.exp(log_x - log_sum)
        attempt += np.uint64(2)


@compiled
def _cheng(alpha, key, stream):
    slope = 1.0 / math.sqrt(alpha)
    total, bend = 2.0 * alpha, alpha + math.sqrt(alpha)
    attempt = np.uint64(0)
    while True:
        first = _open_uniform(key, stream, attempt)
        second = _open_uniform(key, stream, attempt + np.uint64(1))
        log_odds = slope * math.log(first / (1.0 - first))
        weight = alpha * math.exp(log_odds)
        # The ratio of the density to its hat, as logarithms.
        allowed = total * math.log(total / (alpha + weight)) + bend * log_odds - math.log(4.0)
        if allowed >= math.log(first * first * second):
            return weight / (alpha + weight)
        attempt += np.uint64(2)


@compiled
def symmetric_beta(alpha, key, stream):
    """A variate of Beta(alpha, alpha), by rejection, hence exactly distributed.

    Up to 1 by the method of Johnk ("Erzeugung von betaverteilten und gammaverteilten Zufallszahlen",
    Metrika 8, 1964), above by algorithm BB of Cheng ("Generating beta variates with nonintegral shape
    parameters", Communications of the ACM 21, 1978).

    Args:
        alpha: above 0.
        key, stream: number `stream` (uint64) of the streams of `key`.
    """
    return _johnk(alpha, key, stream) if alpha <= 1.0 else _cheng(alpha, key, stream)


@compiled
def weights(sample_ids, alpha, same):
    """Each sample's weight against its neighbour's, float64; with `same` one for the whole batch."""
    key = content_key(sample_ids)
    result = np.empty(len(sample_ids), np.float64)
    for position in range(len(sample_ids)):
        if same and position > 0:
            result[position] = result[0]
        else:
            result[position] = symmetric_beta(alpha, key, np.uint64(position))
    return result


def _is_integer(array):
    return array.dtype.kind in "iu"


@overload(_is_integer)
def _compile_is_integer(array):
    whole = isinstance(array.dtype, types.Integer)
    return lambda array: whole


@compiled
def blend(image, other, weight, target):
    """`target = weight * image + (1 - weight) * other`; integers to the nearest (ties to the even one).

    Args:
        image, other, target: arrays of one shape and dtype.
        weight: from 0 to 1.
    """
    flat = (image.size,)
    whole = _is_integer(target)
    left, right = np.ascontiguousarray(image).reshape(flat), np.ascontiguousarray(other).reshape(flat)
    result = target.reshape(flat)
    for place in range(image.size):
        value = weight * left[place] + (1.0 - weight) * right[place]
        result[place] = np.rint(value) if whole else value
