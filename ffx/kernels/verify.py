"""Checksums of stored samples: a native step that proves a sample's bytes before anything decodes them.

The rows of the allocation table that belong to a sample are those from `STARTS[sample]` to `STARTS[sample + 1]`, or,
where each sample has as many, from `EACH * sample` on; `ROWS` names them where they do not stand in the order of the
samples. A sample whose rows all have the checksum that the writer stored is marked, and not looked at again.
"""

from __future__ import annotations

import numpy as np

from .compiling import compiled
from .memory import load_i64, load_u8, load_u64, store_u8
from .sample import own, sample_id
from .step import DAMAGED, OK, OUT_OF_FILE, POINTERS, SIZES, STORAGE, failure, locate, native_kernel, word
from .xxh3 import xxh3_at

__all__ = ["ALWAYS", "CHECKED", "CHECKSUMS", "EACH", "OWN_WORDS", "ROWS", "STARTS", "check_rows", "verify_samples"]

# The kernel's own words.
CHECKED = 0  # address of uint8[samples]: 1 where a sample is known to be right
ALWAYS = 1  # 1: look even then
CHECKSUMS = 2  # address of uint64[rows], in the order of the storage's pointers
STARTS = 3  # address of int64[samples + 1]; 0: EACH rows a sample
EACH = 4
ROWS = 5  # address of int64[rows]: their numbers in the order of the samples; 0: in order already
OWN_WORDS = 6


@compiled
def _row_status(step, row):
    storage = word(step, STORAGE)
    pointer = load_u64(word(storage, POINTERS) + 8 * row)
    size = np.int64(load_u64(word(storage, SIZES) + 8 * row))
    if size == 0:
        return OK
    data, _ = locate(storage, pointer, size)
    if data == 0:
        return OUT_OF_FILE
    good = xxh3_at(data, size) == load_u64(own(step, CHECKSUMS) + 8 * row)
    return OK if good else DAMAGED


@compiled
def _sample_status(step, sample):
    starts = own(step, STARTS)
    if starts == 0:
        first = sample * own(step, EACH)
        stop = first + own(step, EACH)
    else:
        first, stop = load_i64(starts + 8 * sample), load_i64(starts + 8 * (sample + 1))
    rows = own(step, ROWS)
    for place in range(first, stop):
        status = _row_status(step, place if rows == 0 else load_i64(rows + 8 * place))
        if status != OK:
            return status
    return OK


@native_kernel
def verify_samples(step, first, stop, thread):
    """Hash what is stored of each sample that is not known to be right yet; it writes no output."""
    for position in range(first, stop):
        sample = np.int64(sample_id(step, position))
        mark = own(step, CHECKED) + sample
        if load_u8(mark) != 0 and own(step, ALWAYS) == 0:
            continue
        status = _sample_status(step, sample)
        if status != OK:
            return failure(position, status)
        store_u8(mark, np.uint8(1))
    return OK


@compiled
def check_rows(base, length, pointers, sizes, checksums, first, stop, good):
    """Note for rows `first … stop - 1` whether their bytes lie in the file and have their checksum.

    Args:
        base, length: address and bytes of the mapped file.
        pointers, sizes, checksums: uint64[rows].
        good: bool[rows], written for the rows that are looked at.
    """
    for row in range(first, stop):
        pointer, size = np.int64(pointers[row]), np.int64(sizes[row])
        inside = size >= 0 and pointer >= 0 and pointer <= length - size
        good[row] = inside and xxh3_at(base + pointer, size) == checksums[row]
