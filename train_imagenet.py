"""Thin launcher: the program is examples/imagenet/train_imagenet.py; this name is where FFCV's users look for it."""

import runpy
from pathlib import Path

if __name__ == "__main__":
    PROGRAM = Path(__file__).resolve().parent / "examples" / "imagenet" / "train_imagenet.py"
    runpy.run_path(str(PROGRAM), run_name="__main__")
