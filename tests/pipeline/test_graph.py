"""Specs as a graph: what comes from what, what each operation is told, and mistakes named when it is built."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ffx.errors import PipelineError
from ffx.pipeline.graph import Graph
from ffx.pipeline.operation import NativeStep
from ffx.pipeline.pipeline_spec import PipelineSpec
from ffx.pipeline.state import INITIAL_STATE, State

from .operations import SHAPE, FakeDecoder, FakeFlip, FakeKernel, Noted, OnTensors, make_graph


def parents(graph):
    """Pipeline and position of each node, with those of its parent."""
    name = {node: (node.pipeline, node.position) for node in graph.nodes}
    return {name[node]: name.get(node.parent) for node in graph.nodes}


def test_pipelines_start_from_fields_or_from_operations_of_others():
    decoder, flip, first, second = FakeDecoder(), FakeFlip(), Noted(), Noted()
    graph = make_graph(
        {
            # Derived pipelines may stand before those that they come from.
            "third": (first, [second]),
            "image": ("image", [decoder, flip]),
            "label": ("label", [FakeDecoder()]),
            "second": (decoder, [first]),
        }
    )
    assert parents(graph) == {
        ("image", 0): None,
        ("image", 1): ("image", 0),
        ("label", 0): None,
        ("second", 1): ("image", 0),
        ("third", 1): ("second", 1),
    }
    last = {name: node.operation for name, node in graph.leaves.items() if name != "label"}
    assert last == {"image": flip, "second": first, "third": second}
    assert {node.pipeline: node.field_name for node in graph.nodes} == {
        "image": "image",
        "label": "label",
        "second": "image",
        "third": "image",
    }
    places = {node: place for place, node in enumerate(graph.nodes)}
    assert all(node.parent is None or places[node.parent] < places[node] for node in graph.nodes)


def test_children_are_those_that_get_the_result():
    decoder = FakeDecoder()
    graph = make_graph({"image": ("image", [decoder, Noted()]), "other": (decoder, [Noted()])})
    root = graph.leaves["image"].parent
    assert {child.pipeline for child in graph.children(root)} == {"image", "other"}
    assert graph.children(graph.leaves["image"]) == []


def test_a_derived_pipeline_without_operations_is_what_it_starts_from():
    decoder = FakeDecoder()
    graph = make_graph({"image": ("image", [decoder, FakeFlip()]), "plain": (decoder, [])})
    assert graph.leaves["plain"] is graph.leaves["image"].parent


def test_operations_are_told_of_field_and_storage_and_then_of_the_state_before_them():
    decoder, second = FakeDecoder(), Noted()
    graph = make_graph({"image": ("image", [decoder, second])})
    declarations = graph.declare()
    assert decoder.told == [
        ("field", "the image's field"),
        ("globals", ("data_ptr",), "the storage's reader"),
        ("declare", INITIAL_STATE),
    ]
    state = second.told[-1][1]
    assert (state.shape, state.dtype, state.jit_mode) == (SHAPE, np.uint8, True)
    assert declarations[graph.leaves["image"]].previous is state


def test_states_are_declared_anew_each_time():
    class Sized(FakeDecoder):
        side = 4

        def declare_state_and_memory(self, previous_state):
            state, memory = super().declare_state_and_memory(previous_state)
            shape = (self.side, self.side, 3)
            return replace(state, shape=shape), replace(memory, shape=shape)

    decoder = Sized()
    graph = make_graph({"image": ("image", [decoder, Noted()])})
    shapes = []
    for decoder.side in (4, 9):
        shapes.append(graph.declare()[graph.leaves["image"]].state.shape)
    assert shapes == [(4, 4, 3), (9, 9, 3)]


def test_random_keys_are_the_operations_place_and_no_more():
    def keys(pipelines):
        return {(node.pipeline, node.position): node.random_key for node in make_graph(pipelines).nodes}

    decoder = FakeDecoder()
    some = keys({"image": ("image", [decoder, Noted()])})
    more = keys({"a": (decoder, [Noted()]), "image": ("image", [decoder, Noted(), Noted()])})
    assert len(set(more.values())) == len(more) == 4
    assert some.items() <= more.items()


@pytest.mark.parametrize(
    "pipelines, message",
    [
        ({"image": ("picture", [FakeDecoder()])}, r"'image' starts from the field 'picture'.* 'image', 'label'"),
        ({"derived": (Noted(), [Noted()])}, r"'derived' starts from .*no operation of another pipeline"),
        (
            {"image": ("image", [FakeDecoder(), 3])},
            r"'image': expected an ffx operation .* place 1, found 3 of type",
        ),
        ({"image": ("image", [FakeDecoder(), OnTensors(), Noted()])}, r"Noted \(operation 2 of the pipeline 'image'\)"),
    ],
)
def test_mistakes_are_named(pipelines, message):
    with pytest.raises(PipelineError, match=message):
        make_graph(pipelines).declare()


def test_pipelines_that_start_from_each_other_are_refused():
    one, two = Noted(), Noted()
    with pytest.raises(PipelineError, match="no operation of another pipeline"):
        make_graph({"a": (two, [one]), "b": (one, [two])})


def test_an_instance_in_two_places_is_no_place_to_start_from():
    flip = FakeFlip()
    with pytest.raises(PipelineError, match="an instance that stands in 2 places"):
        make_graph(
            {
                "image": ("image", [FakeDecoder(), flip]),
                "label": ("label", [FakeDecoder(), flip]),
                "derived": (flip, [Noted()]),
            }
        )


@pytest.mark.parametrize("error", [ValueError("no such luck"), PipelineError("no such luck"), KeyError("no such luck")])
def test_an_error_of_an_operation_says_where_it_stands(error):
    class Fails(Noted):
        def declare_state_and_memory(self, previous_state):
            raise error

    with pytest.raises(PipelineError, match=r"Fails \(operation 1 of the pipeline 'image'\).*no such luck") as caught:
        make_graph({"image": ("image", [FakeDecoder(), Fails()])}).declare()
    assert caught.value.__cause__ is error


class ChangedCode(FakeFlip):
    def generate_code(self):
        return lambda values, memory: values


class ChangedState(FakeFlip):
    def declare_state_and_memory(self, previous_state):
        return super().declare_state_and_memory(previous_state)


class ChangedKernel(FakeFlip):
    def native_step(self, previous_state):
        return NativeStep(FakeKernel(), (33,))


class ChangedBoth(ChangedCode):
    def native_step(self, previous_state):
        return NativeStep(FakeKernel(), (44,))


class OnlyAnArgument(FakeFlip):
    def __init__(self):
        super().__init__()


@pytest.mark.parametrize(
    "operation, words",
    [
        (FakeFlip, (22,)),
        (OnlyAnArgument, (22,)),
        (ChangedCode, None),
        (ChangedState, None),
        (ChangedKernel, (33,)),
        (ChangedBoth, (44,)),
        (Noted, None),
    ],
)
def test_a_native_step_counts_only_if_it_speaks_for_the_code(operation, words):
    graph = make_graph({"image": ("image", [FakeDecoder(), operation()])})
    native = graph.declare()[graph.leaves["image"]].native
    assert (None if native is None else native.words) == words


def test_operations_written_for_ffcv_have_no_native_step():
    class Foreign:
        """FFCV's protocol, without our base class."""

        def accept_field(self, field): ...

        def accept_globals(self, metadata, memory_read): ...

        def declare_shared_memory(self, previous_state):
            return None

        def declare_state_and_memory(self, previous_state):
            return previous_state, None

        def generate_code(self):
            return lambda values, memory: values

        def native_step(self, previous_state):
            raise AssertionError("not asked for")

    graph = make_graph({"image": ("image", [FakeDecoder(), Foreign()])})
    assert graph.declare()[graph.leaves["image"]].native is None


@pytest.mark.parametrize("device", ["meta", "cuda:0"])
def test_arrays_are_on_the_cpu(device):
    with pytest.raises(PipelineError, match=f"an array on the CPU, found the device {device}.*ToDevice"):
        State(jit_mode=True, device=device, shape=(2,), dtype=np.dtype("u1"))


def test_arrays_have_numpys_dtypes():
    with pytest.raises(PipelineError, match=r"a NumPy dtype for an array, found torch.uint8.*ToTensor"):
        State(jit_mode=True, device="cpu", shape=(2,), dtype=torch.uint8)


def test_specs_copy_lists_and_keep_operations():
    operations = [Noted(), Noted()]
    spec = PipelineSpec("image", transforms=operations)
    spec.transforms.pop()
    assert len(operations) == 2 and spec.transforms[0] is operations[0]
    assert not spec.default_pipeline and PipelineSpec("image").default_pipeline
    assert "source='image'" in repr(spec)


def test_a_graph_needs_no_pipelines():
    assert Graph({}, {}, {}, np.zeros(3, dtype=[("f0", "u1")]), None).declare() == {}
