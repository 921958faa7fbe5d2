"""Operations written for FFCV: what its protocol promises them, ffx keeps."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ffx.errors import OperationError
from ffx.fields.decoders import CenterCropRGBImageDecoder, IntDecoder, SimpleRGBImageDecoder
from ffx.fields.rgb_image import ResizedCropRGBImageDecoder
from ffx.pipeline import PipelineSpec
from ffx.pipeline.allocation_query import AllocationQuery
from ffx.pipeline.compiler import Compiler
from ffx.pipeline.operation import Operation
from ffx.transforms import RandomHorizontalFlip, ToTensor
from tests.loader.helpers import SIZE, everything, load


class Invert(Operation):
    """Writes to its memory and returns it."""

    def generate_code(self):
        iterator = Compiler.get_iterator()

        def invert(images, memory):
            for index in iterator(images.shape[0]):
                memory[index] = 255 - images[index]
            return memory

        invert.is_parallel = True
        return invert

    def declare_state_and_memory(self, previous_state):
        return replace(previous_state, jit_mode=True), AllocationQuery(previous_state.shape, previous_state.dtype)


class AddIndex(Operation):
    """Changes its input in place, by the samples' indices."""

    def generate_code(self):
        def add(labels, _, indices):
            for position in range(labels.shape[0]):
                labels[position] += 1000 * indices[position]
            return labels

        add.with_indices = True
        return add

    def declare_state_and_memory(self, previous_state):
        return previous_state, None


class NeighbourDifference(Operation):
    """Looks at its neighbour although it calls itself parallel: must see the whole batch."""

    def generate_code(self):
        def differ(labels, memory):
            for position in range(labels.shape[0]):
                memory[position] = labels[position] - labels[position - 1]
            return memory

        differ.is_parallel = True
        return differ

    def declare_state_and_memory(self, previous_state):
        return previous_state, AllocationQuery(previous_state.shape, previous_state.dtype)


class SharedDraw(Operation):
    """One number a batch in shared memory, the same wherever the instance stands."""

    def declare_shared_memory(self, previous_state):
        return AllocationQuery((1,), np.dtype("f8"))

    def generate_code_for_shared_state(self):
        def draw(shared):
            shared[:] = np.random.random()

        return draw

    def generate_code(self):
        def add(labels, memory, shared):
            memory[:] = labels + shared[0, 0]
            return memory

        return add

    def declare_state_and_memory(self, previous_state):
        state = replace(previous_state, dtype=np.dtype("f8"))
        return state, AllocationQuery(previous_state.shape, np.dtype("f8"))


class NumbaNoise(Operation):
    """Draws from numba's own generator, as FFCV's users do."""

    def generate_code(self):
        def noise(labels, memory):
            for position in range(labels.shape[0]):
                memory[position] = labels[position] + np.random.random()
            return memory

        return noise

    def declare_state_and_memory(self, previous_state):
        state = replace(previous_state, dtype=np.dtype("f8"))
        return state, AllocationQuery(previous_state.shape, np.dtype("f8"))


class TopLeftCrop(ResizedCropRGBImageDecoder):
    """A decoder that only says where to crop."""

    scale = (0.5, 0.5)
    ratio = (1.0, 1.0)

    @property
    def get_crop_generator(self):
        def top_left(height, width, scale, ratio):
            return 0, 0, int(height * scale[0]), int(width * scale[0])

        return top_left


class FullDecode(SimpleRGBImageDecoder):
    """A decoder with code of its own that reads through `memory_read`."""

    def declare_state_and_memory(self, previous_state):
        return replace(previous_state, jit_mode=True, shape=(4,), dtype=np.dtype("u1")), AllocationQuery(
            (4,), np.dtype("u1")
        )

    def generate_code(self):
        read = self.memory_read

        def first_bytes(indices, memory, metadata, storage_state):
            for position in range(len(indices)):
                data = read(metadata[indices[position]]["data_ptr"], storage_state)
                memory[position] = data[:4]
            return memory

        return first_bytes


class Fails(Operation):
    def generate_code(self):
        def fail(tensor, _):
            raise RuntimeError("no luck")

        return fail

    def declare_state_and_memory(self, previous_state):
        return replace(previous_state, jit_mode=False), None


def crops():
    return CenterCropRGBImageDecoder(SIZE, ratio=1.0)


def test_operation_on_the_whole_batch(raw_file):
    plain = everything(load(raw_file, pipelines={"image": [crops()], "label": None}))[0]
    inverted = everything(load(raw_file, pipelines={"image": [crops(), Invert(), ToTensor()], "label": None}))[0]
    np.testing.assert_array_equal(inverted, 255 - plain)


def test_native_operation_after_a_foreign_one(raw_file):
    plain = everything(load(raw_file, pipelines={"image": [crops(), RandomHorizontalFlip(1.0)], "label": None}))[0]
    pipeline = [crops(), Invert(), RandomHorizontalFlip(1.0)]
    after = everything(load(raw_file, pipelines={"image": pipeline, "label": None}))[0]
    np.testing.assert_array_equal(after, 255 - plain)


@pytest.mark.parametrize("workers", [1, 3])
def test_per_sample_operations_are_called_on_parts_with_the_same_result(raw_file, workers):
    class InvertBySample(Invert):
        per_sample = True

    class ReturnsInput(Invert):
        per_sample = True

        def generate_code(self):
            def invert(images, memory):
                images[:] = 255 - images
                return images

            return invert

    class ReturnsNew(Invert):
        per_sample = True

        def generate_code(self):
            def invert(images, memory):
                return 255 - images

            return invert

    plain = everything(load(raw_file, pipelines={"image": [crops()], "label": None}))[0]
    for kind in (InvertBySample, ReturnsInput, ReturnsNew):
        loader = load(
            raw_file, batch_size=40, num_workers=workers, pipelines={"image": [crops(), kind()], "label": None}
        )
        np.testing.assert_array_equal(everything(loader)[0], 255 - plain)


def test_operation_with_indices_in_place(raw_file):
    (labels,) = everything(load(raw_file, pipelines={"image": None, "label": [IntDecoder(), AddIndex(), ToTensor()]}))
    assert labels[:, 0].tolist() == [1000 * index + index % 4 for index in range(60)]


def test_operation_that_looks_at_its_neighbour_sees_the_batch(raw_file):
    (found,) = everything(load(raw_file, pipelines={"image": None, "label": [IntDecoder(), NeighbourDifference()]}))
    labels = (np.arange(60) % 4).reshape(-1)
    expected = np.concatenate([part - np.roll(part, 1) for part in np.split(labels, range(8, 60, 8))])
    np.testing.assert_array_equal(found[:, 0], expected)


def test_shared_state_is_drawn_once_a_batch_and_shared_between_pipelines(raw_file):
    decoder, shared = IntDecoder(), SharedDraw()
    pipelines = {"image": None, "label": [decoder, shared], "other": PipelineSpec("label", IntDecoder(), [shared])}
    loader = load(raw_file, pipelines=pipelines)
    fractions = []
    for one, two in loader:
        np.testing.assert_array_equal(one, two)
        fractions.append(float(one[0, 0] % 1))
        assert np.ptp(one % 1) < 1e-9
    assert len(set(fractions)) == len(fractions)


def test_numba_generators_are_seeded_from_seed_epoch_and_batch(raw_file):
    pipelines = {"image": None, "label": [IntDecoder(), NumbaNoise()]}
    first, second = (load(raw_file, num_workers=workers, pipelines=pipelines) for workers in (1, 4))
    one, two = everything(first)[0], everything(second)[0]
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, everything(first)[0])
    assert len(np.unique(one % 1)) == 60


def test_decoder_that_only_chooses_the_crop(raw_file, dataset):
    import cv2

    images = everything(load(raw_file, pipelines={"image": [TopLeftCrop(SIZE)], "label": None}))[0]
    for index in (0, 17, 59):
        picture = dataset.picture(index)
        part = np.ascontiguousarray(picture[: picture.shape[0] // 2, : picture.shape[1] // 2])
        expected = cv2.resize(part, SIZE, interpolation=cv2.INTER_AREA)
        assert np.abs(images[index].astype(int) - expected).max() <= 1


@pytest.mark.parametrize("os_cache", [True, False])
def test_decoder_with_code_of_its_own_reads_the_storage(raw_file, dataset, os_cache):
    found = everything(load(raw_file, os_cache=os_cache, pipelines={"image": [FullDecode()], "label": None}))[0]
    expected = [dataset.picture(index).reshape(-1)[:4] for index in range(60)]
    np.testing.assert_array_equal(found, expected)


def test_torch_modules_run_where_tensors_flow(raw_file):
    class Double(torch.nn.Module):
        def forward(self, tensor):
            return tensor * 2

    (labels,) = everything(load(raw_file, pipelines={"image": None, "label": [IntDecoder(), ToTensor(), Double()]}))
    assert labels[:, 0].tolist() == [2 * (index % 4) for index in range(60)]


@pytest.mark.usefixtures("no_threads_left")
def test_an_error_in_an_operation_reaches_the_consumer_with_its_cause(raw_file):
    pipelines = {"image": None, "label": [IntDecoder(), ToTensor(), Fails()]}
    with pytest.raises(OperationError, match=r"Fails .*'label'.* failed in batch 0 .*no luck") as caught:
        next(iter(load(raw_file, pipelines=pipelines)))
    assert isinstance(caught.value.__cause__, RuntimeError)
