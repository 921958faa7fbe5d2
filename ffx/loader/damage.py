"""Samples that cannot be used: the error that names one, and what is done with it instead of raising that."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from ..errors import DecodeError, LoaderError, SampleChecksumError
from ..format import FileIndex, field_of_row
from ..kernels import step as words
from ..kernels import turbojpeg
from ..kernels.rng import epoch_key, operation_key, uniform
from ..kernels.xxh3 import xxh3
from .engine import Engine, split_failure
from .slots import Slot

__all__ = ["ON_ERROR", "Culprit", "Mending", "sample_error"]

_log = logging.getLogger("ffx.loader")

ON_ERROR = ("raise", "skip", "substitute")

# What says nothing about the sample, so that another one would fail as well.
_NOT_THE_SAMPLES_FAULT = (words.NO_MEMORY, words.NO_DECODER)
# Of the substitutes that are drawn for a sample so many may be damaged as well, or be the sample itself.
_ATTEMPTS = 64
# A substitute draws the crop and flip of an occurrence that no epoch has by itself.
_STAND_IN = 1 << 31
_SUBSTITUTES = operation_key("substitutes", 0)


@dataclass(frozen=True)
class Culprit:
    """A sample that could not be used, once.

    Attributes:
        epoch, batch: when it came; batches count from the epoch's beginning (of this rank).
        sample_id: its index in the file.
        field: the field that could not be used, or `None` where that is not known.
        reason: why, in words.
        substitute: the sample that came in its place, or `None` where it was left out.
    """

    epoch: int
    batch: int
    sample_id: int
    field: str | None
    reason: str
    substitute: int | None = None


def sample_error(index: FileIndex, field: str | None, sample_id: int, status: int) -> DecodeError:
    """The error for a sample that a kernel refused with a status.

    Raises:
        LibraryError: there is no decoder.
    """
    if status == words.NO_DECODER:
        turbojpeg.load()  # Raises, and says how to get a library.
    reason = words.STATUS_TEXT.get(status, f"its kernel returned {status}")
    if status != words.DAMAGED:
        message = f"{index.path}: field {field!r} of sample {sample_id} cannot be used: {reason}"
        return DecodeError(message, field=field, sample_id=sample_id)
    row = _damaged_row(index, sample_id)
    field = None if row is None else field_of_row(index, row)
    offset = None if row is None else int(index.pointers[row])
    where = f"field {field!r} of sample {sample_id}" if field else f"sample {sample_id}"
    at = "" if offset is None else f" ({int(index.sizes[row])} bytes at offset {offset})"
    message = f"{index.path}: {where} cannot be used: {reason}{at}; `ffx verify` lists all such samples"
    return SampleChecksumError(message, index.path, field, sample_id, offset)


def _damaged_row(index: FileIndex, sample_id: int) -> int | None:
    """Which row of a sample differs from its checksum; `None` if none does any more."""
    assert index.checksums is not None
    with open(index.path, "rb") as handle:
        for row in np.flatnonzero(index.sample_ids == sample_id).tolist():
            data = os.pread(handle.fileno(), int(index.sizes[row]), int(index.pointers[row]))
            if xxh3(data) != int(index.checksums[row]):
                return row
    return None


class Mending:
    """What an epoch does with samples that its front refuses.

    Args:
        on_error: `"raise"`, `"skip"` (the batch is shorter) or `"substitute"` (another sample of the loader's comes
            in its place, chosen by seed, epoch and sample alone, so on any rank and in any batch it is the same one).
        index: the file.
        fields: the field of each step of the front; `None` for the check of the checksums.
        candidates: `uint64[n]`, samples that may come in another's place.
        seed, epoch: of the epoch.
        first_batch: the number of the epoch's first batch here, for the journal.
        anywhere: gives the address of a storage's words in which every sample is found; `None`: the slot's own is one.
    """

    def __init__(
        self,
        on_error: str,
        index: FileIndex,
        fields: Sequence[str | None],
        candidates: np.ndarray,
        seed: int,
        epoch: int,
        first_batch: int = 0,
        anywhere: Callable[[], int] | None = None,
    ) -> None:
        self._on_error = on_error
        self._index = index
        self._fields = fields
        self._candidates = candidates
        self._key = epoch_key(seed, epoch, _SUBSTITUTES)
        self._epoch = epoch
        self._first_batch = first_batch
        self._anywhere = anywhere

    def mend(self, slot: Slot, number: int, count: int, engine: Engine) -> tuple[int, list[Culprit]]:
        """Deal with what failed in the front of a slot's batch.

        Args:
            slot: its front is complete.
            number: of the batch.
            count: its samples.
            engine: runs the front for substitutes.

        Returns:
            how many samples the batch has now, and who was left out or replaced.

        Raises:
            DecodeError: a sample cannot be used, and is to be an error.
            LoaderError: no substitute could be found.
        """
        if slot.front is None or slot.front.failure is None:
            return count, []
        culprits = []
        places = np.flatnonzero(slot.failures[:count])
        for place in places.tolist():
            step, _, status = split_failure(int(slot.failures[place]))
            sample_id = int(slot.sample_ids[place])
            error = sample_error(self._index, self._fields[step], sample_id, status)
            if self._on_error == "raise" or status in _NOT_THE_SAMPLES_FAULT:
                raise error
            substitute = self._substitute(slot, place, engine, error) if self._on_error == "substitute" else None
            batch = self._first_batch + number
            culprits.append(Culprit(self._epoch, batch, sample_id, error.field, str(error), substitute))
            action = "left out" if substitute is None else f"sample {substitute} comes in its place"
            _log.warning("epoch %d, batch %d: %s: %s", self._epoch, batch, error, action)
        if self._on_error == "skip":
            slot.keep(np.flatnonzero(slot.failures[:count] == 0))
            count -= len(places)
        return count, culprits

    def _substitute(self, slot: Slot, place: int, engine: Engine, error: DecodeError) -> int:
        sample_id, occurrence = int(slot.sample_ids[place]), int(slot.occurrences[place])
        slot.occurrences[place] = _STAND_IN | (sample_id & (_STAND_IN - 1))
        storage: AbstractContextManager = (
            nullcontext() if self._anywhere is None else slot.reading_from(self._anywhere())
        )
        with storage:
            for attempt in range(_ATTEMPTS):
                drawn = uniform(self._key, sample_id, occurrence, attempt)
                substitute = self._candidates[int(drawn * len(self._candidates))]
                if substitute == sample_id:
                    continue
                slot.sample_ids[place] = substitute
                slot.failures[place] = 0
                engine.submit(slot.front, place + 1, place)
                engine.wait(slot.front)
                if slot.failures[place] == 0:
                    return int(substitute)
        raise LoaderError(
            f"{error}; and of {_ATTEMPTS} samples drawn to come in its place none can be used either: look at the file "
            "with `ffx verify`"
        ) from error
