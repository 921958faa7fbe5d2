"""Decode an ordinary baseline JPEG whole, to the very pixels of libjpeg, faster than the library does.

For the writer, which has to decode every picture as Pillow would. Only what most photographs are is
decoded here: baseline Huffman coding with eight bits in one scan without restarts; grey, or YCbCr with
chroma of full size or halved as 4:2:2 or 4:2:0. Everything else, and everything that is not exactly as it
should be, is refused, and left for the library to judge.

The coded data are copied without their stuffed zeros, so that bits can be taken eight bytes at a time; one
look-up of eleven bits gives a code, its run and mostly its value, too. The rest is in `baseline_pixels`.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

from .baseline_pixels import BLOCK_BYTES, convert_row, inverse_transform_pair, stretch_row
from .memory import KERNEL_OPTIONS, array_at, load_u8, load_u32, scratch, store_u8
from .simd import i8, i16, i32, i64
from .step import BAD_JPEG, NO_MEMORY, OK

__all__ = ["decode_baseline"]

_TABLE_AREA, _DATA_AREA, _PLANE_AREA = 4, 5, 6

_LOOKUP_BITS = 11
_LOOKUP_SHIFT = np.uint64(64 - _LOOKUP_BITS)
_LONGEST = 16
# Of a Huffman table: look-up int32[2048], limits and offsets int64[17] each, symbols u8[256].
_LIMITS = 4 << _LOOKUP_BITS
_OFFSETS = _LIMITS + 8 * (_LONGEST + 1)
_SYMBOLS = _OFFSETS + 8 * (_LONGEST + 1)
_HUFFMAN_BYTES = (_SYMBOLS + 256 + 63) // 64 * 64
# What the table area holds: the frame's words, four quantisers, four tables for DC and four for AC.
_FRAME_WORDS = 32
_QUANTISERS = 8 * _FRAME_WORDS
_HUFFMAN = _QUANTISERS + 4 * BLOCK_BYTES
_TABLES_BYTES = _HUFFMAN + 8 * _HUFFMAN_BYTES
# The frame's words.
_HEIGHT, _WIDTH, _COMPONENTS, _SCAN = 0, 1, 2, 3
_COMPONENT, _COMPONENT_WORDS = 4, 6  # identifier, h, v, quantiser, DC table, AC table
_EXCESS = 24  # four words, see `inverse_transform_pair`
_SEEN = 28  # a bit for each table that was defined: quantisers, then DC, then AC
_END_OF_BLOCK = 128
_PADDING = 512  # zeros after the data: more than one block can take
# A picture's rows of planes can be read so far beyond their ends.
_SLACK = 64

_NATURAL = np.array(
    [column + 8 * row for row, column in sorted(
        ((row, column) for row in range(8) for column in range(8)),
        key=lambda place: (sum(place), place[0] if sum(place) % 2 else place[1]),
    )],
    np.int64,
)  # fmt: skip


@intrinsic
def _load_big_u64(typing_context, address):
    """Eight bytes, the first one highest."""

    def codegen(context, builder, signature, arguments):
        value = builder.load(builder.inttoptr(arguments[0], i64.as_pointer()))
        value.align = 1
        return builder.bswap(value)

    return types.uint64(types.int64), codegen


@intrinsic
def _store_i16(typing_context, address, value):
    """`*(int16 *)address = value`, without its upper bits."""

    def codegen(context, builder, signature, arguments):
        short = builder.trunc(arguments[1], i16)
        builder.store(short, builder.inttoptr(arguments[0], i16.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def _copy_32_to_marker(typing_context, target, source):
    """Copy 32 bytes; how many come before the first FF (32 where there is none)."""

    def codegen(context, builder, signature, arguments):
        kind = ir.VectorType(i8, 32)
        value = builder.load(builder.inttoptr(arguments[1], kind.as_pointer()))
        value.align = 1
        builder.store(value, builder.inttoptr(arguments[0], kind.as_pointer())).align = 1
        marks = builder.icmp_unsigned("==", value, ir.Constant(kind, [ir.Constant(i8, 255)] * 32))
        mask = builder.bitcast(marks, i32)
        return builder.zext(builder.cttz(mask, ir.Constant(ir.IntType(1), 0)), i64)

    return types.int64(types.int64, types.int64), codegen


@njit(inline="always")
def _u16(address):
    return int(load_u8(address)) << 8 | int(load_u8(address + 1))


@njit(inline="always")
def _extended(extra, size):
    """A value from its `size` additional bits."""
    return extra if extra >> (size - 1) else extra - (1 << size) + 1


@njit(**KERNEL_OPTIONS)
def _entry(symbol, length, suffix, is_dc):
    """What the look-up says of a code of `length` bits that `suffix` follows.

    Bits 0 to 5 are all bits that it takes, 6 to 13 the places to advance, 16 on its value. Where the value's
    bits are not all there, bits 0 to 5 are 0, and 16 to 20 are the code's length, 21 to 24 the value's bits.
    (A shift looks at six bits of its count, so that the first field needs no mask there.)
    """
    run, size = symbol >> 4, symbol & 15
    if size == 0:
        advance = 16 if run == 15 and not is_dc else _END_OF_BLOCK
        return advance << 6 | length
    rest = _LOOKUP_BITS - length - size
    if rest < 0:
        return (run + 1) << 6 | length << 16 | size << 21
    return _extended(suffix >> rest, size) * 65536 | (run + 1) << 6 | (length + size)


@njit(**KERNEL_OPTIONS)
def _build_huffman(table, source, symbols, is_dc):
    """Make a table from `source` (16 counts, then `symbols` symbols); False where it is impossible."""
    lookup = array_at(table, (1 << _LOOKUP_BITS,), np.int32)
    limits = array_at(table + _LIMITS, (_LONGEST + 1,), np.int64)
    offsets = array_at(table + _OFFSETS, (_LONGEST + 1,), np.int64)
    lookup[:] = 0
    code = 0
    index = 0
    for length in range(1, _LONGEST + 1):
        offsets[length] = index - code
        for _ in range(int(load_u8(source + length - 1))):
            symbol = int(load_u8(source + 16 + index))
            if code >= 1 << length or (is_dc and symbol > 11):
                return False
            store_u8(table + _SYMBOLS + index, np.uint8(symbol))
            if length <= _LOOKUP_BITS:
                rest = _LOOKUP_BITS - length
                for suffix in range(1 << rest):
                    lookup[code << rest | suffix] = _entry(symbol, length, suffix, is_dc)
            code += 1
            index += 1
        limits[length] = code << (_LONGEST - length)
        code <<= 1
    return index == symbols


@njit(**KERNEL_OPTIONS)
def _read_huffman(tables, frame, place, end):
    while place < end:
        if place + 17 > end:
            return False
        kind = int(load_u8(place))
        symbols = 0
        for length in range(16):
            symbols += int(load_u8(place + 1 + length))
        if kind & 0xEC or symbols > 256 or place + 17 + symbols > end:
            return False
        number = (kind & 3) + 4 * (kind >> 4)
        if not _build_huffman(tables + _HUFFMAN + _HUFFMAN_BYTES * number, place + 1, symbols, kind < 16):
            return False
        frame[_SEEN] |= 16 << number
        place += 17 + symbols
    return True


@njit(**KERNEL_OPTIONS)
def _read_quantisers(tables, frame, place, end):
    while place < end:
        number = int(load_u8(place))
        if number > 3 or place + 65 > end:
            return False
        quantiser = array_at(tables + _QUANTISERS + BLOCK_BYTES * number, (64,), np.int16)
        for index in range(64):
            quantiser[_NATURAL[index]] = int(load_u8(place + 1 + index))
        frame[_SEEN] |= 1 << number
        place += 65
    return True


@njit(**KERNEL_OPTIONS)
def _read_frame(frame, place, end):
    if frame[_COMPONENTS] != 0 or place + 6 > end or load_u8(place) != 8:
        return False
    frame[_HEIGHT], frame[_WIDTH] = _u16(place + 1), _u16(place + 3)
    count = int(load_u8(place + 5))
    if (count != 1 and count != 3) or place + 6 + 3 * count != end:
        return False
    frame[_COMPONENTS] = count
    for number in range(count):
        words = frame[_COMPONENT + _COMPONENT_WORDS * number :]
        factors = int(load_u8(place + 7 + 3 * number))
        words[0], words[1], words[2] = int(load_u8(place + 6 + 3 * number)), factors >> 4, factors & 15
        words[3] = int(load_u8(place + 8 + 3 * number))
        if words[3] > 3:
            return False
        if count == 1:
            # The only component's factors mean nothing, as long as they are possible.
            if words[1] < 1 or words[1] > 4 or words[2] < 1 or words[2] > 4:
                return False
            words[1], words[2] = 1, 1
        elif number > 0 and factors != 0x11:
            return False
    first = frame[_COMPONENT + 1] * 16 + frame[_COMPONENT + 2]
    return first == 0x11 or first == 0x21 or first == 0x22


@njit(**KERNEL_OPTIONS)
def _read_scan(frame, place, end):
    count = frame[_COMPONENTS]
    if count == 0 or place + 4 + 2 * count != end or load_u8(place) != count:
        return False
    for number in range(count):
        words = frame[_COMPONENT + _COMPONENT_WORDS * number :]
        tables = int(load_u8(place + 2 + 2 * number))
        if load_u8(place + 1 + 2 * number) != words[0] or tables & 0xCC:
            return False
        words[4], words[5] = tables >> 4, 4 + (tables & 3)
        wanted = 1 << words[3] | 16 << words[4] | 16 << words[5]
        if frame[_SEEN] & wanted != wanted:
            return False
    place += 1 + 2 * count
    return load_u8(place) == 0 and load_u8(place + 1) == 63 and load_u8(place + 2) == 0


@njit(**KERNEL_OPTIONS)
def _read_markers(tables, frame, data, size):
    """Read up to the scan's data, whose place goes into the frame; False for what is not decoded here."""
    frame[:] = 0
    if size < 4 or _u16(data) != 0xFFD8:
        return False
    place, end = data + 2, data + size
    while place + 4 <= end:
        marker = _u16(place)
        stop = place + 2 + _u16(place + 2)
        place += 4
        if marker < 0xFFC0 or stop < place or stop > end:
            return False
        good = True
        if marker == 0xFFDB:
            good = _read_quantisers(tables, frame, place, stop)
        elif marker == 0xFFC4:
            good = _read_huffman(tables, frame, place, stop)
        elif marker == 0xFFC0:
            good = _read_frame(frame, place, stop)
        elif marker == 0xFFDA:
            frame[_SCAN] = stop - data
            return _read_scan(frame, place, stop)
        elif marker == 0xFFE0:
            # The library warns of a JFIF of another version than 1.
            good = stop - place < 14 or _u16(place) != 0x4A46 or load_u8(place + 5) == 1
        elif marker < 0xFFE0 or (marker >= 0xFFF0 and marker != 0xFFFE):
            # Other frames, restarts, arithmetic coding: not here.
            return False
        if not good:
            return False
        place = stop
    return False


@njit(**KERNEL_OPTIONS)
def _unstuff(source, size, target):
    """Copy coded data without stuffed zeros up to the next marker: `(bytes, marker)`, marker 0 where there is none."""
    place, end, start = source, source + size, target
    while True:
        if place + 32 <= end:
            plain = _copy_32_to_marker(target, place)
            place += plain
            target += plain
            if plain == 32:
                continue
        else:
            while place < end and load_u8(place) != 255:
                store_u8(target, load_u8(place))
                place += 1
                target += 1
        if place + 1 >= end:
            return target - start, 0
        following = int(load_u8(place + 1))
        if following != 0:
            return target - start, following
        store_u8(target, np.uint8(255))
        target += 1
        place += 2


@njit(**KERNEL_OPTIONS)
def _long_symbol(bits, entry, table):
    """What the look-up does not hold: `(bits taken, places to advance, value)`; 0 to advance for no code at all."""
    length, size, advance = entry >> 16 & 31, entry >> 21 & 15, entry >> 6 & 255
    if length == 0:
        limits = array_at(table + _LIMITS, (_LONGEST + 1,), np.int64)
        offsets = array_at(table + _OFFSETS, (_LONGEST + 1,), np.int64)
        top = np.int64(bits >> np.uint64(64 - _LONGEST))
        length = _LOOKUP_BITS + 1
        while length <= _LONGEST and top >= limits[length]:
            length += 1
        if length > _LONGEST:
            return np.int64(0), np.int64(0), np.int64(0)
        symbol = int(load_u8(table + _SYMBOLS + offsets[length] + (top >> (_LONGEST - length))))
        size, advance = symbol & 15, (symbol >> 4) + 1
        if size == 0:
            return length, np.int64(16 if advance == 16 else _END_OF_BLOCK), np.int64(0)
    extra = np.int64((bits << np.uint64(length)) >> np.uint64(64 - size))
    return length + size, advance, _extended(extra, size)


@njit(inline="always")
def _look_up(bits, table):
    return np.int64(np.int32(load_u32(table + 4 * np.int64(bits >> _LOOKUP_SHIFT))))


@njit(inline="always")
def _refilled(bits, count, place):
    """At least 56 bits, the next one highest. Bits below `count` may be there already, and are the same."""
    bits |= _load_big_u64(place) >> np.uint64(count)
    return bits, count | 56, place + ((63 - count) >> 3)


@njit(inline="always")
def _decode_difference(bits, count, place, table):
    """The difference of a DC coefficient from the one before: `(bits, count, place, difference, good)`."""
    bits, count, place = _refilled(bits, count, place)
    entry = _look_up(bits, table)
    taken, advance, value = entry & 63, entry >> 6 & 255, entry >> 16
    if taken == 0:
        taken, advance, value = _long_symbol(bits, entry, table)
    return bits << np.uint64(taken), count - taken, place, value, advance > 0


@njit(inline="always")
def _store_coefficient(block, index, value):
    _store_i16(block + 2 * _NATURAL[np.uint64(index - 1)], value)


@njit(**KERNEL_OPTIONS)
def _decode_block(bits, count, place, dc_table, ac_table, block, previous):
    """One block's coefficients, in memory that is zero: `(bits, count, place, DC, good)`.

    `index` is the place after the last coefficient. A filled register has the bits for three codes that the
    look-up knows, or for two and one that it does not.
    """
    bits, count, place, value, good = _decode_difference(bits, count, place, dc_table)
    previous += value
    _store_i16(block, previous)
    index = 1
    while good:
        bits, count, place = _refilled(bits, count, place)
        entry = _look_up(bits, ac_table)
        taken, advance, value = entry & 63, entry >> 6 & 255, entry >> 16
        if taken == 0:
            taken, advance, value = _long_symbol(bits, entry, ac_table)
            good = advance > 0
        bits <<= np.uint64(taken & 63)
        count -= taken
        index += advance
        if index >= 64:
            break
        _store_coefficient(block, index, value)
        entry = _look_up(bits, ac_table)
        if entry & 63 == 0:
            continue
        bits <<= np.uint64(entry & 63)
        count -= entry & 63
        index += entry >> 6 & 255
        value = entry >> 16
        if index >= 64:
            break
        _store_coefficient(block, index, value)
        entry = _look_up(bits, ac_table)
        if entry & 63 == 0:
            continue
        bits <<= np.uint64(entry & 63)
        count -= entry & 63
        index += entry >> 6 & 255
        value = entry >> 16
        if index >= 64:
            break
        _store_coefficient(block, index, value)
    if index == 64:
        _store_coefficient(block, index, value)
    return bits, count, place, previous, good and (index == 64 or index > _END_OF_BLOCK)


@njit(**KERNEL_OPTIONS)
def _zero(place, count):
    array_at(place, (count,), np.uint8)[:] = np.uint8(0)


@njit(inline="always")
def _even(count):
    return (count + 1) // 2 * 2


@njit(**KERNEL_OPTIONS)
def _decode_planes(tables, frame, data, data_bytes, coefficients, planes, units_high, units_wide):
    """All blocks, into the components' planes (`planes` int64[3, 2]: address and stride, or 0 for none)."""
    bits, count, place = np.uint64(0), np.int64(0), np.int64(data)
    previous_0, previous_1, previous_2 = np.int64(0), np.int64(0), np.int64(0)
    components = frame[_COMPONENTS]
    across, down = frame[_COMPONENT + 1], frame[_COMPONENT + 2]
    first_row = BLOCK_BYTES * _even(across * units_wide)
    other_row = BLOCK_BYTES * _even(units_wide)
    row_bytes = down * first_row + (components - 1) * other_row
    dc_0, ac_0 = frame[_COMPONENT + 4], frame[_COMPONENT + 5]
    dc_0, ac_0 = tables + _HUFFMAN + _HUFFMAN_BYTES * dc_0, tables + _HUFFMAN + _HUFFMAN_BYTES * ac_0
    second, third = _COMPONENT + _COMPONENT_WORDS, _COMPONENT + 2 * _COMPONENT_WORDS
    dc_1, ac_1 = (
        tables + _HUFFMAN + _HUFFMAN_BYTES * frame[second + 4],
        tables + _HUFFMAN + _HUFFMAN_BYTES * frame[second + 5],
    )
    dc_2, ac_2 = (
        tables + _HUFFMAN + _HUFFMAN_BYTES * frame[third + 4],
        tables + _HUFFMAN + _HUFFMAN_BYTES * frame[third + 5],
    )
    blue, red = coefficients + down * first_row, coefficients + down * first_row + other_row
    end = data + data_bytes + 8
    good = True
    for unit_row in range(units_high):
        _zero(coefficients, row_bytes)
        for unit in range(units_wide):
            for row in range(down):
                for column in range(across):
                    block = coefficients + row * first_row + BLOCK_BYTES * (unit * across + column)
                    bits, count, place, previous_0, fine = _decode_block(
                        bits, count, place, dc_0, ac_0, block, previous_0
                    )
                    good &= fine and place <= end
                    if not good:
                        return BAD_JPEG
            if components == 3:
                block = blue + BLOCK_BYTES * unit
                bits, count, place, previous_1, fine = _decode_block(bits, count, place, dc_1, ac_1, block, previous_1)
                good &= fine and place <= end
                if not good:
                    return BAD_JPEG
                block = red + BLOCK_BYTES * unit
                bits, count, place, previous_2, fine = _decode_block(bits, count, place, dc_2, ac_2, block, previous_2)
                good &= fine and place <= end
                if not good:
                    return BAD_JPEG
        if planes[0, 0] != 0:
            if not _transform_rows(tables, frame, coefficients, planes, unit_row, across * units_wide, units_wide):
                return BAD_JPEG
    # The data must end where the last block ends, but for the bits that fill its byte.
    spare = 8 * (data + data_bytes - place) + count
    return OK if 0 <= spare < 8 else BAD_JPEG


@njit(**KERNEL_OPTIONS)
def _transform_rows(tables, frame, coefficients, planes, unit_row, first_blocks, other_blocks):
    """The samples of one row of units; False where a coefficient is impossibly large."""
    row_start = coefficients
    excess = frame[_EXCESS:].ctypes.data
    for number in range(frame[_COMPONENTS]):
        words = frame[_COMPONENT + _COMPONENT_WORDS * number :]
        blocks = first_blocks if number == 0 else other_blocks
        quantiser = tables + _QUANTISERS + BLOCK_BYTES * words[3]
        stride = planes[number, 1]
        for row in range(words[2]):
            target = planes[number, 0] + 8 * stride * (unit_row * words[2] + row)
            for block in range(0, blocks, 2):
                inverse_transform_pair((row_start + BLOCK_BYTES * block, quantiser, target + 8 * block, stride, excess))
            row_start += BLOCK_BYTES * _even(blocks)
    return frame[_EXCESS] | frame[_EXCESS + 1] | frame[_EXCESS + 2] | frame[_EXCESS + 3] == 0


@njit(**KERNEL_OPTIONS)
def _colour_rows(frame, planes, target, target_stride, rooms, room_bytes):
    """RGB rows from the planes."""
    height, width = frame[_HEIGHT], frame[_WIDTH]
    across, down = frame[_COMPONENT + 1], frame[_COMPONENT + 2]
    chroma_height, chroma_width = (height + down - 1) // down, (width + across - 1) // across
    spare = rooms + 2 * room_bytes
    for row in range(height):
        out = target + target_stride * row
        luma = planes[0, 0] + planes[0, 1] * row
        if frame[_COMPONENTS] == 1:
            convert_row(out, luma, 0, 0, width, spare)
            continue
        near = row // down
        if across == 1:
            offset = planes[1, 1] * near
            convert_row(out, luma, planes[1, 0] + offset, planes[2, 0] + offset, width, spare)
            continue
        far = near + (1 if row % 2 else -1)
        far = min(max(far, 0), chroma_height - 1)
        for number in range(1, 3):
            plane, stride = planes[number, 0], planes[number, 1]
            other = plane + stride * far if down == 2 else np.int64(0)
            stretch_row(rooms + room_bytes * (number - 1), plane + stride * near, other, chroma_width, spare)
        convert_row(out, luma, rooms, rooms + room_bytes, width, spare)


@njit(**KERNEL_OPTIONS)
def decode_baseline(thread, data, size, height, width, target, target_stride):
    """Decode a JPEG of `height` x `width` pixels into RGB uint8 rows; all arguments int64.

    Three components are taken for YCbCr: the caller knows from the header that they are.

    Args:
        thread: address of the thread's words; scratch areas 4 to 6 are used.
        data, size: address and bytes of the JPEG.
        target, target_stride: address of the first row, 0 to look at the coded data only, and bytes from
            one row to the next.

    Returns:
        A status of `ffx.kernels.step`: `OK`, `NO_MEMORY`, or `BAD_JPEG` for whatever is not decoded here.
    """
    tables = scratch(thread, _TABLE_AREA, _TABLES_BYTES)
    if tables == 0:
        return NO_MEMORY
    frame = array_at(tables, (_FRAME_WORDS,), np.int64)
    if not _read_markers(tables, frame, data, size):
        return BAD_JPEG
    across, down = frame[_COMPONENT + 1], frame[_COMPONENT + 2]
    if frame[_HEIGHT] != height or frame[_WIDTH] != width or height == 0 or width == 0:
        return BAD_JPEG
    if across == 2 and width <= 4:
        # Too narrow for smooth upsampling: the library repeats the samples.
        return BAD_JPEG
    units_high, units_wide = (height + 8 * down - 1) // (8 * down), (width + 8 * across - 1) // (8 * across)
    coded = size - frame[_SCAN]
    row_bytes = BLOCK_BYTES * (down * _even(across * units_wide) + 2 * _even(units_wide))
    copy = scratch(thread, _DATA_AREA, coded + _PADDING + row_bytes + 64)
    if copy == 0:
        return NO_MEMORY
    coded, marker = _unstuff(data + frame[_SCAN], coded, copy)
    if marker != 0xD9:
        return BAD_JPEG
    _zero(copy + coded, _PADDING)
    coefficients = (copy + coded + _PADDING + 63) // 64 * 64
    first_stride, other_stride = 8 * _even(across * units_wide), 8 * _even(units_wide)
    room_bytes = 2 * other_stride + 4 * _SLACK
    planes = np.zeros((3, 2), np.int64)
    if target != 0:
        first_bytes, other_bytes = 8 * down * units_high * first_stride, 8 * units_high * other_stride
        block = scratch(thread, _PLANE_AREA, first_bytes + 2 * other_bytes + _SLACK + 4 * room_bytes)
        if block == 0:
            return NO_MEMORY
        planes[0, 0], planes[0, 1] = block, first_stride
        planes[1, 0], planes[1, 1] = block + first_bytes, other_stride
        planes[2, 0], planes[2, 1] = block + first_bytes + other_bytes, other_stride
    status = _decode_planes(tables, frame, copy, coded, coefficients, planes, units_high, units_wide)
    if status == OK and target != 0:
        rooms = planes[2, 0] + 8 * units_high * other_stride + _SLACK
        _colour_rows(frame, planes, target, target_stride, rooms, room_bytes)
    return status
