"""Cut the tiles under a crop out of a JPEG that has restart markers, as a small JPEG of its own.

A restart marker ends a run of MCUs (the units of 8 to 32 pixels a side that a JPEG codes one after the
other) after which the decoder begins anew. Where the runs divide the picture's rows of MCUs evenly, the
picture is a grid of *tiles* that can be decoded one without the other. `splice` copies those that a crop
needs behind the picture's header, corrects size and markers, and what comes out is an ordinary JPEG of
just these tiles. Nothing beside the JPEG itself is needed: tiles are found by their markers.

Everything here only reads and writes memory that it was given or made; a JPEG of another kind, and one
whose markers are not in order, is declined, so that the ordinary decoder judges it.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compiling import compiled
from .memory import copy_bytes, load_i64, load_u8, scratch, store_i64, store_u8

__all__ = ["next_marker", "splice", "tile_layout"]

_SPLICED_AREA = 5
_STARTS_AREA = 6

# The second byte of a marker; the first is 0xFF.
_START, _END, _SCAN, _INTERVAL, _RESTART = 0xD8, 0xD9, 0xDA, 0xDD, 0xD0
_BASELINE, _EXTENDED, _HUFFMAN, _QUANTIZATION = 0xC0, 0xC1, 0xC4, 0xDB
_JFIF, _ADOBE, _LAST_APPLICATION, _COMMENT = 0xE0, 0xEE, 0xEF, 0xFE

# Smooth upsampling mixes a chroma sample with the next one on the nearer side. Tiles begin on even pixels,
# so a crop needs a neighbouring tile only where it reaches the common edge.
_CONTEXT = 1
# The library upsamples chroma of one or two columns in another way than that of wider pictures.
_LEAST_WIDTH = 8
_BLOCK_BYTES = 32


@intrinsic
def _marker_bits(typing_context, address):
    """Bit i is set where bytes i and i + 1 at `address` are a marker, i below 32; 33 bytes are read."""

    def codegen(context, builder, signature, arguments):
        kind = ir.VectorType(ir.IntType(8), _BLOCK_BYTES)

        def load(offset):
            place = builder.add(arguments[0], ir.Constant(ir.IntType(64), offset))
            value = builder.load(builder.inttoptr(place, kind.as_pointer()))
            value.align = 1
            return value

        ones = ir.Constant(kind, [ir.Constant(ir.IntType(8), 255)] * _BLOCK_BYTES)
        first, second = load(0), load(1)
        found = builder.icmp_unsigned("==", first, ones)
        # FF 00 is a coded byte of FF; of several FF in a row the last belongs to the marker.
        found = builder.and_(found, builder.icmp_unsigned("!=", second, ir.Constant(kind, None)))
        found = builder.and_(found, builder.icmp_unsigned("!=", second, ones))
        return builder.zext(builder.bitcast(found, ir.IntType(32)), ir.IntType(64))

    return types.int64(types.int64), codegen


@intrinsic
def _lowest_bit(typing_context, bits):
    """The number of the lowest bit that is set; `bits` is not 0."""

    def codegen(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), codegen


@compiled
def next_marker(place, end):
    """Address of the first marker (FF, then neither 00 nor FF) that lies whole in `place … end - 1`, else `end`."""
    while place + _BLOCK_BYTES < end:
        bits = _marker_bits(place)
        if bits != 0:
            return place + _lowest_bit(bits)
        place += _BLOCK_BYTES
    while place + 1 < end:
        if load_u8(place) == 0xFF:
            second = load_u8(place + 1)
            if second != 0 and second != 0xFF:
                return place
        place += 1
    return end


@compiled
def _u16(address):
    """A big-endian uint16."""
    return np.int64(load_u8(address)) << 8 | np.int64(load_u8(address + 1))


@compiled
def _unit_size(frame, components):
    """`(height, width)` of an MCU in pixels for the frame segment at `frame`; (0, 0) where it is an unusual one.

    One component alone is coded block by block, whatever its factors say.
    """
    if components == 1:
        return np.int64(8), np.int64(8)
    factors = np.int64(load_u8(frame + 11))
    across, down = factors >> 4, factors & 15
    usual = load_u8(frame + 14) == 0x11 and load_u8(frame + 17) == 0x11
    if not usual or (across != 1 and across != 2 and across != 4) or (down != 1 and down != 2 and down != 4):
        return np.int64(0), np.int64(0)
    return 8 * down, 8 * across


@compiled
def tile_layout(data, size):
    """Where a JPEG's tiles are described: a baseline JPEG in one scan with one restart interval.

    Returns:
        `(scan, interval, unit_height, unit_width, height, width)`: the offset of the coded data, MCUs from one
        restart to the next, pixels of an MCU and of the picture. All are 0 for any other JPEG or other bytes;
        `interval` alone is 0 where there are no restarts.
    """
    zero = np.int64(0)
    none = (zero, zero, zero, zero, zero, zero)
    if size < 4 or load_u8(data) != 0xFF or load_u8(data + 1) != _START:
        return none
    position, frame, components, interval = np.int64(2), zero, zero, np.int64(-1)
    while position + 4 <= size:
        segment = data + position
        marker = np.int64(load_u8(segment + 1))
        length = _u16(segment + 2)
        if load_u8(segment) != 0xFF or length < 2 or length > size - position - 2:
            return none
        if marker in (_BASELINE, _EXTENDED):
            if frame != 0 or length < 8:
                return none
            frame, components = segment, np.int64(load_u8(segment + 9))
            if (components != 1 and components != 3) or length != 8 + 3 * components or load_u8(segment + 4) != 8:
                return none
        elif marker == _INTERVAL:
            if interval >= 0 or length != 4:
                return none
            interval = _u16(segment + 4)
        elif marker == _SCAN:
            if frame == 0 or length != 6 + 2 * components or load_u8(segment + 4) != components:
                return none
            spectral = segment + 5 + 2 * components
            if load_u8(spectral) != 0 or load_u8(spectral + 1) != 63 or load_u8(spectral + 2) != 0:
                return none
            unit_height, unit_width = _unit_size(frame, components)
            if unit_height == 0:
                return none
            found = position + 2 + length, max(interval, zero), unit_height, unit_width
            return (*found, _u16(frame + 5), _u16(frame + 7))
        elif not (marker in (_HUFFMAN, _QUANTIZATION, _COMMENT) or _JFIF <= marker <= _LAST_APPLICATION):
            return none
        position += 2 + length
    return none


@compiled
def _copy_header(target, data, scan, height, width):
    """Copy what decoding needs of a header that ends at `scan`, with another size; bytes written, at most `scan`."""
    store_u8(target, np.uint8(0xFF))
    store_u8(target + 1, np.uint8(_START))
    position, written = np.int64(2), np.int64(2)
    while position + 4 <= scan:
        marker = np.int64(load_u8(data + position + 1))
        count = 2 + _u16(data + position + 2)
        if count > scan - position:
            break
        # Of the applications' segments these two tell the colour space; others may be long.
        described = _JFIF < marker <= _LAST_APPLICATION and marker != _ADOBE
        if not described and marker != _COMMENT:
            copy_bytes(target + written, data + position, count)
            if marker in (_BASELINE, _EXTENDED) and count >= 9:
                for index, value in enumerate((height >> 8, height, width >> 8, width)):
                    store_u8(target + written + 5 + index, np.uint8(value & 255))
            written += count
        position += count
    return written


@compiled
def _find_starts(data, size, scan, starts, last, tiles):
    """Store the offsets at which tiles 0 … last + 1 begin; whether their markers are there and in order.

    The offset behind the picture's last tile is that behind the end-of-image marker.
    """
    store_i64(starts, scan)
    place, end = data + scan, data + size
    for tile in range(last + 1):
        place = next_marker(place, end)
        if place == end:
            return False
        expected = _END if tile == tiles - 1 else _RESTART + (tile & 7)
        if load_u8(place + 1) != expected:
            return False
        place += 2
        store_i64(starts + 8 * (tile + 1), place - data)
    return True


@compiled
def _copy_tiles(target, written, data, starts, grid):
    """Copy the tiles `(across, top, bottom, left, right)` of a grid behind `written` bytes; bytes written then."""
    across, top, bottom, left, right = grid
    restart = np.int64(0)
    for row in range(top, bottom):
        first = starts + 8 * (row * across)
        begin = load_i64(first + 8 * left)
        count = load_i64(first + 8 * right) - begin
        copy_bytes(target + written, data + begin, count)
        for column in range(left, right):
            behind = target + written + load_i64(first + 8 * (column + 1)) - begin
            store_u8(behind - 2, np.uint8(0xFF))
            store_u8(behind - 1, np.uint8(_RESTART + (restart & 7)))
            restart += 1
        written += count
    store_u8(target + written - 1, np.uint8(_END))
    return written


@compiled
def _tile_range(begin, count, unit, tile, side, smooth):
    """`(first, last + 1)` of the tiles that a crop needs along one side of the picture."""
    context = _CONTEXT if smooth and unit == 16 else 0
    first = max(begin - context, 0) // tile
    stop = (min(begin + count + context, side) + tile - 1) // tile
    return first, stop


@compiled
def splice(thread, data, size, crop, smooth):
    """A small JPEG of the tiles that a crop needs, in the thread's scratch.

    Its pixels under the crop equal those of the whole picture.

    Args:
        thread: address of the thread's words.
        data, size: the JPEG's address and bytes.
        crop: `(image_height, image_width, top, left, height, width)`, the crop within the image.
        smooth: whether chroma will be upsampled smoothly, which looks beyond a crop's edge.

    Returns:
        `(address, size, top, left, height, width)`: the small JPEG, and the part of the picture that it shows.
        The address is 0 where the JPEG has no tiles, where they bring nothing, where their markers up to
        the last one needed are not in order, and where memory is short.
    """
    zero = np.int64(0)
    none = (zero, zero, zero, zero, zero, zero)
    image_height, image_width, top, left, height, width = crop
    scan, interval, unit_height, unit_width, found_height, found_width = tile_layout(data, size)
    if interval == 0 or found_height != image_height or found_width != image_width:
        return none
    units_across = (image_width + unit_width - 1) // unit_width
    rows = (image_height + unit_height - 1) // unit_height
    if units_across % interval != 0:
        return none
    across, tile_width = units_across // interval, interval * unit_width
    first_row, stop_row = _tile_range(top, height, unit_height, unit_height, image_height, smooth)
    first, stop = _tile_range(left, width, unit_width, tile_width, image_width, smooth)
    if first > 0 and image_width - first * tile_width < _LEAST_WIDTH:
        first -= 1
    tiles = rows * across
    # A tile has at least a byte and its marker: a size that is a lie costs no memory.
    if (stop_row - first_row) * (stop - first) == tiles or 3 * tiles > size:
        return none
    last = (stop_row - 1) * across + stop - 1
    starts = scratch(thread, _STARTS_AREA, 8 * (last + 2))
    target = scratch(thread, _SPLICED_AREA, size)
    if starts == 0 or target == 0 or not _find_starts(data, size, scan, starts, last, tiles):
        return none
    part_height = min(stop_row * unit_height, image_height) - first_row * unit_height
    part_width = min(stop * tile_width, image_width) - first * tile_width
    written = _copy_header(target, data, scan, part_height, part_width)
    written = _copy_tiles(target, written, data, starts, (across, first_row, stop_row, first, stop))
    return target, written, first_row * unit_height, first * tile_width, part_height, part_width
