"""The simulated pool: the same for the same seed, near the document's shares, and true to its own schedule."""

import random
from dataclasses import replace

import numpy as np
import pytest
from osg.accounting import account_of
from osg.events import read_logs
from osg.pool import FILE_GB, WAYS, Plan, Pool, Times, Way, make_plans, play

pytest.importorskip("htcondor2", reason="HTCondor's bindings read the logs: pip install htcondor")

HOUR = 3600
TIMES = {-1: Times(start=15, save=4)}


def played(pool, way, folder, seed=3):
    path = folder / f"{way.by_range}-{way.checkpoint_minutes:g}.log"
    met = play(make_plans(pool, seed), pool, way, TIMES, path)
    return account_of(read_logs([path])), met


@pytest.fixture(scope="module")
def accounts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pool")
    return {name: played(Pool(), way, folder)[0] for name, way in WAYS.items()}


def test_same_seed_gives_the_same_log_and_another_one_does_not(tmp_path):
    logs = []
    for number, seed in enumerate((3, 3, 4)):
        # Nothing else decides.
        np.random.seed(number)
        random.seed(number)
        play(make_plans(Pool(), seed), Pool(), WAYS["archive"], TIMES, tmp_path / str(number))
        logs.append((tmp_path / str(number)).read_text())
    assert logs[0] == logs[1] != logs[2]


def test_every_way_has_the_documents_jobs(accounts):
    for account in accounts.values():
        assert (account.jobs, account.successes, account.held, account.wrong, account.others) == (100, 79, 18, 3, 0)


def test_documents_way_comes_near_the_documents_shares(tmp_path):
    found = [played(Pool(), WAYS["archive"], tmp_path, seed)[0] for seed in range(8)]
    # Its table: 44.0 % retried transfers, 46.4 % computing, 2.4 % preemption; 686 hours; mean 8.6 h, median 4.9 h.
    assert np.mean([account.retried / account.total for account in found]) == pytest.approx(0.44, abs=0.08)
    assert np.mean([account.compute / account.total for account in found]) == pytest.approx(0.464, abs=0.08)
    assert np.mean([account.total for account in found]) == pytest.approx(686, rel=0.15)
    assert np.mean([account.mean for account in found]) == pytest.approx(8.6, rel=0.15)
    assert np.mean([account.median for account in found]) == pytest.approx(4.9, rel=0.25)
    lost = [(account.preempted_compute + account.preempted_transfer) / account.total for account in found]
    assert 0.01 < np.mean(lost) < 0.06


def test_checkpoints_save_compute_and_ranges_save_transfers(accounts):
    document, kept, ranges, both = (accounts[name] for name in WAYS)
    assert kept.preempted_compute < 0.1 * document.preempted_compute
    assert ranges.retried == both.retried == 0
    assert both.preempted_compute < 0.1 * ranges.preempted_compute
    assert both.total < ranges.total < kept.total < document.total


PLAN = Plan(
    number=0,
    end="success",
    matched=HOUR,
    compute=4 * HOUR,
    bytes_a_second=137e9 / HOUR,
    stalls=np.array([50.0, 1000.0, 1000.0, 1000.0]),
    waits=np.full(4, 2.0 * HOUR),
    evictions=[(2.5 * HOUR, False), (100.0 * HOUR, False)],
    rests=np.full(4, 600.0),
)


def one(way, folder, **changes):
    pool = replace(Pool(), jobs=1, held=0, wrong=0)
    met = play([replace(PLAN, **changes)], pool, way, {-1: Times(start=0, save=0)}, folder / "log")
    (job,) = read_logs([folder / "log"])
    return job, account_of([job]), met[0]


def test_archive_is_fetched_anew_and_computing_begins_anew(tmp_path):
    job, account, met = one(Way(), tmp_path)
    assert [attempt.end for attempt in job.attempts] == ["lost", "evicted", "terminated"]
    # 50 of 137 GB, then two hours until it is given up.
    assert account.retried == pytest.approx(50 / 137 + 2, abs=1e-3)
    assert (account.preempted_compute, account.preempted_transfer) == (2.5, 1.0)
    assert account.compute == 4.0
    assert [eviction.share for eviction in met] == [2.5 / 4]


def test_checkpoint_of_a_signal_keeps_all_that_was_computed(tmp_path):
    _, account, _ = one(Way(checkpoint_minutes=30), tmp_path)
    # While a checkpoint travels, for half a minute, nothing is computed.
    assert account.preempted_compute == pytest.approx(0, abs=0.001)
    assert account.compute == pytest.approx(4, abs=0.001)


def test_without_a_warning_what_follows_the_newest_checkpoint_is_lost(tmp_path):
    evictions = [(2.25 * HOUR, True), (100.0 * HOUR, False)]
    _, account, met = one(Way(checkpoint_minutes=30), tmp_path, evictions=evictions)
    # Four checkpoints in two hours and two minutes.
    assert account.preempted_compute == pytest.approx(0.25 - 4 * 30 / HOUR, abs=0.01)
    assert account.compute == pytest.approx(4, abs=0.001)
    assert met[0].hard


def test_ranges_wait_for_stalls_and_slow_sites_alone(tmp_path):
    plain = one(Way(by_range=True), tmp_path, evictions=[(100.0 * HOUR, False)])[1]
    # A stall at 50 GB of the file's, and half a minute until the range is asked for again.
    assert plain.compute == pytest.approx(4 + 30 / HOUR, abs=0.001)
    assert plain.retried == 0
    slow = one(Way(by_range=True), tmp_path, evictions=[(100.0 * HOUR, False)], bytes_a_second=FILE_GB * 1e9 / HOUR)[1]
    # An hour for an epoch of 48 minutes.
    assert slow.compute == pytest.approx(4.2 + 30 / HOUR, abs=0.001)


@pytest.mark.parametrize("end, count", [("held", "held"), ("wrong", "wrong")])
def test_held_and_wrong_jobs_end_as_planned(end, count, tmp_path):
    for way in WAYS.values():
        _, account, _ = one(way, tmp_path, end=end)
        assert getattr(account, count) == 1
        assert account.successes == 0
    assert one(Way(), tmp_path, end="wrong")[1].wrong_compute == pytest.approx(0.2, abs=0.001)
