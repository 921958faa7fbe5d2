"""A slot: the memory in which one batch is made, used again for later batches.

A result that the consumer still holds is never overwritten: before a slot is filled again, each of
its arrays that somebody else refers to is replaced by a new one. So `list(loader)` is right, and the
usual loop allocates nothing after its first few batches.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from ..kernels import step as words
from ..pipeline.allocation_query import AllocationQuery, allocate
from ..pipeline.graph import Node
from ..pipeline.operation import NativeStep
from ..pipeline.plan import Kind, Schedule, Step
from .engine import Stage

__all__ = ["Slot", "SlotPool", "layout_of", "select"]


def select(memory, count: int):
    """The first `count` samples of a buffer, of each of a tuple of buffers, or `None`."""
    if memory is None:
        return None
    if isinstance(memory, tuple):
        return tuple(select(part, count) for part in memory)
    return memory[:count]


def layout_of(schedule: Schedule, batch_size: int, pinned: bool) -> tuple:
    """What a slot's memory depends on: two schedules with one layout can share slots."""
    queries = tuple(
        (step.node, step.kind, _as_tuple(step.declaration.memory), step.declaration.shared_memory)
        for step in schedule.steps
    )
    return batch_size, pinned, queries


def _as_tuple(memory) -> tuple:
    if memory is None:
        return ()
    queries = (memory,) if isinstance(memory, AllocationQuery) else tuple(memory)
    return tuple((tuple(query.shape), str(query.dtype), str(query.device)) for query in queries)


class Slot:
    """The buffers of one batch in the making, and the words by which workers find them.

    Attributes:
        sample_ids: `uint64[batch]`, the samples' indices in the file.
        occurrences: `uint32[batch]`, how often each came before in this epoch.
        failures: `int64[batch]`, what went wrong with each in the front (`ffx.loader.engine.split_failure`), or 0.
        front: the stage of the schedule's native front, behind the check of the samples' checksums if there is one.
        gives_host_memory: some result that the consumer gets lies in the slot's host memory.
        ready: event after which host buffers are no longer read by copies (GPU only).
        consumed: event after which the consumer no longer reads device buffers (GPU only).
    """

    def __init__(self, schedule: Schedule, batch_size: int, pinned: bool) -> None:
        self.batch_size = batch_size
        self.pinned = pinned
        self.sample_ids = np.zeros(batch_size, dtype=np.uint64)
        self.occurrences = np.zeros(batch_size, dtype=np.uint32)
        self.failures = np.zeros(batch_size, dtype=np.int64)
        self.gives_host_memory = any(
            step.declaration.state.device.type == "cpu"
            for step in schedule.steps
            if not {step.node, *step.aliases}.isdisjoint(schedule.outputs)
        )
        self.ready = None
        self.consumed = None
        self.front: Stage | None = None
        self._memory: dict[Node, list] = {}
        self._queries: dict[Node, list[AllocationQuery]] = {}
        self._is_tuple: dict[Node, bool] = {}
        self._shared: dict[int, object] = {}
        self._words: dict[Node, np.ndarray] = {}
        self._check: np.ndarray | None = None
        self._stages: dict[Node, Stage] = {}
        self._targets: dict[Node, np.ndarray] = {}
        self.schedule: Schedule | None = None
        for step in schedule.steps:
            self._allocate(step)
        self._at_rest = self._count_references()

    def _allocate(self, step: Step) -> None:
        declaration = step.declaration
        memory = declaration.memory
        single = isinstance(memory, AllocationQuery)
        queries: list[AllocationQuery] = []
        if memory is not None:
            queries = [memory] if isinstance(memory, AllocationQuery) else list(memory)
        if step.kind is Kind.NATIVE:
            # A kernel writes to one target and takes scratch memory from its thread.
            queries = queries[:1]
            single = True
        self._queries[step.node] = queries
        self._is_tuple[step.node] = not single
        self._memory[step.node] = [allocate(query, self.batch_size, self.pinned) for query in queries]
        if declaration.shared_memory is not None and id(step.node.operation) not in self._shared:
            self._shared[id(step.node.operation)] = allocate(declaration.shared_memory, self.batch_size)

    def memory(self, step: Step, count: int):
        """What a step's function gets as its memory."""
        buffers = tuple(buffer[:count] for buffer in self._memory[step.node])
        if self._is_tuple[step.node]:
            return buffers or None
        return buffers[0] if buffers else None

    def shared(self, step: Step, count: int):
        """A step's shared memory, or `None`; an operation that stands twice has one."""
        return select(self._shared.get(id(step.node.operation)), count)

    def target(self, step: Step) -> np.ndarray:
        """The whole buffer that a native step writes to."""
        return self._memory[step.node][0]

    def room(self, step: Step, count: int) -> np.ndarray:
        """`uint8[count]` of a step whose result has a size of its own: its buffer, or a larger one from now on."""
        buffers = self._memory[step.node]
        if buffers[0].nbytes < count:
            # An eighth more, so that slowly growing batches do not allocate each time.
            query = AllocationQuery((count * 9 // 8 // self.batch_size + 1,), buffers[0].dtype)
            self._queries[step.node] = [query]
            buffers[0] = allocate(query, self.batch_size, self.pinned)
        return buffers[0].reshape(-1)[:count]

    def bind(
        self,
        schedule: Schedule,
        metadata: np.ndarray,
        indices: dict[str, int],
        storage: int,
        check: NativeStep | None = None,
    ) -> None:
        """Prepare the slot for an epoch: where its kernels read and write, the epoch's random keys.

        Args:
            schedule: of this epoch, with the layout that the slot was made for.
            metadata: one record a sample of the file, members `f0`, `f1`, ….
            indices: each field's number in the file.
            storage: address of the storage's words.
            check: what samples go through before the front.
        """
        self._write_words(schedule, metadata, indices, storage, check)
        # Counted here, where no local variable refers to a buffer.
        self._at_rest = self._count_references()

    def _write_words(
        self,
        schedule: Schedule,
        metadata: np.ndarray,
        indices: dict[str, int],
        storage: int,
        check: NativeStep | None,
    ) -> None:
        targets: dict[Node, np.ndarray] = {}
        rows = [] if check is None else [self._check_words(check, storage)]
        for step in schedule.steps:
            if step.kind is not Kind.NATIVE:
                continue
            block = self._common_words(step.native, storage)
            self._words[step.node] = block
            column = metadata[f"f{indices[step.node.field_name]}"]
            block[words.RANDOM_KEY] = step.random_key
            block[words.METADATA] = column.ctypes.data
            block[words.METADATA_BYTES] = column.strides[0]
            address = (step.native.kernel.address, block.ctypes.data)
            self._stages[step.node] = Stage([address])
            if step in schedule.front:
                source = targets.get(step.node.parent)
                target = self.target(step)
                self.connect(step, source, target)
                targets.update(dict.fromkeys((step.node, *step.aliases), target))
                rows.append(address)
        self._targets = targets
        self.front = Stage(rows, self.failures)
        self.schedule = schedule

    def _common_words(self, native: NativeStep, storage: int) -> np.ndarray:
        """A step's words with what is the same for all steps of the slot, and its own."""
        block = np.zeros(words.OWN + len(native.words), dtype=np.int64)
        block[words.SAMPLE_IDS] = self.sample_ids.ctypes.data
        block[words.OCCURRENCES] = self.occurrences.ctypes.data
        block[words.STORAGE] = storage
        block[words.OWN :] = native.words
        return block

    def _check_words(self, check: NativeStep, storage: int) -> tuple[int, int]:
        self._check = self._common_words(check, storage)
        return check.kernel.address, self._check.ctypes.data

    @contextmanager
    def reading_from(self, storage: int) -> Iterator[None]:
        """While no sample is under way: the steps read from another storage, given by the address of its words."""
        blocks = [*self._words.values(), *([] if self._check is None else [self._check])]
        former = [int(block[words.STORAGE]) for block in blocks]
        try:
            for block in blocks:
                block[words.STORAGE] = storage
            yield
        finally:
            for block, address in zip(blocks, former, strict=True):
                block[words.STORAGE] = address

    def keep(self, places: np.ndarray) -> None:
        """Move what the front made of the samples at some places, ascending, to the beginning, one behind the other."""
        memory = {id(target): target for target in self._targets.values()}.values()
        for values in (*memory, self.sample_ids, self.occurrences):
            values[: len(places)] = values[places]

    def connect(self, step: Step, source: np.ndarray | None, target: np.ndarray) -> None:
        """Tell a native step where it reads and writes."""
        block = self._words[step.node]
        if source is not None:
            block[words.SOURCE], block[words.SOURCE_BYTES] = source.ctypes.data, source.strides[0]
        block[words.TARGET], block[words.TARGET_BYTES] = target.ctypes.data, target.strides[0]

    def stage(self, step: Step) -> Stage:
        """The stage that runs a native step of the tail by itself."""
        return self._stages[step.node]

    def front_results(self, count: int) -> dict[Node, np.ndarray]:
        """What the front has made, by node."""
        return {node: target[:count] for node, target in self._targets.items()}

    def _buffers(self) -> list[tuple[list, int]]:
        """Every buffer, as the list that holds it and its place there."""
        return [(buffers, place) for buffers in self._memory.values() for place in range(len(buffers))]

    def _count_references(self) -> list[float]:
        # By place, not by iterating over the buffers: an iterator's own reference would be counted too.
        return [_references(buffers[place]) for buffers, place in self._buffers()]

    def reclaim(self) -> bool:
        """Replace every buffer that somebody else still refers to; `bind` is due again if any was."""
        replaced = False
        counts = zip(self._buffers(), self._count_references(), self._at_rest, strict=True)
        for (buffers, place), count, at_rest in counts:
            if count > at_rest:
                node = next(node for node, own in self._memory.items() if own is buffers)
                buffers[place] = allocate(self._queries[node][place], self.batch_size, self.pinned)
                replaced = True
        return replaced


_storage_references = getattr(torch._C, "_storage_Use_Count", None)


def _references(buffer: np.ndarray | torch.Tensor) -> float:
    """How many refer to a buffer's memory: an array's views refer to the array, a tensor's to its storage."""
    if isinstance(buffer, np.ndarray):
        # Views refer to the array that owns the memory, not to the view of it that a buffer may be.
        return sys.getrefcount(buffer.base if isinstance(buffer.base, np.ndarray) else buffer)
    if _storage_references is None:
        return math.inf
    return _storage_references(buffer.untyped_storage()._cdata)


class SlotPool:
    """Slots that wait for the next epoch: it takes over those of its layout, others are dropped."""

    def __init__(self) -> None:
        self._layout: tuple | None = None
        self._slots: list[Slot] = []

    def take(self, layout: tuple, count: int) -> list[Slot]:
        """Up to `count` slots of a layout."""
        if layout != self._layout:
            self._slots.clear()
            self._layout = layout
        taken, self._slots = self._slots[:count], self._slots[count:]
        return taken

    def give_back(self, layout: tuple, slots: list[Slot]) -> None:
        """Keep slots for the next epoch, unless another layout has taken over meanwhile."""
        if layout == self._layout and not self._slots:
            self._slots = list(slots)

    def clear(self) -> None:
        """Let go of all memory."""
        self._slots.clear()
