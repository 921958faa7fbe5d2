"""When blocks of a remote file are needed: against a plain count, batch by batch."""

import numpy as np
import pytest

from ffx.memory_managers.remote_cache import plan_stays


def each(stays):
    """First and last batch, and blocks, of each stay."""
    return [
        (first, last, stays.of(number, number + 1))
        for number, (first, last) in enumerate(zip(stays.first.tolist(), stays.last.tolist(), strict=True))
    ]


def needed_at_once(stays, sizes, in_flight):
    """The largest sum over moments of the sizes of all blocks that a stay holds then."""
    most = 0
    for moment in range(int(stays.last.max()) + in_flight + 1):
        pinned = set()
        for first, last, blocks in each(stays):
            if first <= moment < last + in_flight:
                pinned |= set(blocks.tolist())
        most = max(most, int(sizes[sorted(pinned)].sum()))
    return most


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("most_gap", [1, 3, 100])
def test_stays_hold_every_block_from_its_first_use_to_its_last(seed, most_gap):
    generator = np.random.default_rng(seed)
    pages = np.sort(generator.integers(0, 6, 20))
    sizes = generator.integers(1, 1000, 20)
    batches = [np.unique(generator.integers(0, 20, generator.integers(0, 6))) for _ in range(30)]
    stays = plan_stays(batches, pages, sizes, 3, most_gap)
    assert (np.diff(stays.first) >= 0).all()
    for number, batch in enumerate(batches):
        held = [blocks for first, last, blocks in each(stays) if first <= number <= last]
        assert set(batch.tolist()) <= set(np.concatenate([np.empty(0, int), *held]).tolist())
    for _, _, blocks in each(stays):
        assert (np.diff(blocks) > 0).all()
        assert len(set(pages[blocks].tolist())) == 1, "a stay is of one page"
    assert stays.most_bytes == needed_at_once(stays, sizes, 3)
    assert np.diff(stays.bytes_before).tolist() == [int(sizes[blocks].sum()) for _, _, blocks in each(stays)]


def test_an_epoch_without_stored_data_has_no_stays():
    stays = plan_stays([np.empty(0, np.int64)] * 3, np.empty(0, np.int64), np.empty(0, np.int64), 2, 4)
    assert len(stays.first) == stays.most_bytes == 0
