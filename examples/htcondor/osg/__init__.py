"""ImageNet on the OSPool: options, data, inputs, event logs and a simulated pool.

The trainer stands in a folder beside this one, and is found from here on. ffx is used as it is installed, or else from
this checkout.
"""

import sys
from pathlib import Path

__all__ = ["HERE", "ROOT"]

HERE = Path(__file__).resolve().parents[1]
ROOT = HERE.parents[1]
sys.path[:] = [*dict.fromkeys([str(HERE.parent / "imagenet"), *sys.path, str(ROOT)])]
