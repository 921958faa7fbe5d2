"""What the engine needs of kernels: compiled when wanted, failures that name the sample, blobs found or refused."""

import ctypes

import numpy as np
import pytest

from ffx.kernels import step
from ffx.kernels.step import KERNEL_SIGNATURE, OK, STATUS_TEXT, failure, locate, native_kernel

PAGE_BYTES = 64


class Storage:
    """A storage's words over `pages` pages of bytes; blobs as `(pointer, size)`."""

    def __init__(self, blobs, pages=6, slots=None):
        self.data = np.random.default_rng(3).integers(0, 256, size=pages * PAGE_BYTES, dtype=np.uint8)
        rows = np.array(sorted(blobs), dtype=np.uint64).reshape(-1, 2)
        self.pointers, self.sizes = rows[:, 0].copy(), rows[:, 1].copy()
        self.slots = None if slots is None else np.array(slots, dtype=np.uint32)
        self.words = np.zeros(step.STORAGE_WORDS, dtype=np.int64)
        self.words[step.BASE], self.words[step.SIZE] = self.data.ctypes.data, self.data.size
        self.words[step.POINTERS], self.words[step.SIZES] = self.pointers.ctypes.data, self.sizes.ctypes.data
        self.words[step.ROWS], self.words[step.PAGE_SHIFT] = len(rows), 6
        if self.slots is not None:
            self.words[step.PAGE_TO_SLOT], self.words[step.PAGES] = self.slots.ctypes.data, len(slots)

    def find(self, pointer, size=-1):
        """Offset and size of what `locate` gives, or `None`."""
        address, size = locate(self.words.ctypes.data, pointer, size)
        return None if address == 0 else (address - self.data.ctypes.data, size)


def test_blobs_are_looked_up_in_the_allocation_table():
    blobs = [(64, 10), (74, 1), (100, 28), (128, 64), (300, 5)]
    storage = Storage(blobs)
    assert [storage.find(pointer) for pointer, _ in blobs] == blobs
    wrong = set(range(384)) - {pointer for pointer, _ in blobs}
    assert all(storage.find(pointer) is None for pointer in wrong)


def test_of_blobs_at_one_place_the_filled_one_is_found():
    assert Storage([(64, 0), (64, 0), (64, 9)]).find(64) == (64, 9)
    assert Storage([(64, 0), (70, 3)]).find(64) == (64, 0)


def test_a_table_without_rows_has_no_blobs():
    assert Storage([]).find(64) is None


@pytest.mark.parametrize(
    "pointer, size, fits",
    [
        (0, 384, True),
        (0, 385, False),
        (383, 1, True),
        (384, 0, True),
        (384, 1, False),
        (385, 0, False),
        (-1, 1, False),
        (-(2**63), 1, False),
        (2**63 - 1, 1, False),
        (1, 2**63 - 1, False),
        (2**62, 2**62, False),
    ],
)
def test_a_size_that_is_known_is_held_against_the_file(pointer, size, fits):
    assert Storage([]).find(pointer, size) == ((pointer, size) if fits else None)


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 321])
def test_sizes_of_the_table_are_held_against_the_file(size):
    assert Storage([(64, size)]).find(64) is None


def test_pages_are_found_in_their_slots():
    # Pages 1, 2 and 4 are in memory, in the slots 2, 0 and 1.
    storage = Storage([(64, 10), (130, 62), (256, 64)], pages=3, slots=[0xFFFFFFFF, 2, 0, 0xFFFFFFFF, 1])
    assert storage.find(64) == (2 * PAGE_BYTES, 10)
    assert storage.find(130) == (2, 62)
    assert storage.find(256) == (PAGE_BYTES, 64)
    assert storage.find(130, 1) == (2, 1)


@pytest.mark.parametrize(
    "pointer, size",
    [
        (0, 8),  # pages 0 and 3 are not in memory
        (192, 8),
        (320, 1),  # beyond the pages
        (2**40, 1),
        (-1, 1),
        (130, 63),  # over the end of the page
        (128, 2**62),
    ],
)
def test_what_is_not_in_a_page_in_memory_is_refused(pointer, size):
    storage = Storage([(0, 8), (192, 8)], pages=3, slots=[0xFFFFFFFF, 2, 0, 0xFFFFFFFF, 1])
    assert storage.find(pointer, size) is None


def test_failures_name_sample_and_reason():
    for position in (0, 1, 511, 2**30):
        for status in STATUS_TEXT:
            outcome = failure(position, status)
            assert outcome != OK and (outcome >> 8) - 1 == position and outcome & 0xFF == status


def test_every_status_has_a_text():
    names = ("OUT_OF_FILE", "BAD_JPEG", "SIZE_MISMATCH", "NO_MEMORY", "OUT_OF_TARGET", "UNKNOWN_MODE", "NO_DECODER")
    assert {getattr(step, name) for name in (*names, "DAMAGED")} == set(STATUS_TEXT)
    assert OK not in STATUS_TEXT


def test_a_kernel_is_compiled_when_its_address_is_asked_for(monkeypatch):
    compiled = []
    original = step.compiled_callback
    monkeypatch.setattr(step, "compiled_callback", lambda *args, **options: compiled.append(args) or original(*args))

    @native_kernel
    def add_up(one, two, three, four):
        """Says what it does."""
        return one + two + three + four

    assert add_up.__doc__ == "Says what it does." and not compiled
    call = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 5)(add_up.address)
    assert call(1, 20, 300, 4000) == 4321
    assert add_up.address and [arguments[0] for arguments in compiled] == [KERNEL_SIGNATURE]
