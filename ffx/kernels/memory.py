"""Bare memory for compiled code: typed loads and stores, atomics, arrays at an address, scratch."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic

from .compiling import compiled

__all__ = [
    "THREAD_WORDS",
    "array_at",
    "atomic_add",
    "atomic_load",
    "atomic_store",
    "call_kernel",
    "compare_and_swap",
    "copy_bytes",
    "float_bits",
    "free_scratch",
    "load_f64",
    "load_i64",
    "load_u16",
    "load_u32",
    "load_u64",
    "load_u8",
    "release_thread",
    "scratch",
    "store_i16",
    "store_i64",
    "store_u8",
    "zeroed_scratch",
]

_i64 = ir.IntType(64)


def _loader(llvm_type, numba_type, alignment=1):
    @intrinsic
    def load(typing_context, address):
        def codegen(context, builder, signature, arguments):
            value = builder.load(builder.inttoptr(arguments[0], llvm_type.as_pointer()))
            value.align = alignment
            return value

        return numba_type(types.int64), codegen

    return load


load_u8 = _loader(ir.IntType(8), types.uint8)
load_u16 = _loader(ir.IntType(16), types.uint16)
load_u32 = _loader(ir.IntType(32), types.uint32)
load_u64 = _loader(ir.IntType(64), types.uint64)
load_i64 = _loader(ir.IntType(64), types.int64)
load_f64 = _loader(ir.DoubleType(), types.float64)


@intrinsic
def store_u8(typing_context, address, value):
    """`*(uint8 *)address = value`"""

    def codegen(context, builder, signature, arguments):
        builder.store(arguments[1], builder.inttoptr(arguments[0], ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.void(types.int64, types.uint8), codegen


@intrinsic
def store_i16(typing_context, address, value):
    """`*(int16 *)address = value`, the lowest bits of an int64"""

    def codegen(context, builder, signature, arguments):
        word = ir.IntType(16)
        store = builder.store(builder.trunc(arguments[1], word), builder.inttoptr(arguments[0], word.as_pointer()))
        store.align = 1
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def store_i64(typing_context, address, value):
    """`*(int64 *)address = value`"""

    def codegen(context, builder, signature, arguments):
        builder.store(arguments[1], builder.inttoptr(arguments[0], _i64.as_pointer())).align = 1
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def atomic_load(typing_context, address):
    """An aligned int64, with everything stored before its `atomic_store`."""

    def codegen(context, builder, signature, arguments):
        return builder.load_atomic(builder.inttoptr(arguments[0], _i64.as_pointer()), "acquire", 8)

    return types.int64(types.int64), codegen


@intrinsic
def atomic_store(typing_context, address, value):
    """Make `value`, and everything stored before it, visible to other threads."""

    def codegen(context, builder, signature, arguments):
        builder.store_atomic(arguments[1], builder.inttoptr(arguments[0], _i64.as_pointer()), "release", 8)
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


@intrinsic
def atomic_add(typing_context, address, amount):
    """Add to an aligned int64 and return what it was before."""

    def codegen(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], _i64.as_pointer())
        return builder.atomic_rmw("add", pointer, arguments[1], "seq_cst")

    return types.int64(types.int64, types.int64), codegen


@intrinsic
def compare_and_swap(typing_context, address, expected, desired):
    """Store `desired` if the aligned int64 is `expected`; True if it was."""

    def codegen(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[0], _i64.as_pointer())
        pair = builder.cmpxchg(pointer, arguments[1], arguments[2], "seq_cst", "seq_cst")
        return builder.extract_value(pair, 1)

    return types.boolean(types.int64, types.int64, types.int64), codegen


@intrinsic
def call_kernel(typing_context, kernel, step, first, stop, thread):
    """Call a native step's kernel (see `ffx.kernels.step`) by its address."""

    def codegen(context, builder, signature, arguments):
        function_type = ir.FunctionType(_i64, [_i64] * 4)
        return builder.call(builder.inttoptr(arguments[0], function_type.as_pointer()), arguments[1:])

    return types.int64(*[types.int64] * 5), codegen


@intrinsic
def _as_pointer(typing_context, address, dtype):
    numba_type = types.CPointer(dtype.dtype)

    def codegen(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(numba_type))

    return numba_type(types.int64, dtype), codegen


@njit(inline="always")
def array_at(address, shape, dtype):
    """A C-contiguous array of `shape` (a tuple) and `dtype` over memory that somebody else owns."""
    return carray(_as_pointer(address, dtype), shape)


@intrinsic
def copy_bytes(typing_context, target, source, count):
    """memcpy: `count` bytes; the two must not overlap."""

    def codegen(context, builder, signature, arguments):
        byte = ir.IntType(8).as_pointer()
        copy = builder.module.declare_intrinsic("llvm.memcpy", [byte, byte, _i64])
        target, source, count = arguments
        zero = ir.Constant(ir.IntType(1), 0)
        builder.call(copy, [builder.inttoptr(target, byte), builder.inttoptr(source, byte), count, zero])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, types.int64), codegen


def float_bits(value: float) -> int:
    """A float64 as the int64 word of the same bits, for a step's words."""
    return int(np.float64(value).view(np.int64))


# A thread's words: 0 the JPEG decoder's handle, then (address, capacity) of each scratch area.
SCRATCH_AREAS = 7
THREAD_WORDS = 2 + 2 * SCRATCH_AREAS

_realloc = types.ExternalFunction("realloc", types.int64(types.int64, types.int64))
_free = types.ExternalFunction("free", types.void(types.int64))


@compiled
def scratch(thread, area, count):
    """Address of at least `count` bytes that belong to this thread, 0 where memory is short.

    An area grows to the largest request and keeps its address until a larger one comes; its bytes
    are not kept when it moves. A thread of 0 has no scratch.
    """
    if thread == 0:
        return np.int64(0)
    words = thread + 16 + 16 * area
    # An area that was never asked for has no address, not even for no bytes.
    if load_i64(words + 8) >= max(count, 1):
        return load_i64(words)
    # A quarter more, so that slowly growing samples do not move the area each time.
    capacity = count + (count >> 2) + 64
    address = _realloc(load_i64(words), capacity)
    if address == 0:
        return address
    store_i64(words, address)
    store_i64(words + 8, capacity)
    return address


@compiled
def zeroed_scratch(thread, area, count):
    """An area of always the same `count` bytes, which keep what was stored; zero at first. 0 where memory is short."""
    if thread == 0:
        return np.int64(0)
    is_new = load_i64(thread + 16 + 16 * area) == 0
    address = scratch(thread, area, count)
    if is_new and address != 0:
        array_at(address, (count,), np.uint8)[:] = 0
    return address


@compiled
def free_scratch(thread):
    """Free all scratch areas of a thread (its words' address)."""
    for area in range(SCRATCH_AREAS):
        words = thread + 16 + 16 * area
        _free(load_i64(words))
        store_i64(words, 0)
        store_i64(words + 8, 0)


def release_thread(thread: np.ndarray) -> None:
    """Free the scratch areas of a thread's words (`int64[THREAD_WORDS]`); safe to call twice."""
    free_scratch(thread.ctypes.data)
