"""Where samples come from: an indexable data set, or shards of WebDataset; and what a task of each is."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import WriterError

__all__ = ["IndexedSource", "Source", "WebDatasetSource"]

Note = Callable[[int], object]


class Source:
    """Tasks, and the samples of a task.

    Attributes:
        length: number of samples, or `None` where only reading them tells.
        tasks: what is given to one worker at a time.
        spills: whether a task may be so long that the next one must be kept on disk until its turn.
    """

    length: int | None = None
    tasks: Sequence[Any] = ()
    spills = False

    def samples(self, task: Any, note: Note) -> Iterator[tuple[int, int, Any]]:
        """`(number, index, sample)` for each sample of a task.

        `number` decides the sample's random draws, `index` is for messages; `note(index)` is called
        before the sample is fetched.
        """
        raise NotImplementedError

    def describe(self, task: Any, index: int) -> str:
        """A sample in words."""
        return f"sample {index}"


class IndexedSource(Source):
    """An object with `__getitem__`, read at `indices`.

    Args:
        dataset: gives a sample for an index.
        indices: which ones, in the file's order.
        chunk: samples of a task.
        first: position of the first one in the data set as a whole, of which this file may be a shard.
    """

    def __init__(self, dataset: Any, indices: np.ndarray, chunk: int, first: int = 0) -> None:
        self.dataset = dataset
        self.indices = indices
        self.first = first
        self.length = len(indices)
        self.tasks = [(first, min(first + chunk, len(indices))) for first in range(0, len(indices), chunk)]

    def samples(self, task: tuple[int, int], note: Note) -> Iterator[tuple[int, int, Any]]:
        """The samples at `task`'s positions of the file; a sample's number is its position in the whole."""
        for position in range(*task):
            index = int(self.indices[position])
            note(index)
            yield self.first + position, index, self.dataset[index]

    def describe(self, task: tuple[int, int], index: int) -> str:
        """The index, and the file that it came from where the data set has a list of them."""
        samples = getattr(self.dataset, "samples", None)
        try:
            return f"sample {index} ({samples[index][0]})" if samples is not None else f"sample {index}"
        except (LookupError, TypeError):
            return f"sample {index}"


class WebDatasetSource(Source):
    """Shards of WebDataset, each read once.

    Args:
        shards: their addresses.
        pipeline: turns `webdataset.WebDataset(shard)` into an iterable of samples.
    """

    spills = True

    def __init__(self, shards: Sequence[str], pipeline: Callable[[Any], Any]) -> None:
        self.shards = list(shards)
        self.pipeline = pipeline
        self.tasks = range(len(self.shards))

    def samples(self, task: int, note: Note) -> Iterator[tuple[int, int, Any]]:
        """A shard's samples; a sample's number is made of the shard's number and its place there."""
        note(0)
        for index, sample in enumerate(self.pipeline(open_shard(self.shards[task]))):
            yield (task << 32) | index, index, sample
            note(index + 1)

    def describe(self, task: int, index: int) -> str:
        """The sample's place in its shard."""
        return f"sample {index} of shard {self.shards[task]}"


def open_shard(shard: str) -> Any:
    """`webdataset.WebDataset` of one shard, whole and in its own order."""
    try:
        from webdataset import WebDataset
    except ImportError as error:
        raise WriterError("from_webdataset needs webdataset: pip install webdataset") from error
    # Versions differ in what they accept, and newer ones warn where nothing is said of the order.
    known = inspect.signature(WebDataset.__init__).parameters
    wanted = {"shardshuffle": False, "empty_check": False, "nodesplitter": None, "workersplitter": None}
    return WebDataset(shard, **{name: value for name, value in wanted.items() if name in known})
