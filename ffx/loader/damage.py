"""Samples that cannot be used: the error that names one, and what is done with it instead of raising that."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from ..errors import DecodeError, LoaderError, SampleChecksumError
from ..format import field_of_row
from ..kernels import step as words
from ..kernels import turbojpeg
from ..kernels.rng import epoch_key, operation_key, uniform
from ..kernels.xxh3 import xxh3
from ..memory_managers import OSCacheManager
from ..memory_managers.base import MemoryContext, open_again
from ..reader import Reader
from .engine import Engine, split_failure
from .slots import Slot

__all__ = ["ON_ERROR", "Culprit", "Mending", "sample_error"]

_log = logging.getLogger("ffx.loader")

ON_ERROR = ("raise", "skip", "substitute")

# What says nothing about the sample, so that another one would fail as well.
_NOT_THE_SAMPLES_FAULT = (words.NO_MEMORY, words.NO_DECODER)
# Of the substitutes that are drawn for a sample so many may be damaged as well, or be the sample itself.
_ATTEMPTS = 64
# A substitute draws the crop and flip of an occurrence that no epoch has by itself, one for each sample (and each of
# its occurrences) that it stands in for.
_STAND_IN = 1 << 31
_ODD = 0x9E3779B1
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


def sample_error(reader: Reader, field: str | None, sample_id: int, status: int) -> DecodeError:
    """The error for a sample that a kernel refused with a status.

    Raises:
        LibraryError: there is no decoder.
    """
    if status == words.NO_DECODER:
        turbojpeg.load()  # Raises, and says how to get a library.
    path, index = reader.file_name, reader.index
    reason = words.STATUS_TEXT.get(status, f"its kernel returned {status}")
    if status != words.DAMAGED:
        message = f"{path}: field {field!r} of sample {sample_id} cannot be used: {reason}"
        return DecodeError(message, field=field, sample_id=sample_id)
    row = _damaged_row(reader, sample_id)
    field = None if row is None else field_of_row(index, row)
    offset = None if row is None else int(index.pointers[row])
    where = f"field {field!r} of sample {sample_id}" if field else f"sample {sample_id}"
    at = "" if offset is None else f" ({int(index.sizes[row])} bytes at offset {offset})"
    message = f"{path}: {where} cannot be used: {reason}{at}; `ffx verify` lists all such samples"
    return SampleChecksumError(message, path, field, sample_id, offset)


def _damaged_row(reader: Reader, sample_id: int) -> int | None:
    """Which row of a sample differs from its checksum; `None` if none does (any more), or the file is gone."""
    index = reader.index
    assert index.checksums is not None
    try:
        with open_again(reader) as handle:
            for row in np.flatnonzero(index.sample_ids == sample_id).tolist():
                data = os.pread(handle.fileno(), int(index.sizes[row]), int(index.pointers[row]))
                if xxh3(data) != int(index.checksums[row]):
                    return row
    except (OSError, LoaderError):
        # The sample is known; where in the file it was damaged would only have been more to say.
        pass
    return None


class Mending:
    """What an epoch does with samples that its front refuses.

    Args:
        on_error: `"raise"`, `"skip"` (the batch is shorter) or `"substitute"` (another sample of the loader's comes in
            its place: which one depends on the seed, the epoch, and the sample and its occurrence in it, so it is the
            same one on any rank and in any batch).
        reader: the file.
        fields: the field of each step of the front; `None` for the check of the checksums.
        candidates: `uint64[n]`, samples that may come in another's place.
        seed, epoch: of the epoch.
        first_batch: the number of the epoch's first batch here, for the journal.
        is_mapped: the slots' storage has every sample at any time; else substitutes are read from a map made for them.
        context: the slots' storage: asked for a substitute, and to read what is damaged again.
    """

    def __init__(
        self,
        on_error: str,
        reader: Reader,
        fields: Sequence[str | None],
        candidates: np.ndarray,
        seed: int,
        epoch: int,
        first_batch: int,
        is_mapped: bool,
        context: MemoryContext,
    ) -> None:
        self._on_error = on_error
        self._reader = reader
        self._fields = fields
        self._candidates = candidates
        self._key = epoch_key(seed, epoch, _SUBSTITUTES)
        self._epoch = epoch
        self._first_batch = first_batch
        self._is_mapped = is_mapped
        self._context = context
        self._elsewhere: tuple[MemoryContext, np.ndarray] | None = None

    def mend(self, slot: Slot, number: int, count: int, engine: Engine, culprits: list[Culprit]) -> int:
        """Deal with what failed in the front of a slot's batch.

        Args:
            slot: its front is complete.
            number: of the batch.
            count: its samples.
            engine: runs the front for substitutes.
            culprits: gets who was left out or replaced.

        Returns:
            how many samples the batch has now.

        Raises:
            DecodeError: a sample cannot be used, and is to be an error.
            LoaderError: no substitute could be found.
        """
        if slot.front is None or slot.front.failure is None:
            return count
        places = np.flatnonzero(slot.failures[:count])
        for place in places.tolist():
            sample_id = int(slot.sample_ids[place])
            if self._is_renewed(slot, place, engine):
                continue
            error = self._error(sample_id, int(slot.failures[place]))
            if self._on_error == "raise":
                raise error
            substitute = self._substitute(slot, place, engine, error) if self._on_error == "substitute" else None
            batch = self._first_batch + number
            culprits.append(Culprit(self._epoch, batch, sample_id, error.field, str(error), substitute))
            action = "left out" if substitute is None else f"sample {substitute} comes in its place"
            _log.warning("epoch %d, batch %d: %s: %s", self._epoch, batch, error, action)
        if self._on_error == "skip":
            kept = np.flatnonzero(slot.failures[:count] == 0)
            if len(kept) < count:
                slot.keep(kept)
            count = len(kept)
        return count

    def reading(self, slot: Slot, mended: bool) -> AbstractContextManager:
        """While the tail of a batch is run: its steps find the data of substitutes, too."""
        elsewhere = mended and self._on_error == "substitute" and not self._is_mapped
        return slot.reading_from(self._mapped_words()) if elsewhere else nullcontext()

    def _is_renewed(self, slot: Slot, place: int, engine: Engine) -> bool:
        """Whether a damaged sample could be read again, and then was right: where storage is a copy of the file."""
        damaged = split_failure(int(slot.failures[place]))[2] == words.DAMAGED
        if not damaged or not self._context.renew(slot.sample_ids[place : place + 1].copy()):
            return False
        slot.failures[place] = 0
        engine.submit(slot.front, place + 1, place)
        engine.wait(slot.front)
        return bool(slot.failures[place] == 0)

    def _error(self, sample_id: int, failure: int) -> DecodeError:
        """What went wrong with a sample, as an error; raised at once where another sample would fail as well."""
        step, _, status = split_failure(failure)
        error = sample_error(self._reader, self._fields[step], sample_id, status)
        if status in _NOT_THE_SAMPLES_FAULT:
            raise error
        return error

    def _substitute(self, slot: Slot, place: int, engine: Engine, error: DecodeError) -> int:
        sample_id, occurrence = int(slot.sample_ids[place]), int(slot.occurrences[place])
        slot.occurrences[place] = _STAND_IN | ((sample_id + _ODD * occurrence) & (_STAND_IN - 1))
        with self.reading(slot, True):
            for attempt in range(_ATTEMPTS):
                drawn = uniform(self._key, sample_id, occurrence, attempt)
                substitute = int(self._candidates[int(drawn * len(self._candidates))])
                if substitute == sample_id:
                    continue
                self._context.bring(np.array([substitute]))
                slot.sample_ids[place] = substitute
                slot.failures[place] = 0
                engine.submit(slot.front, place + 1, place)
                engine.wait(slot.front)
                if slot.failures[place] == 0:
                    return substitute
                # Not asked for its error where the next one may do.
                if split_failure(int(slot.failures[place]))[2] in _NOT_THE_SAMPLES_FAULT:
                    self._error(substitute, int(slot.failures[place]))
        raise LoaderError(
            f"{error}; and of {_ATTEMPTS} samples drawn to come in its place none can be used either: look at the file "
            "with `ffx verify`"
        ) from error

    def _mapped_words(self) -> int:
        """Address of the words of a storage that has the whole file mapped; kept as long as this is."""
        if self._elsewhere is None:
            context = OSCacheManager(self._reader).schedule_epoch([])
            self._elsewhere = (context, context.storage_words())
        return self._elsewhere[1].ctypes.data
