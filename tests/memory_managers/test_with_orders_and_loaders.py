"""Storages at work: with an order that needs few pages at a time, and under a loader when the file breaks."""

import os
from types import SimpleNamespace

import numpy as np
import pytest

from ffx.errors import LoaderError
from ffx.fields import BytesField, IntField
from ffx.loader import Loader, OrderOption
from ffx.memory_managers import ProcessCacheManager
from ffx.traversal_order import QuasiRandom, Random
from ffx.writer import DatasetWriter

from .blob_files import PAGE_BYTES, write_blobs

FILE_PAGE_BYTES = 1 << 21


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Six pages of two samples each."""
    path = tmp_path_factory.mktemp("pages") / "blobs.beton"
    generator = np.random.default_rng(5)
    samples = [(generator.bytes(FILE_PAGE_BYTES // 2 - 1000), number) for number in range(12)]
    fields = {"data": BytesField(), "number": IntField()}
    DatasetWriter(str(path), fields, num_workers=1, page_size=FILE_PAGE_BYTES).from_indexed_dataset(samples)
    return path


def slots_for(order, manager, batch_size, in_flight, **arguments):
    """Pages in memory at once when an epoch in this order is read."""
    indices = np.arange(manager.reader.num_samples, dtype=np.uint64)
    loader = SimpleNamespace(indices=indices, seed=1, distributed=False, fname="file", memory_manager=manager)
    samples = order(loader, **arguments).sample_order(0)
    batches = [samples[first : first + batch_size] for first in range(0, len(samples), batch_size)]
    return manager.schedule_epoch(batches, in_flight=in_flight).schedule.slots


def test_quasi_random_keeps_few_pages_in_memory(tmp_path):
    # 200 pages of ten samples, two pages a batch.
    manager = ProcessCacheManager(write_blobs(tmp_path / "blobs", [PAGE_BYTES // 10] * 2000))
    assert slots_for(Random, manager, 20, in_flight=5) > 190
    # The window, and what the batches under way and those read ahead bring in on top of it.
    assert slots_for(QuasiRandom, manager, 20, in_flight=5, open_pages=8) < 8 + 2 * 2 * (5 + 3)


@pytest.mark.usefixtures("no_threads_left")
@pytest.mark.parametrize("order", OrderOption, ids=lambda order: order.name)
@pytest.mark.parametrize("os_cache", [True, False])
def test_every_sample_is_read_right_in_any_order(file, order, os_cache):
    with Loader(str(file), 5, 2, os_cache=os_cache, order=order, seed=2, drop_last=False) as loader:
        found = {int(number): bytes(data) for datas, numbers in loader for data, number in zip(datas.numpy(), numbers)}
    generator = np.random.default_rng(5)
    expected = {number: generator.bytes(FILE_PAGE_BYTES // 2 - 1000) for number in range(12)}
    assert found == expected


@pytest.mark.usefixtures("no_threads_left")
def test_a_file_that_is_cut_short_while_it_is_read_is_an_error_in_next(file, tmp_path):
    path = tmp_path / "cut.beton"
    path.write_bytes(file.read_bytes())
    with Loader(str(path), 2, 1, os_cache=False, seed=1, batches_ahead=1) as loader:
        iterator = iter(loader)
        with open(path, "r+b") as handle:
            handle.truncate(5 * FILE_PAGE_BYTES)
        # Whatever is made already is delivered.
        with pytest.raises(LoaderError, match=r"cut\.beton: .*it was shortened while it was read"):
            list(iterator)
        assert next(iterator, None) is None


@pytest.mark.usefixtures("no_threads_left")
@pytest.mark.parametrize("when", ["before the epoch", "within it"])
def test_a_mapped_file_that_is_cut_short_is_an_error_in_next_and_no_death(file, tmp_path, when):
    path = tmp_path / "cut.beton"
    path.write_bytes(file.read_bytes())
    with Loader(str(path), 2, 1, os_cache=True, seed=1, batches_ahead=1) as loader:
        list(loader)
        if when == "before the epoch":
            os.truncate(path, 5 * FILE_PAGE_BYTES)
            with pytest.raises(LoaderError, match=r"cut\.beton: expected \d+ bytes .*was shortened while it was read"):
                iter(loader)
            return
        iterator = iter(loader)
        next(iterator)
        os.truncate(path, 5 * FILE_PAGE_BYTES)
        with pytest.raises(LoaderError, match=r"cut\.beton: expected \d+ bytes .*was shortened while it was read"):
            list(iterator)


@pytest.mark.usefixtures("no_threads_left")
@pytest.mark.parametrize("os_cache", [True, False])
def test_a_file_that_takes_the_others_place_is_not_read_with_its_tables(file, tmp_path, os_cache):
    path, other = tmp_path / "first.beton", tmp_path / "other.beton"
    path.write_bytes(file.read_bytes())
    other.write_bytes(file.read_bytes())
    with Loader(str(path), 2, 1, os_cache=os_cache, seed=1) as loader:
        os.replace(other, path)
        with pytest.raises(LoaderError, match="found another one there: make a new loader"):
            list(loader)
    with Loader(str(path), 2, 1, os_cache=True, seed=1) as loader:
        before = [bytes(data) for datas, _ in loader for data in datas.numpy()]
        other.write_bytes(b"something else")
        os.replace(other, path)
        # What is mapped stays what it was.
        assert [bytes(data) for datas, _ in loader for data in datas.numpy()] == before


@pytest.mark.usefixtures("no_threads_left")
def test_leaving_an_epoch_ends_the_reading_ahead(file):
    with Loader(str(file), 2, 1, os_cache=False, seed=1) as loader:
        for _ in loader:
            break
        assert len(list(loader)) == 6
