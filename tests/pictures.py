"""Make pictures and ImageFolder trees for tests: seeded, small, and with enough structure that JPEG is meaningful.

Noise alone is the worst case of JPEG and a flat colour its best; these pictures have smooth gradients, a few
hard edges and a little texture, so sizes and coding errors look like those of photographs.
"""

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

__all__ = ["make_picture", "encode_jpeg", "decode_jpeg", "PictureDataset", "write_image_folder", "peak_signal_to_noise"]

CLASS_NAMES = ("n01_apple", "n02_bridge", "n03_cloud", "n04_door")


def make_picture(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """Return a made photograph-like picture of shape (height, width, channels), dtype uint8.

    Different seeds give clearly different pictures; a picture is not equal to its mirror or its transpose.
    """
    generator = np.random.default_rng([seed, height, width, channels])
    y = np.linspace(0.0, 1.0, height, dtype=np.float32)[:, None, None]
    x = np.linspace(0.0, 1.0, width, dtype=np.float32)[None, :, None]
    frequency_y, frequency_x, phase = generator.uniform(0.3, 2.5, size=(3, channels)).astype(np.float32)
    slope = generator.uniform(-0.4, 0.4, size=channels).astype(np.float32)
    picture = 0.5 + 0.25 * np.sin(2 * np.pi * (frequency_y * y + frequency_x * x + phase)) + slope * (x - 0.5)
    picture = np.broadcast_to(picture, (height, width, channels)).copy()
    for _ in range(3):
        top, bottom = np.sort(generator.integers(0, height + 1, size=2))
        left, right = np.sort(generator.integers(0, width + 1, size=2))
        picture[top:bottom, left:right] = 0.6 * picture[top:bottom, left:right] + 0.4 * generator.random(channels)
    picture += 0.03 * generator.standard_normal(picture.shape, dtype=np.float32)
    return np.round(255 * picture.clip(0.0, 1.0)).astype(np.uint8)


def encode_jpeg(picture: np.ndarray, quality: int = 90) -> bytes:
    """Encode an RGB picture (height, width, 3) with OpenCV as an ordinary 4:2:0 JPEG."""
    done, encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return encoded.tobytes()


def decode_jpeg(data: bytes) -> np.ndarray:
    """Decode a JPEG with OpenCV, a reference independent of ffx, as RGB (height, width, 3) uint8."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    return np.ascontiguousarray(picture[..., ::-1])


class PictureDataset:
    """Indexable made data set of (PIL picture, label); at module level, so writer processes can unpickle it.

    Sizes differ from sample to sample, within `sides` pixels; the label of sample i is i modulo `classes`.
    """

    def __init__(self, length: int, sides: tuple[int, int] = (40, 90), classes: int = 4, seed: int = 0) -> None:
        self.length, self.sides, self.seed = length, sides, seed
        self.classes = [f"class_{number}" for number in range(classes)]

    def __len__(self) -> int:
        return self.length

    def picture(self, index: int) -> np.ndarray:
        """Return sample `index`'s pixels, (height, width, 3) uint8."""
        generator = np.random.default_rng([self.seed, index])
        height, width = generator.integers(self.sides[0], self.sides[1] + 1, size=2)
        return make_picture(int(height), int(width), seed=self.seed * 100_003 + index)

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        if not 0 <= index < self.length:
            raise IndexError(index)
        return Image.fromarray(self.picture(index)), index % len(self.classes)


def write_image_folder(
    folder: Path, pictures_a_class: int, sides: tuple[int, int] = (60, 140), seed: int = 0, quality: int = 95
) -> Path:
    """Write an ImageFolder tree of JPEGs, `pictures_a_class` for each of four classes, and return its path."""
    generator = np.random.default_rng(seed)
    for class_number, class_name in enumerate(CLASS_NAMES):
        class_folder = Path(folder) / class_name
        class_folder.mkdir(parents=True, exist_ok=True)
        for number in range(pictures_a_class):
            height, width = (int(side) for side in generator.integers(sides[0], sides[1] + 1, size=2))
            picture = make_picture(height, width, seed=1000 * seed + 100 * class_number + number)
            (class_folder / f"{class_name}_{number:03d}.JPEG").write_bytes(encode_jpeg(picture, quality))
    return Path(folder)


def peak_signal_to_noise(left: np.ndarray, right: np.ndarray) -> float:
    """Return the ratio of two uint8 pictures in decibels (infinite when they are equal)."""
    error = np.mean((left.astype(np.float64) - right.astype(np.float64)) ** 2)
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
