"""Processes of a machine share what is fetched, and outlive each other."""

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


def start(context, count, address, options):
    started, results = context.Queue(), context.Queue()
    processes = [context.Process(target=run_epoch, args=(address, options, started, results)) for _ in range(count)]
    for process in processes:
        process.start()
    for _ in processes:
        started.get(timeout=SECONDS)
    return processes, results


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


def test_processes_that_start_together_fetch_each_byte_once(server, options, pages_file):
    context = multiprocessing.get_context("spawn")
    processes, results = start(context, 3, server.url("train.beton"), options)
    found = [results.get(timeout=SECONDS) for _ in processes]
    for process in processes:
        process.join(SECONDS)
    expected = local_epoch(pages_file)
    assert all(epoch == expected for _, epoch, _ in found)
    assert sum(fetched for _, _, fetched in found) == server.bytes_asked
    assert server.bytes_asked <= pages_file.stat().st_size + (2 << 20)


@pytest.mark.slow
def test_of_eight_processes_four_are_killed_and_one_good_copy_is_left(server, options, pages_file):
    server.delay_seconds = 0.3
    patient = dataclasses.replace(options, requests=2, timeout_seconds=20.0)
    context = multiprocessing.get_context("forkserver")
    processes, results = start(context, 8, server.url("train.beton"), patient)
    latest = time.monotonic() + SECONDS
    # Kill them while they fetch, not while they import.
    while len(server.ranges) < 4 and time.monotonic() < latest:
        time.sleep(0.02)
    for process in processes[:4]:
        time.sleep(0.15)
        os.kill(process.pid, signal.SIGKILL)
    expected = local_epoch(pages_file)
    living = {process.pid for process in processes[4:]}
    while living:
        process, epoch, _ = results.get(timeout=SECONDS)
        assert epoch == expected
        living.discard(process)
    for process in processes:
        process.join(SECONDS)
    with load(server.url("train.beton"), pipelines=random_pipelines(), remote=options) as loader:
        everything(loader)
        assert_one_good_copy(loader.reader.remote, pages_file)
        leases = list(loader.reader.remote.path.parent.glob("lease-*"))
    assert len(leases) <= 2, "what the dead held is still there"


def test_a_process_killed_while_it_fetches_holds_nobody_up(server, options, pages_file):
    server.delay_seconds = 1.0
    slow = dataclasses.replace(options, requests=1, timeout_seconds=20.0)
    context = multiprocessing.get_context("forkserver")
    processes, _ = start(context, 1, server.url("train.beton"), slow)
    latest = time.monotonic() + SECONDS
    while len(server.ranges) < 4 and time.monotonic() < latest:
        time.sleep(0.02)
    os.kill(processes[0].pid, signal.SIGKILL)
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
        files = len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            for _ in loader:
                break
            loader.next_epoch = 0
        everything(loader)
        assert leases() == 1
        # Connections of the pool stay open.
        assert len(os.listdir("/proc/self/fd")) <= files + options.requests
