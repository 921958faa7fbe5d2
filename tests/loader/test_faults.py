"""The loader under fault: errors reach the consumer, whatever breaks off leaves nothing behind, neighbours live on."""

import gc
import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from ffx.errors import LoaderError
from ffx.fields import IntField, RGBImageField
from ffx.kernels import tasks
from ffx.loader import OrderOption
from ffx.writer import DatasetWriter
from tests.loader.helpers import epoch_of, everything, load, random_pipelines
from tests.pictures import make_picture

ROOT = Path(__file__).resolve().parents[2]
SECONDS_TO_ERROR = 5
LINUX = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")


def error_within_seconds(loader):
    """The error that iterating raises, which must come within the time that is promised."""
    start = time.monotonic()
    with pytest.raises(LoaderError) as caught:
        list(loader)
    assert time.monotonic() - start < SECONDS_TO_ERROR
    return caught.value


def open_files():
    return len(os.listdir("/proc/self/fd"))


def own_memory():
    """Anonymous memory of this process in bytes."""
    gc.collect()
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))


def mappings(path):
    return Path("/proc/self/maps").read_text().count(str(path))


@pytest.mark.usefixtures("no_threads_left")
def test_error_of_a_torch_module_names_operation_and_samples(raw_file):
    class Broken(torch.nn.Module):
        def forward(self, images):
            raise RuntimeError("no such luck")

    pipelines = random_pipelines()
    pipelines["image"].append(Broken())
    error = error_within_seconds(load(raw_file, pipelines=pipelines))
    assert "no such luck" in str(error) and "samples 0, 1, 2, 3" in str(error) and "'image'" in str(error)
    assert isinstance(error.__cause__, RuntimeError)


@pytest.mark.usefixtures("no_threads_left")
def test_error_of_a_thread_that_reads_pages_reaches_the_consumer(raw_file, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    loader = load(raw_file, pipelines=random_pipelines(), os_cache=False)
    monkeypatch.setattr("os.preadv", fail)
    error = error_within_seconds(loader)
    assert "Input/output error" in str(error) and str(raw_file) in str(error)


@pytest.mark.usefixtures("no_threads_left")
def test_error_of_a_worker_thread_reaches_the_consumer(raw_file, monkeypatch):
    def fail(*_):
        raise RuntimeError("a worker that cannot go on")

    loader = load(raw_file, pipelines=random_pipelines())
    monkeypatch.setattr(tasks, "work", fail)
    error = error_within_seconds(loader)
    assert "a worker that cannot go on" in str(error)


@pytest.mark.usefixtures("no_threads_left")
@pytest.mark.parametrize("place", ["schedule_epoch", "start_batch"])
def test_error_of_the_feeder_reaches_the_consumer(raw_file, monkeypatch, place):
    loader = load(raw_file, pipelines=random_pipelines())
    if place == "schedule_epoch":
        monkeypatch.setattr(loader.memory_manager, "schedule_epoch", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            iter(loader)
        return
    context = type(loader.memory_manager.schedule_epoch([]))
    monkeypatch.setattr(context, "start_batch", lambda self, batch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        list(loader)


@pytest.mark.usefixtures("no_threads_left")
def test_error_in_the_consumer_ends_the_epoch(mixed_file):
    loader = load(mixed_file, batch_size=4, pipelines=random_pipelines())

    def consume():
        for _ in loader:
            raise ValueError("in the loop")

    for _ in range(3):
        with pytest.raises(ValueError, match="in the loop"):
            consume()
    assert len(everything(loader)[0]) == 60


@pytest.mark.usefixtures("no_threads_left")
def test_loader_is_of_use_after_an_error(raw_file, monkeypatch):
    loader = load(raw_file, pipelines=random_pipelines(), order=OrderOption.RANDOM)
    with monkeypatch.context() as patch:
        patch.setattr("ffx.loader.tail.Tail.results", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            list(loader)
    fresh = load(raw_file, pipelines=random_pipelines(), order=OrderOption.RANDOM)
    fresh.next_epoch = 1
    for mine, expected in zip(everything(loader), everything(fresh), strict=True):
        np.testing.assert_array_equal(mine, expected)


@LINUX
@pytest.mark.usefixtures("no_threads_left")
@pytest.mark.parametrize("os_cache", [True, False])
@pytest.mark.parametrize("name", ["ffx-worker-1", "ffx-feeder", "ffx-finisher"])
def test_threads_that_cannot_be_started_leave_nothing(mixed_file, monkeypatch, name, os_cache):
    loader = load(mixed_file, pipelines=random_pipelines(), os_cache=os_cache, num_workers=2)
    list(loader)
    gc.collect()  # what earlier tests left would be collected, and counted, at any moment below
    files, maps = open_files(), mappings(mixed_file)
    start = threading.Thread.start

    def fail(thread):
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        for _ in range(3):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                iter(loader)
    assert open_files() == files and mappings(mixed_file) == maps
    assert len(everything(loader)[0]) == 60


@LINUX
@pytest.mark.usefixtures("no_threads_left")
@pytest.mark.parametrize("os_cache", [True, False])
@pytest.mark.parametrize("epochs", [60, pytest.param(1000, marks=pytest.mark.slow)])
def test_epochs_that_are_broken_off_leave_nothing(mixed_file, epochs, os_cache):
    loader = load(mixed_file, batch_size=4, pipelines=random_pipelines(), os_cache=os_cache)
    ways = [
        lambda: next(iter(loader)),
        lambda: list(itertools.islice(loader, 2)),
        lambda: iter(loader).close(),
        lambda: iter(loader),
    ]
    for number in range(12):
        ways[number % 4]()
    memory, files, maps = own_memory(), open_files(), mappings(mixed_file)
    for number in range(epochs):
        ways[number % 4]()
    assert own_memory() - memory < 5 << 20
    assert open_files() == files and mappings(mixed_file) == maps
    loader.close()


BREAK_OFF = """
import sys
from ffx.fields.decoders import SimpleRGBImageDecoder
from tests.loader.helpers import load
pipelines = {"image": [SimpleRGBImageDecoder()]}
loader = load(sys.argv[1], batch_size=4, pipelines=pipelines, os_cache=False, verify="always")
for _ in range(60):
    iter(loader).close()
"""


def test_pages_are_kept_until_nobody_reads_them(tmp_path):
    """Large pictures: workers are in their midst when the epoch is broken off. A mistake here ends the process."""
    path = tmp_path / "large.beton"
    pictures = [(make_picture(800, 800, number), number) for number in range(24)]
    fields = {"image": RGBImageField("raw"), "label": IntField()}
    DatasetWriter(str(path), fields, num_workers=1, progress=False).from_indexed_dataset(pictures)
    outcome = subprocess.run(
        [sys.executable, "-c", BREAK_OFF, str(path)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr


CUT_SHORT = """
import os, sys
from ffx.errors import LoaderError
from tests.loader.helpers import load, random_pipelines
loader = load(sys.argv[1], batch_size=4, pipelines=random_pipelines(), os_cache=sys.argv[2] == "mapped")
if sys.argv[3] == "in mid-epoch":
    iterator = iter(loader)
    next(iterator)
os.truncate(sys.argv[1], 0)
try:
    list(iterator if sys.argv[3] == "in mid-epoch" else loader)
except LoaderError as error:
    assert "was shortened while it was read" in str(error), error
    print("told")
"""


@pytest.mark.parametrize("storage", ["mapped", "read"])
@pytest.mark.parametrize("moment", ["before the epoch", "in mid-epoch"])
def test_file_that_is_cut_short_is_an_error_and_no_death(mixed_file, tmp_path, storage, moment):
    path = tmp_path / "cut.beton"
    path.write_bytes(mixed_file.read_bytes())
    outcome = subprocess.run(
        [sys.executable, "-c", CUT_SHORT, str(path), storage, moment], cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    if moment == "before the epoch":
        assert outcome.returncode == 0 and outcome.stdout == "told\n", outcome.stderr
    else:
        # Batches that were under way may have been reading: docs/guarantees.md says so.
        assert outcome.stdout == "told\n" or outcome.returncode == -signal.SIGBUS


@LINUX
@pytest.mark.usefixtures("no_threads_left")
def test_loaders_that_are_forgotten_leave_nothing(mixed_file):
    def use():
        loader = load(mixed_file, batch_size=4, pipelines=random_pipelines())
        next(iter(loader))

    for _ in range(5):
        use()
    memory, files = own_memory(), open_files()
    for _ in range(30):
        use()
    assert own_memory() - memory < 5 << 20
    assert open_files() == files and mappings(mixed_file) == 0


@pytest.mark.usefixtures("no_threads_left")
@pytest.mark.parametrize("file", ["raw_file", "mixed_file"])
@pytest.mark.parametrize("os_cache", [True, False])
def test_one_two_and_sixteen_workers_agree_beside_another_loader(request, file, os_cache):
    path = request.getfixturevalue(file)
    arguments = {"order": OrderOption.RANDOM, "os_cache": os_cache, "pipelines": random_pipelines()}
    expected = everything(load(path, num_workers=1, **arguments))
    for workers in (1, 2, 16):
        stop = threading.Event()

        def run_beside(stop=stop):
            other = load(path, num_workers=2, seed=11, pipelines=random_pipelines())
            while not stop.is_set():
                for _ in other:
                    if stop.is_set():
                        break

        beside = threading.Thread(target=run_beside)
        beside.start()
        try:
            found = everything(load(path, num_workers=workers, **arguments))
        finally:
            stop.set()
            beside.join()
        for mine, other in zip(found, expected, strict=True):
            np.testing.assert_array_equal(mine, other)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_any_kind_read_beside_a_loader_that_runs(mixed_file, method):
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"needs {method}")
    expected = epoch_of(str(mixed_file))
    loader = load(mixed_file, batch_size=4, pipelines=random_pipelines())
    iterator = iter(loader)
    first = next(iterator)
    with multiprocessing.get_context(method).Pool(2) as pool:
        outcomes = pool.map_async(epoch_of, [str(mixed_file)] * 2).get(timeout=120)
    rest = [batch[0].numpy() for batch in iterator]
    assert outcomes == [expected, expected]
    assert len(first[0]) + sum(map(len, rest)) == 60


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_torch_dataloader_with_processes_runs_beside_it(mixed_file):
    numbers = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.arange(60)), batch_size=8, num_workers=2, timeout=60
    )
    loader = load(mixed_file, pipelines=random_pipelines())
    for _ in range(2):
        pairs = list(zip(loader, numbers, strict=True))
        assert torch.equal(torch.cat([other[0] for _, other in pairs]), torch.arange(60))
        np.testing.assert_array_equal(np.concatenate([labels.numpy() for (_, labels), _ in pairs]), np.arange(60) % 4)


SCRIPT = """
import sys
from tests.loader.helpers import load, random_pipelines
loader = load(sys.argv[1], batch_size=4, pipelines=random_pipelines())
try:
    while True:
        for batch in loader:
            print("batch", flush=True)
finally:
    print("finally", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_process_that_iterates(mixed_file, number):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(mixed_file)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        for _ in range(20):
            assert process.stdout.readline() == "batch\n"
        process.send_signal(number)
        start = time.monotonic()
        output, errors = process.communicate(timeout=30)
        assert time.monotonic() - start < SECONDS_TO_ERROR
    finally:
        process.kill()
        process.wait()
    # Python itself ends so after a KeyboardInterrupt that nobody catches.
    assert process.returncode == -number
    assert number != signal.SIGINT or (output.endswith("finally\n") and "KeyboardInterrupt" in errors)


def test_interpreter_ends_in_mid_epoch_without_a_word(mixed_file):
    script = "import sys\nfrom tests.loader.helpers import load, random_pipelines\n"
    script += "iterator = iter(load(sys.argv[1], batch_size=4, pipelines=random_pipelines()))\nnext(iterator)\n"
    outcome = subprocess.run(
        [sys.executable, "-c", script, str(mixed_file)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert outcome.returncode == 0 and outcome.stderr == ""
