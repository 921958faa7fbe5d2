"""The JPEG kernels: crops, whole pictures, smaller ones and the writer's, with memory that nobody may touch around."""

import random
from pathlib import Path

import numpy as np

from ffx.fields.jpeg_header import read_jpeg_header
from ffx.fields.tiled_jpeg import retiled
from ffx.kernels.jpeg import decode_region, decode_scaled, decode_whole, release_decoder
from ffx.kernels.memory import THREAD_WORDS, release_thread
from ffx.kernels.step import BAD_JPEG, OK, OUT_OF_FILE, SIZE_MISMATCH
from ffx.kernels.turbojpeg import library_info
from tests.fuzz.jpeg_mutations import HEIGHT, WIDTH, mutate_jpeg, sound_jpegs
from tests.fuzz.target import Find
from tests.kernels.guarded import Guarded

__all__ = ["JpegTarget"]

_MOST_PIXELS = 1 << 16
_NAMES = {OK: "decoded", BAD_JPEG: "damaged", SIZE_MISMATCH: "another size", OUT_OF_FILE: "outside"}
_CANARY = 256


class JpegTarget:
    """Mutated JPEGs through ffx's own decoder and the libturbojpeg in use."""

    name = "jpeg"
    memory_bytes = None

    def __init__(self, folder: Path) -> None:
        del folder
        self._kinds = sound_jpegs()
        self._data = list(self._kinds.values())
        self._source, self._target = Guarded(1 << 17), Guarded(3 * _MOST_PIXELS + _CANARY)
        self._words = np.zeros(THREAD_WORDS, np.int64)
        self._thread = self._words.ctypes.data
        self._inputs = 0
        self._expected = {name: self._whole(self._place(data), HEIGHT, WIDTH, 0)[1] for name, data in self._sound()}
        for number in range(40):
            self.run(random.Random(number))
        # A forked process makes its own.
        release_decoder(self._words)
        release_thread(self._words)

    @property
    def note(self) -> str:
        """What was fuzzed, for the report."""
        return f"{library_info().path} (interface {library_info().version}), {len(self._kinds)} kinds of JPEG"

    def _sound(self) -> list[tuple[str, bytes]]:
        return [(name, data) for name, data in self._kinds.items() if "CMYK" not in name]

    def _make(self, generator: random.Random) -> tuple[str, bytes]:
        name = generator.choice(list(self._kinds))
        return name, mutate_jpeg(self._kinds[name], generator, self._data)[: 1 << 17]

    def _place(self, data: bytes) -> np.ndarray:
        return self._source.place(np.frombuffer(data, np.uint8))

    def _whole(self, data: np.ndarray, height: int, width: int, fast: int, poison: int = 0xA5, at_end: bool = True):
        """Status and pixels of a whole decode into memory that ends, or begins, at a forbidden page."""
        size = 3 * height * width
        around = self._target.ends(size + _CANARY)[at_end]
        around[:] = poison
        part = around[_CANARY:] if at_end else around[:size]
        arguments = (data.ctypes.data, data.size, height, width, part.ctypes.data, 3 * width, fast)
        status = decode_whole(self._thread, *arguments)
        canary = around[:_CANARY] if at_end else around[size:]
        if not (canary == poison).all():
            raise Find("a whole decode wrote outside of its memory")
        return status, part.copy()

    def _check_whole(self, data: np.ndarray, height: int, width: int, generator: random.Random) -> int:
        fast = generator.randrange(2)
        status, pixels = self._whole(data, height, width, fast)
        again, other = self._whole(data, height, width, fast, 0x5A, at_end=False)
        if status != again:
            raise Find(f"a second decode gives status {again} instead of {status}")
        if status == OK and not np.array_equal(pixels, other):
            raise Find("pixels that no decode has set")
        return status

    def _check_region(self, data: np.ndarray, height: int, width: int, generator: random.Random) -> int:
        top, left = generator.randrange(-1, height + 1), generator.randrange(-1, width + 1)
        crop = (top, left, generator.randint(0, height - top + 1), generator.randint(0, width - left + 1))
        fast = generator.randrange(2)
        status, address, stride, first, column, rows, columns = decode_region(
            self._thread, data.ctypes.data, data.size, height, width, *crop, fast
        )
        if status == OK:
            inside = first <= top and column <= left and top + crop[2] <= first + rows
            if not inside or left + crop[3] > column + columns or stride < 3 * columns or not address:
                raise Find(f"a region that does not cover its crop {crop}")
        return status

    def _check_others(self, data: np.ndarray, height: int, width: int, generator: random.Random) -> None:
        status = decode_scaled(
            self._thread, data.ctypes.data, data.size, height, width, 1, generator.choice([1, 2, 4, 8])
        )
        if status[0] not in _NAMES:
            raise Find(f"status {status[0]}")
        header = read_jpeg_header(data.tobytes())
        # As the writer asks: a suitable JPEG, complete.
        if header is not None and header.decodes_to_rgb and header.height * header.width <= _MOST_PIXELS:
            result = retiled(data, header.height, header.width, header.frame)
            if (
                result is not None
                and self._whole(self._place(result.tobytes()), header.height, header.width, 0)[0] != OK
            ):
                raise Find("a JPEG in tiles that cannot be decoded")

    def _check_after(self) -> None:
        """A sound JPEG is decoded as ever."""
        name, data = self._sound()[self._inputs // 32 % len(self._sound())]
        status, pixels = self._whole(self._place(data), HEIGHT, WIDTH, 0)
        if status != OK or not np.array_equal(pixels, self._expected[name]):
            raise Find(f"a sound JPEG ({name}) is decoded in another way after damaged ones")

    def run(self, generator: random.Random) -> str:
        """One JPEG through all kernels, with its own size or that of the sound one as what the metadata say."""
        name, data = self._make(generator)
        height, width = HEIGHT, WIDTH
        header = read_jpeg_header(data)
        if generator.random() < 0.7 and header is not None and 0 < header.height * header.width <= _MOST_PIXELS:
            height, width = header.height, header.width
        placed = self._place(data)
        whole = self._check_whole(placed, height, width, generator)
        region = self._check_region(placed, height, width, generator)
        if whole not in _NAMES or region not in _NAMES:
            raise Find(f"status {whole} and {region}")
        self._check_others(placed, height, width, generator)
        self._inputs += 1
        if self._inputs % 32 == 0:
            self._check_after()
        return f"{name.replace(' restarts', '')}: {_NAMES[whole]}"

    def keep(self, generator: random.Random, path: Path) -> None:
        """Write the JPEG."""
        path.write_bytes(self._make(generator)[1])
