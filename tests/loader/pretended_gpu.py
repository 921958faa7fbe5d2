"""Runs a loader's GPU path on a machine without one: `pretended_gpu.py FILE WAY RESULTS`.

Tensors "on the GPU" lie in ordinary memory, streams and events only note what is asked of them, and the kernel runs in
Triton's interpreter. So this shows that the path is complete and waits for nothing; not that it is right in time.
Results: a batch's images and labels, and a JSON list of the notes.
"""

import contextlib
import json
import os
import sys

if __name__ == "__main__":
    os.environ["TRITON_INTERPRET"] = "1"

import numpy as np
import torch

from ffx.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffx.loader import Loader
from ffx.transforms import NormalizeImage, RandomHorizontalFlip, Squeeze, ToDevice, ToTensor, ToTorchImage

SIZE, BATCH, SAMPLES = (9, 14), 4, 8
MEAN, STD = [120.0, 110.0, 100.0], [60.0, 61.0, 62.0]
notes: list[str] = []


class Event:
    """A point of a stream."""

    def synchronize(self) -> None:
        notes.append("wait for an event")


class Stream:
    """The only stream."""

    cuda_stream = 7

    def __init__(self, device=None) -> None:
        self.device = device

    def wait_event(self, event: Event) -> None:
        assert isinstance(event, Event)

    def wait_stream(self, stream) -> None:
        assert isinstance(stream, Stream)

    def record_event(self) -> Event:
        return Event()

    def synchronize(self) -> None:
        notes.append("wait for a stream")


def _is_gpu(device) -> bool:
    return isinstance(device, (str, int, torch.device)) and torch.device(device).type == "cuda"


def pretend() -> None:
    """Let torch see a GPU."""
    empty, to, copy = torch.empty, torch.Tensor.to, torch.Tensor.copy_

    def pretended_empty(*arguments, device=None, pin_memory=False, **rest):
        return empty(*arguments, device="cpu" if _is_gpu(device) else device, **rest)

    def pretended_to(tensor, *arguments, non_blocking=False, **rest):
        if arguments and _is_gpu(arguments[0]):
            notes.append("copy" if non_blocking else "copy that waits")
            arguments = ("cpu", *arguments[1:])
        return to(tensor, *arguments, **rest)

    def pretended_copy(tensor, other, non_blocking=False):
        notes.append("copy" if non_blocking else "copy that waits")
        return copy(tensor, other)

    torch.empty, torch.Tensor.to, torch.Tensor.copy_ = pretended_empty, pretended_to, pretended_copy
    torch.Tensor.pin_memory = lambda tensor: tensor
    stream = Stream()
    gpu = torch.cuda
    gpu.device_count, gpu.current_device, gpu.Stream = lambda: 1, lambda: 0, Stream
    gpu.current_stream = lambda device=None: stream
    gpu.device = gpu.stream = lambda _: contextlib.nullcontext()
    gpu.mem_get_info = lambda device: (1 << 33, 1 << 34)
    gpu.memory_reserved = gpu.memory_allocated = lambda device: 0


def pipelines(way: str) -> dict:
    """By `"cpu"`, `"host"` (decoded on the CPU, copied), `"streamed"` or `"resident"`."""
    decoder = RandomResizedCropRGBImageDecoder(SIZE)
    if way in ("streamed", "resident"):
        decoder = decoder.on("cuda:0", resident=way == "resident")
    there = [] if way == "cpu" else [ToDevice("cuda:0")]
    floats = NormalizeImage(MEAN, STD, torch.float16)
    return {
        "image": [decoder, RandomHorizontalFlip(), ToTensor(), *there, ToTorchImage(), floats],
        "label": [IntDecoder(), ToTensor(), Squeeze(), *there],
    }


def epoch(path: str, way: str) -> list[np.ndarray]:
    """The images and labels of the file's first samples."""
    with Loader(path, BATCH, 2, seed=3, indices=range(SAMPLES), pipelines=pipelines(way)) as loader:
        batches = [[part.clone() for part in batch] for batch in loader]
    return [torch.cat(parts).numpy() for parts in zip(*batches)]


if __name__ == "__main__":
    pretend()
    images, labels = epoch(*sys.argv[1:3])
    np.savez(sys.argv[3], images=images, labels=labels, notes=json.dumps(notes))
