"""RandAugment on batches: what torchvision's makes of each image."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2
from trainer.randaugment import OPERATIONS, RandAugment

from ffx.errors import PipelineError
from tests.pictures import PictureDataset
from tests.transforms.helpers import array_state, generated, make_streams, tensor_state


class Chosen(v2.RandAugment):
    """torchvision's, with an operation that is not drawn."""

    def __init__(self, name, magnitude):
        super().__init__(1, magnitude, 31)
        self.name = name

    def _get_random_item(self, space):
        return self.name, space[self.name]


def pictures(count, size=24):
    images = [torch.from_numpy(np.array(image)).permute(2, 0, 1) for image, _ in PictureDataset(count, seed=4)]
    return torch.stack([v2.functional.resize(image, [size, size + 5]) for image in images])


def test_operations_are_those_of_torchvision():
    assert [kind.name for kind in OPERATIONS] == list(v2.RandAugment._AUGMENTATION_SPACE)
    assert [kind.has_sign for kind in OPERATIONS] == [sign for _, sign in v2.RandAugment._AUGMENTATION_SPACE.values()]


@pytest.mark.parametrize("magnitude", [1, 9, 17, 30])
@pytest.mark.parametrize("kind", OPERATIONS, ids=lambda kind: kind.name)
def test_batch_becomes_what_torchvision_makes_of_each_image(kind, magnitude, monkeypatch):
    images = pictures(4)
    for sign in (1, -1) if kind.has_sign else (1,):
        monkeypatch.setattr(torch, "rand", lambda *_, sign=sign: torch.tensor(0.75 if sign == 1 else 0.25))
        expected = torch.stack([Chosen(kind.name, magnitude)(image) for image in images])
        assert torch.equal(kind.apply(images, magnitude, sign), expected)


def test_each_image_gets_two_operations_of_its_own_stream():
    images = pictures(90, size=8)
    ids = np.arange(100, 190, dtype=np.uint64)
    streams = make_streams(ids)
    expected, names = [], set()
    for image, stream in zip(images, streams):
        image = image[None]
        first, second, *signs = np.random.SeedSequence([int(word) for word in stream]).generate_state(4)
        for number, sign in zip((first, second), signs):
            kind = OPERATIONS[int(number / 2**32 * 14)]
            names.add((kind.name, sign >> 31 if kind.has_sign else 0))
            image = kind.apply(image, 9, -1 if sign >> 31 else 1)
        expected.append(image[0])
    before = images.clone()
    found = generated(RandAugment(9), images.contiguous(memory_format=torch.channels_last), ids, streams)
    assert torch.equal(found, torch.stack(expected))
    assert torch.equal(images, before)
    assert found.is_contiguous(memory_format=torch.channels_last)
    # Fourteen operations, nine of which have two directions.
    assert len(names) == 14 + 9


@pytest.mark.parametrize("values", [np.zeros((2, 3, 4, 4), np.uint8), torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, 3)])
def test_randaugment_refuses_what_is_no_tensor_of_bytes(values):
    state = array_state(values) if isinstance(values, np.ndarray) else tensor_state(values)
    with pytest.raises(PipelineError, match=r"behind ToTorchImage\(\) and before NormalizeImage"):
        RandAugment(9).declare_state_and_memory(state)
