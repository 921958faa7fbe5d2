"""Thin launcher: the program is imagenet/train_imagenet.py; the documentation's commands start in this folder."""

import runpy
from pathlib import Path

if __name__ == "__main__":
    PROGRAM = Path(__file__).resolve().parent / "imagenet" / "train_imagenet.py"
    runpy.run_path(str(PROGRAM), run_name="__main__")
