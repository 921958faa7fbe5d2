"""Where a JPEG's restart markers and tiles lie.

A restart marker ends a run of MCUs (the units of 8 to 32 pixels a side that a JPEG codes one after the
other) after which the decoder begins anew. Where the runs divide the picture's rows of MCUs evenly, the
picture is a grid of *tiles* that can be decoded one without the other: `ffx.kernels.retile` makes such JPEGs,
and of those the decoder (`ffx.kernels.jpeg_baseline`) jumps over what lies beside a crop.

Everything here only reads memory that it was given.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compiling import compiled
from .memory import load_u8

__all__ = ["next_marker", "tile_layout"]

# The second byte of a marker; the first is 0xFF.
_START, _SCAN, _INTERVAL = 0xD8, 0xDA, 0xDD
_BASELINE, _EXTENDED, _HUFFMAN, _QUANTIZATION = 0xC0, 0xC1, 0xC4, 0xDB
_FIRST_APPLICATION, _LAST_APPLICATION, _COMMENT = 0xE0, 0xEF, 0xFE

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
        elif not (marker in (_HUFFMAN, _QUANTIZATION, _COMMENT) or _FIRST_APPLICATION <= marker <= _LAST_APPLICATION):
            return none
        position += 2 + length
    return none
