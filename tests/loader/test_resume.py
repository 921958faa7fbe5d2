"""A loader goes on where another one was: in any process, with any number of ranks, with the same random numbers."""

import itertools
import json
import multiprocessing

import numpy as np
import pytest
import torch

from ffx.errors import LoaderError
from ffx.fields.decoders import CenterCropRGBImageDecoder, IntDecoder
from ffx.loader import Loader, OrderOption
from ffx.transforms import ImageMixup, ToTensor
from ffx.traversal_order import Random, TraversalOrder
from tests.loader.helpers import SIZE, everything, load, random_pipelines, state_after

ORDERS = list(OrderOption)
SAMPLES = 60


@pytest.fixture
def as_rank(monkeypatch):
    """Makes this process take part as a rank of so many."""

    def become(rank, world):
        for module in ("ffx.traversal_order.base", "ffx.loader.loader"):
            monkeypatch.setattr(f"{module}.rank_and_world", lambda: (rank, world))
        monkeypatch.setattr("ffx.loader.loader._world_size", lambda: world)

    return become


def numbered(path, **arguments):
    """A loader whose images tell what was drawn, and whose second output is the sample's index."""
    return load(path, **{"batch_size": 7, "pipelines": random_pipelines(), **arguments})


def rows(batches):
    """Every sample of some batches as bytes, so that they can be compared as sets."""
    return [(image.numpy().tobytes(), int(label)) for images, labels in batches for image, label in zip(images, labels)]


@pytest.mark.filterwarnings("ignore:.*drop_last=True leaves the last")
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("taken", [0, 1, 5, 8])
def test_rest_of_the_epoch_is_that_of_the_undisturbed_run(mixed_file, order, drop_last, taken):
    arguments = {"order": order, "drop_last": drop_last}
    whole = numbered(mixed_file, **arguments)
    list(whole)
    second, third = rows(whole), rows(whole)
    broken = numbered(mixed_file, **arguments)
    list(broken)
    done = rows(itertools.islice(broken, taken))
    state = json.loads(json.dumps(broken.state_dict()))
    resumed = numbered(mixed_file, num_workers=1, seed=99, **arguments)
    resumed.load_state_dict(state)
    assert resumed.state_dict() == state
    # An iterator of which nothing was taken has not begun either.
    assert done + rows(resumed) == second if taken else rows(resumed) == second
    assert rows(resumed) == third


def test_state_in_a_loop_counts_the_batch_that_the_loop_is_at(mixed_file):
    loader = numbered(mixed_file)
    for number, _ in enumerate(loader):
        assert loader.state_dict()["legs"] == [[1, 7 * (number + 1)]]
        assert loader.state_dict()["epoch"] == 0
    assert (loader.state_dict()["epoch"], loader.state_dict()["legs"]) == (1, [])


def test_behind_the_last_batch_nothing_is_left_of_the_epoch(mixed_file):
    loader = numbered(mixed_file)
    for batch in loader:
        last, state = batch, loader.state_dict()
    resumed = numbered(mixed_file)
    resumed.load_state_dict(state)
    assert len(last[0]) == 4 and list(resumed) == []
    assert rows(resumed) == rows(loader)


def test_loader_that_goes_on_can_be_broken_off_again(mixed_file):
    whole = rows(numbered(mixed_file, order=OrderOption.RANDOM))
    found, state = [], None
    while len(found) < len(whole):
        loader = numbered(mixed_file, order=OrderOption.RANDOM)
        if state is not None:
            loader.load_state_dict(state)
        found += rows(itertools.islice(loader, 2))
        state = loader.state_dict()
    assert found == whole


def test_batch_size_may_be_another_one(mixed_file):
    whole = rows(numbered(mixed_file, order=OrderOption.RANDOM))
    loader = numbered(mixed_file, order=OrderOption.RANDOM)
    found = rows(itertools.islice(loader, 3))
    other = numbered(mixed_file, order=OrderOption.RANDOM, batch_size=5)
    other.load_state_dict(loader.state_dict())
    assert found + rows(other) == whole


@pytest.mark.parametrize("indices", [None, [*range(30), *range(30), 5, 5]])
@pytest.mark.parametrize("order", ORDERS)
def test_ranks_may_become_more_and_fewer_in_mid_epoch(mixed_file, as_rank, order, indices):
    """2 ranks, then 1, then 4: each sample once, and with the crop that it has in a run that nothing disturbs."""
    arguments = {"order": order, "indices": indices, "batch_size": 3}
    # Of the undisturbed run, by two ranks.
    expected = []
    for rank in range(2):
        as_rank(rank, 2)
        expected += rows(numbered(mixed_file, distributed=True, **arguments))
    found, state = [], None
    for world, taken in ((2, 3), (1, 5), (4, None)):
        states = []
        for rank in range(world):
            as_rank(rank, world)
            loader = numbered(mixed_file, distributed=True, **arguments)
            if state is not None:
                loader.load_state_dict(state)
            found += rows(itertools.islice(loader, taken))
            states.append(loader.state_dict())
        # Whichever rank keeps it: all have the same.
        if taken is not None:
            assert all(one == states[0] for one in states)
        state = states[0]
    assert sorted(found) == sorted(expected) and len(found) == len(indices or range(SAMPLES))


@pytest.mark.parametrize("world", [1, 2, 4])
def test_joint_order_goes_on_whatever_the_ranks_are(mixed_file, as_rank, world):
    """What all ranks take in one step, together, is what one process would take."""
    loader = numbered(mixed_file, order=OrderOption.RANDOM, batch_size=12)
    whole = rows(loader)
    first = numbered(mixed_file, order=OrderOption.RANDOM, batch_size=12)
    next(iter(first))
    state = first.state_dict()
    steps = []
    for rank in range(world):
        as_rank(rank, world)
        part = numbered(mixed_file, order=OrderOption.RANDOM, batch_size=12 // world, distributed=True)
        part.load_state_dict(state)
        steps.append([rows([batch]) for batch in part])
    joint = [row for step in zip(*steps, strict=True) for together in zip(*step, strict=True) for row in together]
    assert joint == whole[12:]


def test_ranks_make_equally_many_steps_after_going_on(mixed_file, as_rank):
    loader = numbered(mixed_file, order=OrderOption.QUASI_RANDOM, batch_size=7)
    list(itertools.islice(loader, 3))
    counts = set()
    for rank in range(4):
        as_rank(rank, 4)
        part = numbered(mixed_file, order=OrderOption.QUASI_RANDOM, batch_size=4, drop_last=True, distributed=True)
        part.load_state_dict(loader.state_dict())
        counts.add(len(list(part)))
    assert counts == {(SAMPLES - 21) // 4 // 4}


def test_mixed_batches_are_the_same_where_batches_are(mixed_file):
    pipelines = {
        "image": [CenterCropRGBImageDecoder(SIZE, 1.0), ImageMixup(0.5, True), ToTensor()],
        "label": [IntDecoder(), ToTensor()],
    }
    whole = everything(load(mixed_file, pipelines=pipelines))[0]
    loader = load(mixed_file, pipelines=pipelines)
    first = [batch[0].numpy().copy() for batch in itertools.islice(loader, 4)]
    resumed = load(mixed_file, pipelines=pipelines)
    resumed.load_state_dict(loader.state_dict())
    np.testing.assert_array_equal(np.concatenate([*first, everything(resumed)[0]]), whole)


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_another_process_goes_on(mixed_file, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"needs {method}")
    whole = rows(numbered(mixed_file, order=OrderOption.RANDOM))
    context = multiprocessing.get_context(method)
    with context.Pool(1) as pool:
        state, done = pool.apply(state_after, (str(mixed_file), 4))
    loader = numbered(mixed_file, order=OrderOption.RANDOM)
    loader.load_state_dict(state)
    assert done + rows(loader) == whole


def test_a_checkpoint_without_code_holds_a_state(mixed_file, tmp_path):
    loader = numbered(mixed_file)
    next(iter(loader))
    torch.save({"loader": loader.state_dict()}, tmp_path / "checkpoint.pt")
    assert torch.load(tmp_path / "checkpoint.pt", weights_only=True)["loader"] == loader.state_dict()


class Backwards(TraversalOrder):
    """Somebody's own order, for one rank."""

    def sample_order(self, epoch):
        return self.indices[::-1]


def test_an_order_of_ones_own_goes_on_with_as_many_ranks(mixed_file, as_rank):
    whole = rows(numbered(mixed_file, order=Backwards))
    loader = numbered(mixed_file, order=Backwards)
    done = rows(itertools.islice(loader, 2))
    resumed = numbered(mixed_file, order=Backwards)
    resumed.load_state_dict(loader.state_dict())
    assert done + rows(resumed) == whole
    as_rank(0, 2)
    elsewhere = numbered(mixed_file, order=Backwards, distributed=True)
    elsewhere.load_state_dict(loader.state_dict())
    with pytest.raises(LoaderError, match="only be gone on with by as many"):
        iter(elsewhere)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"version": 7}, "version 1, found 7"),
        ({"file": "x"}, "same file"),
        ({"order": "Random"}, "same order"),
        ({"epoch": -1}, "damaged"),
        ({"epoch": "one"}, "damaged"),
        ({"legs": [[0, 5]]}, "damaged"),
        ({"legs": [[1]]}, "damaged"),
        ({"legs": None}, "damaged"),
        ({"seed": None}, "damaged"),
        ({"seed": "7"}, "damaged"),
        ({"seed": 3.7}, "damaged"),
        ({"epoch": float("inf")}, "damaged"),
        ({"epoch": 2**70}, "damaged"),
        ({"legs": [[2**40, 1]]}, "damaged"),
    ],
)
def test_states_that_do_not_fit_are_refused_and_change_nothing(mixed_file, change, message):
    loader = numbered(mixed_file)
    state = loader.state_dict()
    with pytest.raises(LoaderError, match=message):
        loader.load_state_dict({**state, **change})
    assert loader.state_dict() == state


@pytest.mark.parametrize("state", [None, 3, "state", {}, []])
def test_what_is_no_state_is_refused(mixed_file, state):
    with pytest.raises(LoaderError, match="expected a loader's state"):
        numbered(mixed_file).load_state_dict(state)


def test_state_of_another_file_is_refused(mixed_file, raw_file):
    with pytest.raises(LoaderError, match="same file"):
        numbered(raw_file).load_state_dict(numbered(mixed_file).state_dict())
    with pytest.raises(LoaderError, match="same file"):
        numbered(raw_file, indices=range(59)).load_state_dict(numbered(raw_file).state_dict())


@pytest.mark.parametrize("order", [OrderOption.RANDOM, OrderOption.QUASI_RANDOM])
@pytest.mark.parametrize("indices", [None, [*range(40), *range(40)]])
def test_any_batch_can_be_made_again(mixed_file, order, indices):
    arguments = {"order": order, "indices": indices}
    loader = numbered(mixed_file, **arguments)
    list(loader)
    batches = [rows([batch]) for batch in loader]
    other = numbered(mixed_file, num_workers=1, **arguments)
    for step in (0, 3, len(batches) - 1):
        assert rows([other.replay(1, step)]) == batches[step]
        assert rows([loader.replay(1, step)]) == batches[step]
    # It has not gone on by that.
    assert other.state_dict()["epoch"] == 0 and rows(other) == rows(numbered(mixed_file, **arguments))


def test_replay_beside_an_epoch_leaves_it_alone(mixed_file):
    loader = numbered(mixed_file)
    found = []
    for number, batch in enumerate(loader):
        assert rows([loader.replay(0, number)]) == rows([batch])
        found += rows([batch])
    assert found == rows(numbered(mixed_file))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("epoch, step", [(0, 9), (0, -1), (-1, 0)])
def test_batches_that_are_none_cannot_be_made_again(mixed_file, order, epoch, step):
    with pytest.raises(LoaderError, match="step from 0 to 8"):
        numbered(mixed_file, order=order).replay(epoch, step)


def test_ranks_with_a_sample_more_or_less_say_the_same(mixed_file, as_rank):
    states = []
    for rank in range(2):
        as_rank(rank, 2)
        loader = numbered(mixed_file, indices=range(5), batch_size=3, distributed=True)
        next(iter(loader))
        states.append(loader.state_dict())
    assert states[0] == states[1]
    for rank in range(4):
        as_rank(rank, 4)
        loader = numbered(mixed_file, indices=range(5), batch_size=3, distributed=True)
        loader.load_state_dict(states[0])
        assert list(loader) == []


def test_another_mix_of_pages_is_another_order(mixed_file):
    arguments = {"order": OrderOption.QUASI_RANDOM}
    state = numbered(mixed_file, order_kwargs={"open_pages": 2}, **arguments).state_dict()
    with pytest.raises(
        LoaderError, match=r"same order \(QuasiRandom\(open_pages=8\)\), found QuasiRandom\(open_pages=2"
    ):
        numbered(mixed_file, order_kwargs={"open_pages": 8}, **arguments).load_state_dict(state)


def test_epoch_that_is_set_by_hand_is_begun_from_its_beginning(mixed_file):
    loader = numbered(mixed_file, order=OrderOption.RANDOM)
    next(iter(loader))
    resumed = numbered(mixed_file, order=OrderOption.RANDOM)
    resumed.load_state_dict(loader.state_dict())
    resumed.next_epoch = 2
    fresh = numbered(mixed_file, order=OrderOption.RANDOM)
    fresh.next_epoch = 2
    assert rows(resumed) == rows(fresh)


def test_random_order_is_still_a_class_of_its_own(mixed_file):
    loader = Loader(str(mixed_file), 7, order=Random, seed=3, pipelines=random_pipelines(), drop_last=False)
    assert rows(loader) == rows(numbered(mixed_file, order=OrderOption.RANDOM))
