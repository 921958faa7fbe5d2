"""Entropy-coded data without their stuffing, and Huffman tables, beside plain Python."""

import numpy as np
import pytest
from numba import njit

from ffx.kernels.entropy import load_bits, shift_right, unstuff
from ffx.kernels.huffman import NATURAL_BYTES, natural_order
from ffx.kernels.huffman_tables import END, TABLE_BYTES, long_entry, make_table


def plain_unstuff(data, most_starts):
    """What `unstuff` returns, places counted from the begin."""
    target, starts, place = bytearray(), [], 0
    while place < len(data):
        if data[place] != 255:
            target.append(data[place])
            place += 1
            continue
        if place + 1 >= len(data):
            break
        following = data[place + 1]
        if following == 0:
            target.append(255)
        elif following == 0xD0 + len(starts) % 8 and len(starts) < most_starts:
            starts.append(len(target))
        else:
            return bytes(target), starts, following
        place += 2
    return bytes(target), starts, 0


@pytest.mark.parametrize("most_starts", [0, 2, 100])
def test_data_without_stuffing_match_plain_python(most_starts, generator):
    for number in range(400):
        size = int(generator.integers(0, 300))
        source = generator.integers(0, 256, size, np.uint8)
        source[generator.random(size) < 0.02 * (number % 4)] = 255
        for place in np.flatnonzero(source[:-1] == 255) if size else ():
            source[place + 1] = (0, 0, 0, 0xD0 + number % 2, 0xD9)[generator.integers(0, 5)]
        target, starts = np.zeros(size + 8, np.uint8), np.zeros(101, np.int64)
        base, begin = source.ctypes.data, target.ctypes.data
        end, count, marker = unstuff(base, base + size, begin, starts.ctypes.data, most_starts)
        expected = plain_unstuff(source.tobytes(), most_starts)
        assert (target[: end - begin].tobytes(), list(starts[:count] - begin), marker) == expected
        assert not target[size:].any()


def test_bits_come_highest_first_and_zeros_from_above(generator):
    @njit
    def run(address, count):
        return shift_right(load_bits(address), count)

    data = generator.integers(0, 256, 8, np.uint8)
    for count in range(1, 64):
        assert run(data.ctypes.data, count) == int.from_bytes(data.tobytes(), "big") >> count


def test_zigzag_goes_along_the_diagonals():
    order = np.zeros(NATURAL_BYTES, np.uint8)
    natural_order(order.ctypes.data)
    places = sorted(
        range(64), key=lambda place: (sum(divmod(place, 8)), divmod(place, 8)[sum(divmod(place, 8)) % 2 == 0])
    )
    assert order[:64].tolist() == places
    assert (order[64:] == 64).all()


def test_each_code_is_found_and_no_other(generator):
    for _ in range(50):
        counts, room, lengths = [0] * 16, 1.0, []
        for length in range(1, 17):
            most = int((room - 2.0**-16) * 2**length)
            counts[length - 1] = int(generator.integers(0, min(most, 5) + 1)) if most > 0 else 0
            room -= counts[length - 1] / 2**length
            lengths += [length] * counts[length - 1]
        known = [0, 0xF0] + [16 * run + size for run in range(16) for size in range(1, 11)]
        symbols = generator.permutation(known)[: len(lengths)]
        source = np.array([*counts, *symbols], np.uint8)
        table = np.zeros(TABLE_BYTES, np.uint8)
        assert make_table(table.ctypes.data, source.ctypes.data, False)
        code, previous = 0, 0
        for length, symbol in zip(lengths, symbols, strict=True):
            code <<= length - previous
            previous = length
            bits = np.int64(np.uint64((code << (64 - length)) | int(generator.integers(0, 2 ** (64 - length - 1)))))
            entry = long_entry(table.ctypes.data, bits)
            assert entry & 63 == length + symbol % 16 and (entry >> 8) & 31 == length
            assert (entry >> 16) & 15 == symbol % 16
            assert entry >> 20 == (symbol // 16 + 1 if symbol else END)
            code += 1
        assert long_entry(table.ctypes.data, np.int64(-1)) == -1


@pytest.mark.parametrize("symbol", [0x10, 0xE0, 0x0B, 0xFF])
def test_symbols_that_no_baseline_file_has_are_refused(symbol):
    table, source = np.zeros(TABLE_BYTES, np.uint8), np.array([1] + [0] * 15 + [symbol], np.uint8)
    assert not make_table(table.ctypes.data, source.ctypes.data, False)
    source[-1] = 12
    assert not make_table(table.ctypes.data, source.ctypes.data, True)
    source[-1] = 11
    assert make_table(table.ctypes.data, source.ctypes.data, True)
