"""A result that several want is the same for all of them, whatever each does with it afterwards."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from ffx.fields import IntField, RGBImageField
from ffx.fields.decoders import IntDecoder, SimpleRGBImageDecoder
from ffx.loader import Loader
from ffx.pipeline import PipelineSpec
from ffx.pipeline.operation import Operation
from ffx.transforms import (
    Convert,
    Cutout,
    ImageMixup,
    LabelMixup,
    NormalizeImage,
    Poison,
    RandomBrightness,
    RandomContrast,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomSaturation,
    RandomTranslate,
    ReplaceLabel,
    ToTensor,
    ToTorchImage,
)
from ffx.writer import DatasetWriter
from tests.pictures import make_picture

SIDE, SAMPLES = 12, 20


class Pictures:
    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        return make_picture(SIDE, SIDE, seed=index), index


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """Pictures of one size, stored raw, and their numbers."""
    path = tmp_path_factory.mktemp("shared") / "pictures.beton"
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    DatasetWriter(str(path), fields, num_workers=1).from_indexed_dataset(Pictures())
    return str(path)


def epoch(file, pipelines):
    """Every output of an epoch, put together."""
    with Loader(file, 8, 2, drop_last=False, seed=1, pipelines=pipelines) as loader:
        return [np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*loader)]


def pictures():
    return np.stack([Pictures()[index][0] for index in range(SAMPLES)])


ON_IMAGES = [
    Cutout(5, fill=(9, 9, 9)),
    ImageMixup(1.0, False),
    NormalizeImage([1.0] * 3, [2.0] * 3, np.float32),
    Poison(np.full((SIDE, SIDE, 3), 200), np.full((SIDE, SIDE), 0.5), range(SAMPLES)),
    RandomBrightness(0.9, 1.0),
    RandomContrast(0.9, 1.0),
    RandomHorizontalFlip(1.0),
    RandomResizedCrop((0.1, 0.5), (0.7, 1.4), 8),
    RandomSaturation(0.9, 1.0),
    RandomTranslate(4),
]


@pytest.mark.parametrize("operation", ON_IMAGES, ids=lambda operation: type(operation).__name__)
def test_the_picture_before_an_operation_stays_as_it_was(file, operation):
    decoder = SimpleRGBImageDecoder()
    pipelines = {
        "image": [decoder, operation],
        "label": None,
        "before": PipelineSpec(decoder, transforms=[]),
        "as_tensor": PipelineSpec(decoder, transforms=[ToTensor()]),
    }
    changed, before, as_tensor = epoch(file, pipelines)
    np.testing.assert_array_equal(before, pictures())
    np.testing.assert_array_equal(as_tensor, pictures())
    assert changed.shape != before.shape or not np.array_equal(changed, before)
    # And the other way round: the operation sees the picture, not what others made of it.
    (alone,) = epoch(file, {"image": [SimpleRGBImageDecoder(), operation], "label": None})
    np.testing.assert_array_equal(changed, alone)


@pytest.mark.parametrize("operation", [ReplaceLabel(range(SAMPLES), 77), LabelMixup(1.0, False)])
def test_labels_stay_as_they_were(file, operation):
    decoder = IntDecoder()
    pipelines = {"image": None, "label": [decoder, operation], "before": PipelineSpec(decoder, transforms=[])}
    _, before = epoch(file, pipelines)
    assert before[:, 0].tolist() == list(range(SAMPLES))


class FillInPlace(Operation):
    """Changes what it is given, as many operations that were written for FFCV do."""

    def declare_state_and_memory(self, previous_state):
        return replace(previous_state, jit_mode=True), None

    def generate_code(self):
        def fill(images, _):
            images[:] = 7
            return images

        fill.is_parallel = True
        return fill


class FillBySample(FillInPlace):
    per_sample = True


class ModuleInPlace(torch.nn.Module):
    def forward(self, images):
        return images.fill_(7)


@pytest.mark.parametrize("operation", [FillInPlace, FillBySample])
def test_other_peoples_operations_that_change_their_input_damage_no_other_result(file, operation):
    decoder = SimpleRGBImageDecoder()
    pipelines = {
        "image": [decoder, operation()],
        "label": None,
        "before": PipelineSpec(decoder, transforms=[]),
        "normal": PipelineSpec(decoder, transforms=[NormalizeImage([0.0] * 3, [1.0] * 3, np.float32)]),
    }
    filled, before, normal = epoch(file, pipelines)
    assert (filled == 7).all()
    np.testing.assert_array_equal(before, pictures())
    np.testing.assert_array_equal(normal, pictures().astype(np.float32))


@pytest.mark.parametrize("between", [[], [ToTorchImage()]], ids=["alone", "behind a view"])
def test_modules_that_change_their_input_damage_no_other_result(file, between):
    decoder, to_tensor = SimpleRGBImageDecoder(), ToTensor()
    pipelines = {
        "image": [decoder, to_tensor],
        "label": None,
        "filled": PipelineSpec(to_tensor, transforms=[*between, ModuleInPlace()]),
    }
    image, filled = epoch(file, pipelines)
    assert (filled == 7).all()
    np.testing.assert_array_equal(image, pictures())


def test_in_place_operations_may_change_what_nobody_else_wants(file):
    (filled,) = epoch(file, {"image": [SimpleRGBImageDecoder(), FillInPlace()], "label": None})
    assert (filled == 7).all()


def test_one_instance_may_stand_where_arrays_and_where_tensors_flow(file):
    normalize, convert = NormalizeImage([0.0] * 3, [2.0] * 3, np.float32), Convert("f4")
    decoder = SimpleRGBImageDecoder()
    pipelines = {
        "image": [decoder, convert],
        "label": None,
        "tensors": PipelineSpec(decoder, transforms=[ToTensor(), convert]),
        "normal_arrays": PipelineSpec(decoder, transforms=[normalize]),
        "normal_tensors": PipelineSpec(decoder, transforms=[ToTensor(), ToTorchImage(), normalize]),
    }
    arrays, tensors, normal_arrays, normal_tensors = epoch(file, pipelines)
    np.testing.assert_array_equal(arrays, pictures().astype(np.float32))
    np.testing.assert_array_equal(tensors, arrays)
    np.testing.assert_array_equal(normal_arrays, arrays / 2)
    np.testing.assert_array_equal(normal_tensors.transpose(0, 2, 3, 1), normal_arrays)
