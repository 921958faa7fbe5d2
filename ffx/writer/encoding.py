"""Encoding a source's samples task by task: what one process needs for it, and all of it where there is only one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FfxError, SampleError
from ..fields.base import Field
from .assembly import write_part
from .blocks import BLOCK_BYTES
from .encoder import Encoder, Part
from .pillow_settings import PillowSettings
from .sources import Source

__all__ = ["Accept", "Advance", "Job", "Place", "describe", "encode_here", "encode_task"]

# A part is handed over when it has so many bytes or samples: a little less than a block, so that its last sample
# seldom needs another.
_PART_BYTES = BLOCK_BYTES // 8 * 7
_PART_SAMPLES = 512

Accept = Callable[[Part], np.ndarray]
Advance = Callable[[int], object]


@dataclass(frozen=True)
class Job:
    """What every worker needs to know.

    Attributes:
        source: gives the samples.
        fields: field name -> field.
        seed: for random draws of fields.
        path: the file to write to.
        pillow: what the parent has set.
    """

    source: Source
    fields: Mapping[str, Field]
    seed: int
    path: Path
    pillow: PillowSettings


class Place:
    """Which sample is being worked on; also visible to the parent of a worker that dies."""

    def __init__(self, shared: Any = None, number: int = 0) -> None:
        self.shared, self.number = shared, 2 * number
        self.task, self.index = -1, -1

    def enter(self, task: int) -> None:
        """A task begins."""
        self.task, self.index = task, -1
        self._show()

    def note(self, index: int) -> None:
        """The sample of this index in the source is next."""
        self.index = index
        self._show()

    def _show(self) -> None:
        if self.shared is not None:
            self.shared[self.number], self.shared[self.number + 1] = self.task, self.index


def describe(source: Source, task: int, index: int) -> str:
    """The sample of a task in words."""
    return source.describe(source.tasks[task], index) if index >= 0 else f"task {task}"


def encode_task(encoder: Encoder, job: Job, place: Place, number: int) -> Iterator[bool]:
    """Encode a task's samples one after the other: True after each where a part is to be handed over.

    Raises:
        SampleError: a sample cannot be fetched or stored.
    """
    place.enter(number)
    samples = job.source.samples(job.source.tasks[number], place.note)
    while _encode_next(encoder, samples, job.source, place):
        yield encoder.bytes_held >= _PART_BYTES or len(encoder) >= _PART_SAMPLES


def _encode_next(encoder: Encoder, samples: Any, source: Source, place: Place) -> bool:
    """Encode one more sample of a task; False at its end. Whatever goes wrong names the sample."""
    try:
        item = next(samples, None)
        if item is None:
            return False
        encoder.add(*item)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        text = str(error) if isinstance(error, FfxError) else f"{type(error).__name__}: {error}"
        raise SampleError(f"{describe(source, place.task, place.index)}: {text}", place.index) from error
    return True


def encode_here(job: Job, descriptor: int, accept: Accept, advance: Advance) -> None:
    """Encode and write everything in this process.

    Raises:
        SampleError: a sample cannot be fetched or stored.
    """
    encoder, place = Encoder(job.fields, job.seed), Place()

    def store() -> None:
        part = encoder.take()
        write_part(descriptor, accept(part), part.sizes, part.stream)
        encoder.pool.give_back(part.blocks)
        advance(len(part.sizes))

    for number in range(len(job.source.tasks)):
        for full in encode_task(encoder, job, place, number):
            if full:
                store()
    store()
