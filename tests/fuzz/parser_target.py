"""The parser: a file is refused by a `FormatError`, or each of its samples can be read."""

import itertools
import random
import shutil
from pathlib import Path

import numpy as np

from ffx.errors import FormatError
from ffx.format import TypeId, field_of_row, has_pointers, rows_by_sample
from ffx.reader import Reader
from tests.fuzz.canvas import Canvas
from tests.fuzz.mutations import mutate
from tests.fuzz.refusals import all_refusals, refusal_of
from tests.fuzz.seed_files import SeedFile, seed_files
from tests.fuzz.target import Find

__all__ = ["ParserTarget", "read_everything"]

_LARGEST_FILE = 32 << 20


def _must(condition: bool, message: str) -> None:
    if not condition:
        raise Find(message)


def _stored(reader: Reader, canvas: Canvas, rows: dict, sample: int, pointer: int, what: str) -> bytes:
    """The bytes of one value, by the table alone."""
    _must((pointer, sample) in rows, f"{what} points to no row of sample {sample}")
    size = rows[pointer, sample]
    _must(reader.index.data_start <= pointer, f"{what} lies in the metadata")
    data = canvas.get(pointer, size)
    _must(len(data) == size, f"{what} lies beyond the file")
    return data


def _read_value(reader: Reader, canvas: Canvas, rows: dict, sample: int, type_id: int, record, what: str) -> None:
    if type_id in (TypeId.IMAGE, TypeId.CUSTOM):
        mode, width, height, pointer = (int(value) for value in record.tolist())
        size = len(_stored(reader, canvas, rows, sample, pointer, what))
        chroma = 2 * ((height + 1) // 2) * ((width + 1) // 2)
        expected = {0: size, 1: 3 * height * width, 2: height * width + chroma}[mode]
        _must(size == expected > 0, f"{what} has {size} bytes")
    elif type_id in (TypeId.BYTES, TypeId.JSON):
        pointer, size = (int(value) for value in record.tolist())
        if size:
            _must(len(_stored(reader, canvas, rows, sample, pointer, what)) == size, f"{what} has another size")
    elif type_id in (TypeId.ARRAY, TypeId.TENSOR):
        handler = reader.handlers[what]
        size = int(np.prod([int(side) for side in handler.shape], dtype=object)) * handler.dtype.itemsize
        data = _stored(reader, canvas, rows, sample, int(record), what)
        _must(len(data) == size, f"{what} has another size than its shape says")
        np.frombuffer(data, handler.dtype)


def read_everything(reader: Reader, canvas: Canvas) -> None:
    """Read what the file holds as its metadata and its table say, in plain Python.

    Raises:
        Find: something cannot be read.
    """
    table = reader.alloc_table.tolist()
    rows = {(pointer, sample): size for sample, pointer, size in table if size}
    filled = sorted((pointer, size) for _, pointer, size in table if size)
    apart = all(one[0] + one[1] <= other[0] for one, other in itertools.pairwise(filled))
    _must(apart, "rows overlap")
    _must(len(set(reader.field_names)) == len(reader.field_names), "a name comes twice")
    for number, name in enumerate(reader.field_names):
        _must(name.isascii() and name.isprintable(), f"the name {name!r}")
        has_pointers(reader.index, name)
        records, type_id = reader.metadata[f"f{number}"], int(reader.field_descriptors["type_id"][number])
        for sample in range(reader.num_samples):
            _read_value(reader, canvas, rows, sample, type_id, records[sample], name)
    rows_by_sample(reader.index)
    if table:
        field_of_row(reader.index, 0)


class ParserTarget:
    """Mutated files through `Reader`."""

    name = "parser"
    memory_bytes = _LARGEST_FILE + (64 << 20)

    def __init__(self, folder: Path) -> None:
        self._seeds = seed_files(folder)
        # What compiles or reads something the first time does so here.
        all_refusals()
        self.run(random.Random(0))

    def _make(self, generator: random.Random) -> SeedFile:
        seed = generator.choice(self._seeds)
        mutate(seed, generator)
        return seed

    def run(self, generator: random.Random) -> str:
        """Open one file, and read it."""
        seed = self._make(generator)
        try:
            reader = Reader(seed.canvas.path)
            read_everything(reader, seed.canvas)
            return "opened"
        except FormatError as error:
            return refusal_of(error) or f"other: {error.where}"
        finally:
            seed.canvas.undo()

    def keep(self, generator: random.Random, path: Path) -> None:
        """Write the file."""
        seed = self._make(generator)
        shutil.copyfile(seed.canvas.path, path)
        seed.canvas.undo()
