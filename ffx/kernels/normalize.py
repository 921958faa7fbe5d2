"""Turn uint8 images into floats: `(value - mean) / std` by channel.

What each of the 256 values becomes is fixed by a table, computed in float64 and rounded once, so every
way to normalise (this one, torch's on a GPU) gives the same bits. Looking each value up takes about one
load a value; where `(value - mean) * (1 / std)` in float64, rounded to float32, is proved to give the
table's every entry, that is computed instead, since it goes through vector registers.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir

from .compiling import compiled
from .memory import array_at, load_f64, load_u8
from .sample import own, source_of, target_of
from .simd import Vectors, i8, i32, vector_kernel
from .step import OK, native_kernel

__all__ = [
    "CHANNELS",
    "ITEM_BYTES",
    "OWN_WORDS",
    "PIXELS",
    "TABLE",
    "TILE",
    "factors",
    "look_up",
    "look_up_images",
    "scale_images",
]

TABLE = 0  # address of 256 rows of CHANNELS values; for `scale_images` of the two rows of `factors`
ITEM_BYTES = 1  # bytes of a value: 2, 4 or 8
PIXELS = 2  # of an image
CHANNELS = 3
OWN_WORDS = 4

# Means and factors are repeated so that a step of this many values needs no remainder by channels.
TILE = 48
_LANES = 16


@compiled
def look_up(pixels, table, target):
    """`target[p, c] = table[pixels[p, c], c]` for `(pixels, channels)` arrays."""
    count, channels = pixels.shape
    if channels == 3:
        for pixel in range(count):
            target[pixel, 0] = table[pixels[pixel, 0], 0]
            target[pixel, 1] = table[pixels[pixel, 1], 1]
            target[pixel, 2] = table[pixels[pixel, 2], 2]
        return
    for pixel in range(count):
        for channel in range(channels):
            target[pixel, channel] = table[pixels[pixel, channel], channel]


@compiled
def _look_up_image(step, position):
    shape = (own(step, PIXELS), own(step, CHANNELS))
    rows = (256, own(step, CHANNELS))
    pixels = array_at(source_of(step, position), shape, np.uint8)
    table, target, item_bytes = own(step, TABLE), target_of(step, position), own(step, ITEM_BYTES)
    # Values are only copied, so unsigned integers stand for floats of their size.
    if item_bytes == 2:
        look_up(pixels, array_at(table, rows, np.uint16), array_at(target, shape, np.uint16))
    elif item_bytes == 4:
        look_up(pixels, array_at(table, rows, np.uint32), array_at(target, shape, np.uint32))
    else:
        look_up(pixels, array_at(table, rows, np.uint64), array_at(target, shape, np.uint64))


@native_kernel
def look_up_images(step, first, stop, thread):
    """Each image's values looked up in TABLE."""
    for position in range(first, stop):
        _look_up_image(step, position)
    return OK


def factors(mean: np.ndarray, std: np.ndarray, table: np.ndarray) -> np.ndarray | None:
    """Means and factors, `float64[2, TILE]`, that give `table` exactly; `None` where they don't.

    Args:
        mean, std: by channel.
        table: `float32[256, channels]`.
    """
    if table.dtype != np.float32 or TILE % len(mean):
        return None
    # The same two operations, each rounded, that the kernel does.
    if not np.array_equal(((np.arange(256.0)[:, None] - mean) * (1.0 / std)).astype(np.float32), table):
        return None
    return np.ascontiguousarray([np.resize(mean, TILE), np.resize(1.0 / std, TILE)])


def _tile_body(vectors: Vectors, target, source, constants):
    builder, wide = vectors.builder, ir.VectorType(ir.DoubleType(), _LANES)
    for start in range(0, TILE, _LANES):
        values = vectors.load(vectors.at(source, start), ir.VectorType(i8, _LANES))
        values = builder.sitofp(vectors.widen(values, i32), wide)
        values = builder.fsub(values, vectors.load(vectors.at(constants, 8 * start), wide))
        values = builder.fmul(values, vectors.load(vectors.at(constants, 8 * (TILE + start)), wide))
        values = builder.fptrunc(values, ir.VectorType(ir.FloatType(), _LANES))
        vectors.store(values, vectors.at(target, 4 * start))


_scale_tile = vector_kernel(_tile_body, 3)


@compiled
def _scale_image(source, target, count, constants):
    tiles = count // TILE
    for tile in range(tiles):
        _scale_tile((target + 4 * TILE * tile, source + TILE * tile, constants))
    rest = array_at(target, (count,), np.float32)
    for place in range(TILE * tiles, count):
        lane = place - TILE * tiles
        value = np.float64(load_u8(source + place)) - load_f64(constants + 8 * lane)
        rest[place] = np.float32(value * load_f64(constants + 8 * (TILE + lane)))


@native_kernel
def scale_images(step, first, stop, thread):
    """Each image's values less a mean, times a factor, as float32."""
    count = own(step, PIXELS) * own(step, CHANNELS)
    for position in range(first, stop):
        _scale_image(source_of(step, position), target_of(step, position), count, own(step, TABLE))
    return OK
