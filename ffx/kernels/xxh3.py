"""XXH3, 64 bits: the checksum of stored samples, as fast as memory can be read.

Yann Collet's successor of XXH64, as its specification describes it, with the default secret and seed 0; the long way,
from 241 bytes on, works on eight lanes at once. It detects accidents (a flipped bit, a torn write), not forgery.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from .checksum import as_bytes
from .compiling import compiled
from .memory import load_u8, load_u32, load_u64
from .simd import Vectors, i8, i64

__all__ = ["xxh3", "xxh3_at"]

# The specification's default secret.
_SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671fcb79e64eccc0e578825ad07dccff7221"
    "b8084674f743248ee03590e6813a264c3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8a8"
    "fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364eac5ac8334d3ebc3c581a0fffa1363eb17"
    "0ddd51b7f0da49d316552629d4689e2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
_P32 = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)
_P64 = (0x9E3779B185EBCA87, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5)
_LANES = (_P32[2], *_P64[:4], _P32[1], _P64[4], _P32[0])

_STRIPE = 64
_STRIPES_A_BLOCK = (len(_SECRET) - _STRIPE) // 8
_BLOCK = _STRIPE * _STRIPES_A_BLOCK
# Bytes that memory is asked for before they are needed.
_AHEAD = 1024
_EIGHT = ir.VectorType(i64, 8)


def _word(offset: int, size: int = 8) -> int:
    return int.from_bytes(_SECRET[offset : offset + size], "little")


# What the ways for short inputs take of the secret.
_OF_0 = np.uint64(_word(56) ^ _word(64))
_OF_1_TO_3 = np.uint64(_word(0, 4) ^ _word(4, 4))
_OF_4_TO_8 = np.uint64(_word(8) ^ _word(16))
_OF_9_TO_16 = (np.uint64(_word(24) ^ _word(32)), np.uint64(_word(40) ^ _word(48)))
_PAIRS = tuple((np.uint64(_word(16 * row)), np.uint64(_word(16 * row + 8))) for row in range(8))
_LATER_PAIRS = tuple((np.uint64(_word(16 * row + 3)), np.uint64(_word(16 * row + 11))) for row in range(7))
_LAST_PAIR = (np.uint64(_word(119)), np.uint64(_word(127)))
_MERGING_PAIRS = tuple((np.uint64(_word(11 + 16 * row)), np.uint64(_word(19 + 16 * row))) for row in range(4))

_P1, _P2, _P3 = (np.uint64(prime) for prime in _P64[:3])
_MIX_ONE = np.uint64(0x165667919E3779F9)
_MIX_TWO = np.uint64(0x9FB21C651E98DF25)


@intrinsic
def _multiply_and_fold(typing_context, left, right):
    """Both halves of the 128-bit product of two uint64, one xor the other."""

    def codegen(context, builder, signature, arguments):
        wide = ir.IntType(128)
        product = builder.mul(*(builder.zext(argument, wide) for argument in arguments))
        high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), i64)
        return builder.xor(builder.trunc(product, i64), high)

    return types.uint64(types.uint64, types.uint64), codegen


@intrinsic
def _reverse_bytes(typing_context, value):
    """A uint64 with its bytes in the other order."""

    def codegen(context, builder, signature, arguments):
        return builder.bswap(arguments[0])

    return types.uint64(types.uint64), codegen


def _secret_address(builder: ir.IRBuilder) -> ir.Value:
    content = cgutils.create_constant_array(i8, bytearray(_SECRET))
    return builder.ptrtoint(cgutils.global_constant(builder, "xxh3_secret", content), i64)


def _add_stripe(vectors: Vectors, lanes: ir.Value, data: ir.Value, secret: ir.Value) -> ir.Value:
    """The lanes after another 64 bytes, at the address `data`, with the part of the secret at `secret`."""
    builder = vectors.builder
    words = vectors.load(data, _EIGHT)
    keyed = builder.xor(words, vectors.load(secret, _EIGHT))
    low = builder.and_(keyed, vectors.fill(_EIGHT, 0xFFFFFFFF))
    product = builder.mul(low, builder.lshr(keyed, vectors.fill(_EIGHT, 32)))
    neighbours = vectors.pick(words, None, [lane ^ 1 for lane in range(8)])
    return builder.add(builder.add(lanes, neighbours), product)


def _scramble(vectors: Vectors, lanes: ir.Value, secret: ir.Value) -> ir.Value:
    """The lanes at the end of a block."""
    builder = vectors.builder
    lanes = builder.xor(lanes, builder.lshr(lanes, vectors.fill(_EIGHT, 47)))
    lanes = builder.xor(lanes, vectors.load(vectors.at(secret, len(_SECRET) - _STRIPE), _EIGHT))
    return builder.mul(lanes, vectors.fill(_EIGHT, _P32[0]))


@intrinsic
def _long_lanes(typing_context, address, length):
    """The eight lanes of at least 64 bytes, as a tuple of uint64."""
    result = types.UniTuple(types.uint64, 8)

    def codegen(context, builder, signature, arguments):
        vectors, secret = Vectors(context, builder), _secret_address(builder)
        data, count = arguments
        kept = cgutils.alloca_once_value(builder, ir.Constant(_EIGHT, [ir.Constant(i64, lane) for lane in _LANES]))

        def stripe(place: ir.Value, offset: ir.Value) -> None:
            lanes = _add_stripe(vectors, builder.load(kept), builder.add(data, place), builder.add(secret, offset))
            builder.store(lanes, kept)

        # The last byte is in no whole block, nor in the stripes behind them: the last stripe has it.
        before_last = builder.sub(count, ir.Constant(i64, 1))
        blocks = builder.udiv(before_last, ir.Constant(i64, _BLOCK))
        with cgutils.for_range(builder, blocks, intp=i64) as loop:
            start = builder.mul(loop.index, ir.Constant(i64, _BLOCK))
            for number in range(_STRIPES_A_BLOCK):
                ahead = vectors.at(start, _STRIPE * number + _AHEAD)
                vectors.prefetch(builder.add(data, ahead))
                stripe(vectors.at(start, _STRIPE * number), ir.Constant(i64, 8 * number))
            builder.store(_scramble(vectors, builder.load(kept), secret), kept)
        start = builder.mul(blocks, ir.Constant(i64, _BLOCK))
        stripes = builder.udiv(builder.sub(before_last, start), ir.Constant(i64, _STRIPE))
        with cgutils.for_range(builder, stripes, intp=i64) as loop:
            place = builder.add(start, builder.mul(loop.index, ir.Constant(i64, _STRIPE)))
            stripe(place, builder.mul(loop.index, ir.Constant(i64, 8)))
        stripe(builder.sub(count, ir.Constant(i64, _STRIPE)), ir.Constant(i64, len(_SECRET) - _STRIPE - 7))
        lanes = builder.load(kept)
        each = [builder.extract_element(lanes, ir.Constant(ir.IntType(32), lane)) for lane in range(8)]
        return context.make_tuple(builder, result, each)

    return result(types.int64, types.int64), codegen


@njit(inline="always")
def _rotate(value, bits):
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


@njit(inline="always")
def _finish(total):
    total = (total ^ (total >> np.uint64(37))) * _MIX_ONE
    return total ^ (total >> np.uint64(32))


@njit(inline="always")
def _finish_short(total):
    """As XXH64 ends."""
    total = (total ^ (total >> np.uint64(33))) * _P2
    total = (total ^ (total >> np.uint64(29))) * _P3
    return total ^ (total >> np.uint64(32))


@njit(inline="always")
def _mix(address, pair):
    """Sixteen bytes with two words of the secret."""
    return _multiply_and_fold(load_u64(address) ^ pair[0], load_u64(address + 8) ^ pair[1])


@compiled
def _up_to_16(address, length):
    if length > 8:
        low = load_u64(address) ^ _OF_9_TO_16[0]
        high = load_u64(address + length - 8) ^ _OF_9_TO_16[1]
        return _finish(np.uint64(length) + _reverse_bytes(low) + high + _multiply_and_fold(low, high))
    if length > 3:
        last = np.uint64(load_u32(address + length - 4))
        total = (last + (np.uint64(load_u32(address)) << np.uint64(32))) ^ _OF_4_TO_8
        total = (total ^ _rotate(total, 49) ^ _rotate(total, 24)) * _MIX_TWO
        total = (total ^ ((total >> np.uint64(35)) + np.uint64(length))) * _MIX_TWO
        return total ^ (total >> np.uint64(28))
    if length > 0:
        first, middle = np.uint64(load_u8(address)), np.uint64(load_u8(address + (length >> 1)))
        last = np.uint64(load_u8(address + length - 1))
        total = first << np.uint64(16) | middle << np.uint64(24) | last | np.uint64(length) << np.uint64(8)
        return _finish_short(total ^ _OF_1_TO_3)
    return _finish_short(_OF_0)


@compiled
def _up_to_240(address, length):
    total = np.uint64(length) * _P1
    if length <= 128:
        # From both ends inwards.
        for row in range((length - 1) // 32 + 1):
            total += _mix(address + 16 * row, _PAIRS[2 * row])
            total += _mix(address + length - 16 * (row + 1), _PAIRS[2 * row + 1])
        return _finish(total)
    for row in range(8):
        total += _mix(address + 16 * row, _PAIRS[row])
    total = _finish(total)
    for row in range(8, length // 16):
        total += _mix(address + 16 * row, _LATER_PAIRS[row - 8])
    return _finish(total + _mix(address + length - 16, _LAST_PAIR))


@compiled
def xxh3_at(address, length):
    """XXH3 of `length` bytes at `address` (both int64), as a uint64. The caller answers for the bytes being there."""
    address, length = np.int64(address), np.int64(length)
    if length <= 16:
        return _up_to_16(address, length)
    if length <= 240:
        return _up_to_240(address, length)
    lanes = _long_lanes(address, length)
    total = np.uint64(length) * _P1
    for row in range(4):
        pair = _MERGING_PAIRS[row]
        total += _multiply_and_fold(lanes[2 * row] ^ pair[0], lanes[2 * row + 1] ^ pair[1])
    return _finish(total)


def xxh3(data: bytes | bytearray | memoryview | np.ndarray) -> int:
    """XXH3 (64 bits, seed 0) of `data`, bytes or a C-contiguous array, as a Python integer."""
    array = as_bytes(data)
    return int(xxh3_at(array.ctypes.data, array.nbytes))
