"""Look-up tables for the Huffman codes of a baseline JPEG, made from a DHT segment and kept for the next picture.

A code stands for a symbol: how many zero coefficients come before the next one (run), and how many
further bits say which value it has (size). Three ways to look it up:

- entries by the next 10 bits: one code and its symbol, `uint32`;
- steps by the next 12 bits, for coefficients that nobody wants: as many whole symbols as begin there, `uint16`;
- limits of each code length, for codes longer than the others know.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .entropy import shift_right
from .memory import KERNEL_OPTIONS, array_at, copy_bytes, load_i64, load_u8, store_i64

__all__ = [
    "ADVANCE_SHIFT",
    "END",
    "ENTRY_BITS",
    "LONG",
    "STEPS",
    "STEP_BITS",
    "STEP_END",
    "STEP_LONG",
    "STEP_SHIFT",
    "TABLE_BYTES",
    "long_entry",
    "make_table",
]

# An entry: total bits of code and value, bits of the code << 8, size << 16, advance << 20. The advance is
# run + 1 places in the zigzag order, or one of:
ADVANCE_SHIFT = 20
END = 128  # no coefficients follow in this block
LONG = 256  # the code is longer than an entry knows

# A step: total bits, advance << 5, where the advance is the sum of its symbols', plus one of:
STEP_SHIFT = 5
STEP_END = 256
STEP_LONG = 512

ENTRY_BITS = 10
STEP_BITS = 12

# A table's parts, as offsets from its address.
STEPS = 4 << ENTRY_BITS
_LIMITS = STEPS + (2 << STEP_BITS)  # int64[17], by length: behind its last code, with 16 bits
_OFFSETS = _LIMITS + 8 * 17  # int64[17]: from a code to its symbol's place
_SOURCE = _OFFSETS + 8 * 17  # the 16 counts and the symbols that the table was made from
_SOURCE_BYTES = _SOURCE + 16 + 256  # int64: how many; 0: none yet
_SHORTER = _SOURCE_BYTES + 8  # uint16[2 ** STEP_BITS]: steps for fewer bits, while a table is made
TABLE_BYTES = (_SHORTER + (2 << STEP_BITS) + 63) // 64 * 64

_MOST_DC_SIZE, _MOST_AC_SIZE = 11, 10  # of 8-bit samples


@njit(inline="always")
def _entry(symbol, length):
    size = symbol & 15
    advance = np.int64(END) if symbol == 0 else (symbol >> 4) + 1
    return (length + size) | length << 8 | size << 16 | advance << ADVANCE_SHIFT


@njit(**KERNEL_OPTIONS)
def long_entry(table, bits):
    """The entry of the code that the highest of 64 bits begin with, of any length; -1 if there is none."""
    following = shift_right(bits, 48)
    for length in range(1, 17):
        if following < load_i64(table + _LIMITS + 8 * length):
            place = (following >> (16 - length)) + load_i64(table + _OFFSETS + 8 * length)
            return _entry(np.int64(load_u8(table + _SOURCE + 16 + place)), np.int64(length))
    return np.int64(-1)


@njit(**KERNEL_OPTIONS)
def _has_known_symbols(source, count, is_dc):
    for place in range(count):
        symbol = np.int64(load_u8(source + 16 + place))
        run, size = symbol >> 4, symbol & 15
        if is_dc:
            if symbol > _MOST_DC_SIZE:
                return False
        elif size > _MOST_AC_SIZE or (size == 0 and run != 0 and run != 15):
            return False
    return True


@njit(**KERNEL_OPTIONS)
def _make_entries(table, source):
    """Entries, limits and offsets; False if there are more codes than their lengths have room for."""
    entries = array_at(table, (1 << ENTRY_BITS,), np.uint32)
    entries[:] = LONG << ADVANCE_SHIFT
    limits, offsets = array_at(table + _LIMITS, (17,), np.int64), array_at(table + _OFFSETS, (17,), np.int64)
    code = place = np.int64(0)
    for length in range(1, 17):
        count = np.int64(load_u8(source + length - 1))
        offsets[length] = place - code
        # The code of ones alone is not to be used either.
        if count > 0 and code + count >= 1 << length:
            return False
        for _ in range(count):
            if length <= ENTRY_BITS:
                first = code << (ENTRY_BITS - length)
                entry = _entry(np.int64(load_u8(source + 16 + place)), np.int64(length))
                entries[first : first + (1 << (ENTRY_BITS - length))] = entry
            code += 1
            place += 1
        limits[length] = code << (16 - length)
        code <<= 1
    return True


@njit(**KERNEL_OPTIONS)
def _make_steps(table, source):
    """Steps by 12 bits, from those by fewer bits: a first symbol, and the step of the bits behind it."""
    # Steps by n bits lie at 2 ** n; those by 12 bits where they stay.
    shorter = array_at(table + _SHORTER, (1 << STEP_BITS,), np.uint16)
    final = array_at(table + STEPS, (1 << STEP_BITS,), np.uint16)
    for bits in range(STEP_BITS + 1):
        steps = final if bits == STEP_BITS else shorter[1 << bits : 2 << bits]
        steps[:] = 0
        code = place = np.int64(0)
        for length in range(1, min(bits, ENTRY_BITS) + 1):
            for _ in range(np.int64(load_u8(source + length - 1))):
                symbol = np.int64(load_u8(source + 16 + place))
                first = code << (bits - length)
                used = length + (symbol & 15)
                step = used | (STEP_END if symbol == 0 else (symbol >> 4) + 1) << STEP_SHIFT
                stop = first + (1 << (bits - length))
                if symbol == 0 or used >= bits:
                    steps[first:stop] = step
                else:
                    rest = 1 << (bits - used)
                    while first < stop:
                        for index in range(rest):
                            steps[first + index] = np.uint16(step) + shorter[rest + index]
                        first += rest
                code += 1
                place += 1
            code <<= 1
    for index in range(1 << STEP_BITS):
        if final[index] == 0:
            final[index] = STEP_LONG << STEP_SHIFT


@njit(**KERNEL_OPTIONS)
def make_table(table, source, is_dc):
    """Make the look-up tables at `table` from the 16 counts and the symbols at `source`, unless they are there.

    Args:
        table: address of `TABLE_BYTES`, zero before the first call.
        source: address of a DHT's counts and symbols, which must lie wholly in memory.
        is_dc: whether the symbols are sizes of DC differences. Those need no steps.

    Returns:
        False for tables that contradict themselves, or with symbols that no 8-bit baseline JPEG has.
    """
    count = np.int64(0)
    for length in range(16):
        count += np.int64(load_u8(source + length))
    if load_i64(table + _SOURCE_BYTES) == 16 + count:
        same = True
        for place in range(16 + count):
            same &= load_u8(table + _SOURCE + place) == load_u8(source + place)
        if same:
            return True
    store_i64(table + _SOURCE_BYTES, 0)
    if count > 256 or not _has_known_symbols(source, count, is_dc) or not _make_entries(table, source):
        return False
    if not is_dc:
        _make_steps(table, source)
    copy_bytes(table + _SOURCE, source, 16 + count)
    store_i64(table + _SOURCE_BYTES, 16 + count)
    return True
