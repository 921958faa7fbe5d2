"""Random numbers as a function of (seed, epoch, operation, sample, occurrence, draw).

The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as
1, 2, 3", SC 2011): a block of four 32-bit numbers is a keyed bijection of a 128-bit counter, so there
is no state to keep, and any thread or rank can draw any sample's numbers at any time. The 64-bit key
stands for (seed, epoch, operation); the counter holds the sample, its occurrence and the block.

An operation draws with `uniform(key, sample, occurrence, draw)`: each `draw` (0, 1, 2, …) is an
independent number in [0, 1) with 32 bits. Code that gets a row of streams (`uint64[n, 3]`: key,
sample, occurrence) calls `stream_uniform(streams[i], draw)`.
"""

from __future__ import annotations

import hashlib

import numpy as np

from .compiling import compiled

__all__ = ["alternating_key", "epoch_key", "operation_key", "philox4x32", "seed_from", "stream_uniform", "uniform"]

_M0 = np.uint64(0xD2511F53)
_M1 = np.uint64(0xCD9E8D57)
_W0 = np.uint64(0x9E3779B9)
_W1 = np.uint64(0xBB67AE85)
_LOW = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)


@compiled
def philox4x32(c0, c1, c2, c3, k0, k1):
    """Ten rounds on four 32-bit counter words and two key words (all as uint64); four words back."""
    for _ in range(10):
        p0 = _M0 * c0
        p1 = _M1 * c2
        c0, c1, c2, c3 = (p1 >> _32) ^ c1 ^ k0, p1 & _LOW, (p0 >> _32) ^ c3 ^ k1, p0 & _LOW
        k0 = (k0 + _W0) & _LOW
        k1 = (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@compiled
def uniform(key, sample, occurrence, draw):
    """A float64 in [0, 1) with 32 random bits: number `draw` of this sample's stream."""
    key = np.uint64(key)
    sample = np.uint64(sample)
    draw = np.uint64(draw)
    counter = (sample & _LOW, sample >> _32, np.uint64(occurrence) & _LOW, draw >> np.uint64(2))
    block = philox4x32(counter[0], counter[1], counter[2], counter[3], key & _LOW, key >> _32)
    lane = draw & np.uint64(3)
    if lane == np.uint64(0):
        number = block[0]
    elif lane == np.uint64(1):
        number = block[1]
    elif lane == np.uint64(2):
        number = block[2]
    else:
        number = block[3]
    return np.float64(number) * (1.0 / 4294967296.0)


@compiled
def stream_uniform(stream, draw):
    """`uniform` for one row `(key, sample, occurrence)` of an operation's streams."""
    return uniform(stream[0], stream[1], stream[2], draw)


def _digest(*parts: object) -> int:
    text = "\x1f".join(str(part) for part in parts).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def operation_key(pipeline: str, position: int) -> int:
    """The key of an operation: its pipeline's name and its position there, as 64 bits."""
    return _digest("operation", pipeline, position)


def epoch_key(seed: int, epoch: int, operation: int) -> int:
    """The Philox key of one operation in one epoch, as an int64 word."""
    return int(np.uint64(_digest("epoch", seed, epoch, operation)).view(np.int64))


def alternating_key(seed: int, epoch: int, operation: int) -> int:
    """The key of an operation that alternates: the same in all epochs, but for its last bit, which is 1 in odd ones."""
    return epoch_key(seed, 0, operation) & ~1 | epoch & 1


def seed_from(key: int, sample_ids: np.ndarray) -> int:
    """A 32-bit seed for code that keeps its own generator: a function of the batch's content."""
    content = hashlib.blake2b(np.ascontiguousarray(sample_ids).tobytes(), digest_size=8)
    content.update(int(key).to_bytes(8, "little", signed=True))
    return int.from_bytes(content.digest()[:4], "little")
