"""Processes of a machine share what is fetched, and outlive each other."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from ffx.loader import OrderOption
from ffx.remote.blocks import Blocks
from tests.loader.helpers import everything, load, random_pipelines
from tests.remote.processes import epoch_bytes, iterate, run_epoch

SECONDS = 240


def local_epoch(path) -> bytes:
    with load(path, order=OrderOption.RANDOM, pipelines=random_pipelines()) as loader:
        return b"".join(part.tobytes() for part in everything(loader))


def wait_until(condition):
    latest = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < latest, "it takes too long"
        time.sleep(0.02)


def start(method, count, address, options, folder):
    """Processes that load an epoch, all of which have begun."""
    folder.mkdir()
    context = multiprocessing.get_context(method)
    processes = [context.Process(target=run_epoch, args=(address, options, folder)) for _ in range(count)]
    for process in processes:
        process.start()
    wait_until(lambda: len(list(folder.glob("*.started"))) == count)
    return processes


def results_of(processes, folder):
    """For each process the bytes of its epoch, and how many it fetched."""
    for process in processes:
        process.join(SECONDS)
    found = [(folder / f"{process.pid}.done").read_bytes() for process in processes]
    return [(data[8:], int.from_bytes(data[:8], "little")) for data in found]


def fetching(options) -> set[int]:
    """The processes that have claimed blocks, by what their leases say."""
    found = set()
    for path in options.cache_dir.glob("*/lease-*"):
        # A lease may go at any time.
        with contextlib.suppress(FileNotFoundError):
            if any(mark & 2 for mark in path.read_bytes()):
                found.add(int(path.name.split("-")[1]))
    return found


def assert_one_good_copy(remote, pages_file):
    """Whatever counts as being there is what the file has there."""
    data, copy = pages_file.read_bytes(), remote.path.read_bytes()
    assert len(copy) == len(data)
    blocks: Blocks = remote.blocks
    assert remote.block_map.present.all()
    for first, stop in zip(blocks.starts.tolist(), blocks.stops.tolist(), strict=True):
        assert copy[first:stop] == data[first:stop]
    folders = [path for path in remote.path.parent.parent.iterdir() if path.is_dir()]
    assert folders == [remote.path.parent]


def test_processes_that_start_together_fetch_each_byte_once(server, options, pages_file, tmp_path):
    processes = start("spawn", 3, server.url("train.beton"), options, tmp_path / "results")
    found = results_of(processes, tmp_path / "results")
    expected = local_epoch(pages_file)
    assert all(epoch == expected for epoch, _ in found)
    assert sum(fetched for _, fetched in found) == server.bytes_asked
    assert server.bytes_asked <= pages_file.stat().st_size + (2 << 20)


@pytest.mark.slow
def test_of_eight_processes_four_are_killed_and_one_good_copy_is_left(server, options, pages_file, tmp_path):
    server.delay_seconds = 1.0
    patient = dataclasses.replace(options, requests=2, timeout_seconds=20.0)
    processes = start("forkserver", 8, server.url("train.beton"), patient, tmp_path / "results")
    killed: set[int] = set()
    for _ in range(4):
        # Each time one that fetches.
        wait_until(lambda: fetching(options) - killed)
        chosen = min(fetching(options) - killed)
        os.kill(chosen, signal.SIGKILL)
        killed.add(chosen)
    expected = local_epoch(pages_file)
    living = [process for process in processes if process.pid not in killed]
    assert len(living) == 4
    assert all(epoch == expected for epoch, _ in results_of(living, tmp_path / "results"))
    with load(server.url("train.beton"), pipelines=random_pipelines(), remote=options) as loader:
        everything(loader)
        assert loader.reader.remote.fetched.bytes == 0
        assert_one_good_copy(loader.reader.remote, pages_file)
        leases = list(loader.reader.remote.path.parent.glob("lease-*"))
    # That of this loader alone.
    assert len(leases) == 1, "what the dead held is still there"


@pytest.mark.long("kills")
def test_a_process_killed_while_it_fetches_holds_nobody_up(server, options, pages_file, tmp_path):
    server.delay_seconds = 2.0
    slow = dataclasses.replace(options, requests=1, timeout_seconds=20.0)
    (process,) = start("forkserver", 1, server.url("train.beton"), slow, tmp_path / "results")
    wait_until(lambda: fetching(options))
    os.kill(process.pid, signal.SIGKILL)
    server.delay_seconds = 0.0
    assert epoch_bytes(server.url("train.beton"), options)[0] == local_epoch(pages_file)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_process_goes_on_with_its_parents_loader(server, options, pages_file):
    with load(server.url("train.beton"), order=OrderOption.RANDOM, pipelines=random_pipelines(), remote=options) as one:
        batches = iter(one)
        next(batches)
        batches.close()
        one.next_epoch = 0
        context = multiprocessing.get_context("fork")
        results = context.Queue()
        process = context.Process(target=iterate, args=(one, results))
        process.start()
        found = results.get(timeout=SECONDS)
        process.join(SECONDS)
        assert found == local_epoch(pages_file)
        one.next_epoch = 0
        np.testing.assert_array_equal(b"".join(part.tobytes() for part in everything(one)), found)


def test_epochs_that_are_left_leave_nothing_behind(server, options):
    def leases():
        return len(list(loader.reader.remote.path.parent.glob("lease-*")))

    with load(server.url("train.beton"), pipelines=random_pipelines(), remote=options) as loader:
        for _ in range(3):
            for _ in loader:
                break
            loader.next_epoch = 0
        everything(loader)
        assert leases() == 1
        # The connections of the pool stay open, and here the server's ends of them.
        files = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            for _ in loader:
                break
        assert leases() == 1
        # How many of them there are is a matter of chance.
        assert len(os.listdir("/proc/self/fd")) < files + 10
