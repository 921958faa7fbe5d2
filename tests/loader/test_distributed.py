"""Two ranks share a file: every sample exactly once, and the batches that one process would make."""

import multiprocessing
import socket

import numpy as np
import pytest

from ffx.loader import Loader, OrderOption
from tests.loader.helpers import random_pipelines, run_rank

WORLD = 2


def run_ranks(path, order, drop_last):
    """The outcome of each rank: `(rank, batches, order, epoch)`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    ranks = [
        context.Process(target=run_rank, args=(rank, WORLD, port, str(path), order, drop_last, results))
        for rank in range(WORLD)
    ]
    for process in ranks:
        process.start()
    outcomes = sorted((results.get(timeout=120) for _ in ranks), key=lambda outcome: outcome[0])
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    return outcomes


@pytest.mark.parametrize(
    "order, drop_last", [(OrderOption.RANDOM, True), (OrderOption.SEQUENTIAL, False), (OrderOption.QUASI_RANDOM, False)]
)
def test_ranks_share_every_sample_once(mixed_file, order, drop_last):
    outcomes = run_ranks(mixed_file, order, drop_last)
    samples = np.concatenate([order for _, _, order, _ in outcomes])
    assert sorted(samples.tolist()) == list(range(60))
    assert len({batches for _, batches, _, _ in outcomes}) == 1
    assert sum(len(label) for outcome in outcomes for _, label in outcome[3]) == (56 if drop_last else 60)
    if order is OrderOption.QUASI_RANDOM:
        return
    alone = Loader(str(mixed_file), 14, 2, order=order, seed=5, drop_last=drop_last, pipelines=random_pipelines())
    for number, (image, label) in enumerate(alone):
        parts = [outcome[3][number] for outcome in outcomes]
        # Rank r has every second sample of the batch that one process makes.
        for rank, (rank_image, rank_label) in enumerate(parts):
            np.testing.assert_array_equal(rank_image, image.numpy()[rank::WORLD])
            np.testing.assert_array_equal(rank_label, label.numpy()[rank::WORLD])


def test_distributed_without_a_process_group_says_so(raw_file):
    loader = Loader(str(raw_file), 4, distributed=True, seed=1, pipelines={"image": None}, drop_last=False)
    with pytest.raises(Exception, match="process group"):
        next(iter(loader))
