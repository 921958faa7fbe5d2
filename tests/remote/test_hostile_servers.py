"""Servers that fail, lie and change what they serve: bounded tries, an error that says so, nothing bad is kept."""

import dataclasses
import threading
import time

import numpy as np
import pytest

from ffx.errors import FfxError, LoaderError, RemoteError, SampleChecksumError
from ffx.loader import OrderOption
from ffx.reader import Reader
from tests.loader.helpers import everything, load, random_pipelines
from tests.remote.server import PASSING, Fault, is_data


def remote_loader(server, options, **arguments):
    arguments = {"order": OrderOption.RANDOM, "pipelines": random_pipelines(), **arguments}
    return load(server.url("train.beton"), remote=options, **arguments)


def local_epoch(path, **arguments):
    with load(path, **{"order": OrderOption.RANDOM, "pipelines": random_pipelines(), **arguments}) as loader:
        return everything(loader)


def assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.kind)
def test_what_passes_is_outlasted(server, options, pages_file, fault):
    with remote_loader(server, options) as loader:
        server.faults.append(dataclasses.replace(fault, wanted=is_data))
        assert_same(everything(loader), local_epoch(pages_file))
        fetched = loader.reader.remote.fetched
        # What comes behind the length that was announced is never seen.
        assert fetched.retries + fetched.damaged >= 1 or fault.kind == "longer"


@pytest.mark.parametrize("fault", PASSING, ids=lambda fault: fault.kind)
def test_opening_outlasts_it_too(server, options, pages_file, fault):
    server.faults.append(dataclasses.replace(fault, wanted=is_data))
    with remote_loader(server, options) as loader:
        assert_same(everything(loader), local_epoch(pages_file))


def test_a_broken_answer_is_gone_on_with(server, options):
    with remote_loader(server, options) as loader:
        known = len(server.ranges)
        server.faults.append(Fault("truncate", times=1, wanted=is_data))
        everything(loader)
    ranges = server.ranges[known:]
    assert any(one[1] == other[1] and one[0] < other[0] for one in ranges for other in ranges), (
        "the rest was not asked for by itself"
    )


LASTING = [
    (Fault("status", 500), "status 206, found 500"),
    (Fault("status", 403), "found 403"),
    (Fault("status", 404), "found 404"),
    (Fault("whole"), "ranges|whole file"),
    (Fault("stall", 5), "bytes, found|Timeout"),
    (Fault("reset"), "gave up after 2 tries"),
    (Fault("other range"), "Content-Range|expected bytes"),
    (Fault("redirect", "file:///etc/passwd"), "no http"),
    (Fault("html"), "found 200 the whole file for a range"),
    (Fault("drip"), "gave up after 2 tries"),
]


@pytest.mark.parametrize("fault, text", LASTING, ids=lambda value: getattr(value, "kind", ""))
def test_what_lasts_is_an_error_in_bounded_time(server, options, fault, text):
    impatient = dataclasses.replace(options, attempts=2, timeout_seconds=0.5)
    with remote_loader(server, impatient) as loader:
        server.faults.append(dataclasses.replace(fault, wanted=is_data))
        began = time.monotonic()
        with pytest.raises(LoaderError, match=text) as raised:
            everything(loader)
        assert time.monotonic() - began < 30
        assert server.url("train.beton") in str(raised.value)
        assert isinstance(raised.value.__cause__, RemoteError)
        assert not loader.reader.remote.block_map.present.any()


OPENING = [("status", 500), ("whole", None), ("html", None), ("redirect", "file:///etc/passwd")]


@pytest.mark.parametrize("kind, value", OPENING)
def test_opening_fails_in_bounded_time(server, options, kind, value):
    server.faults.append(Fault(kind, value))
    with pytest.raises(RemoteError, match=server.url("train.beton")):
        load(server.url("train.beton"), remote=dataclasses.replace(options, attempts=2))


def test_a_server_that_is_not_there(options):
    with pytest.raises(RemoteError, match="gave up after 2 tries"):
        load("http://127.0.0.1:9/train.beton", remote=dataclasses.replace(options, attempts=2))


@pytest.mark.parametrize("has_etag", [True, False])
def test_a_file_changed_in_mid_epoch_is_an_error_and_never_mixed(server, options, pages_file, has_etag):
    if not has_etag:
        server.etags.clear()
    little = dataclasses.replace(options, read_ahead_bytes=0, requests=1)
    with remote_loader(server, little, order=OrderOption.SEQUENTIAL, batch_size=4, batches_ahead=1) as loader:
        batches = iter(loader)
        next(batches)
        changed = bytearray(pages_file.read_bytes())
        changed += b"" if has_etag else bytes(24)
        server.files["train.beton"] = bytes(changed)
        server.etags.update({"train.beton": '"v2"'} if has_etag else {})
        with pytest.raises(LoaderError, match="changed while it was read"):
            list(batches)
        with pytest.raises(LoaderError, match="changed while it was read"):
            iter(loader)
    del loader
    server.files["train.beton"] = pages_file.read_bytes()
    with remote_loader(server, options) as new:
        assert_same(everything(new), local_epoch(pages_file))


def test_a_server_that_goes_away_is_not_missed_where_all_is_in_the_cache(server, options, pages_file):
    with remote_loader(server, options) as loader:
        everything(loader)
        server.faults.append(Fault("status", 503))
        loader.next_epoch = 0
        assert_same(everything(loader), local_epoch(pages_file))


def damaged_copy(pages_file, sample: int) -> tuple[bytes, int]:
    """A file with a flipped bit in one sample, and where its bytes begin."""
    index = Reader(pages_file).index
    row = int(np.flatnonzero(index.sample_ids == sample)[0])
    data = bytearray(pages_file.read_bytes())
    data[int(index.pointers[row]) + 100] ^= 4
    return bytes(data), int(index.pointers[row])


def test_a_file_that_is_damaged_at_its_source_names_address_sample_and_offset(server, options, pages_file):
    server.files["train.beton"], offset = damaged_copy(pages_file, 50)
    with remote_loader(server, options) as loader:
        with pytest.raises(SampleChecksumError) as raised:
            everything(loader)
        remote = loader.reader.remote
        damaged = remote.blocks.of_samples(np.array([50]))
        assert not remote.block_map.present[damaged].any(), "a damaged block counts as being there"
    assert raised.value.sample_id == 50
    assert raised.value.offset == offset
    assert server.url("train.beton") in str(raised.value)


@pytest.mark.parametrize("on_error", ["substitute", "skip"])
def test_damaged_samples_are_mended_as_those_of_a_local_file(server, options, pages_file, tmp_path, on_error):
    server.files["train.beton"], _ = damaged_copy(pages_file, 50)
    (tmp_path / "damaged.beton").write_bytes(server.files["train.beton"])
    arguments = {"on_error": on_error, "indices": range(40, 120, 2)}
    with remote_loader(server, options, **arguments) as loader:
        found = everything(loader)
        assert [culprit.sample_id for culprit in loader.culprits] == [50]
    assert_same(found, local_epoch(tmp_path / "damaged.beton", **arguments))


def test_tables_that_come_damaged_for_good_are_an_error(server, options, pages_file):
    data = bytearray(pages_file.read_bytes())
    data[-5] ^= 1
    server.files["train.beton"] = bytes(data)
    with pytest.raises(FfxError, match=server.url("train.beton")):
        load(server.url("train.beton"), remote=options)


def test_leaving_an_epoch_does_not_wait_for_a_stalled_server(server, options):
    patient = dataclasses.replace(options, timeout_seconds=60.0)
    with remote_loader(server, patient, batch_size=4) as loader:
        everything(load(server.url("train.beton"), remote=options, indices=range(8), pipelines=random_pipelines()))
        server.faults.append(Fault("stall", 60, wanted=is_data))
        batches = iter(loader)
        began = time.monotonic()
        batches.close()
        assert time.monotonic() - began < 5


def test_leaving_an_epoch_while_its_first_fetchers_start(server, options, monkeypatch):
    """An epoch that is closed at once meets threads that are known and have not begun."""
    start, may_close = threading.Thread.start, threading.Event()

    def slow_start(thread):
        if thread.name.startswith("ffx-fetcher"):
            may_close.set()
            time.sleep(0.3)
        start(thread)

    with remote_loader(server, options, batch_size=4) as loader:
        monkeypatch.setattr(threading.Thread, "start", slow_start)
        batches = iter(loader)
        assert may_close.wait(30)
        batches.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("ffx-fetcher")]


def test_a_disk_that_takes_no_more_is_an_error(server, options, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with remote_loader(server, options) as loader:
        monkeypatch.setattr("ffx.remote.file.os.pwrite", full)
        with pytest.raises(LoaderError, match="No space left on device"):
            everything(loader)


def test_impossible_options_are_refused():
    from ffx import RemoteOptions

    for wrong in ({"requests": 0}, {"cache_bytes": 0}, {"attempts": 1.5}, {"timeout_seconds": 0}):
        with pytest.raises(LoaderError, match=next(iter(wrong))):
            RemoteOptions(**wrong)


def test_storage_options_that_nobody_knows_are_refused(server, options):
    with pytest.raises(RemoteError, match="storage_options"):
        load(server.url("train.beton"), remote=dataclasses.replace(options, storage_options={"header": {}}))
