"""Imported first by the programs and modules here: where ffx is not installed, the one of this checkout is used.

The trainer stands beside this file, and is found like it.
"""

import sys
from pathlib import Path

__all__ = ["HERE", "ROOT"]

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

sys.path[:] = [*dict.fromkeys([str(HERE), *sys.path, str(ROOT)])]
