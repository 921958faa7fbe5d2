#!/usr/bin/env python3
"""The program itself is writer/extract_ILSVRC_mp.py; this name is where some look for it."""

import runpy
from pathlib import Path

__all__: list[str] = []

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "writer" / "extract_ILSVRC_mp.py"), run_name="__main__")
