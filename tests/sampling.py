"""`make test` runs a sample of each group of long tests: a third, chosen by a seed; `make test-all` runs all of them.

A long test is marked `long("group")`. The seed is the environment's `FFX_TEST_SEED` (`make test SEED=3`), 0 without it.
"""

import os
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

import pytest

__all__ = ["SEED", "mark_unsampled", "sample"]

SEED = os.environ.get("FFX_TEST_SEED") or "0"


def sample(names: Sequence[str], group: str, seed: str) -> set[str]:
    """A third of a group's tests, rounded up; the same for the same names, group and seed."""
    return set(random.Random(f"{seed} {group}").sample(sorted(names), -(-len(names) // 3)))


def mark_unsampled(items: Iterable[pytest.Item], seed: str = SEED) -> None:
    """Mark the long tests that are not in their group's sample as slow. Those that are slow anyway are not counted."""
    groups: dict[str, dict[str, pytest.Item]] = defaultdict(dict)
    for item in items:
        marker = item.get_closest_marker("long")
        if marker and not item.get_closest_marker("slow"):
            groups[marker.args[0]][item.nodeid] = item
    for group, tests in groups.items():
        for name in tests.keys() - sample(list(tests), group, seed):
            tests[name].add_marker(pytest.mark.slow)
