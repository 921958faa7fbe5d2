"""Give chosen samples another label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..errors import PipelineError
from ..kernels import relabel as kernel
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import NativeStep, Operation
from ..pipeline.state import State
from ._checks import expect_array, sample_ids

__all__ = ["ReplaceLabel"]


class ReplaceLabel(Operation):
    """Gives chosen samples one new label. Works on arrays.

    Args:
        indices: the samples, by their indices in the file.
        new_label: what they get.

    Raises:
        PipelineError: for tensors, for indices that are no sample numbers, for a label that the
            field's type cannot hold.
    """

    per_sample = True

    def __init__(self, indices: Sequence[int], new_label: int) -> None:
        super().__init__()
        self.indices = sample_ids(self, indices)
        self.new_label = new_label

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        expect_array(self, previous_state)
        dtype = np.dtype(previous_state.dtype)
        if np.issubdtype(dtype, np.integer):
            limits = np.iinfo(dtype)
            if self.new_label != int(self.new_label) or not limits.min <= self.new_label <= limits.max:
                raise PipelineError(f"ReplaceLabel: expected a label that {dtype} can hold, found {self.new_label!r}")
        self._label = np.full(previous_state.shape, self.new_label, dtype=dtype)
        return replace(previous_state, jit_mode=True), AllocationQuery(previous_state.shape, dtype)

    def generate_code(self) -> Callable:
        chosen, contains, label = self.indices, kernel.contains, self._label

        def replace_label(labels, memory, indices):
            for position in range(len(labels)):
                memory[position] = label if contains(chosen, indices[position]) else labels[position]
            return memory[: len(labels)]

        replace_label.is_parallel = True
        replace_label.with_indices = True
        return replace_label

    def native_step(self, previous_state: State) -> NativeStep | None:
        words = [0] * kernel.OWN_WORDS
        words[kernel.CHOSEN], words[kernel.COUNT] = self.indices.ctypes.data, len(self.indices)
        words[kernel.LABEL], words[kernel.ITEM_BYTES] = self._label.ctypes.data, self._label.nbytes
        return NativeStep(kernel.replace_labels, tuple(words), keep=(self.indices, self._label))
