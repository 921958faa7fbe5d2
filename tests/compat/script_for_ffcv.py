"""What a user of FFCV has: writes a folder of pictures, loads it through operations of his own, saves the batches.

    python script_for_ffcv.py PICTURES FILE BATCHES

Nothing here knows ffx. The test changes one word, everywhere: ffcv.
"""

import sys
from dataclasses import replace

import numpy as np
import torch
import torchvision
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import CenterCropRGBImageDecoder, IntDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.operation import Operation
from ffcv.transforms import Convert, Squeeze, ToDevice, ToTensor, ToTorchImage
from ffcv.writer import DatasetWriter

MEAN, DEVIATION = [120.0, 110.0, 100.0], [60.0, 55.0, 50.0]


class Frame(Operation):
    """Darken a frame of some pixels round each picture: a picture at a time, into memory of its own."""

    def __init__(self, width):
        super().__init__()
        self.width = width

    def declare_state_and_memory(self, previous_state):
        return previous_state, AllocationQuery(previous_state.shape, previous_state.dtype)

    def generate_code(self):
        my_range = Compiler.get_iterator()
        width = self.width

        def frame(images, target):
            for i in my_range(images.shape[0]):
                target[i] = images[i] // 2
                target[i, width:-width, width:-width] = images[i, width:-width, width:-width]
            return target

        frame.is_parallel = True
        return frame


class RelabelSome(Operation):
    """Give the samples that were named another label: an operation that wants to know which samples it gets."""

    def __init__(self, samples, label):
        super().__init__()
        self.samples, self.label = np.sort(samples), label

    def declare_state_and_memory(self, previous_state):
        return replace(previous_state, jit_mode=True), None

    def generate_code(self):
        samples, label = self.samples, self.label

        def relabel(labels, _, indices):
            for i in range(labels.shape[0]):
                position = np.searchsorted(samples, indices[i])
                if position < len(samples) and samples[position] == indices[i]:
                    labels[i] = label
            return labels

        relabel.is_parallel = False
        relabel.with_indices = True
        return relabel


def write(pictures, path):
    """Write every picture as it is, at most 120 pixels a side."""
    writer = DatasetWriter(path, {"image": RGBImageField(max_resolution=120), "label": IntField()}, num_workers=1)
    writer.from_indexed_dataset(torchvision.datasets.ImageFolder(pictures), chunksize=7)


def load(path):
    """Return (images, labels) of one epoch in the file's order."""
    device = torch.device("cpu")
    decoder = CenterCropRGBImageDecoder((64, 64), ratio=224 / 256)
    image_pipeline = [
        decoder,
        Frame(4),
        ToTensor(),
        ToDevice(device, non_blocking=True),
        ToTorchImage(),
        Convert(torch.float32),
        torchvision.transforms.Normalize(MEAN, DEVIATION),
    ]
    label_pipeline = [IntDecoder(), RelabelSome([1, 5, 11], 1000), ToTensor(), Squeeze(), ToDevice(device)]
    loader = Loader(
        path,
        batch_size=4,
        num_workers=1,
        order=OrderOption.SEQUENTIAL,
        drop_last=False,
        pipelines={"image": image_pipeline, "label": label_pipeline},
    )
    epochs = []
    for resolution in (64, 48):
        decoder.output_size = (resolution, resolution)
        batches = [(images.numpy().copy(), labels.numpy().copy()) for images, labels in loader]
        epochs.append([np.concatenate(parts) for parts in zip(*batches, strict=True)])
    return epochs


if __name__ == "__main__":
    write(sys.argv[1], sys.argv[2])
    (images, labels), (small, _) = load(sys.argv[2])
    np.savez(sys.argv[3], images=images, labels=labels, small=small)
