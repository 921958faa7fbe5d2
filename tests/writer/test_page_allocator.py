"""Where samples are placed: never across a page, in order, however the page grows and the head moves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ffx.errors import FieldError, FormatError
from ffx.page_allocator import Move, PageAllocator, round_up

MIB = 1 << 20


def crosses_a_page(offset, size, page):
    return size > 0 and offset // page != (offset + size - 1) // page


def test_first_sample_lies_at_the_first_page_after_the_head():
    for head, expected in ((1, 2 * MIB), (2 * MIB, 2 * MIB), (2 * MIB + 1, 4 * MIB)):
        assert PageAllocator(head).place(10) == expected


def test_samples_lie_side_by_side_until_the_page_is_full():
    allocator = PageAllocator(100, page_size=2 * MIB)
    assert [allocator.place(MIB) for _ in range(3)] == [2 * MIB, 3 * MIB, 4 * MIB]
    assert allocator.place(MIB + 1) == 6 * MIB
    assert allocator.data_end == 8 * MIB


def test_fixed_page_refuses_what_does_not_fit():
    allocator = PageAllocator(100, page_size=2 * MIB)
    assert allocator.place(2 * MIB) == 2 * MIB
    with pytest.raises(FieldError, match="page_size"):
        allocator.place(2 * MIB + 1)


def test_nothing_is_larger_than_the_largest_page():
    with pytest.raises(FieldError, match="largest page"):
        PageAllocator(100).place(2**31 + 1)


@pytest.mark.parametrize("size", [0, 1, 2 * MIB - 1, 3 * MIB, MIB, 2**32, -(2 * MIB)])
def test_page_sizes_that_no_file_has(size):
    with pytest.raises(FormatError, match="power of two"):
        PageAllocator(100, size)


CHOSEN_PAGES = {
    "few small": (3_000, 50, 2 * MIB),
    "middling": (500_000, 50, 8 * MIB),
    "large": (750_000, 50, 16 * MIB),
    "huge": (30 * MIB, 3, 32 * MIB),
    "many small": (3_000, 200_000, 8 * MIB),
}


@pytest.mark.parametrize("size, count, page", CHOSEN_PAGES.values(), ids=CHOSEN_PAGES)
def test_page_is_chosen_from_the_data(size, count, page):
    allocator = PageAllocator(100)
    for _ in range(count):
        allocator.place(size)
    assert allocator.page_size == page


@settings(max_examples=150, deadline=None)
@given(
    head=st.integers(24, 20 * MIB),
    final_head=st.integers(24, 40 * MIB),
    sizes=st.lists(st.integers(0, 5 * MIB) | st.integers(0, 100) | st.just(20 * MIB), max_size=40),
    fixed=st.sampled_from([None, 32 * MIB]),
)
def test_samples_stay_apart_within_pages_and_out_of_the_head(head, final_head, sizes, fixed):
    allocator = PageAllocator(head, fixed)
    offsets = np.array([allocator.place(size) for size in sizes], dtype=np.int64)
    sizes = np.array(sizes, dtype=np.int64)
    head = max(head, final_head)
    data_end, move = allocator.settle(head)
    if move is not None:
        assert move.shift % allocator.page_size == 0
        assert move.start + move.shift >= max(allocator.data_end, head) // allocator.page_size * allocator.page_size
        offsets = np.where(offsets < move.stop, offsets + move.shift, offsets)
    filled = sizes > 0
    for offset, size in zip(offsets[filled].tolist(), sizes[filled].tolist(), strict=True):
        assert not crosses_a_page(offset, size, allocator.page_size)
        assert head <= offset
        assert offset + size <= data_end
    order = np.argsort(offsets[filled], kind="stable")
    starts, ends = offsets[filled][order], (offsets + sizes)[filled][order]
    assert (ends[:-1] <= starts[1:]).all()
    assert data_end == head or data_end % allocator.page_size == 0 or not filled.any()


def test_head_that_fits_moves_nothing():
    allocator = PageAllocator(100)
    allocator.place(10)
    assert allocator.settle(2 * MIB) == (4 * MIB, None)


def test_head_that_grew_moves_the_first_pages_to_the_end():
    allocator = PageAllocator(100, 2 * MIB)
    for _ in range(4):
        allocator.place(2 * MIB)
    assert allocator.settle(4 * MIB + 1) == (14 * MIB, Move(2 * MIB, 6 * MIB, 8 * MIB))


def test_without_stored_bytes_there_are_no_pages():
    allocator = PageAllocator(100)
    allocator.place(0)
    assert allocator.settle(5000) == (5000, None)


def test_round_up():
    assert [round_up(value, 8) for value in (0, 1, 8, 9)] == [0, 8, 8, 16]
