"""Pages read ahead: none is needed before it is there, none is overwritten while somebody may read it."""

import itertools
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffx.errors import LoaderError
from ffx.memory_managers import ProcessCacheManager
from ffx.memory_managers.process_cache import schedule_pages

from .blob_files import PAGE_BYTES, blob_reader, write_blobs


def pages_of_bits(bits):
    return np.flatnonzero([bits >> page & 1 for page in range(16)])


# Each batch needs some of 16 pages: the bits of a number.
epochs = st.lists(st.integers(0, 2**16 - 1).map(pages_of_bits), max_size=25)


def lives(batches, in_flight, ahead):
    """For each page the first batch at whose start it may be written, and the first at whose start it may go."""
    result = {}
    for batch, pages in enumerate(batches):
        for page in pages.tolist():
            start = result.get(page, (max(0, batch - ahead), None))[0]
            # Batch b starts when b - in_flight is done, so until b + in_flight starts this one may be under way.
            result[page] = start, batch + in_flight
    return result


@settings(max_examples=150, deadline=None)
@given(batches=epochs, in_flight=st.integers(1, 6), ahead=st.integers(0, 5))
def test_schedule_of_any_epoch(batches, in_flight, ahead):
    schedule = schedule_pages(batches, in_flight, ahead)
    expected = lives(batches, in_flight, ahead)
    check_slots(schedule, expected)
    check_reads(schedule, batches)
    alive = [sum(start <= batch < end for start, end in expected.values()) for batch in range(len(batches))]
    assert schedule.slots == max(alive, default=0)
    assert set(schedule.slot_of.values()) == set(range(schedule.slots))


def check_slots(schedule, expected):
    """A slot serves again only when no batch under way needs its page any more."""
    assert schedule.slot_of.keys() == expected.keys()
    by_slot = {}
    for page, slot in schedule.slot_of.items():
        by_slot.setdefault(slot, []).append(expected[page])
    for intervals in by_slot.values():
        intervals.sort()
        assert all(end <= start for (_, end), (start, _) in itertools.pairwise(intervals))


def check_reads(schedule, batches):
    """Each page is read once, and waited for by the first batch that needs it."""
    read = [page for pages in schedule.read_at for page in pages]
    assert sorted(read) == sorted({page for pages in batches for page in pages.tolist()})
    started, waited = set(), set()
    for pages, reads, needs in zip(batches, schedule.read_at, schedule.needed_at, strict=True):
        started |= set(reads)
        assert set(needs) <= started
        waited |= set(needs)
        assert set(pages.tolist()) <= waited


@pytest.mark.usefixtures("no_threads_left")
@settings(max_examples=40, deadline=None)
@given(data=st.data(), in_flight=st.integers(1, 4), batch_size=st.integers(1, 6))
def test_all_batches_under_way_read_right_bytes(tmp_path_factory, data, in_flight, batch_size):
    sizes = data.draw(st.lists(st.integers(0, PAGE_BYTES), min_size=1, max_size=30))
    path = tmp_path_factory.mktemp("pages") / "blobs"
    manager = ProcessCacheManager(write_blobs(path, sizes))
    content, table = path.read_bytes(), manager.reader.alloc_table
    order = np.array(data.draw(st.permutations(range(len(sizes)))), dtype=np.uint64)
    batches = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    read = manager.compile_reader()
    with manager.schedule_epoch(batches, in_flight=in_flight) as context:
        for number in range(len(batches)):
            context.start_batch(number)
            for batch in batches[max(0, number - in_flight + 1) : number + 1]:
                for sample in batch[manager.reader.alloc_table["size"][batch.astype(int)] > 0].astype(int):
                    start, size = int(table["ptr"][sample]), int(table["size"][sample])
                    assert read(np.uint64(start), context.state).tobytes() == content[start : start + size]


def test_samples_on_several_pages_or_none(tmp_path):
    path = tmp_path / "blobs"
    path.write_bytes(bytes(9 * PAGE_BYTES))
    rows = [(0, 2 * PAGE_BYTES, 9), (0, 7 * PAGE_BYTES, 9), (2, 2 * PAGE_BYTES + 9, 9), (3, PAGE_BYTES, 0)]
    manager = ProcessCacheManager(blob_reader(path, rows, 4))
    chosen = {(0,): [2, 7], (1,): [], (2,): [2], (3,): [], (3, 2, 1, 0, 2): [2, 7], (): []}
    for samples, pages in chosen.items():
        assert manager.pages_of(np.array(samples, dtype=np.uint64)).tolist() == pages


def test_memory_is_bounded_when_the_order_is(tmp_path):
    manager = ProcessCacheManager(write_blobs(tmp_path / "blobs", [PAGE_BYTES] * 100))
    batches = np.arange(100, dtype=np.uint64).reshape(50, 2)
    with manager.schedule_epoch(list(batches), in_flight=3) as context:
        # Two new pages a batch: three batches under way, three read ahead.
        assert context.state[0].shape == (12, PAGE_BYTES)
    assert context.state[0].size == 0


@pytest.mark.usefixtures("no_threads_left")
def test_a_file_that_became_shorter_is_an_error_where_its_page_is_needed(tmp_path):
    path = tmp_path / "blobs"
    manager = ProcessCacheManager(write_blobs(path, [PAGE_BYTES] * 20))
    with open(path, "r+b") as file:
        file.truncate(15 * PAGE_BYTES + 100)
    # As if that came after each batch's look at the length.
    manager.reader.index.current_bytes = lambda: 20 * PAGE_BYTES + PAGE_BYTES
    batches = [np.array([sample], dtype=np.uint64) for sample in range(20)]
    with manager.schedule_epoch(batches) as context:
        for number in range(14):
            context.start_batch(number)
        with pytest.raises(LoaderError, match=r"blobs: expected 256 bytes of page 15 .* after 100: it was shortened"):
            context.start_batch(14)


@pytest.mark.usefixtures("no_threads_left")
def test_a_page_that_cannot_be_read_is_an_error_with_its_cause(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    manager = ProcessCacheManager(write_blobs(tmp_path / "blobs", [10]))
    monkeypatch.setattr("os.preadv", fail)
    with manager.schedule_epoch([np.array([0], dtype=np.uint64)]) as context:
        with pytest.raises(LoaderError, match="Input/output error") as caught:
            context.start_batch(0)
        assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.usefixtures("no_threads_left")
def test_short_reads_are_continued(tmp_path, monkeypatch):
    import os

    whole = os.preadv
    monkeypatch.setattr(
        "os.preadv", lambda file, buffers, offset: whole(file, [buffer[:37] for buffer in buffers], offset)
    )
    manager = ProcessCacheManager(write_blobs(tmp_path / "blobs", [PAGE_BYTES]))
    with manager.schedule_epoch([np.array([0], dtype=np.uint64)]) as context:
        context.start_batch(0)
        found = manager.compile_reader()(manager.ptrs[0], context.state)
        assert found.tobytes() == (tmp_path / "blobs").read_bytes()[PAGE_BYTES:]


def test_the_last_page_need_not_be_whole(tmp_path):
    path = tmp_path / "blobs"
    manager = ProcessCacheManager(write_blobs(path, [200, 100]))
    content = path.read_bytes()[: 2 * PAGE_BYTES + 100]
    path.write_bytes(content)
    manager.reader.index.current_bytes = lambda: 3 * PAGE_BYTES
    with manager.schedule_epoch([np.arange(2, dtype=np.uint64)]) as context:
        context.start_batch(0)
        assert manager.compile_reader()(manager.ptrs[1], context.state).tobytes() == content[-100:]


@pytest.mark.usefixtures("no_threads_left")
def test_closing_ends_the_wait_for_pages(tmp_path, monkeypatch):
    import os

    hold, whole = threading.Event(), os.preadv

    def slow(*arguments):
        hold.wait(20)
        return whole(*arguments)

    monkeypatch.setattr("os.preadv", slow)
    manager = ProcessCacheManager(write_blobs(tmp_path / "blobs", [100]))
    context = manager.schedule_epoch([np.array([0], dtype=np.uint64)])
    context.__enter__()
    found = []

    def wait():
        try:
            context.start_batch(0)
        except LoaderError as error:
            found.append(str(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    closing = threading.Thread(target=context.close)
    closing.start()
    waiting.join(20)
    hold.set()
    closing.join(20)
    assert found and "closed" in found[0]
