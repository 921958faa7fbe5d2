"""Small pictures in class folders, for the lab's tests; and the lab and the trainer are there to be imported."""

import sys
from pathlib import Path

from PIL import Image

from tests.pictures import make_picture

__all__ = ["LAB", "write_classes"]

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "examples" / "resnet18_lab"
for _folder in (LAB, ROOT / "examples" / "imagenet"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))


def write_classes(folder: Path, side: int, train: int = 2, val: int = 1) -> Path:
    """Write class folders train/ and val/ with so many pictures in each of four classes, and return `folder`."""
    for split, count in (("train", train), ("val", val)):
        for number in range(4 * count):
            path = folder / split / f"class_{number % 4}" / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(make_picture(side, side, seed=1000 * len(split) + number)).save(path)
    return folder
