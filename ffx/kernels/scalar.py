"""Native step of the scalar decoders: each sample's value stands in the metadata."""

from __future__ import annotations

from .compiling import compiled
from .memory import copy_bytes, load_u64
from .step import (
    METADATA,
    METADATA_BYTES,
    OK,
    OUT_OF_FILE,
    OUT_OF_TARGET,
    OWN,
    SAMPLE_IDS,
    TARGET,
    TARGET_BYTES,
    failure,
    native_kernel,
    word,
)

__all__ = ["ITEM_BYTES", "OWN_WORDS", "SAMPLES", "copy_scalars"]

ITEM_BYTES = 0  # bytes of one value
SAMPLES = 1  # samples in the file
OWN_WORDS = 2


@compiled
def _copy_scalar(step, position):
    sample = load_u64(word(step, SAMPLE_IDS) + 8 * position)
    item_bytes = word(step, OWN + ITEM_BYTES)
    if sample >= word(step, OWN + SAMPLES):
        return OUT_OF_FILE
    if item_bytes > word(step, TARGET_BYTES):
        return OUT_OF_TARGET
    source = word(step, METADATA) + word(step, METADATA_BYTES) * int(sample)
    copy_bytes(word(step, TARGET) + word(step, TARGET_BYTES) * position, source, item_bytes)
    return OK


@native_kernel
def copy_scalars(step, first, stop, thread):
    """The metadata's value of each sample, as it is."""
    for position in range(first, stop):
        status = _copy_scalar(step, position)
        if status != OK:
            return failure(position, status)
    return OK
