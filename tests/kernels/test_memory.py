"""Bare memory against NumPy: typed loads and stores, atomics between threads, scratch that grows and goes."""

import ctypes
import threading

import numpy as np
import pytest
from numba import njit

from ffx.kernels import memory
from ffx.kernels.memory import (
    SCRATCH_AREAS,
    THREAD_WORDS,
    copy_bytes,
    float_bits,
    release_thread,
    scratch,
    zeroed_scratch,
)

LOADS = {
    memory.load_u8: np.uint8,
    memory.load_u16: np.uint16,
    memory.load_u32: np.uint32,
    memory.load_u64: np.uint64,
    memory.load_i64: np.int64,
    memory.load_f64: np.float64,
}


@pytest.mark.parametrize("load", LOADS, ids=[np.dtype(dtype).name for dtype in LOADS.values()])
def test_loads_are_numpys_at_any_address(load, generator):
    data = np.frombuffer(generator.bytes(40), dtype=np.uint8)
    size = np.dtype(LOADS[load]).itemsize

    @njit
    def at(address):
        return load(address)

    for offset in range(40 - size):
        expected = data[offset : offset + size].view(LOADS[load])[0]
        np.testing.assert_equal(at(data.ctypes.data + offset), expected)


def test_stores_and_copies_change_these_bytes_alone():
    target, source = np.zeros(32, dtype=np.uint8), np.arange(1, 33, dtype=np.uint8)

    @njit
    def change(target, source):
        memory.store_i64(target + 3, -2)
        memory.store_u8(target + 15, 200)
        memory.store_i16(target + 12, 0x5678FFFE)
        copy_bytes(target + 17, source + 4, 5)
        copy_bytes(target + 25, source, 0)

    change(target.ctypes.data, source.ctypes.data)
    expected = np.zeros(32, dtype=np.uint8)
    expected[3:11] = np.frombuffer(np.int64(-2).tobytes(), np.uint8)
    expected[12:14] = (0xFE, 0xFF)
    expected[15], expected[17:22] = 200, source[4:9]
    np.testing.assert_array_equal(target, expected)


def test_arrays_at_an_address_are_views():
    data = np.arange(24, dtype=np.int16)

    @njit
    def turn_round(address):
        view = memory.array_at(address, (2, 3, 4), np.int16)
        view[1, 2, 3] = -5
        return view[1, 0].copy()

    assert turn_round(data.ctypes.data).tolist() == [12, 13, 14, 15]
    assert data[23] == -5


@pytest.mark.parametrize("value", [0.0, -0.5, 1 / 3, 1e300, float("inf")])
def test_floats_travel_as_their_bits(value):
    assert np.int64(float_bits(value)).view(np.float64) == value


def test_atomic_additions_of_several_threads_are_all_there():
    counter = np.zeros(2, dtype=np.int64)

    @njit(nogil=True)
    def add(address, times):
        for _ in range(times):
            memory.atomic_add(address, 1)
            while True:
                before = memory.atomic_load(address + 8)
                if memory.compare_and_swap(address + 8, before, before + 2):
                    break

    add(counter.ctypes.data, 0)
    threads = [threading.Thread(target=add, args=(counter.ctypes.data, 20_000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counter.tolist() == [80_000, 160_000]


def test_compare_and_swap_says_whether_it_did():
    cell = np.array([5], dtype=np.int64)

    @njit
    def swap(address, expected, desired):
        return memory.compare_and_swap(address, expected, desired)

    assert not swap(cell.ctypes.data, 4, 9) and cell[0] == 5
    assert swap(cell.ctypes.data, 5, 9) and cell[0] == 9


class TestScratch:
    @pytest.fixture
    def words(self):
        words = np.zeros(THREAD_WORDS, dtype=np.int64)
        yield words
        release_thread(words)

    def test_grows_to_the_largest_request_and_stays(self, words):
        thread = words.ctypes.data
        address = scratch(thread, 2, 1000)
        assert address != 0
        assert {scratch(thread, 2, count) for count in (1, 999, 1000)} == {address}
        larger = scratch(thread, 2, 10_000_000)
        assert larger != 0 and scratch(thread, 2, 1000) == larger

    def test_all_of_it_can_be_written_and_areas_do_not_overlap(self, words):
        @njit
        def fill(address, count, value):
            memory.array_at(address, (count,), np.uint8)[:] = value

        @njit
        def are_all(address, count, value):
            return (memory.array_at(address, (count,), np.uint8) == value).all()

        sizes = [1, 63, 65, 5000, 100_000, 7, 70_000]
        assert len(sizes) == SCRATCH_AREAS
        addresses = [scratch(words.ctypes.data, area, size) for area, size in enumerate(sizes)]
        for number, (address, size) in enumerate(zip(addresses, sizes)):
            fill(address, size, number + 1)
        for number, (address, size) in enumerate(zip(addresses, sizes)):
            assert are_all(address, size, number + 1)

    def test_a_zeroed_area_is_zero_once_and_then_keeps_what_it_has(self, words):
        @njit
        def write(address, value):
            memory.store_i64(address, value)

        address = zeroed_scratch(words.ctypes.data, 2, 4096)
        bytes_there = np.ctypeslib.as_array((ctypes.c_uint8 * 4096).from_address(address))
        assert not bytes_there.any()
        write(address, 77)
        assert zeroed_scratch(words.ctypes.data, 2, 4096) == address and bytes_there[0] == 77
        assert zeroed_scratch(0, 2, 4096) == 0

    def test_growing_a_little_at_a_time_moves_rarely(self, words):
        addresses = [scratch(words.ctypes.data, 0, 1000 + 10 * step) for step in range(100)]
        capacities = words[3]
        assert capacities >= 1990
        assert len(set(addresses)) <= 5

    def test_no_bytes_have_an_address_too(self, words):
        assert scratch(words.ctypes.data, 0, 0) != 0

    def test_more_than_there_is_gives_none_and_keeps_what_was(self, words):
        address = scratch(words.ctypes.data, 1, 100)
        assert scratch(words.ctypes.data, 1, 2**61) == 0
        assert scratch(words.ctypes.data, 1, 100) == address

    def test_without_a_thread_there_is_none(self):
        assert scratch(0, 0, 100) == 0

    def test_is_given_back_once_and_can_be_asked_for_again(self, words):
        for _ in range(2):
            assert scratch(words.ctypes.data, 3, 100) != 0
            release_thread(words)
            release_thread(words)
            assert not words.any()
