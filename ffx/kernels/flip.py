"""Native step that mirrors images."""

from __future__ import annotations

from numba import cfunc, njit

from .memory import KERNEL_OPTIONS, copy_bytes, load_f64, load_u8, load_u32, load_u64, store_u8
from .rng import uniform
from .step import (
    KERNEL_SIGNATURE,
    OCCURRENCES,
    OK,
    OWN,
    RANDOM_KEY,
    SAMPLE_IDS,
    SOURCE,
    SOURCE_BYTES,
    TARGET,
    TARGET_BYTES,
    word,
)

__all__ = ["OWN_WORDS", "flip_images"]

HEIGHT = 0
WIDTH = 1
CHANNELS = 2
PROBABILITY = 3
OWN_WORDS = 4


@njit(**KERNEL_OPTIONS)
def _mirror(source, target, rows, width, channels):
    for row in range(rows):
        start = row * width * channels
        for column in range(width):
            read = source + start + (width - 1 - column) * channels
            write = target + start + column * channels
            for channel in range(channels):
                store_u8(write + channel, load_u8(read + channel))


@cfunc(KERNEL_SIGNATURE, cache=True)
def flip_images(step, first, stop, thread):
    """Images `uint8 (HEIGHT, WIDTH, CHANNELS)`, each mirrored with the probability PROBABILITY."""
    height, width, channels = word(step, OWN + HEIGHT), word(step, OWN + WIDTH), word(step, OWN + CHANNELS)
    probability = load_f64(step + 8 * (OWN + PROBABILITY))
    for position in range(first, stop):
        sample = load_u64(word(step, SAMPLE_IDS) + 8 * position)
        occurrence = load_u32(word(step, OCCURRENCES) + 4 * position)
        source = word(step, SOURCE) + position * word(step, SOURCE_BYTES)
        target = word(step, TARGET) + position * word(step, TARGET_BYTES)
        if uniform(word(step, RANDOM_KEY), sample, occurrence, 0) < probability:
            _mirror(source, target, height, width, channels)
        else:
            copy_bytes(target, source, height * width * channels)
    return OK
