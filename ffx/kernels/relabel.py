"""Replace the labels of chosen samples, and blend a mask into chosen images."""

from __future__ import annotations

import numpy as np

from .compiling import compiled
from .memory import array_at, copy_bytes
from .sample import own, sample_id, source_of, target_of
from .step import OK, native_kernel

__all__ = ["CHOSEN", "COUNT", "ITEM_BYTES", "LABEL", "OWN_WORDS", "blend_mask", "contains", "replace_labels"]

CHOSEN = 0  # address of the chosen samples' indices, sorted: uint64[COUNT]
COUNT = 1
LABEL = 2  # address of the label that they get
ITEM_BYTES = 3  # bytes of a label
OWN_WORDS = 4


@compiled
def contains(chosen, sample):
    """Whether a sample is among sorted indices (both uint64)."""
    low, high = 0, len(chosen)
    while low < high:
        middle = (low + high) >> 1
        if chosen[middle] < sample:
            low = middle + 1
        else:
            high = middle
    return low < len(chosen) and chosen[low] == sample


@native_kernel
def replace_labels(step, first, stop, thread):
    """Each label as it is, but LABEL for the chosen samples."""
    chosen = array_at(own(step, CHOSEN), (own(step, COUNT),), np.uint64)
    for position in range(first, stop):
        found = contains(chosen, sample_id(step, position))
        label = own(step, LABEL) if found else source_of(step, position)
        copy_bytes(target_of(step, position), label, own(step, ITEM_BYTES))
    return OK


@compiled
def blend_mask(image, kept, added, least, most, target):
    """`target = image * kept + added`, rounded to float32 after each step and held to `least … most`.

    Args:
        image, target: `(height, width, channels)` of one dtype; integers are cut off, not rounded.
        kept, added: float64 of the same shape.
    """
    for row in range(image.shape[0]):
        for column in range(image.shape[1]):
            for channel in range(image.shape[2]):
                value = np.float32(image[row, column, channel] * kept[row, column, channel])
                value = np.float32(value + added[row, column, channel])
                target[row, column, channel] = min(max(value, least), most)
