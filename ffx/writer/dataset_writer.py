"""`DatasetWriter`: a data set in, a `.beton` file out."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL

from ..errors import FieldError, FormatError, WriterError
from ..fields.base import Field
from ..format import ARGUMENT_BYTES, check_field_names, check_page_size
from ..kernels.checksum import xxh64
from ..kernels.cores import usable_cores
from ..kernels.xxh3 import xxh3
from .assembly import Assembly
from .bar import Bar
from .blocks import BlockPool
from .encoder import Arena
from .encoding import Job, encode_here
from .output import AtomicFile
from .pictures import with_encoded_pictures
from .pillow_settings import PillowSettings
from .sources import IndexedSource, Source, WebDatasetSource
from .workers import encode_in_processes

__all__ = ["DatasetWriter"]

# However large the chunks, each worker should get several.
_TASKS_A_WORKER = 4


def _check_fields(fields: Mapping[str, Field]) -> dict[str, Field]:
    if not fields:
        raise FieldError("expected at least one field, found none")
    check_field_names(list(fields))
    for name, field in fields.items():
        if isinstance(field, type) or not all(
            hasattr(field, name) for name in ("encode", "metadata_type", "to_binary")
        ):
            raise FieldError(f"field {name!r}: expected a Field such as IntField(), found {field!r}")
        record, described = np.dtype(field.metadata_type), field.to_binary()
        if record.hasobject or not record.itemsize:
            raise FieldError(f"field {name!r}: expected records of at least one byte without objects, found {record}")
        if described.nbytes != ARGUMENT_BYTES:
            raise FieldError(f"field {name!r}: to_binary: expected {ARGUMENT_BYTES} bytes, found {described.nbytes}")
    return dict(fields)


def _class_names(dataset: Any) -> list[str] | None:
    """The names that a torchvision data set, or the one inside a `Subset`, has for its classes."""
    for _ in range(8):
        classes = getattr(dataset, "classes", None)
        if isinstance(classes, (list, tuple)) and classes:
            return _as_texts(classes)
        dataset = getattr(dataset, "dataset", None)
    return None


def _as_texts(classes: Sequence[Any]) -> list[str]:
    # torchvision's ImageNet has a tuple of synonyms for each class.
    return [", ".join(map(str, name)) if isinstance(name, (list, tuple)) else str(name) for name in classes]


def _as_indices(indices: Any) -> np.ndarray:
    array = np.asarray(indices)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise WriterError(f"indices: expected a list of integers, found {array.dtype}{array.shape}")
    return array.astype(np.int64)


def _extent_of_shard(shard: tuple[int, int], samples: int) -> tuple[int, int]:
    """First sample, and the one behind the last, of a shard `(number, count)`."""
    number, count = map(int, shard)
    if not 0 <= number < count:
        raise WriterError(f"shard: expected a number from 0 to {count - 1} of {count} shards, found {number}")
    if count > samples:
        raise WriterError(f"shard: expected at most {samples} shards of {samples} samples, found {count}")
    return number * samples // count, (number + 1) * samples // count


class DatasetWriter:
    """Writes a data set as one file.

    The file appears at its path when it is complete and durable; after an error, Ctrl-C or a crash what
    stood there before still stands there. Its bytes depend on the samples, the fields, `page_size`, `seed`
    and `class_names` (and the versions of the libraries that encode), not on the number of workers.

    Args:
        fname: path of the file.
        fields: field name -> field, in the order of a sample's values.
        page_size: bytes of a page, a power of two from 2 MiB; a sample must fit into one. `None` chooses.
        num_workers: processes; 1 works in this process, less than 1 uses all cores that it may use.
        class_names: names of the classes; `None` takes `dataset.classes` where there is one.
        seed: decides which samples `write_mode="proportion"` stores as JPEG, and the shuffled order.
        progress: show a bar with rate and time left on the standard error stream.
        start_method: of the processes (`"fork"`, `"spawn"`, `"forkserver"`); `None` is Python's default.

    Raises:
        FieldError: a field, or its name, cannot be stored.
        WriterError: the page size is impossible.
    """

    def __init__(
        self,
        fname: str | os.PathLike,
        fields: Mapping[str, Field],
        page_size: int | None = None,
        num_workers: int = -1,
        *,
        class_names: Sequence[str] | Mapping[str, int] | None = None,
        seed: int = 0,
        progress: bool = True,
        start_method: str | None = None,
    ) -> None:
        self.fname = os.fspath(fname)
        self.fields = _check_fields(fields)
        try:
            self.page_size = None if page_size is None else check_page_size(page_size)
        except FormatError as error:
            raise WriterError(str(error)) from None
        self.num_workers = usable_cores() if num_workers < 1 else int(num_workers)
        if isinstance(class_names, Mapping):
            class_names = sorted(class_names, key=class_names.__getitem__)
        self.class_names = None if class_names is None else _as_texts(class_names)
        self.seed = int(seed)
        self.progress = progress
        self.start_method = start_method

    def from_indexed_dataset(
        self,
        dataset: Any,
        indices: Sequence[int] | None = None,
        chunksize: int = 100,
        shuffle_indices: bool = False,
        *,
        shard: tuple[int, int] | None = None,
    ) -> None:
        """Write an object with `__getitem__` and `__len__`.

        A sample is a tuple or list of values in the order of the fields, or a mapping by field name.

        Args:
            dataset: the samples. Worker processes that are not forked need it picklable.
            indices: which samples, in the file's order; `None` takes all.
            chunksize: most samples that a worker takes at a time.
            shuffle_indices: write them in a random order, which `seed` decides.
            shard: `(number, count)`: write only this one of `count` parts of the samples, counted from 0.
                `ffx.writer.merge_files` makes of all of them the very file that one run would have written.

        Raises:
            SampleError: a sample cannot be fetched or stored; the message names it.
            WriterError: the file cannot be written, or there is no such shard.
        """
        if chunksize < 1:
            raise WriterError(f"chunksize: expected at least 1, found {chunksize}")
        chosen = _as_indices(range(len(dataset)) if indices is None else indices)
        if shuffle_indices:
            chosen = np.random.default_rng(self.seed).permutation(chosen)
        first, settings = 0, self._settings()
        if shard is not None:
            first, stop = _extent_of_shard(shard, len(chosen))
            settings["shard"] = {"first": first, "samples": len(chosen), "page_size": self.page_size}
            chosen = chosen[first:stop]
        chunk = min(int(chunksize), max(1, -(-len(chosen) // (_TASKS_A_WORKER * self.num_workers))))
        source = IndexedSource(with_encoded_pictures(dataset, self.fields), chosen, chunk, first)
        self._write(source, self.class_names or _class_names(dataset), settings)

    def from_webdataset(self, shards: Sequence[str] | str, pipeline: Callable[[Any], Any]) -> None:
        """Write the samples of WebDataset shards, reading each shard once.

        Args:
            shards: addresses of the shards.
            pipeline: turns `webdataset.WebDataset(shard)` into an iterable of samples, such as
                `lambda dataset: dataset.decode("pil").to_tuple("jpg", "cls")`.

        Raises:
            SampleError: a sample cannot be fetched or stored; the message names it and its shard.
            WriterError: the file cannot be written, or there is no webdataset.
        """
        source = WebDatasetSource([shards] if isinstance(shards, str) else shards, pipeline)
        self._write(source, self.class_names, self._settings())

    def _write(self, source: Source, class_names: list[str] | None, settings: dict[str, Any]) -> None:
        if not len(source.tasks):
            raise WriterError(f"{self.fname}: expected at least one sample, found an empty data set")
        # Compiled here, so that forked workers need not.
        xxh64(b"")
        xxh3(b"")
        Arena(self.seed, BlockPool()).draw()
        for field in self.fields.values():
            # Whatever has the methods of a field that are needed is taken for one.
            if isinstance(field, Field):
                field.prepare_encoding()
        with AtomicFile(self.fname) as output:
            assert output.temporary is not None
            assembly = Assembly(self.fields, source.length, self.page_size)
            job = Job(source, self.fields, self.seed, output.temporary, PillowSettings.of_this_process())
            self._encode(job, output.descriptor, assembly)
            assembly.finish(output.descriptor, class_names, settings)
            output.commit()

    def _encode(self, job: Job, descriptor: int, assembly: Assembly) -> None:
        workers = min(self.num_workers, len(job.source.tasks))
        name = Path(self.fname).name
        with Bar(total=job.source.length, desc=name, unit=" samples", disable=not self.progress) as bar:
            if workers == 1:
                encode_here(job, descriptor, assembly.accept, bar.update)
            else:
                encode_in_processes(job, workers, self.start_method, assembly.accept, bar.update)

    def _settings(self) -> dict[str, Any]:
        """What the file remembers of how it was made."""
        package = importlib.import_module(__name__.partition(".")[0])
        versions = {
            "ffx": getattr(package, "__version__", "unknown"),
            "numpy": np.__version__,
            "opencv": cv2.__version__,
            "pillow": PIL.__version__,
        }
        fields = {}
        for name, field in self.fields.items():
            fields[name] = {"type": type(field).__name__, **(field.settings() if hasattr(field, "settings") else {})}
        return {"seed": self.seed, "versions": versions, "fields": fields}
