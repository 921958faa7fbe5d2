"""Give a baseline JPEG another restart interval and the best Huffman tables; its coefficients stay as they are.

The coded data are read symbol by symbol; only the differences of DC coefficients change, because they begin
anew at a restart. A JPEG that is not strictly what the standard says (a code that is none, bits left
over, markers out of order) is declined, so nothing that decoders would judge differently is written.

Memory is checked where it is touched: before a block is read there are bits left, and behind the copied
bits lie as many zeros as a block can take at most; the target is as long as the longest result.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .compiling import compiled
from .huffman_codes import LONGEST, LOOK_BITS, decoding_table
from .huffman_tokens import AMOUNTS, TABLE_SHIFT, TABLES, VALUE_SHIFT, bit_count, store_big, store_u32, write_jpeg
from .memory import load_i64, load_u8, load_u16
from .tiles import next_marker, tile_layout

__all__ = ["retile"]

_LARGEST_DC, _LARGEST_AC = 11, 10
# A block has at most 64 symbols of at most 16 + 11 bits.
_BLOCK_BYTES = 64 * 27 // 8
_PADDING = _BLOCK_BYTES + 16
_LOOK_MASK = (1 << LOOK_BITS) - 1
_BOUNDS = 2 * (LONGEST + 2)
_MOST_BITS = LONGEST + _LARGEST_DC
_WORD_BITS = 56  # that are certain after a load at any bit

_i64 = ir.IntType(64)


@intrinsic
def _load_big(typing_context, address):
    """Eight bytes as a big-endian int64."""

    def codegen(context, builder, signature, arguments):
        value = builder.load(builder.inttoptr(arguments[0], _i64.as_pointer()))
        value.align = 1
        return builder.bswap(value)

    return types.int64(types.int64), codegen


@compiled
def _read_tables(source, scan, look, bounds, symbols):
    """Read the Huffman tables before offset `scan`, class and number as `table = 4 * class + number`; a bitmask."""
    known = 0
    position = 2
    while position + 4 <= scan:
        end = position + 2 + (int(source[position + 2]) << 8 | int(source[position + 3]))
        if end > scan:
            return 0
        if source[position + 1] == 0xC4:
            place = position + 4
            while place < end:
                kind, number = int(source[place]) >> 4, int(source[place]) & 15
                if kind > 1 or number > 3 or place + 17 > end:
                    return 0
                counts = source[place + 1 : place + 17]
                total = int(counts.astype(np.int64).sum())
                if total > 256 or place + 17 + total > end:
                    return 0
                table = 4 * kind + number
                symbols[table, :] = 0
                symbols[table, :total] = source[place + 17 : place + 17 + total]
                if not decoding_table(
                    counts, symbols[table, :total], look[table], bounds[table].reshape(2, LONGEST + 2)
                ):
                    return 0
                known |= 1 << table
                place += 17 + total
        position = end
    return known


@njit(inline="always")
def _has_ones(word):
    """Whether one of the eight bytes of an int64 may be FF; never says no where one is."""
    return (~word - 0x0101010101010101) & word & -0x7F7F7F7F7F7F7F80 != 0


@compiled
def _unstuff(source, scan, interval, units):
    """The coded data as plain bits, and where each run between restarts ends, in bytes.

    Returns:
        `(bits, ends)`: `uint8[n + _PADDING]` with zeros at its end and `int64[runs]`; no runs where
        markers are missing or out of order, or the image does not end with the last run.
    """
    begin = source.ctypes.data
    place, end = begin + scan, begin + source.size
    runs = (units + interval - 1) // interval if interval > 0 else 1
    nothing = np.empty(0, np.int64)
    if runs > source.size:
        return np.empty(0, np.uint8), nothing
    bits = np.empty(source.size - scan + _PADDING, np.uint8)
    ends = np.empty(runs, np.int64)
    address = bits.ctypes.data
    written = 0
    for run in range(runs):
        behind = next_marker(place, end)
        if behind == end:
            return bits, nothing
        expected = 0xD9 if run == runs - 1 else 0xD0 + (run & 7)
        if load_u8(behind + 1) != expected:
            return bits, nothing
        offset, stop = place - begin, behind - begin
        while offset < stop:
            if offset + 8 <= stop:
                word = _load_big(begin + offset)
                if not _has_ones(word):
                    store_big(address + written, word >> 32)
                    store_big(address + written + 4, word)
                    offset += 8
                    written += 8
                    continue
            byte = source[offset]
            bits[written] = byte
            written += 1
            # Between markers FF is followed by 00; another FF before a marker would fill.
            offset += 2 if byte == 0xFF else 1
        if offset != stop:
            return bits, nothing
        ends[run] = written
        place = behind + 2
    bits[written : written + _PADDING] = 0
    return bits[: written + _PADDING], ends


@njit(inline="always")
def _entry(word, tables, table):
    """`length << 8 | symbol` of the code that `word` begins with; 0 where it is none."""
    look, bounds, symbols = tables
    entry = np.int64(load_u16(look + (table << (LOOK_BITS + 1)) + 2 * ((word >> (64 - LOOK_BITS)) & _LOOK_MASK)))
    if entry == 0:
        limits = bounds + 8 * table * _BOUNDS
        for length in range(LOOK_BITS + 1, LONGEST + 1):
            code = (word >> (64 - length)) & ((1 << length) - 1)
            if code < load_i64(limits + 8 * length):
                place = code + load_i64(limits + 8 * (LONGEST + 2 + length))
                return length << 8 | np.int64(load_u8(symbols + 256 * table + (place & 255)))
    return entry


@compiled
def _read_block(bits, position, tables, codes, tokens, written, predictions):
    """Read one block's symbols from bit `position` on as tokens.

    Args:
        bits: the address of the coded bits, tokens: that of room for 64 tokens from `written` on.
        tables: `(dc, ac, target)`: the block's tables in `codes`, and that of its DC tokens; AC tokens have the next.
        codes: the addresses `(look, bounds, symbols)` of all tables.
        predictions: `(source, target)`, the DC coefficient before.

    Returns:
        `(position, written, dc)`; a position of -1 where the bits are no block.
    """
    dc_table, ac_table, target = tables
    word = _load_big(bits + (position >> 3)) << (position & 7)
    entry = _entry(word, codes, dc_table)
    size = entry & 255
    if entry == 0 or size > _LARGEST_DC:
        return -1, written, 0
    used = entry >> 8
    value = (((word << used) >> 1) >> (63 - size)) & ((1 << size) - 1)
    if size > 0 and value >> (size - 1) == 0:
        value -= (1 << size) - 1
    dc = predictions[0] + value
    difference = dc - predictions[1]
    # Of a negative difference the bits of one less are coded.
    size_now = bit_count(abs(difference))
    if size_now > _LARGEST_DC:
        return -1, written, 0
    coded = (difference - (difference < 0)) & ((1 << size_now) - 1)
    store_u32(tokens + 4 * written, target << TABLE_SHIFT | size_now | coded << VALUE_SHIFT)
    written += 1
    position += used + size
    left = _WORD_BITS - used - size
    word <<= used + size
    table_bits = (target + 1) << TABLE_SHIFT
    index = 1
    while index < 64:
        if left < _MOST_BITS:
            word = _load_big(bits + (position >> 3)) << (position & 7)
            left = _WORD_BITS
        entry = _entry(word, codes, ac_table)
        symbol = entry & 255
        size = symbol & 15
        run = symbol >> 4
        if entry == 0 or size > _LARGEST_AC or (size == 0 and run != 0 and run != 15):
            return -1, written, 0
        used = entry >> 8
        value = (((word << used) >> 1) >> (63 - size)) & ((1 << size) - 1)
        store_u32(tokens + 4 * written, table_bits | symbol | value << VALUE_SHIFT)
        written += 1
        position += used + size
        left -= used + size
        word <<= used + size
        if symbol == 0:
            break
        index += run + 1
        if index > 64:
            return -1, written, 0
    return position, written, dc


@compiled
def _read_tokens(bits, ends, old_interval, new_interval, units, blocks, tables):
    """All symbols as tokens, with DC differences for the new interval.

    Args:
        blocks: `int64[n, 4]`, of each block of an MCU its component, DC table, AC table and new table.
        tables: of all tables look, bounds and symbols, see `ffx.kernels.huffman.decoding_table`.

    Returns:
        `(tokens, stops)`: uint32, and the number of tokens up to the end of each new run; no stops where the
        data are not sound.
    """
    # Whoever calls holds the arrays, so their addresses are good until the end.
    codes = (tables[0].ctypes.data, tables[1].ctypes.data, tables[2].ctypes.data)
    # A token takes at least one bit.
    tokens = np.empty(8 * bits.size + 64, np.uint32)
    stops = np.empty((units + new_interval - 1) // new_interval, np.int64)
    nothing = stops[:0]
    address, room = bits.ctypes.data, tokens.ctypes.data
    before = np.zeros((3, 2), np.int64)
    position, written, run = np.int64(0), np.int64(0), 0
    for unit in range(units):
        if old_interval > 0 and unit > 0 and unit % old_interval == 0:
            if (position + 7) >> 3 != ends[run]:
                return tokens, nothing
            position = 8 * ends[run]
            run += 1
            before[:, 0] = 0
        if unit % new_interval == 0:
            before[:, 1] = 0
            if unit > 0:
                stops[unit // new_interval - 1] = written
        stop = 8 * ends[run]
        for block in range(blocks.shape[0]):
            component = blocks[block, 0]
            chosen = (blocks[block, 1], blocks[block, 2], blocks[block, 3])
            predictions = (before[component, 0], before[component, 1])
            position, written, dc = _read_block(address, position, chosen, codes, room, written, predictions)
            if position < 0 or position > stop:
                return tokens, nothing
            before[component, :] = dc
    if (position + 7) >> 3 != ends[run]:
        return tokens, nothing
    stops[-1] = written
    return tokens[:written], stops


@compiled
def _blocks_of_unit(source, scan, known):
    """The blocks of an MCU for `_read_tokens`; none where the scan and the frame do not fit together."""
    frame, head = 0, 0
    position = 2
    while position < scan:
        if source[position + 1] == 0xC0 or source[position + 1] == 0xC1:
            frame = position
        head = position
        position += 2 + (int(source[position + 2]) << 8 | int(source[position + 3]))
    components = int(source[frame + 9])
    blocks = np.empty((16 + 2, 4), np.int64)
    count = 0
    for component in range(components):
        if source[head + 5 + 2 * component] != source[frame + 10 + 3 * component]:
            return blocks[:0]
        named = int(source[head + 6 + 2 * component])
        dc, ac = named >> 4, 4 + (named & 15)
        if dc > 3 or ac > 7 or not known >> dc & 1 or not known >> ac & 1:
            return blocks[:0]
        factors = int(source[frame + 11 + 3 * component])
        repeats = (factors >> 4) * (factors & 15) if component == 0 and components > 1 else 1
        for _ in range(repeats):
            blocks[count, 0], blocks[count, 1], blocks[count, 2] = component, dc, ac
            blocks[count, 3] = 0 if component == 0 else 2
            count += 1
    # A decoder takes no more than ten blocks in an MCU.
    return blocks[: count if count <= 10 else 0]


@compiled
def retile(source, interval):
    """A baseline JPEG in one scan with another restart interval and the shortest Huffman codes.

    Its coefficients, and so its pixels, are the same; segments other than tables and interval are kept, bytes
    behind the image's end are not.

    Args:
        source: `uint8[n]`, contiguous.
        interval: MCUs from one restart to the next, 1 to 65535.

    Returns:
        `uint8[m]`, or an empty array where the JPEG is of another kind or not sound.
    """
    nothing = np.empty(0, np.uint8)
    scan, old_interval, unit_height, unit_width, height, width = tile_layout(source.ctypes.data, np.int64(source.size))
    if scan == 0 or height == 0 or width == 0 or interval < 1 or interval > 65535:
        return nothing
    units = ((height + unit_height - 1) // unit_height) * ((width + unit_width - 1) // unit_width)
    look = np.empty((2 * TABLES, 1 << LOOK_BITS), np.uint16)
    bounds = np.empty((2 * TABLES, _BOUNDS), np.int64)
    known_symbols = np.empty((2 * TABLES, 256), np.uint8)
    known = _read_tables(source, scan, look, bounds, known_symbols)
    blocks = _blocks_of_unit(source, scan, known)
    # A block takes at least two bits.
    if blocks.shape[0] == 0 or units * blocks.shape[0] > 4 * source.size:
        return nothing
    bits, ends = _unstuff(source, scan, old_interval, units)
    if ends.size == 0:
        return nothing
    tables = (look, bounds, known_symbols)
    tokens, stops = _read_tokens(bits, ends, old_interval, interval, units, blocks, tables)
    if stops.size == 0:
        return nothing
    amounts = np.zeros(AMOUNTS, np.int64)
    for token in tokens:
        amounts[token & (AMOUNTS - 1)] += 1
    return write_jpeg(source, scan, int(blocks[-1, 0]) + 1, interval, tokens, stops, amounts)
