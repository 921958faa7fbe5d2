"""What every native step of a transform needs: where a sample lies, and its random numbers."""

from __future__ import annotations

import numpy as np
from numba import njit

from .crop import random_crop
from .memory import load_f64, load_u32, load_u64
from .rng import uniform
from .step import OCCURRENCES, OWN, RANDOM_KEY, SAMPLE_IDS, SOURCE, SOURCE_BYTES, TARGET, TARGET_BYTES, word

__all__ = ["draw", "draw_crop", "draw_flip", "own", "own_float", "sample_id", "source_of", "target_of"]


@njit(inline="always")
def own(step, index):
    """One of the kernel's own words."""
    return word(step, OWN + index)


@njit(inline="always")
def own_float(step, index):
    """One of the kernel's own words, as the float64 of the same bits."""
    return load_f64(step + 8 * (OWN + index))


@njit(inline="always")
def sample_id(step, position):
    """The index in the file of the sample at a place of the batch."""
    return load_u64(word(step, SAMPLE_IDS) + 8 * position)


@njit(inline="always")
def source_of(step, position):
    """Address of a sample's input."""
    return word(step, SOURCE) + position * word(step, SOURCE_BYTES)


@njit(inline="always")
def target_of(step, position):
    """Address of a sample's output."""
    return word(step, TARGET) + position * word(step, TARGET_BYTES)


@njit(inline="always")
def draw(step, position, number):
    """`stream_uniform(streams[position], number)`, for a native step."""
    occurrence = np.uint64(load_u32(word(step, OCCURRENCES) + 4 * position))
    return uniform(word(step, RANDOM_KEY), sample_id(step, position), occurrence, number)


@njit(inline="always")
def draw_crop(step, bounds, height, width, sample, occurrence):
    """`random_crop` for a sample; `bounds` is the first of the four own words with its bounds, as bits of float64."""
    return random_crop(
        height,
        width,
        own_float(step, bounds),
        own_float(step, bounds + 1),
        own_float(step, bounds + 2),
        own_float(step, bounds + 3),
        word(step, RANDOM_KEY),
        sample,
        occurrence,
    )


@njit(inline="always")
def draw_flip(step, probability, key, sample, occurrence):
    """1 where a flip done in passing mirrors a sample, else 0; by the own words with its probability and key."""
    chance = own_float(step, probability)
    return 1 if chance > 0.0 and uniform(own(step, key), sample, occurrence, 0) < chance else 0
