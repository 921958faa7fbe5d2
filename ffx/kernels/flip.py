"""Mirror images left to right, where the decoder could not do it in passing."""

from __future__ import annotations

from llvmlite import ir

from .compiling import compiled
from .memory import copy_bytes, load_u32
from .sample import is_mirrored, own, own_float, sample_id, source_of, target_of
from .simd import Vectors, i8, vector_kernel
from .step import OCCURRENCES, OK, RANDOM_KEY, native_kernel, word

__all__ = ["HEIGHT", "OWN_WORDS", "PIXEL_BYTES", "PROBABILITY", "WIDTH", "flip_images", "mirror"]

PROBABILITY = 0  # the bits of a float64, which may be ALTERNATING
HEIGHT = 1
WIDTH = 2
PIXEL_BYTES = 3
OWN_WORDS = 4


# Pixels of three bytes are turned round so many at a time.
_TILE = 16


def _tile_body(vectors: Vectors, target, source):
    kind = ir.VectorType(i8, 3 * _TILE)
    order = [3 * pixel + colour for pixel in reversed(range(_TILE)) for colour in range(3)]
    vectors.store(vectors.pick(vectors.load(source, kind), None, order), target)


_mirror_tile = vector_kernel(_tile_body, 2)


@compiled
def mirror(source, target, height, width, pixel_bytes):
    """Copy an image with its columns in reverse order, from one address to another."""
    tiles = width // _TILE if pixel_bytes == 3 else 0
    row_bytes = width * pixel_bytes
    for row in range(height):
        start, end = source + row * row_bytes, target + (row + 1) * row_bytes
        for tile in range(tiles):
            _mirror_tile((end - 3 * _TILE * (tile + 1), start + 3 * _TILE * tile))
        for column in range(_TILE * tiles, width):
            copy_bytes(end - (column + 1) * pixel_bytes, start + column * pixel_bytes, pixel_bytes)


@compiled
def _flip(step, position):
    source, target = source_of(step, position), target_of(step, position)
    height, width, pixel_bytes = own(step, HEIGHT), own(step, WIDTH), own(step, PIXEL_BYTES)
    occurrence = load_u32(word(step, OCCURRENCES) + 4 * position)
    if is_mirrored(word(step, RANDOM_KEY), sample_id(step, position), occurrence, own_float(step, PROBABILITY)):
        mirror(source, target, height, width, pixel_bytes)
    else:
        copy_bytes(target, source, height * width * pixel_bytes)


@native_kernel
def flip_images(step, first, stop, thread):
    """Each image mirrored with PROBABILITY, or at every second time; else as it is."""
    for position in range(first, stop):
        _flip(step, position)
    return OK
