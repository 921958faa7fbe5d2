"""What a program has set for all of Pillow, carried to processes that would begin with Pillow's defaults."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image, ImageFile

__all__ = ["PillowSettings"]


@dataclass(frozen=True)
class PillowSettings:
    """Settings that decide which pictures the writer takes.

    Attributes:
        load_truncated: `PIL.ImageFile.LOAD_TRUNCATED_IMAGES`.
        most_pixels: `PIL.Image.MAX_IMAGE_PIXELS`.
    """

    load_truncated: bool
    most_pixels: int | None

    @classmethod
    def of_this_process(cls) -> PillowSettings:
        """As they are now."""
        return cls(ImageFile.LOAD_TRUNCATED_IMAGES, Image.MAX_IMAGE_PIXELS)

    def set(self) -> None:
        """Make them this process's."""
        ImageFile.LOAD_TRUNCATED_IMAGES = self.load_truncated
        Image.MAX_IMAGE_PIXELS = self.most_pixels
