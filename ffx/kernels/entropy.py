"""Entropy-coded data of a JPEG without what markers put between: bits in a row, and where restarts begin.

In the file a byte 255 is followed by a zero, so that it is no marker. `unstuff` leaves those zeros out,
takes the restart markers out and writes down where the data go on. Beside that: the few operations on
bits that Python has no word for.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .compiling import compiled
from .memory import load_u8, store_i64, store_u8

__all__ = ["COPIED", "copy_and_find", "load_bits", "shift_right", "unstuff"]

_i64 = ir.IntType(64)
COPIED = 32  # bytes of one step of `copy_and_find`
_MARKER, _RESTART_0, _RESTART_7 = 0xFF, 0xD0, 0xD7


@intrinsic
def load_bits(typing_context, address):
    """The 64 bits at an address, the first of them highest."""

    def codegen(context, builder, signature, arguments):
        value = builder.load(builder.inttoptr(arguments[0], _i64.as_pointer()))
        value.align = 1
        return builder.bswap(value)

    return types.int64(types.int64), codegen


@intrinsic
def shift_right(typing_context, value, count):
    """`value >> count` with zeros from above; count 0 … 63."""

    def codegen(context, builder, signature, arguments):
        return builder.lshr(*arguments)

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def copy_and_find(typing_context, target, source):
    """Copy 32 bytes; how many come before the first 255, or 32."""

    def codegen(context, builder, signature, arguments):
        kind = ir.VectorType(ir.IntType(8), COPIED)
        target, source = (builder.inttoptr(address, kind.as_pointer()) for address in arguments)
        block = builder.load(source, typ=kind)
        block.align = 1
        builder.store(block, target).align = 1
        found = builder.icmp_unsigned("==", block, ir.Constant(kind, [_MARKER] * COPIED))
        mask = builder.zext(builder.bitcast(found, ir.IntType(COPIED)), _i64)
        mask = builder.or_(mask, ir.Constant(_i64, 1 << COPIED))
        return builder.cttz(mask, ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64, types.int64), codegen


@compiled
def unstuff(source, end, target, starts, most_starts):
    """Copy entropy-coded data from `source` up to a marker that is no restart, or up to `end`.

    Args:
        source, end: addresses of the first byte, and behind the last.
        target: address of room for `end - source` bytes.
        starts: address of `int64[most_starts]`, set to where in `target` the data behind each restart marker begin.
        most_starts: the marker after so many restarts ends the data, too.

    Returns:
        `(target_end, count, marker)`: the address behind the last byte, how many restarts came before,
        and the second byte of the marker that ended the data: 0 where `end` came first. A restart
        marker out of order ends the data.
    """
    count = np.int64(0)
    while source < end:
        if source + COPIED <= end:
            step = copy_and_find(target, source)
            source += step
            target += step
            if step == COPIED:
                continue
        elif load_u8(source) != _MARKER:
            store_u8(target, load_u8(source))
            source += 1
            target += 1
            continue
        # A byte 255 at `source`.
        if source + 1 >= end:
            break
        following = np.int64(load_u8(source + 1))
        if following == 0:
            store_u8(target, np.uint8(_MARKER))
            target += 1
        elif following == _RESTART_0 + (count & 7) and count < most_starts:
            store_i64(starts + 8 * count, target)
            count += 1
        else:
            return target, count, following
        source += 2
    return target, count, np.int64(0)
