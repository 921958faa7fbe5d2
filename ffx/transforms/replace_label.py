"""Give chosen samples another label."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ..pipeline.allocation_query import Allocation
from ..pipeline.operation import Operation
from ..pipeline.state import State
from ._checks import need_array

__all__ = ["ReplaceLabel"]


class ReplaceLabel(Operation):
    """Replace the labels of chosen samples, in place.

    Args:
        indices: the samples' indices in the file.
        new_label: their new label.
    """

    per_sample = True

    def __init__(self, indices: Sequence[int], new_label: int) -> None:
        super().__init__()
        self.indices = np.sort(np.asarray(indices, dtype=np.uint64))
        self.new_label = new_label

    def generate_code(self) -> Callable:
        chosen = self.indices
        new_label = self.new_label

        def replace_label(labels, _, indices):
            for position in range(labels.shape[0]):
                place = np.searchsorted(chosen, np.uint64(indices[position]))
                if place < len(chosen) and chosen[place] == indices[position]:
                    labels[position] = new_label
            return labels

        replace_label.is_parallel = True
        replace_label.with_indices = True
        return replace_label

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        need_array(self, previous_state)
        return replace(previous_state, jit_mode=True), None
