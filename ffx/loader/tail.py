"""Runs what the workers leave of a batch: its results by node, step by step, in one thread.

Each kind of step has its way: a native step goes to the workers by sample, a compiled function that
treats samples alone by slices, any other function gets the whole batch here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..errors import FfxError, OperationError
from ..kernels.rng import seed_from
from ..memory_managers.base import MemoryContext
from ..pipeline.graph import Node
from ..pipeline.operation import FileRange, NativeStep
from ..pipeline.plan import Kind, Plan, Schedule, Step, is_per_sample, seed_generators
from ..reader import Reader
from .damage import sample_error
from .engine import Engine
from .slots import Slot

__all__ = ["Source", "Tail"]

# A function that may be called on parts of a batch gets parts of this many samples, for any number of
# workers: what it draws from a generator of its own is then the same on every machine.
SLICE_SAMPLES = 32


@dataclass(frozen=True)
class Source:
    """What batches are made from.

    Attributes:
        reader: the file.
        indices: each field's number in the file.
        context: the storage's open context.
        storage: the storage's words for native kernels, `int64[STORAGE_WORDS]`.
        file_data: what of the file lies in a device's memory, `uint8[bytes]`.
        check: what samples go through before anything else (`ffx.loader.verification`), or `None`.
    """

    reader: Reader
    indices: dict[str, int]
    context: MemoryContext
    storage: np.ndarray
    file_data: Mapping[FileRange, torch.Tensor]
    check: NativeStep | None = None

    @property
    def metadata(self) -> np.ndarray:
        """One record a sample, members `f0`, `f1`, …."""
        return self.reader.metadata

    @property
    def file_name(self) -> str:
        """For messages."""
        return self.reader.file_name


class Tail:
    """The tail of a schedule.

    Args:
        plan: has the operations' functions.
        schedule: what to run.
        source: what decoders read.
        engine: the workers.
    """

    def __init__(self, plan: Plan, schedule: Schedule, source: Source, engine: Engine) -> None:
        self._plan = plan
        self._schedule = schedule
        self._source = source
        self._engine = engine

    def results(self, slot: Slot, number: int, sample_ids: np.ndarray) -> tuple:
        """What the consumer gets for a batch whose front is done.

        Args:
            slot: where it was made.
            number: of the batch in its epoch, for messages.
            sample_ids: its samples' indices, `uint64[count]`.

        Raises:
            LoaderError: names the operation and the samples; the cause is the original exception.
        """
        making = _Making(slot, sample_ids, dict(slot.front_results(len(sample_ids))), set())
        for step in self._schedule.tail:
            try:
                value = self._run(step, making)
            except FfxError:
                raise
            except Exception as error:
                raise OperationError(
                    f"{self._source.file_name}: {step.node.label} failed in batch {number} "
                    f"({_listed(sample_ids)}): {type(error).__name__}: {error}"
                ) from error
            making.values.update(dict.fromkeys((step.node, *step.aliases), value))
        return tuple(making.values[node] for node in self._schedule.outputs)

    def _run(self, step: Step, making: _Making) -> Any:
        if step.kind is Kind.NATIVE:
            return self._run_native(step, making)
        if step.kind is Kind.COMPILED and self._is_sliceable(step):
            return self._run_slices(step, making)
        arguments = self._arguments(step, making, slice(0, making.count), self._value_to_change(step, making))
        return self._call(step, making.sample_ids, arguments)

    @staticmethod
    def _is_sliceable(step: Step) -> bool:
        return step.declaration.shared_memory is None and is_per_sample(step.node.operation)

    def _call(self, step: Step, sample_ids: np.ndarray, arguments: list) -> Any:
        if step.kind is Kind.COMPILED:
            seed_generators(seed_from(step.random_key, sample_ids))
        return self._plan.function(step)(*arguments)

    def _value_to_change(self, step: Step, making: _Making) -> Any:
        """What a function gets, which may change it: a copy where somebody else wants it as it is."""
        value = making.value_for(step)
        if step.node.parent not in self._schedule.shared:
            return value
        return value.clone() if isinstance(value, torch.Tensor) else np.array(value)

    def _run_native(self, step: Step, making: _Making) -> np.ndarray:
        source = making.value_for(step)
        if source is not None:
            source = np.ascontiguousarray(source)
            previous = step.declaration.previous
            if source.dtype != previous.dtype or source.shape != (making.count, *previous.shape):
                raise OperationError(
                    f"{step.node.label} was promised {previous.dtype} of shape {(making.count, *previous.shape)}, but "
                    f"{step.node.parent.label if step.node.parent else 'its source'} made {source.dtype} of shape "
                    f"{source.shape}: what an operation declares and what it returns must agree"
                )
        room = None if step.native.room is None else step.native.room(source)
        target = making.slot.target(step) if room is None else making.slot.room(step, room)
        making.slot.connect(step, source, target)
        stage = making.slot.stage(step)
        self._engine.submit(stage, making.count)
        self._engine.wait(stage)
        if stage.failure is not None:
            _, position, status = stage.failure
            raise sample_error(self._source.reader, step.node.field_name, int(making.sample_ids[position]), status)
        return target[: making.count] if room is None else target

    def _run_slices(self, step: Step, making: _Making) -> np.ndarray:
        """Call a function that treats each sample by itself on parts of the batch, on all workers."""
        value = self._value_to_change(step, making)
        self._plan.function(step)  # Compiled here, once, and not by every worker.
        bounds = [
            slice(first, min(first + SLICE_SAMPLES, making.count)) for first in range(0, making.count, SLICE_SAMPLES)
        ]

        def call(part: slice) -> Any:
            given = None if value is None else value[part]
            return self._call(step, making.sample_ids[part], self._arguments(step, making, part, given))

        calls: list[Callable] = [lambda part=part: call(part) for part in bounds]
        results = self._engine.call(calls)
        for place in self._places(step, making, value):
            if all(_is_same_place(result, place[part]) for result, part in zip(results, bounds, strict=True)):
                return place
        return np.concatenate(results)

    def _places(self, step: Step, making: _Making, value: Any) -> list:
        """Where a result may lie: in the step's own memory, or in what it was given."""
        memory = making.slot.memory(step, making.count)
        own = memory if isinstance(memory, tuple) else () if memory is None else (memory,)
        return [*own, *(() if value is None else (value,))]

    def _arguments(self, step: Step, making: _Making, part: slice, value: Any) -> list:
        """In FFCV's order, then the random streams if they are wanted."""
        function = self._plan.function(step)
        sample_ids = making.sample_ids[part]
        decodes = step.node.parent is None
        arguments = [sample_ids if decodes else value, _part_of(making.slot.memory(step, making.count), part)]
        if function.with_indices:
            arguments.append(sample_ids)
        if decodes:
            number = self._source.indices[step.node.field_name]
            arguments += [self._source.metadata[f"f{number}"], self._source.context.state]
        elif function.with_storage:
            arguments.append(self._source.context.state)
        if function.with_file_data:
            arguments.append(self._source.file_data[step.declaration.file_range])
        if step.declaration.shared_memory is not None:
            arguments.append(self._shared(step, making))
        if function.with_random:
            arguments.append(_streams(step.random_key, sample_ids, making.slot.occurrences[part]))
        return arguments

    def _shared(self, step: Step, making: _Making) -> Any:
        """The step's shared memory, initialised by the first step of the batch that needs it."""
        shared = making.slot.shared(step, making.count)
        initialise = self._plan.initialiser(step)
        if id(step.node.operation) not in making.initialised and initialise is not None:
            making.initialised.add(id(step.node.operation))
            seed_generators(seed_from(step.random_key, making.sample_ids))
            initialise(shared)
        return shared


@dataclass
class _Making:
    """A batch in its tail: what has been made of it so far."""

    slot: Slot
    sample_ids: np.ndarray
    values: dict[Node, Any]
    initialised: set[int]

    @property
    def count(self) -> int:
        return len(self.sample_ids)

    def value_for(self, step: Step) -> Any:
        """What a step gets from the one before it; `None` for a decoder."""
        return None if step.node.parent is None else self.values[step.node.parent]


def _part_of(memory: Any, part: slice) -> Any:
    if isinstance(memory, tuple):
        return tuple(_part_of(one, part) for one in memory)
    return None if memory is None else memory[part]


def _streams(key: int, sample_ids: np.ndarray, occurrences: np.ndarray) -> np.ndarray:
    streams = np.empty((len(sample_ids), 3), dtype=np.uint64)
    streams[:, 0] = np.int64(key).view(np.uint64)
    streams[:, 1] = sample_ids
    streams[:, 2] = occurrences
    return streams


def _is_same_place(found: Any, expected: Any) -> bool:
    return (
        isinstance(found, np.ndarray)
        and isinstance(expected, np.ndarray)
        and found.dtype == expected.dtype
        and found.shape == expected.shape
        and found.strides == expected.strides
        and found.ctypes.data == expected.ctypes.data
    )


def _listed(sample_ids: np.ndarray) -> str:
    shown = ", ".join(str(int(sample)) for sample in sample_ids[:4])
    return f"samples {shown}, …" if len(sample_ids) > 4 else f"samples {shown}"
