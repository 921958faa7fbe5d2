"""The memory of stored bytes: it serves again, and nobody notices."""

import gc
import os
import weakref

import numpy as np
import pytest

from ffx.fields import IntField, RGBImageField
from ffx.fields.base import ARG_TYPE, Field
from ffx.reader import Reader
from ffx.writer import DatasetWriter
from ffx.writer.assembly import write_part
from ffx.writer.blocks import BLOCK_BYTES, BlockPool, PartBytes
from ffx.writer.encoder import Encoder
from tests.pictures import make_picture


class Sparse(Field):
    """Reserves much, writes `malloc`'s first byte alone, and relies on zeros behind it."""

    metadata_type = np.dtype([("pointer", "<u8"), ("size", "<u8")])

    def encode(self, destination, field, malloc):
        destination["size"] = field
        destination["pointer"], buffer = malloc(field)
        assert buffer.dtype == np.uint8 and buffer.shape == (field,)
        assert not buffer.any()
        buffer[:1] = 255

    def to_binary(self):
        return np.zeros(1, dtype=ARG_TYPE)[0]

    @staticmethod
    def from_binary(binary):
        return Sparse()

    def get_decoder_class(self):
        raise NotImplementedError


def test_foreign_fields_find_zeros_wherever_others_wrote(tmp_path):
    sizes = [900_000 + 1000 * index for index in range(60)]
    dataset = [(make_picture(400, 400, seed=3), size) for size in sizes]
    fields = {"picture": RGBImageField("raw"), "sparse": Sparse()}
    DatasetWriter(tmp_path / "file", fields, num_workers=1, progress=False).from_indexed_dataset(dataset)
    reader = Reader(tmp_path / "file", {"sparse": Sparse})
    data = np.fromfile(reader.file_name, dtype=np.uint8)
    for record, size in zip(reader.metadata["f1"], sizes, strict=True):
        start = int(record["pointer"])
        assert data[start] == 255
        assert not data[start + 1 : start + size].any()


def test_memory_of_written_parts_serves_again():
    encoder = Encoder({"picture": RGBImageField("raw"), "label": IntField()}, 0)
    addresses = set()
    for part_number in range(10):
        for number in range(3):
            encoder.add(number, number, (np.full((300, 300, 3), part_number, np.uint8), 1))
        part = encoder.take()
        assert part.sizes.tolist() == [270_000] * 3
        assert all((piece == part_number).all() for piece in part.stream)
        addresses |= {block.ctypes.data for block in part.blocks}
        encoder.pool.give_back(part.blocks)
    assert len(addresses) == 1


def test_pieces_lie_in_order_and_never_overlap(generator):
    sizes = [*generator.integers(1, BLOCK_BYTES // 2, 30).tolist(), 3 * BLOCK_BYTES, 5, BLOCK_BYTES, 1]
    part = PartBytes(BlockPool())
    for number, size in enumerate(sizes):
        piece = part.reserve(size)
        assert piece.size == size
        piece[:] = number
    expected = np.repeat(np.arange(len(sizes), dtype=np.uint8), sizes)
    np.testing.assert_array_equal(np.concatenate(part.stream), expected)


def test_only_a_few_free_blocks_are_kept():
    pool = BlockPool()
    blocks = [pool.take(1) for _ in range(20)] + [pool.take(BLOCK_BYTES + 1)]
    alive = [weakref.ref(block) for block in blocks]
    pool.give_back(blocks)
    del blocks
    gc.collect()
    assert 0 < sum(each() is not None for each in alive) <= 4
    assert alive[-1]() is None


@pytest.mark.parametrize("cuts", [[10_000], [1, 4999, 5000], [3000] * 3 + [1000]])
def test_samples_reach_their_places_however_the_memory_is_cut(tmp_path, generator, cuts):
    sizes = np.array([2000, 0, 1000, 3000, 500, 3500], dtype=np.int64)
    offsets = np.array([0, 2000, 2000, 8192, 11192, 16384], dtype=np.int64)
    stored = generator.integers(0, 256, 10_000, dtype=np.uint8)
    expected = np.zeros(16384 + 3500, np.uint8)
    for offset, start, size in zip(offsets, np.cumsum(sizes) - sizes, sizes, strict=True):
        expected[offset : offset + size] = stored[start : start + size]
    stream = np.split(stored, np.cumsum(cuts)[:-1])
    with open(tmp_path / "file", "w+b") as file:
        write_part(file.fileno(), offsets, sizes, stream)
        # A part without samples is no reason to write.
        write_part(file.fileno(), offsets[:0], sizes[:0], [])
        assert os.fstat(file.fileno()).st_size == len(expected)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "file", dtype=np.uint8), expected)
