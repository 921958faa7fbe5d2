"""The plan: a graph's operations as ordered steps, each with how it is run.

A plan has a *front*, the native steps that need nothing but what is stored; worker threads take
samples through all of it in one go. What remains is the *tail*, run batch by batch in order.

```
front   decoder + flip, label decoder, …      native, by sample, many batches at once
tail    foreign compiled operations           on the whole batch (by slices if `per_sample`)
        torch operations, copies to a GPU     in one thread, in batch order
```
"""

from __future__ import annotations

import enum
import functools
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..kernels.compiling import compiled
from ..kernels.memory import float_bits
from ..kernels.rng import alternating_key, epoch_key
from .compiler import Compiler
from .graph import Declaration, Graph, Node
from .operation import NativeStep, Operation, PixelStep

__all__ = ["Called", "Kind", "Plan", "Schedule", "Step", "is_per_sample", "seed_generators"]


class Kind(enum.Enum):
    """How a step is run."""

    NATIVE = "native"
    COMPILED = "compiled"
    TORCH = "torch"


@dataclass(frozen=True, eq=False)
class Step:
    """One operation of the plan, for one epoch.

    Attributes:
        node, declaration: what is run, and what it declared.
        kind: how.
        native: for a native step its kernel and words, with a fused flip's numbers filled in.
        random_key: Philox key of the operation in this epoch.
        aliases: nodes whose result this step makes too (a flip that was fused into it).
        pixel_steps: what it does beside its own work, for some of those.
    """

    node: Node
    declaration: Declaration
    kind: Kind
    random_key: int
    native: NativeStep | None = None
    aliases: tuple[Node, ...] = ()
    pixel_steps: tuple[PixelStep, ...] = ()


@dataclass(frozen=True, eq=False)
class Schedule:
    """A plan bound to an epoch: the steps of the front and of the tail, in order."""

    front: tuple[Step, ...]
    tail: tuple[Step, ...]
    outputs: tuple[Node, ...]

    @functools.cached_property
    def shared(self) -> frozenset[Node]:
        """Nodes whose result several want: other steps, or a step and the consumer."""
        wanted = Counter(step.node.parent for step in self.steps if step.node.parent is not None)
        wanted.update(set(self.outputs))
        return frozenset(node for node, count in wanted.items() if count > 1)

    @property
    def steps(self) -> tuple[Step, ...]:
        """All steps, in order."""
        return self.front + self.tail

    @property
    def device(self):
        """The first device beside the CPU that a step uses, or `None`."""
        for step in self.steps:
            if step.declaration.state.device.type != "cpu":
                return step.declaration.state.device
        return None


def is_per_sample(operation: Operation) -> bool:
    """Whether the operation's own class, not only one that it derives from, says `per_sample`."""
    for cls in type(operation).__mro__:
        if "per_sample" in vars(cls):
            return bool(vars(cls)["per_sample"])
        if "generate_code" in vars(cls):
            return False
    return False


class Plan:
    """A graph with the functions of its operations, compiled once.

    Args:
        graph: the operations.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._functions: dict[tuple[Node, bool], Called] = {}
        self._initialisers: dict[tuple[Node, bool], Callable | None] = {}

    def recompile(self) -> None:
        """Forget what was compiled: operations have changed."""
        self._functions.clear()
        self._initialisers.clear()

    def schedule(self, seed: int, epoch: int) -> Schedule:
        """The steps for one epoch; asks every operation for its shapes anew."""
        declarations = self.graph.declare()
        front: list[Step] = []
        tail: list[Step] = []
        at_front: set[Node] = set()
        # Flips that are fused, by the node whose result is mirrored already.
        fused: dict[Node, Node] = {}
        made: set[Node] = set()
        for node, declaration in declarations.items():
            if node in made:
                continue
            key = _random_key(node, seed, epoch)
            kind = self._kind(declaration)
            step = Step(node, declaration, kind, key, declaration.native if kind is Kind.NATIVE else None)
            if kind is Kind.NATIVE:
                # Compiled here, in the caller's thread, and not within the first batch.
                _ = declaration.native.kernel.address
                flip = self._fusable_flip(declarations, declaration)
                if flip is not None:
                    step = _fuse(step, declarations[flip], _random_key(flip, seed, epoch))
                    fused[flip.parent] = flip
            step = self._with_followers(step, declarations, fused)
            made.update(step.aliases)
            if kind is Kind.NATIVE and _is_by_sample(step, at_front):
                front.append(step)
                at_front.update((node, *step.aliases))
            else:
                tail.append(step)
        return Schedule(tuple(front), tuple(tail), tuple(self.graph.leaves.values()))

    def _kind(self, declaration: Declaration) -> Kind:
        if not declaration.state.jit_mode:
            return Kind.TORCH
        if Compiler.is_enabled and declaration.native is not None:
            return Kind.NATIVE
        return Kind.COMPILED

    def _fusable_flip(self, declarations: dict[Node, Declaration], declaration: Declaration) -> Node | None:
        """The flip that this native step can do in the same pass: its only follower (or that of operations
        which pass it on), and no result before the flip is wanted."""
        if declaration.native.accepts_flip is None:
            return None
        node = declaration.node
        while True:
            children = self.graph.children(node)
            if node in self.graph.leaves.values() or len(children) != 1:
                return None
            native = declarations[children[0]].native
            if native is not None and native.flip_probability is not None:
                return children[0]
            if not getattr(children[0].operation, "passes_flip_on", False):
                return None
            node = children[0]

    def _with_followers(self, step: Step, declarations: dict[Node, Declaration], fused: dict[Node, Node]) -> Step:
        """The step with those behind it that it makes too: a flip, or all up to a look-up of the pixels' values."""
        alone = (fused[step.node],) if step.node in fused else ()
        followers = self._pixel_followers(step.node, declarations, fused)
        steps = tuple(one.pixel_step for one in map(declarations.get, followers) if one.pixel_step is not None)
        if all(one.table is None for one in steps) or not getattr(step.node.operation, "takes_pixel_steps", False):
            return replace(step, aliases=alone)
        state = declarations[followers[-1]].state
        # Whoever takes pixel steps writes to one buffer, of images as they lie in memory.
        query: Any = step.declaration.memory
        memory = replace(query, dtype=state.dtype)
        declaration = replace(step.declaration, state=state, memory=memory)
        return replace(step, declaration=declaration, aliases=tuple(followers), pixel_steps=steps)

    def _pixel_followers(
        self, node: Node, declarations: dict[Node, Declaration], fused: dict[Node, Node]
    ) -> list[Node]:
        """The row of nodes behind `node` that are fused flips or pixel steps, each the only one to want the last."""
        followers: list[Node] = []
        while node not in self.graph.leaves.values() and len(children := self.graph.children(node)) == 1:
            if declarations[children[0]].pixel_step is None and fused.get(node) is not children[0]:
                break
            node = children[0]
            followers.append(node)
        return followers

    def function(self, step: Step) -> Called:
        """The function of a step that is not native, compiled at the first call."""
        key = (step.node, Compiler.is_enabled)
        if key not in self._functions:
            # One instance may stand in several places, and remembers only what it declared last.
            self.graph.declare_again(step.declaration)
            operation: Any = step.node.operation
            code = operation.generate_code_with(step.pixel_steps) if step.pixel_steps else operation.generate_code()
            compiled = Compiler.compile(code) if step.kind is Kind.COMPILED else code
            # Attributes of the generated function say how to call it; a dispatcher keeps none.
            self._functions[key] = Called(
                compiled,
                with_indices=bool(getattr(code, "with_indices", False)),
                with_random=bool(getattr(code, "with_random", False)),
                with_storage=bool(getattr(code, "with_storage", False)),
                with_file_data=bool(getattr(code, "with_file_data", False)),
            )
        return self._functions[key]

    def initialiser(self, step: Step) -> Callable | None:
        """The function that initialises a step's shared memory, if it has one."""
        key = (step.node, Compiler.is_enabled)
        if key not in self._initialisers:
            code = step.node.operation.generate_code_for_shared_state()
            if code is not None and step.kind is Kind.COMPILED:
                code = Compiler.compile(code)
            self._initialisers[key] = code
        return self._initialisers[key]


@dataclass(frozen=True)
class Called:
    """A generated function and the arguments that it wants."""

    code: Callable
    with_indices: bool
    with_random: bool
    with_storage: bool = False
    with_file_data: bool = False

    def __call__(self, *arguments):
        return self.code(*arguments)


def _random_key(node: Node, seed: int, epoch: int) -> int:
    """The key of what a node draws in an epoch."""
    make = alternating_key if getattr(node.operation, "alternates", False) else epoch_key
    return make(seed, epoch, node.random_key)


def _is_by_sample(step: Step, at_front: set[Node]) -> bool:
    """Whether a native step needs only what is there of one sample: not the batch's size, nothing of the tail."""
    return step.native.room is None and (step.node.parent is None or step.node.parent in at_front)


def _fuse(step: Step, flip: Declaration, flip_key: int) -> Step:
    probability, key = step.native.accepts_flip
    words = list(step.native.words)
    words[probability] = float_bits(flip.native.flip_probability)
    words[key] = flip_key
    return replace(step, native=replace(step.native, words=tuple(words)))


@compiled
def _seed(number):
    np.random.seed(number)
    random.seed(number)


def seed_generators(number: int) -> None:
    """Seed this thread's own generators of compiled code (`np.random` and `random` inside numba).

    Python's and NumPy's process-wide generators are left alone.
    """
    _seed(number)
