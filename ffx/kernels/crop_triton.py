"""Crop, resize, mirror and normalise on a GPU, one Triton kernel from stored pixels to the finished batch.

Imported only when a GPU is asked for, because Triton comes with torch's GPU builds alone.

A program makes a tile of one sample's target. It works out each row's and column's taps by the rules of
`ffx.kernels.taps` (their positions in float64, as there) and sums the source pixels under each target
pixel; these mostly come from the cache, since neighbouring targets share them. What a source pixel's
channels are, RGB or a 4:2:0 block's Y, U and V, only the loads and the last step know.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from . import crop_request as words
from . import taps
from .stored_image import RAW_MODE

__all__ = ["crop_tiles", "launch"]

TILE_ROWS = 16
# Divides the usual sizes: 128, 160, 192, 224, 256.
TILE_COLUMNS = 32

_AREA_MEAN = tl.constexpr(taps.AREA_MEAN)
_AREA_NEIGHBOURS = tl.constexpr(taps.AREA_NEIGHBOURS)
_TRIANGLE = tl.constexpr(taps.TRIANGLE)
_RAW = tl.constexpr(RAW_MODE)
_REQUEST_WORDS = tl.constexpr(words.REQUEST_WORDS)
_OFFSET = tl.constexpr(words.OFFSET)
_MODE = tl.constexpr(words.MODE)
_IMAGE_HEIGHT = tl.constexpr(words.IMAGE_HEIGHT)
_IMAGE_WIDTH = tl.constexpr(words.IMAGE_WIDTH)
_TOP = tl.constexpr(words.TOP)
_LEFT = tl.constexpr(words.LEFT)
_CROP_HEIGHT = tl.constexpr(words.CROP_HEIGHT)
_CROP_WIDTH = tl.constexpr(words.CROP_WIDTH)
_FLIP = tl.constexpr(words.FLIP)
_ROW_RULE = tl.constexpr(words.ROW_RULE)
_COLUMN_RULE = tl.constexpr(words.COLUMN_RULE)


@triton.jit
def _word(request, index: tl.constexpr):
    return tl.load(request + index).to(tl.int32)


@triton.jit
def _axis(targets, length, target_length, rule):
    """The taps of target samples on one axis: `(first, low, high, count)`.

    `first` is each one's first source sample, `count` how many to look at. For the weights, see `_weight`.
    """
    place = targets.to(tl.float64)
    source = length.to(tl.float64)
    target = target_length.to(tl.float64)
    ratio = source / target
    last = source - 1.0
    if rule == _AREA_MEAN:
        scale = 1.0 / (target / source)
        start = place * scale
        stop = tl.minimum(start + scale, source)
        first = tl.minimum(tl.floor(start + 0.001), last)
        low = (start - first).to(tl.float32)
        high = (stop - first).to(tl.float32)
        count = tl.ceil(scale).to(tl.int32) + 1
    elif rule == _TRIANGLE:
        centre = (place + 0.5) * ratio
        first = tl.floor(tl.maximum(centre - ratio + 0.5, 0.0))
        low = (centre - first - 0.5).to(tl.float32)
        high = low * 0.0 + (1.0 / ratio).to(tl.float32)
        count = tl.ceil(2.0 * ratio).to(tl.int32) + 1
    elif rule == _AREA_NEIGHBOURS:
        first = tl.floor(place * (1.0 / (target / source)))
        low = ((place + 1.0) - (first + 1.0) * (target / source)).to(tl.float32)
        low = tl.where(low <= 0.0, 0.0, low - tl.floor(low))
        low = tl.where(first < last, low, 0.0)
        first = tl.minimum(first, last)
        high = low + 1.0
        count = tl.full([], 2, tl.int32)
    else:
        position = tl.minimum(tl.maximum((place + 0.5) * ratio - 0.5, 0.0), last)
        first = tl.floor(position)
        low = (position - first).to(tl.float32)
        high = low + 1.0
        count = tl.full([], 2, tl.int32)
    return first.to(tl.int32), low, high, count


@triton.jit
def _weight(tap, taps_left, low, high, rule):
    """The weight of a tap, not normalised: how much of it lies from `low` to `high`, counted from the first tap.

    Of the triangle rule, `low` is the centre and `high` the slope; it alone may reach over the axis' end,
    `taps_left` from the first tap. OpenCV's area rule leaves out small parts.
    """
    part = tl.minimum(high - tap, 1.0) - tl.maximum(low - tap, 0.0)
    least = tl.where(rule == _AREA_MEAN, 0.001, 0.0)
    part = tl.where(part > least, part, 0.0)
    slope = tl.where(tap < taps_left, tl.maximum(1.0 - tl.abs(low - tap) * high, 0.0), 0.0)
    return tl.where(rule == _TRIANGLE, slope, part)


@triton.jit
def _finish(value, place, inside, table, target, channel: tl.constexpr, normalise: tl.constexpr):
    """Round a channel to a grey level and store it, or what the table makes of it."""
    level = tl.minimum(tl.maximum(tl.floor(value + 0.5), 0.0), 255.0).to(tl.int32)
    if normalise:
        tl.store(target + place + channel, tl.load(table + 3 * level + channel), mask=inside)
    else:
        tl.store(target + place + channel, level.to(tl.uint8), mask=inside)


@triton.jit(do_not_specialize=["height", "width"])
def crop_tiles(
    requests,
    data,
    table,
    target,
    height,
    width,
    normalise: tl.constexpr,
    tile_rows: tl.constexpr,
    tile_columns: tl.constexpr,
):
    """One tile of one sample; see `launch`."""
    tiles_across = tl.cdiv(width, tile_columns)
    tiles = tl.cdiv(height, tile_rows) * tiles_across
    sample = tl.program_id(0) // tiles
    tile = tl.program_id(0) % tiles
    request = requests + sample * _REQUEST_WORDS
    # 64 bits: resident data are larger than 2**31 bytes. One image is not.
    image = data + tl.load(request + _OFFSET)
    mode = _word(request, _MODE)
    image_height, image_width = _word(request, _IMAGE_HEIGHT), _word(request, _IMAGE_WIDTH)
    top, left = _word(request, _TOP), _word(request, _LEFT)
    crop_height, crop_width = _word(request, _CROP_HEIGHT), _word(request, _CROP_WIDTH)
    row_rule, column_rule = _word(request, _ROW_RULE), _word(request, _COLUMN_RULE)

    rows = tile // tiles_across * tile_rows + tl.arange(0, tile_rows)
    columns = tile % tiles_across * tile_columns + tl.arange(0, tile_columns)
    inside = (rows < height)[:, None] & (columns < width)[None, :]
    # What lies outside the target repeats its last row and column, and is not stored.
    rows, columns = tl.minimum(rows, height - 1), tl.minimum(columns, width - 1)
    row_first, row_low, row_high, row_count = _axis(rows, crop_height, height, row_rule)
    column_first, column_low, column_high, column_count = _axis(columns, crop_width, width, column_rule)

    half_width = (image_width + 1) // 2
    blue_plane = image_height * image_width
    red_plane = blue_plane + (image_height + 1) // 2 * half_width
    first_sum = tl.zeros([tile_rows, tile_columns], tl.float32)
    second_sum = tl.zeros([tile_rows, tile_columns], tl.float32)
    third_sum = tl.zeros([tile_rows, tile_columns], tl.float32)
    weights = tl.zeros([tile_rows, tile_columns], tl.float32)
    for row_tap in range(row_count):
        # Taps behind the crop's end have no weight; they must not leave the image, though.
        y = top + tl.minimum(row_first + row_tap, crop_height - 1)
        row_weight = _weight(row_tap, crop_height - row_first, row_low, row_high, row_rule)
        for column_tap in range(column_count):
            x = left + tl.minimum(column_first + column_tap, crop_width - 1)
            column_weight = _weight(column_tap, crop_width - column_first, column_low, column_high, column_rule)
            weight = row_weight[:, None] * column_weight[None, :]
            if mode == _RAW:
                place = (y * image_width * 3)[:, None] + (x * 3)[None, :]
                first = tl.load(image + place)
                second = tl.load(image + place + 1)
                third = tl.load(image + place + 2)
            else:
                chroma = ((y >> 1) * half_width)[:, None] + (x >> 1)[None, :]
                first = tl.load(image + (y * image_width)[:, None] + x[None, :])
                second = tl.load(image + blue_plane + chroma)
                third = tl.load(image + red_plane + chroma)
            first_sum += weight * first.to(tl.float32)
            second_sum += weight * second.to(tl.float32)
            third_sum += weight * third.to(tl.float32)
            weights += weight

    red, green, blue = first_sum / weights, second_sum / weights, third_sum / weights
    if mode != _RAW:
        # Full-range BT.601, as in `ffx.kernels.crop_twin.rgb_of`.
        luma, blue_part, red_part = red, green - 128.0, blue - 128.0
        red = luma + 1.402 * red_part
        green = luma - 0.344136 * blue_part - 0.714136 * red_part
        blue = luma + 1.772 * blue_part
    columns = tl.where(tl.load(request + _FLIP) != 0, width - 1 - columns, columns)
    pixel = (sample.to(tl.int64) * height + rows[:, None]) * width + columns[None, :]
    _finish(red, 3 * pixel, inside, table, target, 0, normalise)
    _finish(green, 3 * pixel, inside, table, target, 1, normalise)
    _finish(blue, 3 * pixel, inside, table, target, 2, normalise)


def launch(requests: torch.Tensor, data: torch.Tensor, target: torch.Tensor, table: torch.Tensor | None = None) -> None:
    """Start the kernel on the current device and stream.

    Args:
        requests: int64 `[samples, REQUEST_WORDS]`, on the device; the images that they name lie within `data`.
        data: uint8 `[bytes]`, on the device.
        target: `[samples, height, width, 3]`, contiguous: uint8, or of the table's dtype.
        table: `[256, 3]`: what each grey level becomes, by channel; `None` leaves grey levels as they are.
    """
    samples, height, width, _ = target.shape
    if target.numel() == 0:
        return
    tiles = triton.cdiv(height, TILE_ROWS) * triton.cdiv(width, TILE_COLUMNS)
    crop_tiles[(samples * tiles,)](
        requests,
        data,
        data if table is None else table,
        target,
        height,
        width,
        table is not None,
        TILE_ROWS,
        TILE_COLUMNS,
    )
