"""Both storages give the bytes that stand in the file, whoever asks: FFCV's reader function or native kernels."""

import ctypes
from contextlib import contextmanager

import numba
import numpy as np
import pytest
from numba import njit

from ffx.errors import LoaderError
from ffx.kernels.step import STORAGE_WORDS, locate
from ffx.memory_managers import OSCacheManager, ProcessCacheManager
from ffx.reader import Reader
from tests.ffcv_files import unpack_ffcv_file

from .blob_files import PAGE_BYTES, blob_reader, write_blobs

STORAGES = (OSCacheManager, ProcessCacheManager)


@contextmanager
def open_whole(manager):
    """The context of an epoch of one batch that has every sample, started."""
    with manager.schedule_epoch([np.arange(manager.reader.num_samples, dtype=np.uint64)]) as context:
        context.start_batch(0)
        yield context


def located(words, pointer, size=-1):
    """What native kernels see: the bytes, or `None` where `locate` refuses."""
    address, size = locate(words.ctypes.data, pointer, size)
    return None if address == 0 else ctypes.string_at(address, size)


@pytest.fixture(params=STORAGES, ids=lambda storage: storage.__name__)
def storage(request):
    return request.param


@pytest.mark.usefixtures("no_threads_left")
@pytest.mark.parametrize("name", ["raw", "jpg", "blobs", "empty"])
def test_every_row_of_a_file_is_read_as_it_stands_there(storage, name, tmp_path):
    path, _ = unpack_ffcv_file(name, tmp_path)
    content = path.read_bytes()
    manager = storage(Reader(path))
    read = manager.compile_reader()
    with open_whole(manager) as context:
        words = context.storage_words()
        for row in manager.reader.alloc_table[manager.reader.alloc_table["size"] > 0]:
            expected = content[int(row["ptr"]) : int(row["ptr"]) + int(row["size"])]
            assert read(row["ptr"], context.state).tobytes() == expected
            assert located(words, int(row["ptr"])) == expected
            assert located(words, int(row["ptr"]), int(row["size"])) == expected


def test_rows_in_any_order_are_found(storage, tmp_path):
    reader = write_blobs(tmp_path / "blobs", [100, 30, 200, 256, 1])
    reader.alloc_table = reader.alloc_table[[3, 0, 4, 2, 1]]
    content = (tmp_path / "blobs").read_bytes()
    with open_whole(storage(reader)) as context:
        for row in reader.alloc_table:
            expected = content[int(row["ptr"]) : int(row["ptr"]) + int(row["size"])]
            assert storage(reader).compile_reader()(row["ptr"], context.state).tobytes() == expected


def test_empty_blobs_are_empty_and_hide_no_other(storage, tmp_path):
    path = tmp_path / "blobs"
    path.write_bytes(np.random.default_rng(1).bytes(3 * PAGE_BYTES))
    # Alone, before another blob, at the end of a page, at the end of the file.
    rows = [(0, 300, 0), (1, 310, 0), (1, 310, 40), (2, 2 * PAGE_BYTES, 0), (3, 3 * PAGE_BYTES, 0), (4, 600, 5)]
    manager = storage(blob_reader(path, rows, 5))
    read = manager.compile_reader()
    with open_whole(manager) as context:
        for pointer in (300, 2 * PAGE_BYTES, 3 * PAGE_BYTES):
            assert read(np.uint64(pointer), context.state).size == 0
        assert read(np.uint64(310), context.state).tobytes() == path.read_bytes()[310:350]
        assert located(context.storage_words(), 310) == path.read_bytes()[310:350]
        assert located(context.storage_words(), 300) == b""


@pytest.mark.parametrize("pointer", [0, 1, PAGE_BYTES + 1, 10**9, 2**63 - 1, 2**63, 2**64 - 1])
def test_pointers_to_no_blob_give_nothing(storage, tmp_path, pointer):
    manager = storage(write_blobs(tmp_path / "blobs", [100, 30]))
    with open_whole(manager) as context:
        assert manager.compile_reader()(np.uint64(pointer), context.state).size == 0
        assert located(context.storage_words(), np.uint64(pointer).view(np.int64)) is None


def test_pointers_may_be_signed(storage, tmp_path):
    manager = storage(write_blobs(tmp_path / "blobs", [100, 30]))
    with open_whole(manager) as context:
        found = manager.compile_reader()(PAGE_BYTES, context.state)
        assert found.tobytes() == (tmp_path / "blobs").read_bytes()[PAGE_BYTES : PAGE_BYTES + 100]


@pytest.mark.parametrize(
    "pointer, size",
    [
        (PAGE_BYTES, PAGE_BYTES * 40),
        (PAGE_BYTES, 2**62),
        (PAGE_BYTES * 40, 1),
        (-1, 10),
        (-(2**63), 10),
        (2**63 - 1, 10),
        (2**63 - 1, 2**63 - 1),
    ],
)
def test_native_kernels_are_refused_what_lies_outside(storage, tmp_path, pointer, size):
    with open_whole(storage(write_blobs(tmp_path / "blobs", [100, 30, 200]))) as context:
        assert located(context.storage_words(), pointer, size) is None


def test_rows_that_point_outside_give_nothing(storage, tmp_path):
    """A reader refuses such tables; a storage that is given one must not read there either."""
    path = tmp_path / "blobs"
    path.write_bytes(bytes(4 * PAGE_BYTES))
    rows = [(0, PAGE_BYTES, 10), (1, 2 * PAGE_BYTES, 50 * PAGE_BYTES), (2, 2**63, 8), (3, 3 * PAGE_BYTES, 2**64 - 1)]
    manager = storage(blob_reader(path, rows, 4))
    with manager.schedule_epoch([np.array([0], dtype=np.uint64)]) as context:
        context.start_batch(0)
        for _, pointer, _ in rows[1:]:
            assert manager.compile_reader()(np.uint64(pointer), context.state).size == 0
            assert located(context.storage_words(), np.uint64(pointer).view(np.int64)) is None


def test_pages_that_an_epoch_does_not_read_give_nothing(tmp_path):
    manager = ProcessCacheManager(write_blobs(tmp_path / "blobs", [200, 200, 200]))
    pointers = manager.ptrs
    with manager.schedule_epoch([np.array([0, 2], dtype=np.uint64)]) as context:
        context.start_batch(0)
        assert manager.compile_reader()(pointers[1], context.state).size == 0
        assert located(context.storage_words(), int(pointers[1])) is None
        assert manager.compile_reader()(pointers[2], context.state).size == 200


def test_compiled_operations_can_read(storage, tmp_path):
    """As a decoder's generated code does, whose `memory_read` is a constant."""
    manager = storage(write_blobs(tmp_path / "blobs", [100, 30, 50]))
    read = manager.compile_reader()

    @njit(nogil=True)
    def total(pointers, state):
        result = 0
        for pointer in pointers:
            for byte in read(pointer, state):
                result += byte
        return result

    content = np.frombuffer((tmp_path / "blobs").read_bytes(), np.uint8)
    expected = sum(int(content[p : p + s].sum()) for p, s in zip(manager.ptrs.astype(int), manager.sizes.astype(int)))
    with open_whole(manager) as context:
        assert total(manager.ptrs, context.state) == expected


def test_the_state_is_of_the_type_that_the_storage_says(storage, tmp_path):
    manager = storage(write_blobs(tmp_path / "blobs", [100, 30]))
    with open_whole(manager) as context:
        assert numba.typeof(context.state) == manager.state_type
        assert context.storage_words().shape == (STORAGE_WORDS,) and context.storage_words().dtype == np.int64


def test_first_pages_and_ffcvs_tables(storage, tmp_path):
    path = tmp_path / "blobs"
    path.write_bytes(bytes(8 * PAGE_BYTES))
    rows = [(0, 3 * PAGE_BYTES, 10), (0, PAGE_BYTES, 10), (2, 5 * PAGE_BYTES, 1), (3, 5 * PAGE_BYTES + 1, 0)]
    manager = storage(blob_reader(path, rows, 4))
    assert manager.sample_page.tolist() == [1, -1, 5, -1]
    assert manager.sample_to_pages == {0: {1, 3}, 2: {5}, 3: {5}}
    assert manager.page_to_samples == {3: {0}, 1: {0}, 5: {2, 3}}
    assert [manager.page_shift, 1 << manager.page_shift] == [8, PAGE_BYTES]


def test_a_file_without_blobs_can_be_opened(storage, tmp_path):
    (tmp_path / "scalars").write_bytes(b"header")
    manager = storage(blob_reader(tmp_path / "scalars", [], 3))
    assert manager.sample_page.tolist() == [-1, -1, -1]
    with open_whole(manager) as context:
        assert manager.compile_reader()(np.uint64(0), context.state).size == 0
        assert located(context.storage_words(), 0) is None


@pytest.mark.usefixtures("no_threads_left")
def test_closing_twice_and_opening_again(storage, tmp_path):
    manager = storage(write_blobs(tmp_path / "blobs", [100, 30]))
    read = manager.compile_reader()
    for _ in range(2):
        with open_whole(manager) as context:
            assert read(manager.ptrs[1], context.state).size == 30
        context.__exit__(None, None, None)
        for _ in range(2):
            manager.close()


def test_a_map_that_is_in_use_outlives_its_manager(tmp_path):
    manager = OSCacheManager(write_blobs(tmp_path / "blobs", [100]))
    with open_whole(manager) as context:
        manager.close()
        expected = (tmp_path / "blobs").read_bytes()[PAGE_BYTES : PAGE_BYTES + 100]
        assert manager.compile_reader()(manager.ptrs[0], context.state).tobytes() == expected


def test_the_mapped_file_cannot_be_changed_by_mistake(tmp_path):
    with open_whole(OSCacheManager(write_blobs(tmp_path / "blobs", [100]))) as context:
        assert not context.state[0].flags.writeable


@pytest.mark.usefixtures("no_threads_left")
def test_a_file_that_has_gone_is_a_loader_error(tmp_path):
    manager = ProcessCacheManager(write_blobs(tmp_path / "blobs", [100]))
    (tmp_path / "blobs").unlink()
    with pytest.raises(LoaderError, match="blobs: cannot be opened any more"), open_whole(manager):
        pass
