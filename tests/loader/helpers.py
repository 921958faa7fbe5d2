"""What several of the loader's tests need; importable, so that spawned processes find it too."""

import itertools

import numpy as np
import torch

from ffx.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffx.loader import Loader, OrderOption
from ffx.transforms import RandomHorizontalFlip, Squeeze, ToTensor, ToTorchImage

SIZE = (32, 32)


def random_pipelines(size=SIZE):
    return {
        "image": [RandomResizedCropRGBImageDecoder(size), RandomHorizontalFlip(), ToTensor(), ToTorchImage()],
        "label": [IntDecoder(), ToTensor(), Squeeze()],
    }


def everything(loader) -> list[np.ndarray]:
    """All batches of an epoch, put together by output."""
    return [np.concatenate([np.asarray(part) for part in parts]) for parts in zip(*loader)]


def load(path, **arguments):
    arguments = {"batch_size": 8, "num_workers": 2, "seed": 3, "drop_last": False, **arguments}
    return Loader(str(path), **arguments)


def run_rank(rank: int, world: int, port: int, path: str, order: OrderOption, drop_last: bool, results) -> None:
    """One rank's epoch: `(rank, batches, order, epoch)` goes into the queue `results`."""
    torch.distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=world)
    loader = Loader(
        path, 7, 1, order=order, distributed=True, seed=5, drop_last=drop_last, pipelines=random_pipelines()
    )
    epoch = [(image.numpy().copy(), label.numpy().copy()) for image, label in loader]
    results.put((rank, len(loader), loader.traversal_order.sample_order(0), epoch))
    torch.distributed.destroy_process_group()


def state_after(path: str, batches: int) -> tuple[dict, list]:
    """A loader's state behind so many batches, and these: each sample's bytes and label."""
    loader = load(path, batch_size=7, order=OrderOption.RANDOM, pipelines=random_pipelines())
    done = []
    for images, labels in itertools.islice(loader, batches):
        done += [(image.numpy().tobytes(), int(label)) for image, label in zip(images, labels, strict=True)]
    return loader.state_dict(), done


def epoch_of(path: str) -> bytes:
    """An epoch's images and labels as bytes."""
    return b"".join(part.tobytes() for part in everything(load(path, pipelines=random_pipelines())))
