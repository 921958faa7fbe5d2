"""A SLURM of one node for the tests that need one, and `main.py`'s modules to be imported."""

import sys
from pathlib import Path

import pytest

from tests.one_thread import one_thread  # noqa: F401
from tests.slurm.cluster import Cluster, why_not

ROOT = Path(__file__).resolve().parents[2]
SLURM = ROOT / "examples" / "slurm"
for _folder in (ROOT / "examples", ROOT / "examples" / "imagenet", SLURM):
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))


@pytest.fixture(scope="session")
def cluster():
    """A running cluster; skips where SLURM is not installed."""
    reason = why_not()
    if reason:
        pytest.skip(reason)
    with Cluster() as running:
        yield running
