"""The protocol that every step of a pipeline follows: FFCV's, with two optional additions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from ..errors import PipelineError
from .allocation_query import Allocation, AllocationQuery
from .state import State

__all__ = ["FileRange", "NativeStep", "Operation", "PixelStep", "one_of"]


def one_of(owner: Any, name: str, value: Any, choices: Iterable[str]) -> str:
    """`value` if it is one of the choices of the parameter `name`.

    Raises:
        PipelineError: it is none of them.
    """
    if value not in choices:
        listed = ", ".join(map(repr, choices))
        raise PipelineError(f"{type(owner).__name__}: expected {name} to be one of {listed}, found {value!r}")
    return value


@dataclass(frozen=True)
class NativeStep:
    """An operation as a compiled kernel that worker threads call without Python.

    Attributes:
        kernel: the compiled `int64 kernel(step, first, stop, thread)` as
            described in `ffx.kernels.step`.
        words: the kernel's own integers, placed from `step.OWN` on.
        keep: whatever must stay alive while addresses in `words` are in use.
        accepts_flip: the kernel can mirror its result: `(probability word, key word)` are the
            indices into `words` that the planner fills in when a flip is fused; else `None`.
        flip_probability: set by a flip that can be fused into the step before it: a probability, or
            `ffx.kernels.sample.ALTERNATING`.
        room: set where a batch's result is one row of bytes, not a row of samples: called with the batch's
            input, it returns how many bytes that is.
    """

    kernel: Any
    words: tuple[int, ...] = ()
    keep: tuple = field(default=(), compare=False)
    accepts_flip: tuple[int, int] | None = None
    flip_probability: float | None = None
    room: Callable[[np.ndarray], int] | None = None


@dataclass(frozen=True)
class PixelStep:
    """What an operation does to image tensors, where whoever makes the images can do it in the same pass.

    Attributes:
        table: called, it gives `[256, channels]`: what each uint8 value becomes; `None`: values stay.
        channels_first: the result is seen as `(channels, height, width)`, its memory is not.
    """

    table: Callable[[], torch.Tensor] | None = None
    channels_first: bool = False


@dataclass(frozen=True)
class FileRange:
    """Bytes of the file that an operation wants in a device's memory for as long as the loader lives.

    Attributes:
        device: where.
        start, stop: offsets in the file.
    """

    device: torch.device
    start: int
    stop: int


class Operation(ABC):
    """One step of a pipeline: a decoder or a transform.

    A subclass says what it returns (`declare_state_and_memory`) and gives a function that makes a
    batch (`generate_code`). That function is called as `function(input, memory)`, where `memory` is
    what was asked for (an array or a tensor whose first dimension is the batch, a tuple of them, or
    `None`), and returns the result. It may carry attributes:

    - `is_parallel`: accepted, without meaning here (the loader divides the work).
    - `with_indices`: it gets the samples' indices in the file (`uint64[n]`) as a further argument.
    - `with_random`: it gets `uint64[n, 3]` random streams as the last argument: see
      `ffx.pipeline.stream_uniform`; numbers drawn from them depend on seed, epoch, sample and operation alone.
    - `with_storage`: it gets the state of the storage as a further argument, as decoders do.
    - `with_file_data`: it gets the bytes of its `file_range` as a further argument, a tensor there.

    Decoders get the indices as their input, and after `memory` (and the indices, if asked for) the
    field's metadata (one record a sample of the file) and the state of the storage, which
    `self.memory_read(pointer, state)` turns into the stored bytes.

    Attributes:
        per_sample: the function treats each sample by itself, so it may be called on parts of a
            batch by several threads at once. A subclass that changes `generate_code` says it again.
        alternates: the key of its random streams is the same in every epoch, but for its last bit, which is 1 in
            odd ones (`ffx.kernels.rng.alternating_key`).
        passes_flip_on: a flip behind it can be done by the operation before it.
        takes_pixel_steps: it has a method `generate_code_with(pixel_steps)`, whose function does the work of the
            operations behind it too.
    """

    per_sample: bool = False
    alternates: bool = False
    passes_flip_on: bool = False
    takes_pixel_steps: bool = False

    def __init__(self) -> None:
        self.metadata: np.ndarray | None = None
        self.memory_read: Callable | None = None

    def accept_field(self, field: Any) -> None:
        """Called with the field that the pipeline starts from, before anything is declared."""
        self.field = field

    def accept_globals(self, metadata: np.ndarray, memory_read: Callable) -> None:
        """Called with the field's metadata, `record[num_samples]`, and the storage's reader."""
        self.metadata = metadata
        self.memory_read = memory_read

    def host_parts(self) -> Sequence[Operation]:
        """Operations of its own that run before it, at its place of the pipeline; they are asked for once."""
        return ()

    def file_range(self) -> FileRange | None:
        """What of the file it wants on a device; asked for after `declare_state_and_memory`."""
        return None

    @abstractmethod
    def generate_code(self) -> Callable:
        """The function that makes a batch (see the class)."""

    def declare_shared_memory(self, previous_state: State) -> AllocationQuery | None:
        """Memory that is initialised once a batch and passed to the function as its last argument."""
        return None

    def generate_code_for_shared_state(self) -> Callable | None:
        """The function that initialises the shared memory."""
        return None

    @abstractmethod
    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        """The state after this operation, and the memory that it writes to."""

    def native_step(self, previous_state: State) -> NativeStep | None:
        """This operation as a compiled kernel, or `None` where only `generate_code` will do.

        Called after `declare_state_and_memory`. It must compute what `generate_code` computes.
        A subclass that changes `generate_code` but not this method is never run by it.
        """
        return None

    def pixel_step(self, previous_state: State) -> PixelStep | None:
        """This operation as a part of whatever makes the images before it, or `None`.

        The same holds for it as for `native_step`.
        """
        return None
