"""Makes the batches of one epoch: a feeder opens them, workers fill them, a finisher completes them.

```
feeder     waits for a free slot and for the batch's pages, publishes the samples   (thread)
workers    take samples through the front of the schedule                           (engine)
finisher   runs the tail in batch order: foreign operations, torch, copies          (thread)
consumer   takes finished batches, gives slots back                                 (epoch iterator)
```
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import DecodeError, FfxError, OperationError
from ..kernels import step as words
from ..kernels import turbojpeg
from ..kernels.rng import seed_from
from ..memory_managers.base import MemoryContext
from ..pipeline.graph import Node
from ..pipeline.plan import Kind, Plan, Schedule, Step, is_per_sample, seed_generators
from .device import CudaLink, HostLink
from .engine import Engine, Stage
from .slots import Slot

__all__ = ["Batch", "Production", "Source"]

# A function that may be called on parts of a batch gets parts of this many samples, for any number of
# workers: what it draws from a generator of its own is then the same on every machine.
SLICE_SAMPLES = 32


@dataclass(frozen=True)
class Source:
    """What batches are made from.

    Attributes:
        file_name: for messages.
        metadata: one record a sample, members `f0`, `f1`, ….
        indices: each field's number in the file.
        context: the storage's open context (`ffx.memory_managers`).
        storage: address of the storage's words for native kernels, or 0.
    """

    file_name: str
    metadata: np.ndarray
    indices: dict[str, int]
    context: MemoryContext
    storage: int


@dataclass
class Batch:
    """A finished batch, or the error that took its place."""

    slot: Slot | None
    results: tuple
    error: BaseException | None = None


class Production:
    """One epoch in the making. `close` may be called at any moment, from any thread, and twice.

    Args:
        plan, schedule: what to do; the schedule is bound to this epoch.
        source: what to read.
        batches: sample indices of each batch, in order.
        occurrences: for each batch how often each sample came before; `None`: never.
        slots: memory; as many batches are under way at once.
        engine: the workers.
        link: the way to the device.
    """

    def __init__(
        self,
        plan: Plan,
        schedule: Schedule,
        source: Source,
        batches: Sequence[np.ndarray],
        occurrences: Sequence[np.ndarray] | None,
        slots: list[Slot],
        engine: Engine,
        link: HostLink | CudaLink,
    ) -> None:
        self.finished: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self.engine = engine
        self.link = link
        self._plan = plan
        self._schedule = schedule
        self._source = source
        self._batches = batches
        self._occurrences = occurrences
        self._slots = slots
        self._free = threading.Semaphore(len(slots))
        self._opened: queue.SimpleQueue[Slot | BaseException | None] = queue.SimpleQueue()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._feed, name="ffx-feeder", daemon=True),
            threading.Thread(target=self._finish, name="ffx-finisher", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def release(self, slot: Slot) -> None:
        """The consumer has gone on from the slot's batch."""
        self.link.release(slot)
        self._free.release()

    def close(self) -> None:
        """End all threads; what is half made is dropped."""
        self._closing = True
        self._free.release()
        self._opened.put(None)
        self.engine.close()
        for thread in self._threads:
            if thread is not threading.current_thread():
                thread.join()

    # --- feeder ---

    def _feed(self) -> None:
        try:
            for number, sample_ids in enumerate(self._batches):
                self._free.acquire()
                if self._closing:
                    return
                slot = self._slots[number % len(self._slots)]
                self._open(slot, number, sample_ids)
                self._opened.put(slot)
            self._opened.put(None)
        except BaseException as error:
            self._opened.put(error)

    def _open(self, slot: Slot, number: int, sample_ids: np.ndarray) -> None:
        self.link.wait_until_free(slot)
        if slot.reclaim() or slot.schedule is not self._schedule:
            slot.bind(self._schedule, self._source.metadata, self._source.indices, self._source.storage)
        count = len(sample_ids)
        slot.sample_ids[:count] = sample_ids
        slot.occurrences[:count] = 0 if self._occurrences is None else self._occurrences[number]
        self._source.context.start_batch(number)
        self.engine.submit(slot.front, count)

    # --- finisher ---

    def _finish(self) -> None:
        try:
            for number, sample_ids in enumerate(self._batches):
                slot = self._opened.get()
                if self._closing or slot is None:
                    return
                if isinstance(slot, BaseException):
                    raise slot
                self.finished.put(self._complete(slot, number, len(sample_ids)))
            self.finished.put(None)
        except BaseException as error:
            self.finished.put(Batch(None, (), error))

    def _complete(self, slot: Slot, number: int, count: int) -> Batch:
        self.engine.wait(slot.front)
        self._raise_failure(slot.front, self._schedule.front, slot)
        results: dict[Node, Any] = dict(slot.front_results(count))
        initialised: set[int] = set()
        with self.link.making(slot):
            for step in self._schedule.tail:
                try:
                    value = self._run(step, slot, results, count, initialised)
                except FfxError:
                    raise
                except Exception as error:
                    raise OperationError(
                        f"{self._source.file_name}: {step.node.label} failed in batch {number} "
                        f"({_listed(slot.sample_ids[:count])}): {type(error).__name__}: {error}"
                    ) from error
                results.update(dict.fromkeys((step.node, *step.aliases), value))
        return Batch(slot, tuple(results[node] for node in self._schedule.outputs))

    def _run(self, step: Step, slot: Slot, results: dict[Node, Any], count: int, initialised: set[int]):
        value = None if step.node.parent is None else results[step.node.parent]
        if step.kind is Kind.NATIVE:
            return self._run_native(step, slot, value, count)
        function = self._plan.function(step)
        shared = slot.shared(step, count)
        if shared is not None and id(step.node.operation) not in initialised:
            initialised.add(id(step.node.operation))
            self._plan.initialiser(step)(shared)
        arguments = _Arguments(self._source, step, slot, value, shared, function)
        if step.kind is Kind.COMPILED and shared is None and is_per_sample(step.node.operation):
            return self._run_slices(step, slot, arguments, count)
        return self._call(step, slot, arguments, 0, count)

    def _call(self, step: Step, slot: Slot, arguments: _Arguments, first: int, stop: int):
        if step.kind is Kind.COMPILED:
            seed_generators(seed_from(step.random_key, slot.sample_ids[first:stop]))
        return arguments.function(*arguments.part(first, stop))

    def _run_slices(self, step: Step, slot: Slot, arguments: _Arguments, count: int):
        """Call a function that treats each sample by itself on parts of the batch, on all workers."""
        bounds = [(first, min(first + SLICE_SAMPLES, count)) for first in range(0, count, SLICE_SAMPLES)]
        calls: list[Callable] = [
            lambda first=first, stop=stop: self._call(step, slot, arguments, first, stop) for first, stop in bounds
        ]
        parts = self.engine.call(calls)
        for whole in arguments.places(count):
            if all(_is_same_place(part, whole[first:stop]) for part, (first, stop) in zip(parts, bounds, strict=True)):
                return whole
        return np.concatenate(parts)

    def _run_native(self, step: Step, slot: Slot, value: np.ndarray | None, count: int) -> np.ndarray:
        source = None if value is None else np.ascontiguousarray(value)
        target = slot.target(step, source)
        slot.connect(step, source, target)
        stage = slot.stage(step)
        self.engine.submit(stage, count)
        self.engine.wait(stage)
        self._raise_failure(stage, (step,), slot)
        return target[:count]

    def _raise_failure(self, stage: Stage, steps: Sequence[Step], slot: Slot) -> None:
        if stage.failure is None:
            return
        index, position, status = stage.failure
        if status == words.NO_DECODER:
            turbojpeg.load()  # Raises, and says how to get a library.
        field, sample_id = steps[index].node.field_name, int(slot.sample_ids[position])
        reason = words.STATUS_TEXT.get(status, f"its kernel returned {status}")
        raise DecodeError(
            f"{self._source.file_name}: field {field!r} of sample {sample_id} cannot be used: {reason}",
            field=field,
            sample_id=sample_id,
        )


class _Arguments:
    """The arguments of a step's function, for the whole batch or for a part of it."""

    def __init__(self, source: Source, step: Step, slot: Slot, value, shared, function) -> None:
        self._source = source
        self._step = step
        self._slot = slot
        self._value = value
        self._shared = shared
        self.function = function

    def part(self, first: int, stop: int) -> list:
        """In FFCV's order, then the random streams if they are wanted."""
        sample_ids = self._slot.sample_ids[first:stop]
        decodes = self._step.node.parent is None
        arguments = [sample_ids if decodes else self._value[first:stop], _slice(self._memory(), first, stop)]
        if self.function.with_indices:
            arguments.append(sample_ids)
        if decodes:
            number = self._source.indices[self._step.node.field_name]
            arguments += [self._source.metadata[f"f{number}"], self._source.context.state]
        if self._shared is not None:
            arguments.append(self._shared)
        if self.function.with_random:
            arguments.append(self._streams(first, stop))
        return arguments

    def places(self, count: int) -> list[np.ndarray]:
        """Where a result may lie: in the step's own memory, or in what it was given."""
        memory = self._memory()
        own = memory if isinstance(memory, tuple) else () if memory is None else (memory,)
        given = () if self._value is None else (self._value,)
        return [place[:count] for place in (*own, *given)]

    def _memory(self):
        return self._slot.memory(self._step, self._slot.batch_size)

    def _streams(self, first: int, stop: int) -> np.ndarray:
        streams = np.empty((stop - first, 3), dtype=np.uint64)
        streams[:, 0] = np.int64(self._step.random_key).view(np.uint64)
        streams[:, 1] = self._slot.sample_ids[first:stop]
        streams[:, 2] = self._slot.occurrences[first:stop]
        return streams


def _slice(memory, first: int, stop: int):
    if isinstance(memory, tuple):
        return tuple(_slice(part, first, stop) for part in memory)
    return None if memory is None else memory[first:stop]


def _is_same_place(part: np.ndarray, expected: np.ndarray) -> bool:
    return (
        isinstance(expected, np.ndarray)
        and part.dtype == expected.dtype
        and part.shape == expected.shape
        and part.strides == expected.strides
        and part.ctypes.data == expected.ctypes.data
    )


def _listed(sample_ids: np.ndarray) -> str:
    shown = ", ".join(str(int(sample)) for sample in sample_ids[:4])
    return f"samples {shown}, …" if len(sample_ids) > 4 else f"samples {shown}"
