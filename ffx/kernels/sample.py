"""What every native step of a transform needs: where a sample lies, its random numbers, and what they decide."""

from __future__ import annotations

import numpy as np
from numba import njit

from .compiling import compiled
from .crop import random_crop
from .memory import load_f64, load_u32, load_u64
from .rng import uniform
from .step import OCCURRENCES, OWN, RANDOM_KEY, SAMPLE_IDS, SOURCE, SOURCE_BYTES, TARGET, TARGET_BYTES, word

__all__ = [
    "ALTERNATING",
    "draw",
    "draw_crop",
    "draw_flip",
    "is_mirrored",
    "own",
    "own_float",
    "sample_id",
    "source_of",
    "target_of",
]

# In the place of a flip's probability: mirrored at every second time.
ALTERNATING = 2.0
_ONE = np.uint64(1)


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


@compiled
def is_mirrored(key, sample, occurrence, chance):
    """Whether a flip mirrors a sample.

    Args:
        key: of the flip in this epoch.
        sample: its index in the file.
        occurrence: how often it came before in this epoch.
        chance: the flip's probability; or `ALTERNATING`, for a key by `rng.alternating_key`: whether the first epoch's
            first time is mirrored depends on the sample, and each repeat and each further epoch turns that round.
    """
    if chance == ALTERNATING:
        is_first = uniform(np.uint64(key) | _ONE, sample, 0, 0) < 0.5
        is_turned = (np.uint64(key) + np.uint64(occurrence)) & _ONE != 0
        return is_first != is_turned
    return chance > 0.0 and uniform(key, sample, occurrence, 0) < chance


@njit(inline="always")
def draw_flip(step, probability, key, sample, occurrence):
    """1 where a flip done in passing mirrors a sample, else 0; by the own words with its probability and key."""
    return 1 if is_mirrored(own(step, key), sample, occurrence, own_float(step, probability)) else 0
