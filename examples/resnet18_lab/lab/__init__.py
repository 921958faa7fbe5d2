"""The ResNet-18 lab: flags, what they mean to the trainer, experiments, tables.

The trainer and `reporting` stand in folders beside the lab's, and are found from here on. ffx is used as it is
installed, or else from this checkout.
"""

import sys
from pathlib import Path

_EXAMPLES = Path(__file__).resolve().parents[2]
sys.path[:] = [*dict.fromkeys([str(_EXAMPLES / "imagenet"), *sys.path, str(_EXAMPLES), str(_EXAMPLES.parent)])]
