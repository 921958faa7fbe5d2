"""Orders against the definition: every sample once for any ranks, few pages at a time, a function of the seed."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ffx.errors import LoaderError
from ffx.traversal_order import QuasiRandom, Random, Sequential
from ffx.traversal_order.base import TraversalOrder

ORDERS = (Sequential, Random, QuasiRandom)


def fake_loader(indices, pages=None, seed=0, distributed=False):
    """What orders ask of a loader; `pages` is the page of each sample of the file."""
    indices = np.asarray(indices, dtype=np.uint64)
    if pages is None:
        pages = np.arange(int(indices.max(initial=0)) + 1) // 5
    manager = SimpleNamespace(sample_page=np.asarray(pages, dtype=np.int64))
    return SimpleNamespace(
        indices=indices, seed=seed, distributed=distributed, memory_manager=manager, fname="file.beton"
    )


@pytest.fixture
def world(monkeypatch):
    """`world(rank, size)` makes torch say that this process is a rank of a process group."""

    def be(rank, size):
        monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.distributed, "get_rank", lambda: rank)
        monkeypatch.setattr(torch.distributed, "get_world_size", lambda: size)

    return be


def of_all_ranks(ask, size):
    """What `ask()` gives as each of so many ranks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.distributed, "is_initialized", lambda: True)
        patch.setattr(torch.distributed, "get_world_size", lambda: size)
        result = []
        for rank in range(size):
            patch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
            result.append(ask())
        return result


def orders_of_all_ranks(make, size, epoch=0):
    """Each rank's order, from an order object of its own."""
    return of_all_ranks(lambda: make().sample_order(epoch), size)


def shares_of_all_ranks(make, size, epoch, legs):
    """Each rank's share of what is left of an epoch."""
    return of_all_ranks(lambda: make().share(epoch, legs), size)


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    order=st.sampled_from(ORDERS),
    sizes=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    samples=st.integers(1, 60),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 1000),
)
def test_epochs_that_are_gone_on_with_have_every_sample_once(data, order, sizes, samples, seed, epoch):
    """However often the number of ranks changes; and a repeated sample's repeats are counted as in one go."""
    chosen = data.draw(st.lists(st.integers(0, samples - 1)))
    pages = np.sort(data.draw(st.lists(st.integers(0, 12), min_size=samples, max_size=samples)))
    arguments = {"open_pages": data.draw(st.integers(1, 15))} if order is QuasiRandom else {}
    legs, found = [], []

    def make():
        return order(fake_loader(chosen, pages, seed, distributed=True), **arguments)

    def keep(share, stop):
        counts = np.zeros(len(share.order), int) if share.occurrences is None else share.occurrences
        found.extend(zip(share.order[:stop].tolist(), counts[:stop].tolist(), strict=True))

    for size in sizes:
        shares = shares_of_all_ranks(make, size, epoch, legs)
        # Ranks make equally many steps.
        assert all(share.smallest == shares[0].smallest <= len(share.order) for share in shares)
        taken = data.draw(st.integers(0, max(shares[0].smallest, 0)))
        for share in shares:
            keep(share, taken)
        legs.append((size, taken))
    for share in shares_of_all_ranks(make, sizes[-1], epoch, legs):
        keep(share, None)
    expected = [(value, number) for value in set(chosen) for number in range(chosen.count(value))]
    assert sorted(found) == sorted(expected)


def most_open_pages(order, pages):
    """Most pages that lie between their first and their last use at one moment."""
    used = np.asarray(pages)[np.asarray(order).astype(int)]
    numbers, first = np.unique(used, return_index=True)
    last = len(used) - 1 - np.unique(used[::-1], return_index=True)[1]
    change = np.zeros(len(used) + 1, dtype=int)
    np.add.at(change, first, 1)
    np.add.at(change, last + 1, -1)
    return int(np.cumsum(change).max(initial=0)) if len(numbers) else 0


@settings(max_examples=150, deadline=None)
@given(
    data=st.data(),
    order=st.sampled_from(ORDERS),
    size=st.integers(1, 9),
    samples=st.integers(1, 80),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 1000),
)
def test_every_sample_comes_exactly_once_over_all_ranks(data, order, size, samples, seed, epoch):
    chosen = data.draw(st.lists(st.integers(0, samples - 1), unique=True))
    pages = np.sort(data.draw(st.lists(st.integers(0, 12), min_size=samples, max_size=samples)))
    arguments = {"open_pages": data.draw(st.integers(1, 15))} if order is QuasiRandom else {}
    parts = orders_of_all_ranks(
        lambda: order(fake_loader(chosen, pages, seed, distributed=True), **arguments), size, epoch
    )
    assert sorted(np.concatenate(parts).tolist()) == sorted(chosen)
    lengths = [len(part) for part in parts]
    assert max(lengths) - min(lengths) <= 1


@pytest.mark.parametrize("order", ORDERS)
def test_alone_and_as_the_only_rank_the_order_is_the_same(order, world):
    alone = order(fake_loader(np.arange(57), seed=4)).sample_order(2)
    world(0, 1)
    np.testing.assert_array_equal(order(fake_loader(np.arange(57), seed=4, distributed=True)).sample_order(2), alone)


@pytest.mark.parametrize("order", [Sequential, Random])
@pytest.mark.parametrize("size, batch", [(1, 4), (3, 4), (8, 2)])
def test_the_ranks_batches_are_together_one_slice_of_the_order(order, size, batch):
    whole = order(fake_loader(np.arange(100), seed=6)).sample_order(3)
    parts = orders_of_all_ranks(lambda: order(fake_loader(np.arange(100), seed=6, distributed=True)), size, epoch=3)
    for number in range(100 // (size * batch)):
        together = np.stack([part[number * batch : (number + 1) * batch] for part in parts], axis=1).ravel()
        np.testing.assert_array_equal(together, whole[number * size * batch : (number + 1) * size * batch])


def test_sequential_gives_the_indices_as_they_are():
    assert Sequential(fake_loader([7, 2, 2, 9])).sample_order(5).tolist() == [7, 2, 2, 9]


@pytest.mark.parametrize("order", ORDERS)
def test_samples_that_stand_twice_come_twice(order):
    indices = [3, 3, 8, 1, 8, 8]
    assert sorted(order(fake_loader(indices)).sample_order(0).tolist()) == sorted(indices)


@pytest.mark.parametrize("order", [Random, QuasiRandom])
def test_an_order_is_a_function_of_seed_and_epoch(order):
    def draw(seed, epoch):
        return order(fake_loader(np.arange(200), seed=seed)).sample_order(epoch).tolist()

    assert draw(1, 2) == draw(1, 2)
    different = [draw(1, 2), draw(2, 1), draw(1, 3), draw(2, 2), draw(3, 0), draw(0, 3)]
    assert len({tuple(one) for one in different}) == len(different)
    # An epoch does not depend on those before it.
    same = order(fake_loader(np.arange(200), seed=1))
    for epoch in (0, 1):
        same.sample_order(epoch)
    assert same.sample_order(2).tolist() == draw(1, 2)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("seed", [-3, 0, 2**31, 2**63 - 1, 2**80])
def test_any_whole_number_is_a_seed(order, seed):
    assert len(order(fake_loader(np.arange(30), seed=seed)).sample_order(0)) == 30


@pytest.mark.parametrize("order", [Random, QuasiRandom])
def test_each_sample_is_equally_likely_at_each_place(order):
    count, epochs = 60, 500
    arguments = {"open_pages": 3} if order is QuasiRandom else {}
    drawn = order(fake_loader(np.arange(count), seed=9), **arguments)
    places = np.stack([np.argsort(drawn.sample_order(epoch)) for epoch in range(epochs)])
    # The mean of `epochs` uniform places; five standard deviations for 60 of them.
    bound = 5 * (count / np.sqrt(12)) / np.sqrt(epochs)
    assert np.abs(places.mean(axis=0) - (count - 1) / 2).max() < bound


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=1, max_size=40),
    open_pages=st.integers(1, 10),
    seed=st.integers(0, 1000),
)
def test_quasi_random_has_few_pages_open_at_a_time(sizes, open_pages, seed):
    pages = np.repeat(np.arange(len(sizes)), sizes)
    order = QuasiRandom(fake_loader(np.arange(len(pages)), pages, seed), open_pages=open_pages).sample_order(0)
    assert most_open_pages(order, pages) <= open_pages


@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("open_pages", [1, 4])
def test_each_rank_has_few_pages_of_its_own_open_at_a_time(size, open_pages):
    pages = np.arange(1200) // 6
    parts = orders_of_all_ranks(
        lambda: QuasiRandom(fake_loader(np.arange(1200), pages, 5, distributed=True), open_pages=open_pages), size
    )
    assert max(most_open_pages(part, pages) for part in parts) <= open_pages
    ranks = np.zeros(200, dtype=int)
    for part in parts:
        ranks[np.unique(pages[part.astype(int)])] += 1
    # Only a page in which a rank's run ends and the next one's begins is read twice.
    assert np.sum(ranks > 1) <= size - 1


def test_quasi_random_mixes_the_pages_that_it_has_open():
    pages = np.arange(2000) // 20
    used = pages[QuasiRandom(fake_loader(np.arange(2000), pages, 1), open_pages=10).sample_order(0).astype(int)]
    # A page's samples are spread over a window of ten pages, not one after the other.
    spread = [np.std(np.flatnonzero(used == page)) for page in np.unique(pages)]
    assert np.mean(spread) > 0.8 * 200 / np.sqrt(12)
    inside = [len(np.unique(used[start : start + 50])) for start in range(200, 1750, 50)]
    assert min(inside) >= 8


def test_quasi_random_is_fully_random_where_all_pages_may_be_open():
    used = QuasiRandom(fake_loader(np.arange(400), np.arange(400) // 20), open_pages=20).sample_order(0).astype(int)
    assert all(len(np.unique(used[start : start + 100] // 20)) >= 15 for start in range(0, 400, 100))


def test_quasi_random_needs_new_pages_at_an_even_rate():
    pages = np.arange(20_000) // 50
    order = QuasiRandom(fake_loader(np.arange(20_000), pages, 3), open_pages=32).sample_order(0)
    first_use = np.sort(np.unique(pages[order.astype(int)], return_index=True)[1])
    # After the first window, every 500 samples use up the samples of ten pages.
    new = np.histogram(first_use, bins=np.arange(2000, 18_001, 500))[0]
    assert new.max() <= 20


def test_samples_without_a_page_come_too():
    order = QuasiRandom(fake_loader(np.arange(6), [0, -1, 0, 1, -1, 2]), open_pages=1)
    assert sorted(order.sample_order(0).tolist()) == list(range(6))


def test_quasi_random_refuses_what_it_cannot_order():
    with pytest.raises(LoaderError, match=r"file\.beton: .*scalars only.*OrderOption\.RANDOM"):
        QuasiRandom(fake_loader(np.arange(4), [-1, -1, -1, -1]))
    with pytest.raises(LoaderError, match="open_pages of at least 1, found 0"):
        QuasiRandom(fake_loader(np.arange(4)), open_pages=0)


@pytest.mark.parametrize("order", ORDERS)
def test_no_samples_are_an_empty_order(order):
    assert len(order(fake_loader([], pages=[])).sample_order(0)) == 0


@pytest.mark.parametrize("order", ORDERS)
def test_sharing_without_a_process_group_says_what_to_do(order):
    with pytest.raises(LoaderError, match="init_process_group"):
        order(fake_loader(np.arange(4), distributed=True)).sample_order(0)


@pytest.mark.parametrize("order", ORDERS)
def test_orders_of_imagenets_size(order, world):
    world(5, 8)
    count = 1_281_167
    loader = fake_loader(np.arange(count), np.arange(count) // 40, seed=1, distributed=True)
    drawn = order(loader).sample_order(0)
    assert len(np.unique(drawn)) == len(drawn) and abs(len(drawn) - count / 8) < 1


def test_an_order_of_ones_own_needs_only_sample_order():
    class Backwards(TraversalOrder):
        def sample_order(self, epoch):
            return self.indices[::-1]

    order = Backwards(fake_loader([1, 2, 3], seed=8))
    assert order.sample_order(0).tolist() == [3, 2, 1] and order.seed == 8 and not order.distributed
