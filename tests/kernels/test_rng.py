"""Random numbers: the published vectors, and what each part of a stream's name does."""

import numpy as np
import pytest

from ffx.kernels.rng import epoch_key, operation_key, philox4x32, seed_from, stream_uniform, uniform

# Philox4x32-10 of Random123's known-answer file: four counter words, two key words, four results.
KNOWN_ANSWERS = {
    "zero": (
        (0, 0, 0, 0),
        (0, 0),
        (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
    ),
    "all ones": (
        (0xFFFFFFFF,) * 4,
        (0xFFFFFFFF,) * 2,
        (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
    ),
    "digits of pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
}


def block(counter, key):
    return tuple(int(word) for word in philox4x32(*(np.uint64(word) for word in (*counter, *key))))


@pytest.mark.parametrize("name", KNOWN_ANSWERS)
def test_philox_gives_the_published_vectors(name):
    counter, key, answer = KNOWN_ANSWERS[name]
    assert block(counter, key) == answer


def test_uniform_takes_its_lane_of_its_block():
    key, sample, occurrence = 0x0123456789ABCDEF, 0xFEDCBA9876543210, 7
    for draw in range(12):
        counter = (sample & 0xFFFFFFFF, sample >> 32, occurrence, draw // 4)
        expected = block(counter, (key & 0xFFFFFFFF, key >> 32))[draw % 4] / 2**32
        assert uniform(np.int64(key), np.uint64(sample), occurrence, draw) == expected


def test_negative_key_is_its_bits():
    assert uniform(np.int64(-1), 0, 0, 0) == block((0, 0, 0, 0), (0xFFFFFFFF, 0xFFFFFFFF))[0] / 2**32


def test_a_row_of_streams_draws_the_same_numbers():
    key, sample, occurrence = np.int64(-12345), 77, 2
    row = np.array([np.int64(key).view(np.uint64), sample, occurrence], np.uint64)
    assert [stream_uniform(row, draw) for draw in range(9)] == [
        uniform(key, sample, occurrence, draw) for draw in range(9)
    ]


def test_numbers_fill_the_unit_interval_evenly():
    numbers = np.array([uniform(5, sample, 0, draw) for sample in range(2000) for draw in range(4)])
    assert numbers.min() >= 0 and numbers.max() < 1
    counts = np.histogram(numbers, bins=10, range=(0, 1))[0]
    # Chi-squared with 9 degrees of freedom: 27.9 is passed once in a thousand seeds.
    assert ((counts - 800) ** 2 / 800).sum() < 27.9


def test_each_part_of_the_name_changes_the_number():
    names = [(key, sample, occurrence, draw) for key in (1, 2) for sample in (0, 1, 2**32) for occurrence in (0, 1)
             for draw in (0, 1, 4)]  # fmt: skip
    assert len({uniform(*name) for name in names}) == len(names)


def test_keys_differ_by_pipeline_position_seed_and_epoch():
    operations = {operation_key(pipeline, position) for pipeline in ("image", "label") for position in range(3)}
    assert len(operations) == 6
    keys = {epoch_key(seed, epoch, operation) for seed in (0, 1) for epoch in (0, 1) for operation in operations}
    assert len(keys) == 24
    assert all(-(2**63) <= key < 2**63 for key in keys)


def test_keys_do_not_change_between_releases():
    # A seed in a paper must still mean the same epoch; these numbers must not move.
    assert operation_key("image", 0) == 17378935326138319289
    assert epoch_key(17, 3, operation_key("label", 2)) == 2527324291975432388
    assert seed_from(epoch_key(17, 3, 5), np.arange(4, dtype=np.uint64)) == 2455670339


def test_seed_is_a_function_of_the_batch():
    samples = np.arange(8, dtype=np.uint64)
    assert seed_from(3, samples) == seed_from(3, samples.copy())
    assert 0 <= seed_from(3, samples) < 2**32
    assert len({seed_from(3, samples), seed_from(4, samples), seed_from(3, samples[::-1]), seed_from(-3, samples)}) == 4
