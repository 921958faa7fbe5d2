"""Whatever goes wrong while writing: a typed error before long, the sample's index, and nothing left behind."""

import contextlib
import errno
import multiprocessing
import os
import pickle
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from ffx.errors import FfxError, SampleError, WriterError
from ffx.reader import Reader
from ffx.writer import DatasetWriter
from ffx.writer import output as writer_output
from ffx.writer.messages import Failed, raise_failure
from tests.writer.datasets import FEW_FIELDS, Misbehaving, Slow

OLD = b"what stood here before"
# It takes a fraction of a second; where a machine is busy, each process waits for its turn. What it must not is hang.
SECONDS = 30.0


@pytest.fixture
def target(tmp_path):
    """A path at which a file stands already."""
    path = tmp_path / "target.beton"
    path.write_bytes(OLD)
    return path


def fail(target, dataset, workers, fields=FEW_FIELDS, **options):
    """Write `dataset`, which cannot be written: the error, after checking what every failure must keep."""
    writer = DatasetWriter(target, fields, num_workers=workers, progress=False, **options)
    start = time.monotonic()
    with pytest.raises(FfxError) as caught:
        writer.from_indexed_dataset(dataset, chunksize=4)
    assert time.monotonic() - start < SECONDS
    assert target.read_bytes() == OLD
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    return caught.value


IN_ANY_PROCESS = {
    "raises": "sample 17: KeyError: 'no such picture'",
    "raises_what_cannot_be_pickled": "sample 17: Local: only here",
    "wrong_type": "sample 17: field 'data': expected bytes",
    "wrong_second_type": "sample 17: field 'label': expected an integer",
    "too_few": "sample 17: expected 2 values (data, label), found 1",
    "too_many": "sample 17: expected 2 values (data, label), found 3",
    "no_tuple": "sample 17: expected a tuple or a mapping of data, label; found int",
    "other_names": "sample 17: expected a mapping with the fields data, label; found ['class', 'data']",
    "leaves": "sample 17: SystemExit: 3",
}


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("how", IN_ANY_PROCESS)
def test_error_names_the_sample(target, how, workers):
    error = fail(target, Misbehaving(how), workers)
    assert isinstance(error, SampleError)
    assert IN_ANY_PROCESS[how] in str(error)
    assert error.index == 17
    assert pickle.loads(pickle.dumps(error)).index == 17


@pytest.mark.parametrize("workers", [1, 3])
def test_sample_larger_than_the_given_page(target, workers):
    error = fail(target, Misbehaving("too_large"), workers, page_size=2 << 20)
    assert "sample 17: its 3145728 bytes do not fit into a page of 2097152: give a larger page_size" in str(error)
    assert error.index == 17


def test_original_error_is_the_cause(target):
    for workers in (1, 2):
        cause = fail(target, Misbehaving("raises"), workers).__cause__
        assert isinstance(cause, KeyError)
        assert cause.args == ("no such picture",)
    # From another process it brings its traceback along.
    assert "in raises" in str(cause.__cause__)
    assert "class Local" not in str(cause.__cause__)


def test_error_that_cannot_be_pickled_brings_its_traceback(target):
    assert "raise Local" in str(fail(target, Misbehaving("raises_what_cannot_be_pickled"), 2).__cause__)


@pytest.mark.parametrize("how, words", [("is_killed", "was killed by SIGKILL"), ("leaves_at_once", "exit code 3")])
def test_worker_that_dies_is_noticed(target, how, words):
    error = fail(target, Misbehaving(how), 2)
    assert isinstance(error, SampleError)
    assert error.index == 17
    assert words in str(error)
    assert "sample 17" in str(error)


@pytest.mark.parametrize("where", [0, 39])
def test_first_and_last_sample(target, where):
    for workers in (1, 2):
        assert fail(target, Misbehaving("raises", where), workers).index == where


def test_keyboard_interrupt_is_raised_as_such(target):
    writer = DatasetWriter(target, FEW_FIELDS, num_workers=1, progress=False)
    with pytest.raises(KeyboardInterrupt):
        writer.from_indexed_dataset(Misbehaving("is_interrupted"))
    assert target.read_bytes() == OLD
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_dataset_that_cannot_be_sent(target):
    dataset = [(b"", index) for index in range(10)]
    dataset.append(lambda: None)
    error = fail(target, dataset, 2, start_method="spawn")
    assert "num_workers=1" in str(error)


def test_empty_dataset(target):
    assert "at least one sample" in str(fail(target, [], 2))


def test_length_that_lies(target):
    class Liar(list):
        def __len__(self):
            return 10

    error = fail(target, Liar([(b"", 1)]), 1)
    assert isinstance(error, SampleError)
    assert error.index == 1


# --- The file system ---


def test_folder_that_is_not_there(tmp_path):
    writer = DatasetWriter(tmp_path / "none" / "x.beton", FEW_FIELDS, num_workers=1, progress=False)
    with pytest.raises(WriterError, match="cannot write there"):
        writer.from_indexed_dataset([(b"", 1)])


def test_path_that_is_a_folder(tmp_path):
    writer = DatasetWriter(tmp_path, FEW_FIELDS, num_workers=1, progress=False)
    with pytest.raises(WriterError, match="found a folder"):
        writer.from_indexed_dataset([(b"", 1)])


def test_link_is_kept_and_its_target_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    link, real = tmp_path / "link.beton", tmp_path / "elsewhere" / "real.beton"
    real.write_bytes(OLD)
    link.symlink_to(real)
    DatasetWriter(link, FEW_FIELDS, num_workers=1, progress=False).from_indexed_dataset([(b"", 1)])
    assert link.is_symlink()
    assert Reader(real).num_samples == 1


def test_mode_follows_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        DatasetWriter(tmp_path / "x", FEW_FIELDS, num_workers=1, progress=False).from_indexed_dataset([(b"", 1)])
    finally:
        os.umask(old)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def failing(monkeypatch, name, when, failure):
    """Make the `when`-th call of `os.<name>` in the writer's output fail; counts the calls."""
    real, calls = getattr(os, name), []

    def call(*arguments, **options):
        calls.append(arguments)
        if len(calls) == when:
            return failure(real, *arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(writer_output.os, name, call)
    return calls


def no_space(real, *arguments):
    raise OSError(errno.ENOSPC, "No space left on device")


def broken(real, *arguments):
    raise OSError(errno.EIO, "Input/output error")


def nothing_written(real, *arguments):
    return 0


SAMPLES = [(bytes([index]) * 3000, index) for index in range(20)]


CALLS = [("pwritev", 1), ("pwritev", 2), ("pwritev", 3), ("fsync", 1), ("fsync", 2), ("replace", 1)]
FAILURES = [(name, when, how) for name, when in CALLS for how in (no_space, broken)]
FAILURES += [(name, when, nothing_written) for name, when in CALLS if name == "pwritev"]


@pytest.mark.parametrize("name, when, failure", FAILURES)
def test_call_that_fails_leaves_the_old_file(target, monkeypatch, name, when, failure):
    writer = DatasetWriter(target, FEW_FIELDS, num_workers=1, progress=False)
    with monkeypatch.context() as patch:
        failing(patch, name, when, failure)
        with pytest.raises(WriterError, match="writing failed") as caught:
            writer.from_indexed_dataset(SAMPLES)
    assert isinstance(caught.value.__cause__, OSError)
    assert target.read_bytes() == OLD
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_every_call_of_a_run_is_covered(target, monkeypatch):
    """With the test above: each write, fsync and rename of a run was made to fail."""
    counts = {}
    for name in ("pwritev", "fsync", "replace"):
        with monkeypatch.context() as patch:
            calls = failing(patch, name, 0, broken)
            DatasetWriter(target, FEW_FIELDS, num_workers=1, progress=False).from_indexed_dataset(SAMPLES)
            counts[name] = len(calls)
    assert {(name, when) for name in counts for when in range(1, counts[name] + 1)} == set(CALLS)


def test_failure_leaves_no_new_file_where_none_was(tmp_path, monkeypatch):
    for when in (1, 2):
        with monkeypatch.context() as patch:
            failing(patch, "fsync", when, broken)
            writer = DatasetWriter(tmp_path / "new.beton", FEW_FIELDS, num_workers=1, progress=False)
            with pytest.raises(WriterError):
                writer.from_indexed_dataset(SAMPLES)
        assert list(tmp_path.iterdir()) == []


def test_full_disk_in_a_worker(target, monkeypatch):
    with monkeypatch.context() as patch:
        failing(patch, "pwritev", 1, no_space)
        error = fail(target, SAMPLES, 2, start_method="fork")
    assert "No space left" in str(error)
    assert isinstance(error, WriterError)
    assert not isinstance(error, SampleError)


def test_any_write_of_any_process_may_fail(target, monkeypatch):
    """Every write of two workers and their parent, in the order in which they come, is made to fail once."""
    real, count = os.pwritev, multiprocessing.get_context("fork").Value("q", 0)
    chosen = [0]

    def call(*arguments):
        with count.get_lock():
            count.value += 1
            if count.value == chosen[0]:
                raise OSError(errno.EIO, "Input/output error")
        return real(*arguments)

    monkeypatch.setattr(writer_output.os, "pwritev", call)
    writer = DatasetWriter(target, FEW_FIELDS, num_workers=2, progress=False, start_method="fork")
    writer.from_indexed_dataset(SAMPLES, chunksize=3)
    writes, new = count.value, target.read_bytes()
    assert writes > 4
    target.write_bytes(OLD)
    for number in range(1, writes + 1):
        count.value, chosen[0] = 0, number
        start = time.monotonic()
        with pytest.raises(WriterError, match="Input/output error"):
            writer.from_indexed_dataset(SAMPLES, chunksize=3)
        assert time.monotonic() - start < SECONDS
        assert target.read_bytes() == OLD and [path.name for path in target.parent.iterdir()] == [target.name]
    chosen[0] = 0
    writer.from_indexed_dataset(SAMPLES, chunksize=3)
    assert target.read_bytes() == new


def test_short_writes_are_carried_on(tmp_path, monkeypatch, digest):
    path = tmp_path / "x.beton"
    DatasetWriter(path, FEW_FIELDS, num_workers=1, progress=False).from_indexed_dataset(SAMPLES)
    expected = digest(path)
    real = os.pwritev

    def few_bytes(descriptor, buffers, offset):
        return real(descriptor, [memoryview(buffers[0])[:777]], offset)

    monkeypatch.setattr(writer_output.os, "pwritev", few_bytes)
    DatasetWriter(path, FEW_FIELDS, num_workers=1, progress=False).from_indexed_dataset(SAMPLES)
    assert digest(path) == expected


def test_what_a_killed_writer_left_is_removed(tmp_path):
    stale = [tmp_path / f".x.beton.{name}.ffx-tmp" for name in ("0123456789ab", "ffffffffffff")]
    other = tmp_path / ".y.beton.0123456789ab.ffx-tmp"
    for path in (*stale, other):
        path.write_bytes(b"half")
    with writer_output.AtomicFile(tmp_path / "x.beton") as first:
        assert not any(path.exists() for path in stale)
        # A file that is being written is left alone.
        with writer_output.AtomicFile(tmp_path / "x.beton"):
            assert first.temporary.exists()
    assert other.exists()
    other.unlink()


# --- Signals ---


def write_slowly(folder, workers):
    """A writer's process, in a session of its own, as a terminal would start it."""
    os.setsid()
    # Whoever runs the tests in the background of a shell has Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with open(folder / "errors", "w", buffering=1) as errors:
        try:
            writer = DatasetWriter(folder / "out.beton", FEW_FIELDS, num_workers=workers, progress=False)
            writer.from_indexed_dataset(Slow(folder), chunksize=5)
        except BaseException as error:
            errors.write(f"{type(error).__name__}: {error}")


def alive(process_id):
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def running(tmp_path):
    """`running(workers)` starts a writer in another process; returns it and its workers' process ids, all at work."""
    if not os.path.isdir("/proc/self"):
        pytest.skip("needs /proc")
    started = []

    def run(workers):
        process = multiprocessing.get_context("fork").Process(target=write_slowly, args=(tmp_path, workers))
        process.start()
        started.append(process)
        deadline = time.monotonic() + 60
        while len(found := list(tmp_path.glob("worker-*"))) < workers:
            assert process.is_alive()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return process, [int(path.name.partition("-")[2]) for path in found]

    yield run
    for process in started:
        process.kill()
        process.join()
        process.close()
    for path in tmp_path.glob(".out.beton.*.ffx-tmp"):
        path.unlink()


def all_gone(process_ids):
    deadline = time.monotonic() + SECONDS
    while any(alive(number) for number in process_ids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_killed_parent_takes_its_workers_along(running, tmp_path):
    process, workers = running(2)
    process.kill()
    process.join()
    assert all_gone(workers)
    assert not (tmp_path / "out.beton").exists()


def test_killed_worker_ends_the_run(running, tmp_path):
    process, workers = running(2)
    os.kill(workers[0], signal.SIGKILL)
    process.join(SECONDS)
    assert process.exitcode == 0
    errors = (tmp_path / "errors").read_text()
    assert errors.startswith("SampleError: sample ")
    assert "was killed by SIGKILL" in errors
    assert all_gone(workers)
    assert not list(tmp_path.glob("*.beton")) + list(tmp_path.glob(".*"))


def test_ctrl_c_ends_the_run(running, tmp_path):
    process, workers = running(2)
    os.killpg(process.pid, signal.SIGINT)
    process.join(SECONDS)
    assert process.exitcode == 0
    assert (tmp_path / "errors").read_text().startswith("KeyboardInterrupt")
    assert all_gone(workers)
    assert not list(tmp_path.glob("*.beton")) + list(tmp_path.glob(".*"))


MOMENTS = [20, pytest.param(200, marks=pytest.mark.slow)]
SMALL = [(bytes(50_000), index) for index in range(300)]


def write_small(path):
    DatasetWriter(path, FEW_FIELDS, num_workers=2, progress=False).from_indexed_dataset(SMALL, chunksize=5)


@pytest.mark.parametrize("moments", MOMENTS)
@pytest.mark.long("kills")
def test_killed_at_any_moment_the_path_is_empty_or_complete(tmp_path, generator, moments):
    path = tmp_path / "out.beton"
    start = time.monotonic()
    write_small(path)
    longest = 1.2 * (time.monotonic() - start)
    path.unlink()
    for _ in range(moments):
        process = multiprocessing.get_context("fork").Process(target=write_small, args=(path,))
        process.start()
        time.sleep(generator.uniform(0, longest))
        process.kill()
        process.join()
        process.close()
        if path.exists():
            np.testing.assert_array_equal(Reader(path).metadata["f1"], np.arange(len(SMALL)))
            path.unlink()
    # Workers that have not yet noticed their parent's death keep its temporary file: give them the time.
    deadline = time.monotonic() + SECONDS
    while (left := [entry.name for entry in tmp_path.iterdir()]) != ["out.beton"] and time.monotonic() < deadline:
        write_small(path)
    assert left == ["out.beton"]


def write_and_tell(path):
    """As `write_small`; its error, if any, goes into a file beside it."""
    try:
        write_small(path)
    except BaseException as error:
        path.with_suffix(".error").write_text(f"{type(error).__name__}: {error}")


def children_of(process_id):
    try:
        tasks = list(Path(f"/proc/{process_id}/task").iterdir())
        return [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []


def shared_memory():
    """What is in shared memory but for locks: tests beside this one make some, a worker that is killed here none."""
    return {name for name in os.listdir("/dev/shm") if not name.startswith("sem.")}


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="needs /proc")
@pytest.mark.parametrize("moments", MOMENTS)
@pytest.mark.long("kills")
def test_worker_killed_at_any_moment_is_an_error_or_too_late(tmp_path, generator, moments):
    path = tmp_path / "out.beton"
    start = time.monotonic()
    write_small(path)
    longest = time.monotonic() - start
    path.unlink()
    shared = shared_memory()
    outcomes = set()
    for _ in range(moments):
        process = multiprocessing.get_context("fork").Process(target=write_and_tell, args=(path,))
        process.start()
        time.sleep(generator.uniform(0, longest))
        workers = children_of(process.pid)
        if workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(workers[int(generator.integers(len(workers)))], signal.SIGKILL)
        process.join(SECONDS + longest)
        assert process.exitcode == 0 and all_gone(workers)
        process.close()
        error = path.with_suffix(".error")
        outcomes.add(error.exists())
        if error.exists():
            assert re.match(r"(SampleError|WriterError): .*was killed by SIGKILL", error.read_text())
            assert not path.exists()
            error.unlink()
        else:
            np.testing.assert_array_equal(Reader(path).metadata["f1"], np.arange(len(SMALL)))
            path.unlink()
        assert list(tmp_path.iterdir()) == []
    assert True in outcomes
    assert shared_memory() <= shared


@pytest.mark.parametrize("packed", [b"damaged", pickle.dumps("no exception"), b"cno_such_module\nError\n."])
def test_error_that_only_the_worker_knows_still_names_its_sample(packed):
    with pytest.raises(SampleError, match="sample 3: broken") as caught:
        raise_failure(Failed("sample 3: broken", packed, "the worker's traceback", 3, True))
    assert caught.value.index == 3
    assert "the worker's traceback" in str(caught.value.__cause__)
