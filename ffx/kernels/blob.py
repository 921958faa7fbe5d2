"""Native step of the decoders that copy stored bytes: byte strings and arrays."""

from __future__ import annotations

import numpy as np

from .compiling import compiled
from .memory import array_at, copy_bytes, load_i64, load_u64
from .step import (
    METADATA,
    METADATA_BYTES,
    OK,
    OUT_OF_FILE,
    OUT_OF_TARGET,
    OWN,
    SAMPLE_IDS,
    STORAGE,
    TARGET,
    TARGET_BYTES,
    failure,
    locate,
    native_kernel,
    word,
)

__all__ = ["FIXED_BYTES", "OWN_WORDS", "SAMPLES", "copy_blobs"]

FIXED_BYTES = 0  # bytes of every sample's blob; -1: each record has its pointer and then its size
SAMPLES = 1  # samples in the file
OWN_WORDS = 2


@compiled
def _copy_blob(step, position):
    sample = load_u64(word(step, SAMPLE_IDS) + 8 * position)
    if sample >= word(step, OWN + SAMPLES):
        return OUT_OF_FILE
    record = word(step, METADATA) + word(step, METADATA_BYTES) * int(sample)
    room = word(step, TARGET_BYTES)
    target = word(step, TARGET) + room * position
    size = word(step, OWN + FIXED_BYTES)
    if size < 0:
        size = load_i64(record + 8)
    # A size that is negative as a signed number is a huge unsigned one.
    if size < 0 or size > room:
        return OUT_OF_TARGET
    if size > 0:
        address, size = locate(word(step, STORAGE), load_i64(record), size)
        if address == 0:
            return OUT_OF_FILE
        copy_bytes(target, address, size)
    if size < room:
        array_at(target + size, (room - size,), np.uint8)[:] = 0
    return OK


@native_kernel
def copy_blobs(step, first, stop, thread):
    """Each sample's stored bytes; what is left of its row is zero."""
    for position in range(first, stop):
        status = _copy_blob(step, position)
        if status != OK:
            return failure(position, status)
    return OK
