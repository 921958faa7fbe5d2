"""`data.augmentation=cifar`: images as they are stored, in training moved by up to four pixels and mirrored.

Moving an image is what others write as a crop of its own size behind four pixels of black on each side: both choose one
of nine places along each axis. Nothing is resized, so all images have to have the side that the resolution asks for.
"""

from __future__ import annotations

from typing import Any

from ffx.fields.decoders import SimpleRGBImageDecoder
from ffx.transforms import RandomTranslate

from .errors import DataError
from .source import Purpose

__all__ = ["PADDING", "cifar_transform", "check_stored_sides", "file_operations"]

PADDING = 4  # pixels


def file_operations(decoder: SimpleRGBImageDecoder, purpose: Purpose) -> list[Any]:
    """The first operations of a file's pipeline, without the flip."""
    if not purpose.training:
        return [decoder]
    return [decoder, RandomTranslate(PADDING)]


def check_stored_sides(path: str, decoder: SimpleRGBImageDecoder, resolution: int) -> None:
    """Refuse a file whose images are not of this side, in pixels.

    Args:
        decoder: one that a loader has bound to the file.

    Raises:
        DataError: they are not.
    """
    for side in ("width", "height"):
        stored = decoder.metadata[side]
        if len(stored) and not (stored.min() == stored.max() == resolution):
            raise _other_side(path, f"{side}s from {stored.min()} to {stored.max()}", resolution)


def cifar_transform(purpose: Purpose, resolution: int) -> Any:
    """The same for Pillow's images, by torchvision: `uint8[3, resolution, resolution]`."""
    from torchvision.transforms import Compose, PILToTensor, RandomCrop, RandomHorizontalFlip

    steps: list[Any] = [_OfSide(resolution)]
    if purpose.training:
        steps.append(RandomCrop(resolution, padding=PADDING))
        # Flips that alternate are the folder's.
        steps.extend([RandomHorizontalFlip()] if purpose.flip and not purpose.alternating_flip else [])
    return Compose([*steps, PILToTensor()])


class _OfSide:
    """Images that have this side, or an error."""

    def __init__(self, resolution: int) -> None:
        self._resolution = resolution

    def __call__(self, image: Any) -> Any:
        if image.size != (self._resolution, self._resolution):
            raise _other_side("a training or validation image", f"{image.width} x {image.height}", self._resolution)
        return image


def _other_side(where: str, found: str, resolution: int) -> DataError:
    return DataError(
        f"{where}: expected images of {resolution} x {resolution} pixels, found {found}: data.augmentation=cifar "
        "resizes nothing, so give --resolution.min_res, --resolution.max_res and --validation.resolution their side, "
        "or use data.augmentation=imagenet"
    )
