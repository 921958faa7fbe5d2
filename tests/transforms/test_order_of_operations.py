"""A pipeline in the wrong order is refused when it is declared, with what to change; FFCV's import paths."""

import importlib

import numpy as np
import pytest
import torch

from ffx import transforms
from ffx.errors import PipelineError
from ffx.transforms import (
    Cutout,
    ImageMixup,
    LabelMixup,
    Poison,
    RandomBrightness,
    RandomContrast,
    RandomResizedCrop,
    RandomSaturation,
    RandomTranslate,
    ReplaceLabel,
)
from tests.transforms.helpers import tensor_state

ON_ARRAYS = [
    Cutout(2),
    ImageMixup(0.2, True),
    LabelMixup(0.2, True),
    Poison(np.zeros((4, 4, 3)), 0.5, [1]),
    RandomBrightness(0.1),
    RandomContrast(0.1),
    RandomResizedCrop((0.5, 1), (0.7, 1.4), 4),
    RandomSaturation(0.1),
    RandomTranslate(2),
    ReplaceLabel([1], 0),
]


@pytest.mark.parametrize("operation", ON_ARRAYS, ids=lambda operation: type(operation).__name__)
def test_operations_on_arrays_say_that_they_belong_before_to_tensor(operation):
    name = type(operation).__name__
    with pytest.raises(PipelineError, match=rf"{name} works on arrays.*before ToTensor\(\)"):
        operation.declare_state_and_memory(tensor_state(torch.zeros(2, 4, 4, 3, dtype=torch.uint8)))


@pytest.mark.parametrize("operation", ON_ARRAYS, ids=lambda operation: type(operation).__name__)
def test_only_operations_that_treat_samples_alone_are_shared_among_threads(operation):
    assert operation.per_sample == (not isinstance(operation, (ImageMixup, LabelMixup)))


@pytest.mark.parametrize(
    ("module", "names"),
    [
        ("common", "Squeeze"),
        ("ops", "ToTensor ToDevice ToTorchImage Convert View"),
        ("flip", "RandomHorizontalFlip"),
        ("normalize", "NormalizeImage"),
        ("translate", "RandomTranslate"),
        ("random_resized_crop", "RandomResizedCrop"),
        ("cutout", "Cutout"),
        ("mixup", "ImageMixup LabelMixup MixupToOneHot"),
        ("color_jitter", "RandomBrightness RandomContrast RandomSaturation"),
        ("poisoning", "Poison"),
        ("replace_label", "ReplaceLabel"),
        ("module", "ModuleWrapper"),
    ],
)
def test_ffcv_s_import_paths_lead_to_the_same_classes(module, names):
    found = importlib.import_module(f"ffx.transforms.{module}")
    for name in names.split():
        assert getattr(found, name) is getattr(transforms, name)
