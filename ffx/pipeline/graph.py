"""Pipeline specs as one graph: which operation's result goes into which, checked when it is built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import FfxError, PipelineError
from ..kernels.rng import operation_key
from .allocation_query import Allocation, AllocationQuery
from .operation import FileRange, NativeStep, Operation, PixelStep
from .pipeline_spec import PipelineSpec
from .state import INITIAL_STATE, State

__all__ = ["Declaration", "Graph", "Node"]


@dataclass(frozen=True, eq=False)
class Node:
    """One operation at one place of one pipeline.

    Attributes:
        pipeline: the name of the pipeline (and of what the loader returns).
        position: place in the pipeline; the decoder has 0.
        operation: the user's own instance.
        parent: the node whose result it gets; `None` for a decoder.
        field_name: the field that its pipeline starts from, directly or through other pipelines.
    """

    pipeline: str
    position: int
    operation: Operation
    parent: Node | None
    field_name: str

    @property
    def random_key(self) -> int:
        """What its random numbers are keyed by, beside seed, epoch and sample."""
        return operation_key(self.pipeline, self.position)

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"{type(self.operation).__name__} (operation {self.position} of the pipeline {self.pipeline!r})"


@dataclass(frozen=True, eq=False)
class Declaration:
    """What a node says of itself for the coming epoch."""

    node: Node
    previous: State
    state: State
    memory: Allocation | None
    shared_memory: AllocationQuery | None
    native: NativeStep | None
    pixel_step: PixelStep | None = None
    file_range: FileRange | None = None


class Graph:
    """The operations of all pipelines, in an order in which each comes after what it needs.

    Args:
        pipeline_specs: by pipeline name; each has its decoder, or starts from an operation.
        handlers: the file's fields by name.
        fieldname_to_fix: each field's number in the file.
        metadata: one record a sample, with members `f0`, `f1`, ….
        memory_read: the storage's reader, given to decoders.

    Attributes:
        nodes: every node, parents first.
        leaves: the node that makes each pipeline's result.

    Raises:
        PipelineError: for a pipeline that starts from something that no other pipeline has.
    """

    def __init__(
        self,
        pipeline_specs: Mapping[str, PipelineSpec],
        handlers: Mapping[str, Any],
        fieldname_to_fix: Mapping[str, int],
        metadata: np.ndarray,
        memory_read: Callable,
    ) -> None:
        self.pipeline_specs = pipeline_specs
        self.handlers = handlers
        self.fieldname_to_fix = fieldname_to_fix
        self.metadata = metadata
        self.memory_read = memory_read
        self.nodes: list[Node] = []
        self.leaves: dict[str, Node] = {}
        self._link()

    def _link(self) -> None:
        # A derived pipeline waits until the one that it starts from is there.
        waiting = dict(self.pipeline_specs)
        while waiting:
            ready = [name for name, spec in waiting.items() if self._is_there(name, spec)]
            if not ready:
                name, spec = next(iter(waiting.items()))
                raise PipelineError(
                    f"pipeline {name!r} starts from {spec.source!r}, which is no operation of another pipeline: "
                    "give the name of a field, or the very instance that another pipeline contains"
                )
            for name in ready:
                self._add(name, waiting.pop(name))

    def _is_there(self, name: str, spec: PipelineSpec) -> bool:
        """Whether what a pipeline starts from is there already."""
        return self._root(name, spec) is not None or isinstance(spec.source, str)

    def _root(self, name: str, spec: PipelineSpec) -> Node | None:
        """The node that a pipeline starts from; `None` for a field, or where the node isn't there yet."""
        if isinstance(spec.source, str):
            if spec.source not in self.handlers:
                raise PipelineError(
                    f"pipeline {name!r} starts from the field {spec.source!r}, but the file has the fields "
                    f"{', '.join(map(repr, self.handlers))}"
                )
            return None
        found = [node for node in self.nodes if node.operation is spec.source]
        if len(found) > 1:
            raise PipelineError(
                f"pipeline {name!r} starts from {type(spec.source).__name__}, an instance that stands in "
                f"{len(found)} places: use an instance of its own in each"
            )
        return found[0] if found else None

    def _add(self, name: str, spec: PipelineSpec) -> None:
        parent = self._root(name, spec)
        field_name = parent.field_name if parent is not None else str(spec.source)
        operations = list(spec.transforms) if parent is not None else [spec.decoder, *spec.transforms]
        first = 0 if parent is None else 1
        for position, operation in enumerate(operations, first):
            self._check(name, position, operation)
            # Parts have the operation's own position, so that others draw the same numbers with them and without.
            for part in (*_host_parts(operation), operation):
                parent = Node(name, position, part, parent, field_name)
                self.nodes.append(parent)
        self.leaves[name] = parent

    @staticmethod
    def _check(name: str, position: int, operation: object) -> None:
        if not all(
            callable(getattr(operation, method, None)) for method in ("declare_state_and_memory", "generate_code")
        ):
            raise PipelineError(
                f"pipeline {name!r}: expected an ffx operation or a torch module at place {position}, "
                f"found {operation!r} of type {type(operation).__name__}"
            )

    def children(self, node: Node) -> list[Node]:
        """The nodes that get this node's result."""
        return [other for other in self.nodes if other.parent is node]

    def declare(self) -> dict[Node, Declaration]:
        """Ask every operation for its state, memory and native step, parents first.

        Called before each epoch: shapes may have changed since the last.
        """
        declarations: dict[Node, Declaration] = {}
        for node in self.nodes:
            previous = INITIAL_STATE if node.parent is None else declarations[node.parent].state
            declarations[node] = self._declare(node, previous)
        return declarations

    def declare_again(self, declaration: Declaration) -> None:
        """Let an operation declare what it declared already, because its code is about to be generated."""
        self._declare(declaration.node, declaration.previous)

    def _declare(self, node: Node, previous: State) -> Declaration:
        operation = node.operation
        index = self.fieldname_to_fix[node.field_name]
        try:
            operation.accept_field(self.handlers[node.field_name])
            operation.accept_globals(self.metadata[f"f{index}"], self.memory_read)
            state, memory = operation.declare_state_and_memory(previous)
            shared = operation.declare_shared_memory(previous)
            file_range = operation.file_range() if isinstance(operation, Operation) else None
        except FfxError as error:
            raise PipelineError(f"{node.label}: {error}") from error
        except Exception as error:
            raise PipelineError(f"{node.label} cannot follow {previous}: {error}") from error
        if state.jit_mode and not previous.jit_mode:
            raise PipelineError(
                f"{node.label} works on arrays, but what it gets is a tensor on {previous.device}: "
                "put it before ToTensor()"
            )
        native = operation.native_step(previous) if _is_current(operation, "native_step") else None
        pixel_step = operation.pixel_step(previous) if _is_current(operation, "pixel_step") else None
        return Declaration(node, previous, state, memory, shared, native, pixel_step, file_range)


def _host_parts(operation: Operation) -> Sequence[Operation]:
    """What runs before an operation at its place; those of FFCV's protocol alone have nothing."""
    return operation.host_parts() if isinstance(operation, Operation) else ()


def _is_current(operation: Operation, form: str) -> bool:
    """Whether a method speaks for the operation's code: no subclass changed one without the other."""
    if not isinstance(operation, Operation):
        return False
    order = type(operation).__mro__

    def definition(name: str) -> int:
        return next(place for place, cls in enumerate(order) if name in vars(cls))

    place = definition(form)
    return place <= definition("generate_code") and place <= definition("declare_state_and_memory")
