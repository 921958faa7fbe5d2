"""The systems that are compared: each opens its file or folder and gives an object whose every iteration is an epoch.

All do the same work: a random part of 8 % to 100 % of each picture, resized to a square, mirrored half of the time,
in random order, as batches of uint8 with labels. A new peer is one line in `PEERS` and one function.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .files import Kind, Pictures, ffx_file, jpeg_folder, written_file
from .harness import Round
from .worker import run_epoch

__all__ = ["PEERS", "Peer", "Task", "open_beton", "open_loader"]

_AREA, _ASPECT = (0.08, 1.0), (3 / 4, 4 / 3)


@dataclass(frozen=True)
class Task:
    """What one process measures: random crops of `size` pixels and flips, `samples` a epoch, in random order."""

    path: str
    size: int
    samples: int
    batch_size: int
    workers: int
    seed: int = 0


@dataclass(frozen=True)
class Peer:
    """A system under test.

    Attributes:
        package: what must be importable.
        reads: "ffx" or "ffcv": a file, by `files.ffx_file` or FFCV's own; "folder": the pictures themselves.
        open: makes the loader; an epoch is one iteration over batches, whose first part is images.
        needs_gpu: it needs a CUDA device; its batches end there.
    """

    name: str
    package: str
    reads: str
    open: Callable[[Task], Iterable[Any]]
    needs_gpu: bool = False

    def missing(self) -> str:
        """What it lacks on this machine, in words; empty where nothing is missing."""
        if self.needs_gpu and not gpu_is_here():
            return "needs a CUDA device"
        needed = {self.package.partition(".")[0], self.package}
        if not all(importlib.util.find_spec(package) is not None for package in sorted(needed, key=len)):
            return "not installed; benchmarks/install_peers.sh installs it"
        return ""

    def prepare(self, kind: Kind, pictures: Pictures, cache: Path) -> tuple[Path, str] | None:
        """What it reads for `kind` and who wrote that, written if need be; `None` when it has no such kind."""
        if self.reads == "ffx":
            return ffx_file(kind, pictures, cache)
        if self.reads == "ffcv":
            return written_file("ffcv", kind.for_peers, pictures, cache), "ffcv"
        return (jpeg_folder(kind, pictures, cache), "opencv") if kind.as_pictures else None


def gpu_is_here() -> bool:
    """Whether there is an NVIDIA GPU, without importing anything that would start using it."""
    return Path("/dev/nvidiactl").exists()


def open_loader(peer: str, task: dict[str, Any]) -> Callable[[], Round]:
    """Open a peer's loader; the function that is returned runs an epoch (see `harness.Contender`)."""
    loader = PEERS[peer].open(Task(**task))
    return lambda: run_epoch(loader)


def task_arguments(peer: str, task: Task) -> dict[str, Any]:
    """`open_loader`'s arguments as JSON can carry them."""
    return {"peer": peer, "task": asdict(task)}


def _repeated(count: int, samples: int) -> np.ndarray:
    """Indices of `samples` samples, going through `count` stored ones again and again."""
    return np.resize(np.arange(count), samples)


def open_beton(package: str, task: Task, device: str = "", **decoder_options: Any) -> Any:
    """A loader of a system that has FFCV's interface, with its random crops; on `device` where one is given."""
    fields = importlib.import_module(f"{package}.fields.decoders")
    loader = importlib.import_module(f"{package}.loader")
    reader = importlib.import_module(f"{package}.reader")
    transforms = importlib.import_module(f"{package}.transforms")
    to_device = []
    if device:
        import torch

        to_device = [transforms.ToDevice(torch.device(device))]
    decoder = fields.RandomResizedCropRGBImageDecoder((task.size, task.size), **decoder_options)
    return loader.Loader(
        task.path,
        batch_size=task.batch_size,
        num_workers=task.workers,
        order=loader.OrderOption.RANDOM,
        seed=task.seed,
        os_cache=True,
        drop_last=False,
        indices=_repeated(int(reader.Reader(task.path).num_samples), task.samples),
        pipelines={
            "image": [decoder, transforms.RandomHorizontalFlip(), transforms.ToTensor(), *to_device],
            "label": [fields.IntDecoder(), transforms.ToTensor(), *to_device],
        },
    )


def _beton(package: str) -> Callable[[Task], Iterable[Any]]:
    return lambda task: open_beton(package, task)


class _Synchronised:
    """A loader whose epoch ends when the GPU has everything."""

    def __init__(self, loader: Iterable[Any]) -> None:
        self._loader = loader

    def __iter__(self) -> Iterator[Any]:
        import torch

        yield from self._loader
        torch.cuda.synchronize()


def _beton_to_gpu(package: str) -> Callable[[Task], Iterable[Any]]:
    return lambda task: _Synchronised(open_beton(package, task, device="cuda:0"))


def _folder_samples(task: Task) -> tuple[list[str], list[int]]:
    """Paths and labels of an epoch's samples."""
    from torchvision.datasets import ImageFolder

    samples = ImageFolder(task.path).samples
    chosen = [samples[index] for index in _repeated(len(samples), task.samples)]
    return [path for path, _ in chosen], [label for _, label in chosen]


def _torch_loader(dataset: Any, task: Task) -> Iterable[Any]:
    """PyTorch's loader: worker processes that stay from epoch to epoch."""
    from torch.utils.data import DataLoader

    return DataLoader(
        dataset, batch_size=task.batch_size, shuffle=True, num_workers=task.workers, persistent_workers=True
    )


def _torchvision(task: Task) -> Iterable[Any]:
    """torchvision on Pillow in PyTorch's loader."""
    from torch.utils.data import Subset
    from torchvision import datasets, transforms

    chain = [transforms.RandomResizedCrop(task.size), transforms.RandomHorizontalFlip(), transforms.PILToTensor()]
    dataset = datasets.ImageFolder(task.path, transforms.Compose(chain))
    return _torch_loader(Subset(dataset, _repeated(len(dataset), task.samples).tolist()), task)


class _OpenCVPictures:
    """Pictures decoded whole, cropped and resized by OpenCV, the way that many data sets are written."""

    def __init__(self, task: Task) -> None:
        self.paths, self.labels = _folder_samples(task)
        self.size = task.size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        import cv2

        picture = cv2.imread(self.paths[index])
        top, left, height, width = _random_crop(*picture.shape[:2])
        crop = picture[top : top + height, left : left + width]
        image = cv2.cvtColor(cv2.resize(crop, (self.size, self.size), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2RGB)
        return (image if random.random() < 0.5 else cv2.flip(image, 1)), self.labels[index]


def _random_crop(height: int, width: int) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random part; the whole where ten tries do not fit, as in torchvision.

    Python's generator: drawing from torch's costs a small picture as much as its resize.
    """
    for _ in range(10):
        area = height * width * random.uniform(*_AREA)
        aspect = math.exp(random.uniform(math.log(_ASPECT[0]), math.log(_ASPECT[1])))
        rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < rows <= height and 0 < columns <= width:
            return random.randint(0, height - rows), random.randint(0, width - columns), rows, columns
    return 0, 0, height, width


def _opencv(task: Task) -> Iterable[Any]:
    """OpenCV in PyTorch's loader."""
    import cv2

    cv2.setNumThreads(0)
    return _torch_loader(_OpenCVPictures(task), task)


def _dali(device: str) -> Callable[[Task], Iterable[Any]]:
    """NVIDIA DALI: `image_random_crop` decodes on the CPU, or ("mixed") with the GPU's help."""

    def open_pipeline(task: Task) -> Iterable[Any]:
        from nvidia.dali import fn, pipeline_def, types
        from nvidia.dali.plugin.pytorch import DALIGenericIterator, LastBatchPolicy

        paths, labels = _folder_samples(task)

        @pipeline_def
        def images_and_labels() -> Any:
            data, label = fn.readers.file(files=paths, labels=labels, random_shuffle=True, name="reader")
            image = fn.decoders.image_random_crop(
                data, device=device, output_type=types.RGB, random_area=_AREA, random_aspect_ratio=_ASPECT
            )
            image = fn.resize(image, size=(task.size, task.size))
            return fn.flip(image, horizontal=fn.random.coin_flip()), label

        pipeline = images_and_labels(
            batch_size=task.batch_size,
            num_threads=task.workers,
            device_id=None if device == "cpu" else 0,
            seed=task.seed,
        )
        batches = DALIGenericIterator(
            pipeline,
            ["images", "labels"],
            reader_name="reader",
            last_batch_policy=LastBatchPolicy.PARTIAL,
            auto_reset=True,
        )
        loader = _Named(batches)
        return loader if device == "cpu" else _Synchronised(loader)

    return open_pipeline


class _Named:
    """DALI's batches, dictionaries in a list, as tuples."""

    def __init__(self, batches: Iterable[Any]) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[Any]:
        for (batch,) in self._batches:
            yield batch["images"], batch["labels"]


class _Spdl:
    """SPDL: its pipeline of threads, FFmpeg's decoder and filters."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.paths, self.labels = _folder_samples(task)

    def _decode(self, index: int) -> tuple[Any, int]:
        import spdl.io

        packets = spdl.io.demux_image(self.paths[index])
        top, left, height, width = _random_crop(packets.height, packets.width)
        size = self.task.size
        mirror = "hflip," if random.random() < 0.5 else ""
        steps = f"crop={width}:{height}:{left}:{top}:exact=1,scale={size}:{size}:flags=bilinear,{mirror}format=rgb24"
        return spdl.io.decode_packets(packets, filter_desc=steps), self.labels[index]

    @staticmethod
    def _collate(samples: list[tuple[Any, int]]) -> tuple[Any, Any]:
        import spdl.io
        import torch

        images = spdl.io.to_torch(spdl.io.convert_frames([frames for frames, _ in samples]))
        return images, torch.tensor([label for _, label in samples])

    def __iter__(self) -> Iterator[Any]:
        from spdl.pipeline import PipelineBuilder

        pipeline = (
            PipelineBuilder()
            .add_source(random.sample(range(len(self.paths)), len(self.paths)))
            .pipe(self._decode, concurrency=self.task.workers)
            .aggregate(self.task.batch_size)
            .pipe(self._collate)
            .add_sink(3)
            .build(num_threads=self.task.workers, max_failures=0)
        )
        with pipeline.auto_stop():
            yield from pipeline


PEERS = {
    peer.name: peer
    for peer in (
        Peer("ffx", "ffx", "ffx", _beton("ffx")),
        Peer("ffcv", "ffcv", "ffcv", _beton("ffcv")),
        Peer("torchvision", "torchvision", "folder", _torchvision),
        Peer("opencv", "cv2", "folder", _opencv),
        Peer("dali-cpu", "nvidia.dali", "folder", _dali("cpu")),
        Peer("spdl", "spdl.io", "folder", _Spdl),
        Peer("ffx-to-gpu", "ffx", "ffx", _beton_to_gpu("ffx"), needs_gpu=True),
        Peer("ffcv-to-gpu", "ffcv", "ffcv", _beton_to_gpu("ffcv"), needs_gpu=True),
        Peer("dali-gpu", "nvidia.dali", "folder", _dali("mixed"), needs_gpu=True),
    )
}
