"""XXH64, the checksum of a file's tables (stored samples have `ffx.kernels.xxh3`).

XXH64 is Yann Collet's 64-bit hash, published with a specification and test vectors. It detects
accidents (a flipped bit, a torn write), not forgery. Compiled code calls `xxh64_at(address, length,
seed)`; Python calls `xxh64(data)`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .compiling import compiled
from .memory import load_u8, load_u32, load_u64

__all__ = ["as_bytes", "xxh64", "xxh64_at"]

_P1 = np.uint64(0x9E3779B185EBCA87)
_P2 = np.uint64(0xC2B2AE3D27D4EB4F)
_P3 = np.uint64(0x165667B19E3779F9)
_P4 = np.uint64(0x85EBCA77C2B2AE63)
_P5 = np.uint64(0x27D4EB2F165667C5)
_NOTHING = np.empty(0, np.uint8)


@njit(inline="always")
def _rotate(value, bits):
    return (value << np.uint64(bits)) | (value >> np.uint64(64 - bits))


@njit(inline="always")
def _round(lane, word):
    return _rotate(lane + word * _P2, 31) * _P1


@njit(inline="always")
def _merge(total, lane):
    return (total ^ _round(np.uint64(0), lane)) * _P1 + _P4


@njit(inline="always")
def _stripes(address, end, seed):
    """All whole 32-byte stripes before `end`, in four independent lanes."""
    a = seed + _P1 + _P2
    b = seed + _P2
    c = seed
    d = seed - _P1
    while end - address >= 32:
        a = _round(a, load_u64(address))
        b = _round(b, load_u64(address + 8))
        c = _round(c, load_u64(address + 16))
        d = _round(d, load_u64(address + 24))
        address += 32
    total = _rotate(a, 1) + _rotate(b, 7) + _rotate(c, 12) + _rotate(d, 18)
    return _merge(_merge(_merge(_merge(total, a), b), c), d)


@compiled
def xxh64_at(address, length, seed):
    """XXH64 of `length` bytes at `address` (both int64), as a uint64.

    The caller answers for the bytes being there. `seed` is a uint64; 0 in ffx's files.
    """
    address = np.int64(address)
    end = address + np.int64(length)
    seed = np.uint64(seed)
    if length >= 32:
        total = _stripes(address, end, seed)
        address += np.int64(length) & ~np.int64(31)
    else:
        total = seed + _P5
    total += np.uint64(length)
    while end - address >= 8:
        total = _rotate(total ^ _round(np.uint64(0), load_u64(address)), 27) * _P1 + _P4
        address += 8
    if end - address >= 4:
        total = _rotate(total ^ (np.uint64(load_u32(address)) * _P1), 23) * _P2 + _P3
        address += 4
    while address < end:
        total = _rotate(total ^ (np.uint64(load_u8(address)) * _P5), 11) * _P1
        address += 1
    total = (total ^ (total >> np.uint64(33))) * _P2
    total = (total ^ (total >> np.uint64(29))) * _P3
    return total ^ (total >> np.uint64(32))


def as_bytes(data: bytes | bytearray | memoryview | np.ndarray) -> np.ndarray:
    """`data` as an array without gaps."""
    array = data if isinstance(data, np.ndarray) else np.frombuffer(data, np.uint8) if len(data) else _NOTHING
    if not array.flags.c_contiguous:
        raise ValueError("expected a C-contiguous array, found gaps; call numpy.ascontiguousarray first")
    return array


def xxh64(data: bytes | bytearray | memoryview | np.ndarray, seed: int = 0) -> int:
    """XXH64 of `data`, bytes or a C-contiguous array, as a Python integer."""
    array = as_bytes(data)
    return int(xxh64_at(array.ctypes.data, array.nbytes, np.uint64(seed)))
