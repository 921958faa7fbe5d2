"""Data and commands of the jobs that the tests submit."""

import os
import sys
from pathlib import Path

import cv2

from tests.pictures import make_picture

__all__ = ["TINY", "make_tools", "write_classes"]

# A network of 350,000 weights on tiny pictures: the trainings here are for what SLURM does.
TINY_TEXT = (
    "-a shufflenet_v2_x0_5 -j 0 -b 4 -p 1 --lr 0.02 --device cpu --set resolution.min_res=32 --set "
    "resolution.max_res=32 --set validation.resolution=32 --set logging.curves=0 --set logging.tensorboard=off"
)
TINY = TINY_TEXT.split()


def write_classes(folder: Path, pictures: int, validation: int = 3) -> Path:
    """Class folders `train` and `val` with so many pictures in each of four classes."""
    for split, count in (("train", pictures), ("val", validation)):
        for number in range(4 * count):
            place = folder / split / f"class_{number % 4}"
            place.mkdir(parents=True, exist_ok=True)
            picture = make_picture(32, 40, seed=1000 * len(split) + number)
            assert cv2.imwrite(str(place / f"{number:03}.jpg"), picture)
    return folder


def make_tools(folder: Path) -> str:
    """A PATH on which `python` is the interpreter of the tests."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "python").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"
