"""Transforms as the loader runs them: native, compiled in parts, as plain Python, with any number of workers."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ffx.fields import IntField, RGBImageField
from ffx.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder, SimpleRGBImageDecoder
from ffx.loader import Loader, OrderOption
from ffx.pipeline import Compiler, PipelineSpec
from ffx.transforms import (
    AlternatingHorizontalFlip,
    Cutout,
    ImageMixup,
    LabelMixup,
    MixupToOneHot,
    NormalizeImage,
    Poison,
    RandomBrightness,
    RandomContrast,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomSaturation,
    RandomTranslate,
    ReplaceLabel,
    Squeeze,
    ToTensor,
    ToTorchImage,
)
from ffx.writer import DatasetWriter
from tests.transforms.helpers import random_images

MEAN, STD = np.array([123.675, 116.28, 103.53]), np.array([58.395, 57.12, 57.375])
SAMPLES = 26


class Images:
    """Noise of one size with labels 0 to 4."""

    def __init__(self) -> None:
        self.images = random_images(SAMPLES, height=20, width=24)

    def __len__(self) -> int:
        return SAMPLES

    def __getitem__(self, index: int):
        return self.images[index], index % 5


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("transforms") / "noise.beton"
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    DatasetWriter(str(path), fields, num_workers=1).from_indexed_dataset(Images())
    return path


def epochs(path, pipelines, workers=2, count=1, **arguments) -> list[np.ndarray]:
    """All outputs of some epochs, each as one array."""
    arguments = {"order": OrderOption.RANDOM, "seed": 5, "drop_last": False, **arguments}
    with Loader(str(path), 8, workers, pipelines=pipelines, **arguments) as loader:
        batches = [batch for _ in range(count) for batch in loader]
    return [np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*batches)]


def augmented():
    image = [
        SimpleRGBImageDecoder(),
        RandomHorizontalFlip(),
        RandomTranslate(3, fill=(9, 8, 7)),
        RandomBrightness(0.4),
        RandomContrast(0.4),
        RandomSaturation(0.4),
        RandomResizedCrop((0.3, 1), (3 / 4, 4 / 3), 16),
        RandomHorizontalFlip(),
        Cutout(5, fill=(1, 2, 3)),
        NormalizeImage(MEAN, STD, np.float32),
        ToTensor(),
        ToTorchImage(),
    ]
    return {"image": image, "label": [IntDecoder(), ReplaceLabel([3, 4], 99), ToTensor(), Squeeze()]}


@pytest.fixture
def plain_python():
    Compiler.set_enabled(False)
    yield
    Compiler.set_enabled(True)


@pytest.fixture(scope="module")
def two_epochs(path) -> list[np.ndarray]:
    return epochs(path, augmented(), count=2)


def test_workers_change_nothing(path, two_epochs):
    for one, other in zip(epochs(path, augmented(), workers=1, count=2), two_epochs):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(two_epochs[0][:SAMPLES], two_epochs[0][SAMPLES:])


@pytest.mark.usefixtures("plain_python")
def test_native_steps_and_plain_python_agree(path, two_epochs):
    for one, other in zip(epochs(path, augmented(), count=2), two_epochs):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("flip", [RandomHorizontalFlip(), AlternatingHorizontalFlip()])
def test_a_flip_alone_and_a_flip_in_the_decoder_choose_the_same_images(path, flip):
    decoder = RandomResizedCropRGBImageDecoder((20, 24), scale=(1, 1), ratio=(1.2, 1.2))
    fused = epochs(path, {"image": [decoder, flip], "label": None})[0]
    # A pipeline that wants the unflipped images keeps the flip out of the decoder.
    apart, straight = epochs(
        path, {"image": [decoder, flip], "straight": PipelineSpec(decoder, transforms=[]), "label": None}
    )
    np.testing.assert_array_equal(fused, apart)
    flipped = [not np.array_equal(one, other) for one, other in zip(apart, straight)]
    assert 0 < sum(flipped) < SAMPLES


def whole_images():
    return RandomResizedCropRGBImageDecoder((20, 24), scale=(1, 1), ratio=(1.2, 1.2))


ALTERNATING = {
    "in the decoder": lambda: [whole_images(), AlternatingHorizontalFlip()],
    "on its own": lambda: [SimpleRGBImageDecoder(), AlternatingHorizontalFlip()],
    "on tensors": lambda: [SimpleRGBImageDecoder(), ToTensor(), AlternatingHorizontalFlip()],
    "in a device's crop": lambda: [whole_images().on("cpu"), AlternatingHorizontalFlip()],
}


@pytest.mark.parametrize("form", ALTERNATING)
def test_alternating_flip_shows_both_sides_of_each_image_in_two_epochs(path, form):
    """Whatever form it takes, and of an image that comes twice an epoch within each."""
    images = epochs(path, {"image": ALTERNATING[form](), "label": None}, count=4, indices=[*range(SAMPLES), 7])[0]
    upright = Images().images
    sides = [[] for _ in range(SAMPLES)]
    for image in images:
        (number,) = [n for n, one in enumerate(upright) if (one == image).all() or (one[:, ::-1] == image).all()]
        sides[number].append(not np.array_equal(upright[number], image))
    first = [side[0] for side in sides]
    assert 0 < sum(first) < SAMPLES
    assert sides.pop(7) == [first[7], not first[7], not first[7], first[7]] * 2
    assert all(side == [side[0], not side[0]] * 2 for side in sides)


def test_pipelines_that_start_before_a_transform_see_what_it_was_given(path):
    decoder = SimpleRGBImageDecoder()
    mask = np.full((20, 24, 3), 255)
    operations = [
        Cutout(8),
        RandomTranslate(5),
        RandomBrightness(0.9, p=1.0),
        RandomContrast(0.9, p=1.0),
        RandomSaturation(0.9, p=1.0),
        Poison(mask, 0.5, range(SAMPLES)),
        RandomHorizontalFlip(1.0),
    ]
    pipelines = {
        "image": [decoder],
        "label": None,
        **{type(one).__name__: PipelineSpec(decoder, transforms=[one]) for one in operations},
    }
    untouched, *changed = epochs(path, pipelines, order=OrderOption.SEQUENTIAL)
    np.testing.assert_array_equal(untouched, Images().images)
    assert not any(np.array_equal(one, untouched) for one in changed)


def test_mixup_of_images_and_labels_agree(path):
    pipelines = {
        "image": [SimpleRGBImageDecoder(), ImageMixup(0.5, False), ToTensor()],
        "plain": PipelineSpec("image", SimpleRGBImageDecoder(), [ToTensor()]),
        "label": [IntDecoder(), LabelMixup(0.5, False), ToTensor()],
        "one_hot": PipelineSpec("label", IntDecoder(), [LabelMixup(0.5, False), ToTensor(), MixupToOneHot(5)]),
    }
    with Loader(str(path), 8, 2, order=OrderOption.RANDOM, seed=5, drop_last=False, pipelines=pipelines) as loader:
        batches = list(loader)
    assert [len(batch[0]) for batch in batches] == [8, 8, 8, 2]
    for mixed, labels, plain, one_hot in batches:
        weight = labels[:, 2].double()[:, None, None, None]
        expected = weight * plain + (1 - weight) * plain.roll(1, 0)
        assert (mixed - expected).abs().max() <= 0.501
        assert torch.equal(labels[:, 1], labels[:, 0].roll(1))
        torch.testing.assert_close(one_hot.sum(1), torch.ones(len(one_hot)))


@pytest.mark.parametrize("dtype", [np.float16, torch.float16, torch.float32, torch.bfloat16])
def test_normalized_before_or_after_to_tensor(path, dtype):
    normalize = NormalizeImage(MEAN, STD, dtype)
    after = {"image": [SimpleRGBImageDecoder(), ToTensor(), ToTorchImage(), normalize], "label": None}
    with Loader(str(path), 8, 1, seed=1, drop_last=False, pipelines=after) as loader:
        found = torch.cat([image for (image,) in loader])
    wanted = torch.float16 if dtype is np.float16 else dtype
    assert found.dtype is wanted
    assert found.is_contiguous(memory_format=torch.channels_last)
    if wanted is not torch.bfloat16:
        before = {"image": [SimpleRGBImageDecoder(), normalize, ToTensor(), ToTorchImage()], "label": None}
        with Loader(str(path), 8, 1, seed=1, drop_last=False, pipelines=before) as loader:
            assert torch.equal(torch.cat([image for (image,) in loader]), found)
