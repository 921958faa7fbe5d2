"""Huffman decoding of MCUs: skipped, with nothing kept but the DC predictors, or decoded into coefficients.

The bits to come wait in the highest places of a 64-bit word that is refilled without a branch: after a
refill at least 56 are there, enough for two symbols of the tables' fast ways. A block's loop has a single
exit: the end of a block, a long code and an error all move the place in the zigzag order past its end.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .compiling import compiled
from .entropy import load_bits, shift_right
from .huffman_tables import (
    ADVANCE_SHIFT,
    END,
    ENTRY_BITS,
    LONG,
    PAIR_ADVANCE_SHIFT,
    PAIR_BITS,
    PAIR_FIRST_ADVANCE_SHIFT,
    PAIR_FIRST_BITS_SHIFT,
    PAIR_FIRST_SIZE_SHIFT,
    PAIR_SECOND_SHIFT,
    long_entry,
)
from .memory import array_at, load_i64, load_u8, load_u32, store_i16, store_i64

__all__ = [
    "AC_TABLE",
    "BLOCKS",
    "BLOCKS_AN_MCU",
    "BLOCK_BYTES",
    "COEFFICIENTS",
    "COMPONENT",
    "DC_TABLE",
    "LAST",
    "LIMIT",
    "NATURAL",
    "NATURAL_BYTES",
    "SCAN_WORDS",
    "SLACK_BYTES",
    "begin_scan",
    "bits_consumed_to",
    "decode_mcu",
    "natural_order",
    "skip_mcus",
]

# The scan's words (int64).
_BITS, _HAVE, _PLACE = 0, 1, 2  # the next bits, how many are there, where the following lie
LIMIT = 3  # address behind the data; up to `SLACK_BYTES` more may be read
_PREDICTORS = 4  # of each component
BLOCKS_AN_MCU = 7
COEFFICIENTS = 8  # address of int16[6 * 64 and one]: an MCU's, in natural order
NATURAL = 9  # address of what `natural_order` made
# Of each block of an MCU, from this word on:
BLOCKS = 10
COMPONENT, DC_TABLE, AC_TABLE, LAST = 0, 1, 2, 3  # the last: highest place in the zigzag order that may not be 0
BLOCK_BYTES = 32
SCAN_WORDS = BLOCKS + 4 * 6

# The limit is looked at once an MCU, which has at most 6 * 64 symbols of at most 27 bits.
SLACK_BYTES = 2048

# Places in the zigzag order, and all that an advance can make of them: those go to coefficient 64.
NATURAL_BYTES = 64 + LONG + 64


@compiled
def natural_order(target):
    """`NATURAL_BYTES` bytes at an address: the place in natural order of each place in the zigzag order."""
    order = array_at(target, (NATURAL_BYTES,), np.uint8)
    order[:] = 64
    row = column = np.int64(0)
    for place in range(64):
        order[place] = 8 * row + column
        # Even diagonals go up, odd ones down; at an edge along it.
        if (row + column) % 2 == 0:
            if column == 7:
                row += 1
            elif row == 0:
                column += 1
            else:
                row -= 1
                column += 1
        elif row == 7:
            column += 1
        elif column == 0:
            row += 1
        else:
            row += 1
            column -= 1


@compiled
def begin_scan(scan, place):
    """Go on with the data at `place`, the predictors at zero."""
    store_i64(scan + 8 * _BITS, 0)
    store_i64(scan + 8 * _HAVE, 0)
    store_i64(scan + 8 * _PLACE, place)
    for component in range(3):
        store_i64(scan + 8 * (_PREDICTORS + component), 0)


@njit(inline="always")
def bits_consumed_to(scan, end):
    """How many bits lie between what was consumed and the address `end`; negative if too many were consumed."""
    return 8 * (end - load_i64(scan + 8 * _PLACE)) + load_i64(scan + 8 * _HAVE)


@njit(inline="always")
def _value(rest, size):
    """The coefficient that `rest` begins with, of `size` bits; a first bit 0 stands for the negative half."""
    most = (1 << size) - 1
    # Of no bits, the shift leaves all of them.
    value = shift_right(rest, -size & 63) & most
    return value - (~(rest >> 63) & most)


@njit(inline="always")
def _entry_value(bits, entry):
    return _value(bits << ((entry >> 8) & 31), (entry >> 16) & 15)


@njit(inline="always")
def _dc_entry(table, bits):
    entry = np.int64(load_u32(table + 4 * shift_right(bits, 64 - ENTRY_BITS)))
    if entry >= LONG << ADVANCE_SHIFT:
        entry = long_entry(table, bits)
    return entry


@njit(inline="always")
def _pair_at(table, bits):
    return np.int64(load_u32(table + 4 * shift_right(bits, 64 - PAIR_BITS)))


@njit(inline="always")
def _store_pair(coefficients, natural, k, bits, pair):
    """Coefficients of a pair that begins behind place `k`."""
    # The second comes first: where there is none, it goes to the same place.
    before_second = (pair >> PAIR_SECOND_SHIFT) & 15
    second = _value(bits << before_second, (pair & 63) - before_second)
    store_i16(coefficients + 2 * np.int64(load_u8(natural + k + (pair >> PAIR_ADVANCE_SHIFT))), second)
    first = _value(bits << ((pair >> PAIR_FIRST_BITS_SHIFT) & 15), (pair >> PAIR_FIRST_SIZE_SHIFT) & 15)
    store_i16(coefficients + 2 * np.int64(load_u8(natural + k + ((pair >> PAIR_FIRST_ADVANCE_SHIFT) & 31))), first)


@compiled
def skip_mcus(scan, count):
    """Read over `count` MCUs; False where a code is wrong or the data end."""
    bits, have, place = load_i64(scan + 8 * _BITS), load_i64(scan + 8 * _HAVE), load_i64(scan + 8 * _PLACE)
    limit, blocks = load_i64(scan + 8 * LIMIT), load_i64(scan + 8 * BLOCKS_AN_MCU)
    for _ in range(count):
        for block in range(blocks):
            words = scan + 8 * BLOCKS + BLOCK_BYTES * block
            predictor = scan + 8 * _PREDICTORS + 8 * load_i64(words + 8 * COMPONENT)
            table = load_i64(words + 8 * AC_TABLE)
            bits |= shift_right(load_bits(place), have)
            place += (63 - have) >> 3
            have |= 56
            entry = _dc_entry(load_i64(words + 8 * DC_TABLE), bits)
            if entry < 0:
                return False
            store_i64(predictor, load_i64(predictor) + _entry_value(bits, entry))
            bits <<= entry & 63
            have -= entry & 63
            k = np.int64(0)
            while True:
                bits |= shift_right(load_bits(place), have)
                place += (63 - have) >> 3
                have |= 56
                before, had = bits, have
                pair = _pair_at(table, bits)
                k += pair >> PAIR_ADVANCE_SHIFT
                bits <<= pair & 63
                have -= pair & 63
                if k < 63:
                    before, had = bits, have
                    pair = _pair_at(table, bits)
                    k += pair >> PAIR_ADVANCE_SHIFT
                    bits <<= pair & 63
                    have -= pair & 63
                    if k < 63:
                        continue
                if (END <= k < END + 63) or k == 63:
                    break
                # A long code, or a pair whose second symbol is the next block's: one symbol, from before the pair.
                k -= pair >> PAIR_ADVANCE_SHIFT
                bits, have = before, had
                entry = long_entry(table, bits)
                if entry < 0:
                    return False
                k += entry >> ADVANCE_SHIFT
                bits <<= entry & 63
                have -= entry & 63
                if k >= 63:
                    if k == 63 or k >= END:
                        break
                    return False
        if place > limit + 8:
            return False
    store_i64(scan + 8 * _BITS, bits)
    store_i64(scan + 8 * _HAVE, have)
    store_i64(scan + 8 * _PLACE, place)
    return True


@compiled
def decode_mcu(scan):
    """Decode one MCU into the coefficients, which must be zero before; False as for `skip_mcus`."""
    bits, have, place = load_i64(scan + 8 * _BITS), load_i64(scan + 8 * _HAVE), load_i64(scan + 8 * _PLACE)
    natural, coefficients = load_i64(scan + 8 * NATURAL), load_i64(scan + 8 * COEFFICIENTS)
    for block in range(load_i64(scan + 8 * BLOCKS_AN_MCU)):
        words = scan + 8 * BLOCKS + BLOCK_BYTES * block
        predictor = scan + 8 * _PREDICTORS + 8 * load_i64(words + 8 * COMPONENT)
        table = load_i64(words + 8 * AC_TABLE)
        bits |= shift_right(load_bits(place), have)
        place += (63 - have) >> 3
        have |= 56
        entry = _dc_entry(load_i64(words + 8 * DC_TABLE), bits)
        if entry < 0:
            return False
        value = load_i64(predictor) + _entry_value(bits, entry)
        store_i64(predictor, value)
        store_i16(coefficients, value)
        bits <<= entry & 63
        have -= entry & 63
        k = np.int64(0)
        while True:
            bits |= shift_right(load_bits(place), have)
            place += (63 - have) >> 3
            have |= 56
            before, had = bits, have
            pair = _pair_at(table, bits)
            _store_pair(coefficients, natural, k, bits, pair)
            k += pair >> PAIR_ADVANCE_SHIFT
            bits <<= pair & 63
            have -= pair & 63
            if k < 63:
                before, had = bits, have
                pair = _pair_at(table, bits)
                _store_pair(coefficients, natural, k, bits, pair)
                k += pair >> PAIR_ADVANCE_SHIFT
                bits <<= pair & 63
                have -= pair & 63
                if k < 63:
                    continue
            if END <= k < END + 63:
                k -= END
                break
            if k == 63:
                break
            # As in `skip_mcus`.
            k -= pair >> PAIR_ADVANCE_SHIFT
            bits, have = before, had
            entry = long_entry(table, bits)
            if entry < 0:
                return False
            k += entry >> ADVANCE_SHIFT
            store_i16(coefficients + 2 * np.int64(load_u8(natural + k)), _entry_value(bits, entry))
            bits <<= entry & 63
            have -= entry & 63
            if k >= 63:
                if k == 63:
                    break
                if k >= END:
                    k -= END
                    break
                return False
        store_i64(words + 8 * LAST, k)
        coefficients += 128
    store_i64(scan + 8 * _BITS, bits)
    store_i64(scan + 8 * _HAVE, have)
    store_i64(scan + 8 * _PLACE, place)
    return place <= load_i64(scan + 8 * LIMIT) + 8
