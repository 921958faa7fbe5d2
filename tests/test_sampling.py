"""The sample of the long tests that `make test` runs."""

from tests.sampling import mark_unsampled, sample

NAMES = [f"test_{number}" for number in range(10)]


class Item:
    """As much of a test as the choice looks at."""

    def __init__(self, name, **markers):
        self.nodeid, self.markers = name, markers

    def get_closest_marker(self, name):
        return self.markers.get(name)

    def add_marker(self, marker):
        self.markers[marker.name] = marker


class Long:
    args = ("kills",)


def test_a_third_is_chosen_by_seed_and_group_whatever_the_order():
    chosen = sample(NAMES, "kills", "1")
    assert len(chosen) == 4 and chosen < set(NAMES)
    assert sample(NAMES[::-1], "kills", "1") == chosen
    assert len({frozenset(sample(NAMES, group, seed)) for group in ("kills", "signals") for seed in "0123"}) > 4
    # No test is left out by every seed.
    assert set().union(*(sample(NAMES, "kills", str(seed)) for seed in range(30))) == set(NAMES)
    assert len(sample(["one"], "kills", "0")) == 1


def test_tests_outside_of_the_sample_are_slow_and_no_others():
    long = [Item(name, long=Long) for name in NAMES]
    others = [Item("short"), Item("slow anyway", slow=True, long=Long)]
    mark_unsampled([*others, *long], "1")
    assert {item.nodeid for item in long if "slow" not in item.markers} == sample(NAMES, "kills", "1")
    assert "slow" not in others[0].markers
