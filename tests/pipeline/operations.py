"""Operations and graphs for tests: small, without a file behind them."""

from dataclasses import replace

import numpy as np
import torch

from ffx.pipeline.allocation_query import AllocationQuery
from ffx.pipeline.graph import Graph
from ffx.pipeline.operation import NativeStep, Operation
from ffx.pipeline.pipeline_spec import PipelineSpec

__all__ = ["SHAPE", "FakeDecoder", "FakeFlip", "FakeKernel", "Noted", "OnTensors", "make_graph"]

SHAPE = (4, 6, 3)


class FakeKernel:
    """What the plan asks of a compiled kernel."""

    address = 4096


class Noted(Operation):
    """An operation on arrays that notes what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple] = []

    def accept_field(self, field):
        super().accept_field(field)
        self.told.append(("field", field))

    def accept_globals(self, metadata, memory_read):
        super().accept_globals(metadata, memory_read)
        self.told.append(("globals", metadata.dtype.names, memory_read))

    def declare_state_and_memory(self, previous_state):
        self.told.append(("declare", previous_state))
        return replace(previous_state, jit_mode=True), None

    def generate_code(self):
        def pass_on(values, _):
            return values

        return pass_on


class FakeDecoder(Noted):
    """A decoder with a native step that can mirror: words 1 and 2 are the flip's probability and key."""

    def declare_state_and_memory(self, previous_state):
        super().declare_state_and_memory(previous_state)
        state = replace(previous_state, jit_mode=True, shape=SHAPE, dtype=np.dtype("u1"))
        return state, AllocationQuery(SHAPE, np.dtype("u1"))

    def native_step(self, previous_state):
        return NativeStep(FakeKernel(), (11, 0, 0), accepts_flip=(1, 2))


class FakeFlip(Noted):
    """A flip that a decoder can do."""

    def declare_state_and_memory(self, previous_state):
        state, _ = super().declare_state_and_memory(previous_state)
        return state, AllocationQuery(state.shape, state.dtype)

    def native_step(self, previous_state):
        return NativeStep(FakeKernel(), (22,), flip_probability=0.25)


class OnTensors(Operation):
    """Makes tensors, or passes them on."""

    def declare_state_and_memory(self, previous_state):
        return replace(previous_state, jit_mode=False, dtype=torch.uint8), None

    def generate_code(self):
        return lambda values, _: torch.as_tensor(values)


def make_graph(pipelines) -> Graph:
    """A graph over a file with the fields `image` and `label`; `pipelines` are `(source, operations)` by name."""
    specs = {}
    for name, (source, operations) in pipelines.items():
        if isinstance(source, str):
            specs[name] = PipelineSpec(source, operations[0], operations[1:])
        else:
            specs[name] = PipelineSpec(source, transforms=operations)
    metadata = np.zeros(5, dtype=[("f0", [("data_ptr", "<u8")]), ("f1", [("", "<i8")])])
    fields = {"image": "the image's field", "label": "the label's field"}
    return Graph(specs, fields, {"image": 0, "label": 1}, metadata, "the storage's reader")
