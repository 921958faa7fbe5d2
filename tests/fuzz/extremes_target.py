"""Every integer of some files set to each of the numbers at a limit, one at a time: nothing here is drawn."""

import random
import shutil
from pathlib import Path

from ffx.errors import FormatError
from ffx.reader import Reader
from tests.fuzz.mutations import mend
from tests.fuzz.parser_target import read_everything
from tests.fuzz.seed_files import SeedFile

__all__ = ["ExtremesTarget"]


def _values(seed: SeedFile, width: int, now: int) -> list[int]:
    """0, 1, the largest, 2^63, beside the present one, beside the ends of the file's parts, where others begin."""
    most = (1 << 8 * width) - 1
    ends = [place + step for place in (seed.canvas.length, seed.data_end, seed.table_start) for step in (-1, 0, 1)]
    others = [place for place in seed.landmarks if place <= most][:10]
    return [value & most for value in (0, 1, most - 1, most, 1 << 63, now - 1, now + 1, *ends, *others)]


class ExtremesTarget:
    """Input by input, in order; `generator` is not asked.

    Attributes:
        inputs: how many there are.
    """

    name = "extremes"
    memory_bytes = (8 << 20) + (64 << 20)

    def __init__(self, seeds: list[SeedFile]) -> None:
        self._inputs = [
            (seed, span.offset, span.width, value, mended)
            for seed in seeds
            for span in seed.spans
            for value in _values(seed, span.width, seed.canvas.word(span.offset, span.width))
            for mended in ((False, True) if seed.has_trailer else (False,))
        ]
        self.inputs = len(self._inputs)
        self._next = 0
        self.run(random.Random(0))
        self._next = 0

    def run(self, generator: random.Random) -> str:
        """The next one."""
        del generator
        seed = self._make()
        try:
            read_everything(Reader(seed.canvas.path), seed.canvas)
            return "opened"
        except FormatError:
            return "refused"
        finally:
            seed.canvas.undo()

    def _make(self) -> SeedFile:
        seed, offset, width, value, mended = self._inputs[self._next % self.inputs]
        self._next += 1
        seed.canvas.put_word(offset, width, value)
        if mended:
            mend(seed.canvas)
        return seed

    def keep(self, generator: random.Random, path: Path) -> None:
        """Write the next file."""
        del generator
        seed = self._make()
        shutil.copyfile(seed.canvas.path, path)
        seed.canvas.undo()
