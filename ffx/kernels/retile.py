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
from .huffman_codes import LONGEST, LOOK_BITS, best_code, decoding_table, encoding_table
from .memory import load_i64, load_u8, load_u16
from .tiles import next_marker, tile_layout

__all__ = ["retile"]

_TABLES = 4
# A token is a symbol that was read: its table and number, and the bits that followed it.
_TABLE_SHIFT, _VALUE_SHIFT = 8, 10
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


@intrinsic
def _store_u32(typing_context, address, value):
    """`*(uint32 *)address = value`, of an int64."""

    def codegen(context, builder, signature, arguments):
        word = builder.trunc(arguments[1], ir.IntType(32))
        builder.store(word, builder.inttoptr(arguments[0], word.type.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def _store_big(typing_context, address, value):
    """The lower 32 bits of an int64 as four bytes, big-endian."""

    def codegen(context, builder, signature, arguments):
        word = builder.bswap(builder.trunc(arguments[1], ir.IntType(32)))
        builder.store(word, builder.inttoptr(arguments[0], word.type.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


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
                    _store_big(address + written, word >> 32)
                    _store_big(address + written + 4, word)
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


@intrinsic
def _bit_count(typing_context, value):
    """Bits of a non-negative int64: 0 of 0, 3 of 4."""

    def codegen(context, builder, signature, arguments):
        zeros = builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 0))
        return builder.sub(ir.Constant(_i64, 64), zeros)

    return types.int64(types.int64), codegen


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
    size_now = _bit_count(abs(difference))
    if size_now > _LARGEST_DC:
        return -1, written, 0
    coded = (difference - (difference < 0)) & ((1 << size_now) - 1)
    _store_u32(tokens + 4 * written, target << _TABLE_SHIFT | size_now | coded << _VALUE_SHIFT)
    written += 1
    position += used + size
    left = _WORD_BITS - used - size
    word <<= used + size
    table_bits = (target + 1) << _TABLE_SHIFT
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
        _store_u32(tokens + 4 * written, table_bits | symbol | value << _VALUE_SHIFT)
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


@njit(inline="always")
def _put_byte(target, place, byte):
    target[place] = byte
    if byte == 0xFF:
        target[place + 1] = 0
        return place + 2
    return place + 1


@compiled
def _write_tokens(tokens, stops, codes, target, place):
    """Code the tokens from `target[place]` on, with a restart marker behind each run but the last; the end's place.

    `target` has room for twice the coded bytes (each may be FF) and for four bytes more.
    """
    address = target.ctypes.data
    first = 0
    for run in range(stops.size):
        word, count = np.int64(0), np.int64(0)
        for index in range(first, stops[run]):
            token = np.int64(tokens[index])
            extra = token & 15
            code = codes[token & 1023]
            length = (code & 255) + extra
            word = word << length | (code >> 8) << extra | token >> _VALUE_SHIFT
            count += length
            if count >= 32:
                count -= 32
                full = (word >> count) & 0xFFFFFFFF
                # A byte of FF: subtracting borrows from none of the others then.
                inverse = ~full & 0xFFFFFFFF
                if (inverse - 0x01010101) & full & 0x80808080:
                    for shift in (24, 16, 8, 0):
                        place = _put_byte(target, place, (full >> shift) & 255)
                else:
                    _store_big(address + place, full)
                    place += 4
        while count > 0:
            # The last byte is filled up with ones.
            byte = (word >> (count - 8)) & 255 if count >= 8 else (word << (8 - count) | (1 << (8 - count)) - 1) & 255
            place = _put_byte(target, place, byte)
            count -= 8
        first = stops[run]
        if run < stops.size - 1:
            target[place] = 0xFF
            target[place + 1] = 0xD0 + (run & 7)
            place += 2
    return place


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
def _best_codes(tokens, used):
    """`(counts, symbols, codes, bits)`: the first `used` tables for the tokens, each token's code, and bits in all."""
    amounts = np.zeros(_TABLES << _TABLE_SHIFT, np.int64)
    for token in tokens:
        amounts[token & 1023] += 1
    counts = np.zeros((_TABLES, LONGEST), np.uint8)
    symbols = np.zeros((_TABLES, 256), np.uint8)
    codes = np.zeros(_TABLES << _TABLE_SHIFT, np.int64)
    length = np.int64(0)
    for table in range(used):
        part = slice(table << _TABLE_SHIFT, (table + 1) << _TABLE_SHIFT)
        best, sorted_symbols = best_code(amounts[part])
        counts[table] = best
        symbols[table, : sorted_symbols.size] = sorted_symbols
        encoding_table(best, sorted_symbols, codes[part])
    for index in range(codes.size):
        length += amounts[index] * ((codes[index] & 255) + (index & 15))
    return counts, symbols, codes, length


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
    look = np.empty((2 * _TABLES, 1 << LOOK_BITS), np.uint16)
    bounds = np.empty((2 * _TABLES, _BOUNDS), np.int64)
    known_symbols = np.empty((2 * _TABLES, 256), np.uint8)
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
    used = _TABLES if blocks[-1, 0] > 0 else 2
    counts, symbols, codes, length = _best_codes(tokens, used)
    # Twice the bytes for stuffing; a run is filled up to a byte and followed by a marker.
    target = np.empty(scan + _TABLES * (21 + 256) + 6 + 2 * (length // 8 + 1) + 4 * stops.size + 16, np.uint8)
    components = int(blocks[-1, 0]) + 1
    place = _write_header(source, scan, components, interval, target, counts, symbols, used)
    place = _write_tokens(tokens, stops, codes, target, place)
    target[place] = 0xFF
    target[place + 1] = 0xD9
    return target[: place + 2].copy()
