"""The symbols of a baseline JPEG on their way into a file: kept as tokens, counted, coded with the best tables.

A token is a symbol of a Huffman table and the bits that follow its code. Whoever makes tokens counts them by their
lowest `AMOUNTS` bits; from the amounts come the codes, and from both the coded data. Runs of tokens between restarts
are coded one after the other. Nothing is checked here: the makers answer for their tokens.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .compiling import compiled
from .entropy import COPIED, copy_and_find
from .huffman_codes import LONGEST, best_code, encoding_table
from .memory import store_u8

__all__ = [
    "AMOUNTS",
    "TABLES",
    "TABLE_SHIFT",
    "VALUE_SHIFT",
    "bit_count",
    "store_big",
    "store_u32",
    "write_jpeg",
]

# DC and AC of luma, DC and AC of chroma.
TABLES = 4
# A token (uint32): symbol, table, and the bits that follow the code; the symbol's lower four bits say how many.
TABLE_SHIFT, VALUE_SHIFT = 8, 10
AMOUNTS = TABLES << TABLE_SHIFT
# That writing in large steps may touch behind the last byte.
SLACK = 64

_i64 = ir.IntType(64)


@intrinsic
def store_u32(typing_context, address, value):
    """`*(uint32 *)address = value`, of an int64."""

    def codegen(context, builder, signature, arguments):
        word = builder.trunc(arguments[1], ir.IntType(32))
        builder.store(word, builder.inttoptr(arguments[0], word.type.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def store_big(typing_context, address, value):
    """The lower 32 bits of an int64 as four bytes, big-endian."""

    def codegen(context, builder, signature, arguments):
        word = builder.bswap(builder.trunc(arguments[1], ir.IntType(32)))
        builder.store(word, builder.inttoptr(arguments[0], word.type.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def bit_count(typing_context, value):
    """Bits of a non-negative int64: 0 of 0, 3 of 4."""

    def codegen(context, builder, signature, arguments):
        zeros = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))
        return builder.sub(ir.Constant(_i64, 64), zeros)

    return types.int64(types.int64), codegen


@intrinsic
def _store_bits(typing_context, address, bits):
    """An int64 as eight bytes, the highest first."""

    def codegen(context, builder, signature, arguments):
        value = builder.bswap(arguments[1])
        builder.store(value, builder.inttoptr(arguments[0], _i64.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@njit(inline="always")
def _coded(token, codes):
    """`(bits, count)` of a token: its code and what follows."""
    code = codes[token & (AMOUNTS - 1)]
    extra = token & 15
    return (code >> 8) << extra | token >> VALUE_SHIFT, (code & 255) + extra


@compiled
def _write_run(tokens, first, stop, codes, address):
    """Code tokens `first` to `stop` from an address on; the address behind the last byte, filled up with ones.

    Up to eight bytes more are written. Bits wait in a word's highest places, fewer than eight after each step; two
    tokens have at most 54.
    """
    word, count = np.int64(0), np.int64(0)
    index = first
    while index < stop:
        bits, size = _coded(np.int64(tokens[index]), codes)
        if index + 1 < stop:
            more, more_size = _coded(np.int64(tokens[index + 1]), codes)
            bits = bits << more_size | more
            size += more_size
        index += 2
        count += size
        word |= bits << (64 - count)
        _store_bits(address, word)
        address += count >> 3
        word <<= count & 56
        count &= 7
    if count > 0:
        _store_bits(address, word | ((1 << (8 - count)) - 1) << 56)
        address += 1
    return address


@compiled
def _stuffed(target, source, count):
    """Copy coded bytes with a zero behind each 255; the address behind the last. 32 bytes more are read and written."""
    while count > 0:
        step = copy_and_find(target, source)
        target += min(step, count)
        source += step
        count -= step
        if step < COPIED and count > 0:
            store_u8(target, np.uint8(255))
            store_u8(target + 1, np.uint8(0))
            target += 2
            source += 1
            count -= 1
    return target


@compiled
def _write_tokens(tokens, stops, codes, bits, target, place):
    """Code all tokens, with a restart marker behind each run but the last; the place behind the last byte.

    Args:
        tokens, stops: see `write_jpeg`.
        codes: int64[AMOUNTS], `code << 8 | length`.
        bits: uint8, room for the longest run, and `SLACK` more.
        target: uint8, from `place` on room for twice the coded bytes (each may be 255) and two for each run, and
            `SLACK` more.
    """
    # Whoever calls holds the arrays, so their addresses are good until the end.
    begin, coded = np.int64(target.ctypes.data), np.int64(bits.ctypes.data)
    address = begin + place
    first = 0
    for run in range(stops.size):
        end = _write_run(tokens, first, stops[run], codes, coded)
        address = _stuffed(address, coded, end - coded)
        first = stops[run]
        if run < stops.size - 1:
            store_u8(address, np.uint8(255))
            store_u8(address + 1, np.uint8(0xD0 + (run & 7)))
            address += 2
    return address - begin


@compiled
def _write_header(source, scan, components, interval, target, counts, symbols, used):
    """The header with new tables and restart interval; bytes written."""
    target[:2] = source[:2]
    position, place = 2, 2
    while position + 4 <= scan:
        marker = source[position + 1]
        count = 2 + (int(source[position + 2]) << 8 | int(source[position + 3]))
        if marker == 0xDA:
            break
        if marker != 0xC4 and marker != 0xDD:
            target[place : place + count] = source[position : position + count]
            place += count
        position += count
    for table in range(used):
        total = counts[table].astype(np.int64).sum()
        head = (0xFF, 0xC4, (19 + total) >> 8, (19 + total) & 255, (table & 1) << 4 | table >> 1)
        for index in range(5):
            target[place + index] = head[index]
        target[place + 5 : place + 21] = counts[table]
        target[place + 21 : place + 21 + total] = symbols[table, :total]
        place += 21 + total
    for byte in (0xFF, 0xDD, 0, 4, interval >> 8, interval & 255):
        target[place] = byte
        place += 1
    target[place : place + scan - position] = source[position:scan]
    for component in range(components):
        target[place + 6 + 2 * component] = 0x11 if component > 0 else 0
    return place + scan - position


@compiled
def _best_codes(amounts, used):
    """`(counts, symbols, codes, bits)`: the first `used` tables for these amounts, each token's code, bits in all."""
    counts = np.zeros((TABLES, LONGEST), np.uint8)
    symbols = np.zeros((TABLES, 256), np.uint8)
    codes = np.zeros(AMOUNTS, np.int64)
    length = np.int64(0)
    for table in range(used):
        part = slice(table << TABLE_SHIFT, (table + 1) << TABLE_SHIFT)
        best, sorted_symbols = best_code(amounts[part])
        counts[table] = best
        symbols[table, : sorted_symbols.size] = sorted_symbols
        encoding_table(best, sorted_symbols, codes[part])
    for index in range(codes.size):
        length += amounts[index] * ((codes[index] & 255) + (index & 15))
    return counts, symbols, codes, length


@compiled
def write_jpeg(source, scan, components, interval, tokens, stops, amounts):
    """`uint8[m]`: a JPEG with the header of another one, and tokens as its coded data.

    Args:
        source: uint8[n], whose header (`scan` bytes, sound) is kept but for Huffman tables and restart interval.
        components: 1 or 3, of which the first has the tables of luma.
        interval: MCUs between restarts.
        tokens: uint32[k], stops: int64[runs], the number of tokens up to the end of each run.
        amounts: int64[AMOUNTS], how many tokens have each value of the lowest bits.
    """
    used = TABLES if components > 1 else 2
    counts, symbols, codes, length = _best_codes(amounts, used)
    # Each run is filled up to a byte.
    most = length // 8 + stops.size
    bits = np.empty(most + SLACK, np.uint8)
    target = np.empty(scan + TABLES * (21 + 256) + 6 + 2 * most + 2 * stops.size + SLACK, np.uint8)
    place = _write_header(source, scan, components, interval, target, counts, symbols, used)
    place = _write_tokens(tokens, stops, codes, bits, target, place)
    target[place] = 0xFF
    target[place + 1] = 0xD9
    return target[: place + 2].copy()
