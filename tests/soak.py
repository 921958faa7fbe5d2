"""Loader and writer under faults for as long as asked: `python -m tests.soak --minutes 60 --seed 1`, or `make soak`.

Each round draws one of the scenarios below, with its settings and faults, from the seed. Every sample that comes out of
a loader is compared with what one worker reads in the file's order; every file with what was to be written. Whatever is
lost, doubled, changed, left behind or not explained by the fault ends the run with status 1, and its round's number.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import logging
import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from ffx import Loader, Reader, verify_file
from ffx.errors import DecodeError, SampleError, WriterError
from ffx.fields import BytesField, IntField, RGBImageField
from ffx.fields.decoders import BytesDecoder, IntDecoder, RandomResizedCropRGBImageDecoder
from ffx.loader import OrderOption
from ffx.transforms import RandomHorizontalFlip, ToTensor
from ffx.writer import DatasetWriter
from ffx.writer import output as writer_output
from tests.damaged_files import flip_payload_bits
from tests.pictures import make_picture

__all__ = ["Soak", "main"]

SAMPLES = 120
SEED = 5
EPOCHS = 3
KINDS = ("raw", "jpg", "proportion", "yuv420")
ORDERS = list(OrderOption)
# What may be more at the end than after the first rounds: caches of libraries fill slowly.
MEMORY_GROWTH = 64 << 20


class Pictures:
    """`(picture, number, bytes)` of each sample; raises where it is told to."""

    def __init__(self, fails_at: int = -1) -> None:
        self.fails_at = fails_at

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int) -> tuple[Image.Image, int, bytes]:
        if index == self.fails_at:
            raise ValueError(f"sample {index} cannot be made")
        sides = np.random.default_rng(index).integers(20, 70, 2)
        return Image.fromarray(make_picture(int(sides[0]), int(sides[1]), index)), index, bytes([index]) * (index % 40)


def fields_of(kind: str) -> dict:
    return {"image": RGBImageField(kind), "number": IntField(), "data": BytesField()}


def pipelines() -> dict:
    return {
        "image": [RandomResizedCropRGBImageDecoder((24, 24)), RandomHorizontalFlip(), ToTensor()],
        "number": [IntDecoder(), ToTensor()],
        "data": None,
    }


def taken_by(process: str = "self") -> tuple[int, int, int]:
    """Own memory in bytes, open files, threads."""
    gc.collect()
    lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    memory = 1024 * sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:"))
    return memory, len(os.listdir(f"/proc/{process}/fd")), threading.active_count()


class Soak:
    """Files to read, what is in them, and the scenarios.

    Args:
        folder: for files.
        seed: decides every round.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.generator = np.random.default_rng(seed)
        self.counts: Counter[str] = Counter()
        self.files = {kind: folder / f"{kind}.beton" for kind in KINDS}
        self.expected: dict[tuple[str, int], np.ndarray] = {}
        for kind, path in self.files.items():
            self._writer(path, kind, 1).from_indexed_dataset(Pictures())
            loader = self._loader(path, 1, order=OrderOption.SEQUENTIAL)
            for epoch in range(EPOCHS):
                self.expected[kind, epoch] = np.concatenate([images.numpy() for images, _ in loader])
        self.scenarios: list[Callable[[], None]] = [
            self.read_whole,
            self.break_off,
            self.go_on_elsewhere,
            self.read_damaged,
            self.read_two_at_once,
            self.write_with_failing_disk,
            self.write_failing_samples,
        ]

    def _writer(self, path: Path, kind: str, workers: int) -> DatasetWriter:
        return DatasetWriter(str(path), fields_of(kind), num_workers=workers, progress=False, start_method="fork")

    def _loader(self, path: Path, workers: int, **arguments) -> Loader:
        chosen = {"drop_last": False, "batch_size": 16, "seed": SEED, "pipelines": pipelines(), **arguments}
        return Loader(str(path), num_workers=workers, **chosen)

    def _draw(self, *choices):
        return choices[int(self.generator.integers(len(choices)))]

    def _settings(self) -> dict:
        return {
            "workers": self._draw(1, 2, 3, 8),
            "order": self._draw(*ORDERS),
            "os_cache": self._draw(True, False),
            "batch_size": int(self.generator.integers(1, 40)),
            "verify": self._draw("first", "always", "never"),
            "batches_ahead": self._draw(1, 3),
        }

    def _check(self, kind: str, epoch: int, batches: list, expected: set[int]) -> None:
        """Every expected sample once, each with the pixels that it has in this epoch."""
        numbers = [int(number) for _, labels in batches for number in labels[:, 0]]
        images = [image.numpy() for batch, _ in batches for image in batch]
        found, wanted = Counter(numbers), Counter(expected)
        assert found == wanted, f"samples lost or doubled: {wanted - found} {found - wanted}"
        for number, image in zip(numbers, images, strict=True):
            same = np.array_equal(image, self.expected[kind, epoch][number])
            assert same, f"sample {number} of {kind} in epoch {epoch} has other pixels"

    # Reading

    def read_whole(self) -> None:
        """All epochs of a file."""
        kind = self._draw(*KINDS)
        with self._loader(self.files[kind], **self._settings()) as loader:
            for epoch in range(EPOCHS):
                self._check(kind, epoch, [(a.clone(), b.clone()) for a, b in loader], set(range(SAMPLES)))

    def break_off(self) -> None:
        """Epochs that are left early, in every way."""
        kind = self._draw(*KINDS)
        loader = self._loader(self.files[kind], **self._settings())
        for _ in range(int(self.generator.integers(1, 6))):
            iterator = iter(loader)
            for _ in itertools.islice(iterator, int(self.generator.integers(0, 4))):
                pass
            if self._draw(True, False):
                iterator.close()
        loader.next_epoch = 1
        self._check(kind, 1, list(loader), set(range(SAMPLES)))

    def go_on_elsewhere(self) -> None:
        """A run that is broken off, and gone on with by a loader with other settings, several times."""
        kind, order = self._draw(*KINDS), self._draw(*ORDERS)
        batches, state = [], None
        for _ in range(SAMPLES):
            loader = self._loader(self.files[kind], **{**self._settings(), "order": order})
            if state is not None:
                loader.load_state_dict(state)
            batches += list(itertools.islice(loader, int(self.generator.integers(1, 8))))
            state = loader.state_dict()
            done = sum(ranks * samples for ranks, samples in state["legs"])
            if state["epoch"] > 0 or done >= SAMPLES:
                break
        self._check(kind, 0, batches, set(range(SAMPLES)))

    def read_damaged(self) -> None:
        """Samples with a flipped bit: an error that names one, left out, or replaced."""
        kind = self._draw(*KINDS)
        bad = {int(sample) for sample in self.generator.choice(SAMPLES, self.generator.integers(1, 6), replace=False)}
        path = flip_images(self.files[kind], self.folder / "damaged.beton", bad, self.generator)
        assert {sample.sample_id for sample in verify_file(path).bad} == bad
        way = self._draw("raise", "skip", "substitute")
        settings = {**self._settings(), "verify": self._draw("first", "always"), "on_error": way}
        with self._loader(path, **settings) as loader:
            if way == "raise":
                assert error_of(DecodeError, lambda: list(loader)).sample_id in bad
                return
            batches = list(loader)
            culprits = {culprit.sample_id: culprit.substitute for culprit in loader.culprits}
            assert set(culprits) == bad
        if way == "skip":
            self._check(kind, 0, batches, set(range(SAMPLES)) - bad)
            return
        plain = {"order": OrderOption.SEQUENTIAL, "on_error": way, "verify": "always"}
        with self._loader(path, 1, **plain) as loader:
            assert rows_of(batches) == rows_of(loader), "other substitutes, or other pixels of theirs"

    def read_two_at_once(self) -> None:
        """Two loaders in two threads."""
        failures: list[BaseException] = []
        chosen = [(self._draw(*KINDS), self._settings()) for _ in range(2)]

        def read(kind: str, settings: dict) -> None:
            try:
                with self._loader(self.files[kind], **settings) as loader:
                    self._check(kind, 0, list(loader), set(range(SAMPLES)))
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=read, args=one) for one in chosen]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    # Writing

    def write_with_failing_disk(self) -> None:
        """One of the writes, or what makes them durable, fails; then none."""
        path, kind = self.folder / "written.beton", self._draw(*KINDS)
        path.write_bytes(b"old")
        name = self._draw("pwritev", "fsync", "replace")
        with failing_call(name, int(self.generator.integers(1, 4))) as has_failed:
            try:
                self._writer(path, kind, 1).from_indexed_dataset(Pictures())
            except WriterError:
                assert has_failed and path.read_bytes() == b"old"
            else:
                assert not has_failed
        self._write_well(path, kind)

    def write_failing_samples(self) -> None:
        """The data set fails at a sample; then at none."""
        path, kind, index = self.folder / "written.beton", self._draw(*KINDS), int(self.generator.integers(SAMPLES))
        path.write_bytes(b"old")
        writer = self._writer(path, kind, self._draw(1, 2, 3))
        error = error_of(SampleError, lambda: writer.from_indexed_dataset(Pictures(index), chunksize=7))
        assert error.index == index and path.read_bytes() == b"old"
        self._write_well(path, kind)

    def _write_well(self, path: Path, kind: str) -> None:
        self._writer(path, kind, self._draw(1, 2, 4)).from_indexed_dataset(Pictures(), chunksize=self._draw(3, 50))
        assert path.read_bytes() == self.files[kind].read_bytes()
        with Loader(
            str(path), 50, 1, drop_last=False, pipelines={"image": None, "number": None, "data": [BytesDecoder()]}
        ) as loader:
            assert sum(len(data) for (data,) in loader) == SAMPLES
        path.unlink()

    def round(self) -> None:
        """One scenario."""
        scenario = self._draw(*self.scenarios)
        self.counts[scenario.__name__] += 1
        scenario()
        left = {entry.name for entry in self.folder.iterdir()} - {f"{kind}.beton" for kind in KINDS}
        assert left <= {"damaged.beton"}, f"left behind: {left}"


def rows_of(batches) -> list[tuple[int, bytes]]:
    """Each sample's number and pixels, in an order that does not depend on theirs."""
    rows = []
    for images, numbers in batches:
        rows += [(int(number), image.numpy().tobytes()) for image, number in zip(images, numbers[:, 0], strict=True)]
    return sorted(rows)


def flip_images(source: Path, target: Path, samples: set[int], generator: np.random.Generator) -> Path:
    """A copy with a bit of each sample's image turned over."""
    records = Reader(str(source)).metadata["f0"]
    places = {sample: int(records["data_ptr"][sample]) for sample in samples}
    return flip_payload_bits(source, target, samples, int(generator.integers(1 << 30)), places)


def error_of(kind: type[BaseException], work: Callable[[], object]) -> BaseException:
    """The error of that kind which some work must raise."""
    try:
        work()
    except kind as error:
        return error
    raise AssertionError(f"expected a {kind.__name__}, but all went well")


@contextmanager
def failing_call(name: str, when: int) -> Iterator[list[bool]]:
    """While open, the `when`-th call of `os.<name>` by the writer raises; gives a list that tells whether it did."""
    real, has_failed, numbers = getattr(os, name), [], itertools.count(1)

    def call(*arguments, **options):
        if next(numbers) == when:
            has_failed.append(True)
            raise OSError(28, "No space left on device")
        return real(*arguments, **options)

    setattr(writer_output.os, name, call)
    try:
        yield has_failed
    finally:
        setattr(writer_output.os, name, real)


def run(seconds: float, seed: int, say: Callable[[str], None]) -> Counter[str]:
    """Rounds until the time is over; how often each scenario came.

    Raises:
        AssertionError: something was lost, or left behind; its notes say in which round.
    """
    with tempfile.TemporaryDirectory(prefix="ffx-soak-") as name:
        soak = Soak(Path(name), seed)
        for number in _rounds(seconds, soak, say):
            try:
                soak.round()
            except BaseException as error:
                raise AssertionError(f"seed {seed}, round {number}, {dict(soak.counts)}: {error!r}") from error
        return soak.counts


def _rounds(seconds: float, soak: Soak, say: Callable[[str], None]) -> Iterator[int]:
    """Numbers of rounds until the time is over; sees that nothing grows."""
    start = told = time.monotonic()
    first: tuple[int, int, int] | None = None
    for number in itertools.count():
        now = time.monotonic()
        if number and now - start > seconds:
            break
        # Each scenario has come by then, and whatever is made once is there.
        if first is None and number >= 5 * len(soak.scenarios):
            first = taken_by()
        if now - told > 30:
            told = now
            say(f"{now - start:,.0f} s, {number} rounds, {taken_by()[0] / 2**20:,.0f} MiB: {dict(soak.counts)}")
        yield number
    if first is not None:
        memory, files, threads = taken_by()
        assert memory - first[0] < MEMORY_GROWTH, f"memory grew by {(memory - first[0]) / 2**20:.0f} MiB"
        assert (files, threads) == first[1:], f"open files and threads were {first[1:]}, are {(files, threads)}"
        say(f"memory grew by {(memory - first[0]) / 2**20:.1f} MiB since round {5 * len(soak.scenarios)}")


def main() -> int:
    """Soak as the command line says; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    # Each damaged sample is warned of, and there are thousands.
    logging.getLogger("ffx.loader").setLevel(logging.ERROR)
    try:
        counts = run(60 * options.minutes, options.seed, lambda text: print(text, flush=True))
    except AssertionError as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    print(f"soak: {sum(counts.values())} rounds, nothing lost: {dict(counts)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
