"""Plans: what runs natively by sample, what by batch, what is fused, and what a change between epochs does."""

import random

import numpy as np
import pytest
import torch
from numba import njit
from numba.core.dispatcher import Dispatcher

from ffx.kernels.memory import float_bits
from ffx.kernels.rng import epoch_key
from ffx.pipeline import Compiler
from ffx.pipeline.allocation_query import AllocationQuery, allocate, allocate_query
from ffx.pipeline.operation import Operation
from ffx.pipeline.plan import Kind, Plan, is_per_sample, seed_generators

from .operations import SHAPE, FakeDecoder, FakeFlip, Noted, OnTensors, make_graph


class NativeNoted(FakeFlip):
    """A native step that is no flip."""

    def native_step(self, previous_state):
        step = super().native_step(previous_state)
        return type(step)(step.kernel, (33,))


@pytest.fixture
def plain_python():
    Compiler.set_enabled(False)
    yield
    Compiler.set_enabled(True)


def kinds(steps):
    return [(type(step.node.operation).__name__, step.kind) for step in steps]


def test_native_steps_behind_native_steps_are_the_front_and_the_rest_is_the_tail():
    pipelines = {
        "image": ("image", [FakeDecoder(), NativeNoted(), Noted(), NativeNoted(), OnTensors(), OnTensors()]),
        "label": ("label", [FakeDecoder()]),
    }
    schedule = Plan(make_graph(pipelines)).schedule(0, 0)
    assert kinds(schedule.front) == [
        ("FakeDecoder", Kind.NATIVE),
        ("NativeNoted", Kind.NATIVE),
        ("FakeDecoder", Kind.NATIVE),
    ]
    assert kinds(schedule.tail) == [
        ("Noted", Kind.COMPILED),
        ("NativeNoted", Kind.NATIVE),
        ("OnTensors", Kind.TORCH),
        ("OnTensors", Kind.TORCH),
    ]
    assert [node.pipeline for node in schedule.outputs] == ["image", "label"]
    assert schedule.steps == schedule.front + schedule.tail


def test_a_flip_behind_a_decoder_becomes_part_of_it():
    graph = make_graph({"image": ("image", [FakeDecoder(), FakeFlip(), OnTensors()])})
    schedule = Plan(graph).schedule(seed=4, epoch=2)
    (decoder,) = schedule.front
    flip = graph.leaves["image"].parent
    assert decoder.aliases == (flip,)
    assert decoder.native.words == (11, float_bits(0.25), epoch_key(4, 2, flip.random_key))
    assert kinds(schedule.tail) == [("OnTensors", Kind.TORCH)]


def test_a_flip_as_a_pipelines_end_is_fused_too():
    graph = make_graph({"image": ("image", [FakeDecoder(), FakeFlip()])})
    (step,) = Plan(graph).schedule(0, 0).steps
    assert step.aliases == (graph.leaves["image"],)


def derived_from_decoder(operations):
    decoder = FakeDecoder()
    return {"image": ("image", [decoder, FakeFlip()]), "other": (decoder, operations)}


@pytest.mark.parametrize("operations", [[], [Noted()], [FakeFlip()]])
def test_no_flip_is_fused_where_the_unflipped_picture_is_wanted(operations):
    schedule = Plan(make_graph(derived_from_decoder(operations))).schedule(0, 0)
    assert all(not step.aliases for step in schedule.steps)
    assert ("FakeFlip", Kind.NATIVE) in kinds(schedule.front)
    assert schedule.front[0].native.words == (11, 0, 0)


def test_a_flip_further_behind_is_not_fused():
    schedule = Plan(make_graph({"image": ("image", [FakeDecoder(), NativeNoted(), FakeFlip()])})).schedule(0, 0)
    assert all(not step.aliases for step in schedule.steps) and len(schedule.front) == 3


def test_of_two_flips_the_first_is_fused():
    schedule = Plan(make_graph({"image": ("image", [FakeDecoder(), FakeFlip(), FakeFlip()])})).schedule(0, 0)
    assert [len(step.aliases) for step in schedule.front] == [1, 0]


@pytest.mark.usefixtures("plain_python")
def test_without_compilation_nothing_is_native():
    schedule = Plan(make_graph({"image": ("image", [FakeDecoder(), FakeFlip()])})).schedule(0, 0)
    assert schedule.front == ()
    assert kinds(schedule.tail) == [("FakeDecoder", Kind.COMPILED), ("FakeFlip", Kind.COMPILED)]


def test_keys_change_with_seed_and_epoch_alone():
    graph = make_graph({"image": ("image", [FakeDecoder(), NativeNoted()]), "label": ("label", [FakeDecoder()])})
    plan = Plan(graph)

    def keys(seed, epoch):
        return tuple(step.random_key for step in plan.schedule(seed, epoch).steps)

    assert keys(1, 2) == keys(1, 2)
    drawn = [keys(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({key for one in drawn for key in one}) == 27


def test_the_device_is_the_first_that_is_not_the_cpu():
    class ToMeta(OnTensors):
        def declare_state_and_memory(self, previous_state):
            state, memory = super().declare_state_and_memory(previous_state)
            state.device = torch.device("meta")
            return state, memory

    on_cpu = make_graph({"image": ("image", [FakeDecoder(), OnTensors()])})
    assert Plan(on_cpu).schedule(0, 0).device is None
    elsewhere = make_graph({"image": ("image", [FakeDecoder(), OnTensors(), ToMeta()])})
    assert Plan(elsewhere).schedule(0, 0).device == torch.device("meta")


class TestFunctions:
    def plan(self, operation):
        plan = Plan(make_graph({"image": ("image", [FakeDecoder(), operation])}))
        return plan, plan.schedule(0, 0).tail[0]

    def test_are_generated_once_until_they_are_forgotten(self):
        class Counted(Noted):
            generated = 0

            def generate_code(self):
                type(self).generated += 1
                return super().generate_code()

        plan, step = self.plan(Counted())
        assert plan.function(step) is plan.function(step)
        assert Counted.generated == 1
        plan.recompile()
        plan.function(step)
        assert Counted.generated == 2

    def test_say_what_they_want(self):
        class Wants(Noted):
            def generate_code(self):
                def code(values, memory, indices, streams):
                    return values

                code.with_indices = code.with_random = True
                return code

        plan, step = self.plan(Wants())
        assert plan.function(step).with_indices and plan.function(step).with_random
        plan, step = self.plan(Noted())
        assert not plan.function(step).with_indices and not plan.function(step).with_random

    def test_are_compiled_where_arrays_flow_only(self):
        plan, step = self.plan(Noted())
        assert isinstance(plan.function(step).code, Dispatcher)
        values = np.arange(3)
        np.testing.assert_array_equal(plan.function(step)(values, None), values)
        plan, step = self.plan(OnTensors())
        assert not isinstance(plan.function(step).code, Dispatcher)

    @pytest.mark.usefixtures("plain_python")
    def test_are_plain_python_when_compilation_is_off(self):
        plan, step = self.plan(Noted())
        assert not isinstance(plan.function(step).code, Dispatcher)

    def test_follow_the_switch_from_one_epoch_to_the_next(self):
        plan, step = self.plan(Noted())
        assert isinstance(plan.function(step).code, Dispatcher)
        Compiler.set_enabled(False)
        try:
            assert not isinstance(plan.function(step).code, Dispatcher)
        finally:
            Compiler.set_enabled(True)
        assert isinstance(plan.function(step).code, Dispatcher)

    def test_of_shared_memory_are_compiled_too(self):
        class Shares(Noted):
            def declare_shared_memory(self, previous_state):
                return AllocationQuery((1,), np.dtype("f8"))

            def generate_code_for_shared_state(self):
                def fill(shared):
                    shared[:] = 5

                return fill

        plan, step = self.plan(Shares())
        shared = np.zeros((4, 1))
        plan.initialiser(step)(shared)
        assert isinstance(plan.initialiser(step), Dispatcher) and (shared == 5).all()
        plan, step = self.plan(Noted())
        assert plan.initialiser(step) is None


class PerSample(Noted):
    per_sample = True


class SameCode(PerSample):
    pass


class OtherCode(PerSample):
    def generate_code(self):
        return lambda values, memory: values


class OtherCodeBySample(PerSample):
    per_sample = True

    def generate_code(self):
        return lambda values, memory: values


@pytest.mark.parametrize(
    "operation, expected",
    [(Noted, False), (PerSample, True), (SameCode, True), (OtherCode, False), (OtherCodeBySample, True)],
)
def test_who_changes_the_code_says_again_that_it_treats_samples_alone(operation, expected):
    assert is_per_sample(operation()) is expected


def test_whoever_is_no_operation_of_ours_gets_the_whole_batch():
    class Foreign:
        def generate_code(self): ...

    assert not is_per_sample(Foreign())


class TestCompiler:
    def test_compiles_without_the_gil_and_in_one_thread(self):
        iterator = Compiler.get_iterator()

        def add_up(values):
            total = 0
            for index in iterator(len(values)):
                total += values[index]
            return total

        compiled = Compiler.compile(add_up)
        assert compiled(np.arange(5)) == add_up(np.arange(5)) == 10
        assert compiled.targetoptions["nogil"] and not compiled.targetoptions.get("parallel")

    def test_leaves_compiled_functions_alone(self):
        compiled = njit(lambda value: value + 1)
        assert Compiler.compile(compiled) is compiled

    @pytest.mark.usefixtures("plain_python")
    def test_does_nothing_when_it_is_off(self):
        def function(value):
            return value

        assert Compiler.compile(function) is function

    def test_remembers_a_number_of_threads_and_changes_none(self):
        import numba

        before = Compiler.num_threads, numba.get_num_threads(), torch.get_num_threads()
        Compiler.set_num_threads(before[0] + 3)
        assert Compiler.num_threads == before[0] + 3
        assert (numba.get_num_threads(), torch.get_num_threads()) == before[1:]
        Compiler.set_num_threads(before[0])

    def test_takes_signatures(self):
        def double(value):
            return 2 * value

        assert Compiler.compile(double, "int64(int64)").signatures


def test_numbas_generators_are_seeded_and_pythons_left_alone():
    @njit
    def draw():
        return np.random.random(), random.random()

    np.random.seed(1)
    random.seed(1)
    expected = np.random.RandomState(1).random(), random.Random(1).random()
    drawn = []
    for seed in (7, 8, 7):
        seed_generators(seed)
        drawn.append(draw())
    assert drawn[0] == drawn[2] != drawn[1]
    assert (np.random.random(), random.random()) == expected


@pytest.mark.parametrize("dtype", [np.dtype("u1"), np.dtype("f4"), torch.float16, torch.int64])
def test_memory_is_what_was_asked_for(dtype):
    buffer = allocate(AllocationQuery(SHAPE, dtype), 5)
    assert tuple(buffer.shape) == (5, *SHAPE) and buffer.dtype == dtype
    assert isinstance(buffer, torch.Tensor) == isinstance(dtype, torch.dtype)


def test_ffcvs_way_to_ask_for_memory():
    array = allocate_query(AllocationQuery((2,), np.dtype("i4")), 5, 3)
    assert array.shape == (3, 5, 2) and array.dtype == np.int32
    tensors = allocate_query(AllocationQuery((2,), torch.int32), 5, 3)
    assert [tuple(tensor.shape) for tensor in tensors] == [(5, 2)] * 3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [np.dtype("u2"), np.dtype("f4"), torch.float16])
def test_memory_can_be_page_locked(dtype):
    buffer = allocate(AllocationQuery(SHAPE, dtype), 5, pinned=True)
    tensor = buffer if isinstance(buffer, torch.Tensor) else torch.from_numpy(buffer.view(np.uint8))
    assert tensor.is_pinned() and tuple(buffer.shape) == (5, *SHAPE)


def test_an_operation_says_little_unless_it_is_asked():
    class Least(Operation):
        def declare_state_and_memory(self, previous_state):
            return previous_state, None

        def generate_code(self):
            return lambda values, memory: values

    least = Least()
    assert least.declare_shared_memory(None) is None and least.generate_code_for_shared_state() is None
    assert least.native_step(None) is None and not least.per_sample
