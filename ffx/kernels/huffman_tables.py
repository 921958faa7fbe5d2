"""Look-up tables for the Huffman codes of a baseline JPEG, made from a DHT segment and kept for the next picture.

A code stands for a symbol: how many zero coefficients come before the next one (run), and how many
further bits say which value it has (size). Three ways to look it up:

- DC: entries by the next 10 bits, one code and its symbol;
- AC: pairs by the next bits, one or two codes with their symbols, whose values may lie beyond those bits;
- limits of each code length, for codes longer than the others know.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .compiling import compiled
from .entropy import shift_right
from .memory import array_at, copy_bytes, load_i64, load_u8, store_i64

__all__ = [
    "ADVANCE_SHIFT",
    "END",
    "ENTRY_BITS",
    "LONG",
    "PAIR_ADVANCE_SHIFT",
    "PAIR_BITS",
    "PAIR_FIRST_ADVANCE_SHIFT",
    "PAIR_FIRST_BITS_SHIFT",
    "PAIR_FIRST_SIZE_SHIFT",
    "PAIR_SECOND_SHIFT",
    "TABLE_BYTES",
    "long_entry",
    "make_table",
]

# An entry: total bits of code and value, bits of the code << 8, size << 16, advance << 20. The advance is
# run + 1 places in the zigzag order, or one of:
ADVANCE_SHIFT = 20
END = 128  # no coefficients follow in this block
LONG = 256  # the code is longer than the table knows

# A pair: total bits, bits of the first code << 6, its size << 10, its advance << 14, bits up to the second's value
# << 19, and the whole advance << 23. The second value has the bits that are left; without a second symbol it lies
# where the first does. Where the first symbol is the end, or long, its own advance is 16: nothing is there yet.
PAIR_FIRST_BITS_SHIFT, PAIR_FIRST_SIZE_SHIFT, PAIR_FIRST_ADVANCE_SHIFT = 6, 10, 14
PAIR_SECOND_SHIFT, PAIR_ADVANCE_SHIFT = 19, 23
_LONG_PAIR = 16 << PAIR_FIRST_ADVANCE_SHIFT | LONG << PAIR_ADVANCE_SHIFT

ENTRY_BITS = 10
PAIR_BITS = 11

# A table's parts, as offsets from its address.
_LIMITS = 4 << PAIR_BITS  # int64[17], by length: behind its last code, with 16 bits
_OFFSETS = _LIMITS + 8 * 17  # int64[17]: from a code to its symbol's place
_SOURCE = _OFFSETS + 8 * 17  # the 16 counts and the symbols that the table was made from
_SOURCE_BYTES = _SOURCE + 16 + 256  # int64: how many; 0: none yet
TABLE_BYTES = (_SOURCE_BYTES + 8 + 63) // 64 * 64

_MOST_DC_SIZE, _MOST_AC_SIZE = 11, 10  # of 8-bit samples


@njit(inline="always")
def _entry(symbol, length):
    size = symbol & 15
    advance = np.int64(END) if symbol == 0 else (symbol >> 4) + 1
    return (length + size) | length << 8 | size << 16 | advance << ADVANCE_SHIFT


@compiled
def long_entry(table, bits):
    """The entry of the code that the highest of 64 bits begin with, of any length; -1 if there is none."""
    following = shift_right(bits, 48)
    for length in range(1, 17):
        if following < load_i64(table + _LIMITS + 8 * length):
            place = (following >> (16 - length)) + load_i64(table + _OFFSETS + 8 * length)
            return _entry(np.int64(load_u8(table + _SOURCE + 16 + place)), np.int64(length))
    return np.int64(-1)


@compiled
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


@compiled
def _make_limits(table, source):
    """Limits and offsets; False if there are more codes than their lengths have room for."""
    limits, offsets = array_at(table + _LIMITS, (17,), np.int64), array_at(table + _OFFSETS, (17,), np.int64)
    code = place = np.int64(0)
    for length in range(1, 17):
        count = np.int64(load_u8(source + length - 1))
        # The code of ones alone is not to be used either.
        if count > 0 and code + count >= 1 << length:
            return False
        offsets[length] = place - code
        code += count
        place += count
        limits[length] = code << (16 - length)
        code <<= 1
    return True


@compiled
def _make_entries(table, source):
    entries = array_at(table, (1 << ENTRY_BITS,), np.uint32)
    entries[:] = LONG << ADVANCE_SHIFT
    place = first = np.int64(0)
    for length in range(1, ENTRY_BITS + 1):
        for _ in range(load_u8(source + length - 1)):
            stop = first + (1 << (ENTRY_BITS - length))
            entries[first:stop] = _entry(np.int64(load_u8(source + 16 + place)), np.int64(length))
            first = stop
            place += 1


@compiled
def _add_seconds(pairs, source, first, bits, pair, used, advance):
    """Second symbols for one value of a first: the `bits` bits behind it are pairs from `first` on."""
    place = np.int64(0)
    for length in range(1, bits + 1):
        for _ in range(load_u8(source + length - 1)):
            symbol = np.int64(load_u8(source + 16 + place))
            total = used + length + (symbol & 15)
            both = advance + (np.int64(END) if symbol == 0 else (symbol >> 4) + 1)
            stop = first + (1 << (bits - length))
            pairs[first:stop] = pair | total | (used + length) << PAIR_SECOND_SHIFT | both << PAIR_ADVANCE_SHIFT
            first = stop
            place += 1


@compiled
def _make_pairs(table, source):
    pairs = array_at(table, (1 << PAIR_BITS,), np.uint32)
    pairs[:] = _LONG_PAIR
    place = first = np.int64(0)
    for length in range(1, PAIR_BITS + 1):
        for _ in range(load_u8(source + length - 1)):
            symbol = np.int64(load_u8(source + 16 + place))
            size, used = symbol & 15, length + (symbol & 15)
            stop = first + (1 << (PAIR_BITS - length))
            place += 1
            advance = np.int64(END) if symbol == 0 else (symbol >> 4) + 1
            pair = length << PAIR_FIRST_BITS_SHIFT | size << PAIR_FIRST_SIZE_SHIFT
            pair = np.int64(pair | min(advance, 16) << PAIR_FIRST_ADVANCE_SHIFT)
            pairs[first:stop] = pair | used | min(used, 15) << PAIR_SECOND_SHIFT | advance << PAIR_ADVANCE_SHIFT
            if symbol != 0 and used < PAIR_BITS:
                while first < stop:
                    _add_seconds(pairs, source, first, PAIR_BITS - used, pair, used, advance)
                    first += 1 << (PAIR_BITS - used)
            first = stop


@compiled
def make_table(table, source, is_dc):
    """Make the look-up tables at `table` from the 16 counts and the symbols at `source`, unless they are there.

    Args:
        table: address of `TABLE_BYTES`, zero before the first call.
        source: address of a DHT's counts and symbols, which must lie wholly in memory.
        is_dc: whether the symbols are sizes of DC differences. Those have no pairs.

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
    if count > 256 or not _has_known_symbols(source, count, is_dc) or not _make_limits(table, source):
        return False
    if is_dc:
        _make_entries(table, source)
    else:
        _make_pairs(table, source)
    copy_bytes(table + _SOURCE, source, 16 + count)
    store_i64(table + _SOURCE_BYTES, 16 + count)
    return True
