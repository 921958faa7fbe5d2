"""Make small files for the tests of the format, right and wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import xxhash

from ffx import format as beton
from ffx.fields import BytesField, FloatField, IntField, JSONField, NDArrayField, RGBImageField
from ffx.writer import DatasetWriter
from tests.pictures import make_picture

PAGE = beton.MIN_PAGE_BYTES
SAMPLES = 6


class MixedSamples:
    """Samples with a value of every kind; every third byte string is empty."""

    classes = ("first", "second")

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int):
        text = bytes(range(1, 1 + index * 3)) if index % 3 else b""
        array = np.arange(6, dtype="<f4").reshape(2, 3) + index
        return make_picture(5 + index, 7, seed=index), text, {"index": index}, array, index * 10, index / 4


def fields() -> dict:
    return {
        "image": RGBImageField(write_mode="proportion"),
        "text": BytesField(),
        "json": JSONField(),
        "array": NDArrayField(np.dtype("<f4"), (2, 3)),
        "integer": IntField(),
        "a real number's long name": FloatField(),
    }


def checksum_of_row(data: bytes) -> int:
    """What the trailer holds for a row of the allocation table with these bytes."""
    return xxhash.xxh3_64_intdigest(data)


def write_ffx_file(path: Path) -> Path:
    """A file with a trailer."""
    DatasetWriter(path, fields(), num_workers=1, progress=False).from_indexed_dataset(MixedSamples())
    return path


class PlainFile:
    """A file without a trailer, as FFCV writes it, in parts that a test can spoil before `write`.

    One image, one byte string and one array a sample, on one page.
    """

    def __init__(self) -> None:
        self.names = ["image", "text", "array"]
        self.type_ids = [beton.TypeId.IMAGE, beton.TypeId.BYTES, beton.TypeId.ARRAY]
        blank = np.zeros(1024, dtype=np.uint8)
        self.arguments = [blank, blank, beton.pack_array_arguments(np.dtype("<i4"), (3,))]
        record = beton.metadata_type([beton.IMAGE_METADATA, beton.BYTES_METADATA, np.dtype("<u8")])
        self.metadata = np.zeros(SAMPLES, dtype=record)
        self.table = np.zeros(3 * SAMPLES, dtype=beton.ALLOC_TABLE_TYPE)
        self.page = PAGE
        self.table_start = 2 * PAGE
        self.rest = b""
        position = PAGE
        for sample in range(SAMPLES):
            image, text = 3 * 4 * (sample + 1), 10 + sample
            row = self.table[3 * sample : 3 * sample + 3]
            row["sample_id"] = sample
            row["size"] = image, text, 12
            row["ptr"] = position, position + image, position + image + text
            position += image + text + 12
            self.metadata[sample] = (1, 4, sample + 1, row["ptr"][0]), (row["ptr"][1], text), row["ptr"][2]
        self.data_end = position

    def head(self) -> bytes:
        head = beton.pack_head(
            self.names, self.type_ids, self.arguments, self.page, len(self.metadata), self.table_start
        )
        return head + self.metadata.tobytes()

    def write(self, path: Path, change_head: Callable[[bytearray], None] | None = None) -> Path:
        head = bytearray(self.head())
        if change_head is not None:
            change_head(head)
        with open(path, "wb") as file:
            file.write(head)
            file.seek(self.table_start)
            file.write(self.table.tobytes() + self.rest)
            file.truncate()
        return path
