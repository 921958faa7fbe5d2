"""The loader: a file of wrong tables or wrong images gives batches of the right shape, or an error of ffx's."""

import logging
import random
import shutil
import warnings
from pathlib import Path

from ffx.errors import FfxError, FfxWarning, LoaderError
from ffx.fields import RGBImageField
from ffx.fields.decoders import CenterCropRGBImageDecoder, RandomResizedCropRGBImageDecoder
from ffx.loader import Loader, OrderOption
from ffx.reader import Reader
from tests.format.beton import MixedSamples, fields
from tests.fuzz.canvas import Canvas
from tests.fuzz.mutations import mend, mutate
from tests.fuzz.seed_files import SeedFile, describe, seed_files
from tests.fuzz.target import Find

__all__ = ["LoaderTarget"]

SIZE = (9, 7)


def _write_jpegs(path: Path) -> Path:
    from ffx.writer import DatasetWriter

    kinds = {**fields(), "image": RGBImageField("jpg")}
    DatasetWriter(path, kinds, num_workers=1, progress=False).from_indexed_dataset(MixedSamples())
    return path


def damage_payload(seed: SeedFile, generator: random.Random) -> None:
    """Some bytes of a stored value changed: mostly JPEG data."""
    canvas, (start, size, count) = seed.canvas, seed.records[2]
    for _ in range(generator.randint(1, 3) if count else 0):
        row = start + size * generator.randrange(count)
        pointer, length = canvas.word(row + 8, 8), canvas.word(row + 16, 8)
        if 0 < length < 1 << 20:
            canvas.put(pointer + generator.randrange(length), generator.randbytes(generator.choice([1, 1, 2, 8])))


class LoaderTarget:
    """Mutated files, most of which can be opened, through an epoch."""

    name = "loader"
    memory_bytes = None

    def __init__(self, folder: Path) -> None:
        self._seeds = seed_files(folder)
        path = _write_jpegs(folder / "written.beton")
        jpegs = describe(Canvas(folder / "jpegs", path.read_bytes()))
        # Files of images are what this is about.
        self._seeds += [jpegs] * (len(self._seeds) // 2)
        for number in range(40):
            self.run(random.Random(number))

    def _make(self, generator: random.Random) -> SeedFile:
        seed = generator.choice(self._seeds)
        if generator.random() < 0.6:
            damage_payload(seed, generator)
        else:
            mutate(seed, generator)
            if generator.random() < 0.5:
                mend(seed.canvas)
        return seed

    def run(self, generator: random.Random) -> str:
        """One epoch, or why there is none."""
        seed = self._make(generator)
        # It tells an operator of each sample that is left out.
        logger = logging.getLogger("ffx.loader")
        logger.disabled = True
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FfxWarning)
                return self._load(str(seed.canvas.path), generator)
        except LoaderError as error:
            return f"epoch: {type(error).__name__}"
        except FfxError as error:
            return f"refused: {type(error).__name__}"
        finally:
            logger.disabled = False
            seed.canvas.undo()

    def _load(self, path: str, generator: random.Random) -> str:
        random_crops = generator.random() < 0.5
        arguments = {
            "verify": generator.choice(["never", "never", "first", "always"]),
            "on_error": generator.choice(["raise", "skip", "substitute"]),
            "os_cache": generator.random() < 0.7,
            "order": generator.choice([OrderOption.SEQUENTIAL, OrderOption.RANDOM]),
            "batch_size": generator.choice([1, 3, 8]),
        }
        reader = Reader(path)
        images = [name for name, field in reader.handlers.items() if isinstance(field, RGBImageField)]
        samples = reader.num_samples
        pipelines = {
            name: [RandomResizedCropRGBImageDecoder(SIZE) if random_crops else CenterCropRGBImageDecoder(SIZE, 1.0)]
            for name in images
        }
        with Loader(path, num_workers=1, seed=1, drop_last=False, pipelines=pipelines, **arguments) as loader:
            names, seen = loader.reader.field_names, 0
            for batch in loader:
                seen += len(batch[0])
                for name, values in zip(names, batch):
                    if len(values) != len(batch[0]) or (name in images and tuple(values.shape[1:3]) != SIZE):
                        raise Find(f"a batch of shape {values.shape}")
            culprits = len(loader.culprits)
        if seen > samples or (seen != samples and arguments["on_error"] != "skip"):
            raise Find(f"{seen} of {samples} samples with on_error={arguments['on_error']}")
        return f"loaded, {'some' if culprits else 'none'} {arguments['on_error']}"

    def keep(self, generator: random.Random, path: Path) -> None:
        """Write the file."""
        seed = self._make(generator)
        shutil.copyfile(seed.canvas.path, path)
        seed.canvas.undo()
