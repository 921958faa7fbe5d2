"""Planar YUV 4:2:0 in plain NumPy: the reference of the kernels that write and read it."""

import numpy as np

from ffx.kernels.taps import axis_rule, float_taps, most_taps

__all__ = ["exact_planes", "exact_resize", "pack", "repeat_chroma", "split"]


def exact_planes(pixels: np.ndarray) -> list[np.ndarray]:
    """Y, U and V of an RGB image in float64, not rounded; chroma is the mean of two by two pixels."""
    height, width = pixels.shape[:2]
    red, green, blue = np.moveaxis(pixels.astype(np.float64), -1, 0)
    bright = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = [bright]
    for colour, factor in ((blue, 1.772), (red, 1.402)):
        plane = np.pad((colour - bright) / factor + 128, ((0, height % 2), (0, width % 2)), mode="edge")
        planes.append(plane.reshape(plane.shape[0] // 2, 2, plane.shape[1] // 2, 2).mean((1, 3)))
    return planes


def pack(pixels: np.ndarray) -> np.ndarray:
    """The planes as a file holds them, uint8[n]."""
    rounded = [np.clip(np.floor(plane + 0.5), 0, 255).astype(np.uint8) for plane in exact_planes(pixels)]
    return np.concatenate([plane.reshape(-1) for plane in rounded])


def split(planes: np.ndarray, height: int, width: int) -> list[np.ndarray]:
    """Y, U and V of `pack`'s bytes."""
    rows, columns = (height + 1) // 2, (width + 1) // 2
    ends = np.cumsum([0, height * width, rows * columns, rows * columns])
    assert planes.size == ends[-1]
    shapes = ((height, width), (rows, columns), (rows, columns))
    return [planes[ends[i] : ends[i + 1]].reshape(shapes[i]) for i in range(3)]


def repeat_chroma(planes: np.ndarray, height: int, width: int) -> list[np.ndarray]:
    """Y, U and V in float64 and of the image's size: each sample of chroma for the pixels that it stands for."""
    bright, *chroma = (plane.astype(np.float64) for plane in split(planes, height, width))
    return [bright, *(plane.repeat(2, axis=0).repeat(2, axis=1)[:height, :width] for plane in chroma)]


def _taps(rule: int, length: int, target_length: int) -> np.ndarray:
    matrix, weights = np.zeros((target_length, length)), np.zeros(max(most_taps(rule, length, target_length), 8))
    for place in range(target_length):
        first, count = float_taps(rule, length, target_length, place, weights)
        matrix[place, first : first + count] = weights[:count]
    return matrix


def exact_resize(planes, height, width, crop, size, interpolation=0) -> np.ndarray:
    """RGB in float64, (*size, 3): chroma repeated, the crop resized, converted, held to 0 … 255, not rounded."""
    top, left, crop_height, crop_width = crop
    row_rule = axis_rule(interpolation, crop_height, size[0], crop_width, size[1])
    column_rule = axis_rule(interpolation, crop_width, size[1], crop_height, size[0])
    rows, columns = _taps(row_rule, crop_height, size[0]), _taps(column_rule, crop_width, size[1])
    part = np.s_[top : top + crop_height, left : left + crop_width]
    bright, blue, red = (rows @ plane[part] @ columns.T for plane in repeat_chroma(planes, height, width))
    blue, red = blue - 128, red - 128
    rgb = [bright + 1.402 * red, bright - 0.344136 * blue - 0.714136 * red, bright + 1.772 * blue]
    return np.clip(np.stack(rgb, axis=-1), 0, 255)
