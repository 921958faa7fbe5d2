"""Thin launcher: the program is imagenet/train_imagenet.py; the documentation's commands start in this folder."""

import runpy
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parent / "imagenet" / "train_imagenet.py"), run_name="__main__")
