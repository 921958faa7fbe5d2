"""A seeded sample of the soak (`make soak`)."""

import logging
from pathlib import Path

import pytest

from tests.soak import run


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_nothing_is_lost_under_faults(seed, request, caplog):
    caplog.set_level(logging.ERROR, "ffx.loader")
    slow = any(mark.name == "slow" for mark in request.node.iter_markers())
    counts = run(300 if slow else 10, seed, print)
    assert sum(counts.values()) > 5
