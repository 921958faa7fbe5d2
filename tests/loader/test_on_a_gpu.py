"""The loader with a GPU: the same batches as on the CPU, nobody waits for the GPU in the loop, copies overlap.

All of it skips itself without a GPU; `test_device_decoders` has what the CPU can show.
"""

import contextlib

import numpy as np
import pytest
import torch

from ffx.fields.decoders import IntDecoder, RandomResizedCropRGBImageDecoder
from ffx.loader import OrderOption, resident
from ffx.transforms import NormalizeImage, RandomHorizontalFlip, Squeeze, ToDevice, ToTensor, ToTorchImage
from tests.loader.helpers import load

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")]

DEVICE = "cuda:0"
SIZE = (32, 48)
MEAN, STD = [120.0, 110.0, 100.0], [60.0, 61.0, 62.0]
WAYS = ["host", "streamed", "resident"]


def image_pipeline(way: str, floats: bool = True) -> list:
    """Decoder, flip and the way to the GPU."""
    decoder = RandomResizedCropRGBImageDecoder(SIZE)
    decoder = decoder if way in ("host", "cpu") else decoder.on(DEVICE, resident=way == "resident")
    there = [] if way == "cpu" else [ToDevice(DEVICE)]
    normalised = [NormalizeImage(MEAN, STD, torch.float16)] if floats else []
    return [decoder, RandomHorizontalFlip(), ToTensor(), *there, ToTorchImage(), *normalised]


def loader_for(path, way: str, floats: bool = True, **arguments):
    there = [] if way == "cpu" else [ToDevice(DEVICE)]
    labels = [IntDecoder(), ToTensor(), Squeeze(), *there]
    pipelines = {"image": image_pipeline(way, floats), "label": labels}
    return load(path, pipelines=pipelines, order=OrderOption.RANDOM, **arguments)


@contextlib.contextmanager
def waiting_is_an_error():
    """Whatever makes a thread wait for the GPU raises, other than the loader's own events."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("way", WAYS)
def test_batches_are_those_of_the_cpu(raw_file, way):
    with loader_for(raw_file, way, floats=False) as found, loader_for(raw_file, "cpu", floats=False) as expected:
        for _ in range(3):
            for (images, labels), (wanted, wanted_labels) in zip(found, expected, strict=True):
                assert images.is_cuda and images.is_contiguous(memory_format=torch.channels_last)
                difference = (images.cpu().int() - wanted.int()).abs()
                assert difference.max() <= (0 if way == "host" else 1)
                assert torch.equal(labels.cpu(), wanted_labels)


@pytest.mark.parametrize("way", WAYS)
def test_nobody_waits_for_the_gpu_in_the_loop(raw_file, way):
    weights = torch.randn(3 * SIZE[0] * SIZE[1], 64, device=DEVICE).half()
    total = torch.zeros((), device=DEVICE)
    with loader_for(raw_file, way) as loader:
        # The first epoch compiles the kernels.
        for _ in loader:
            pass
        with waiting_is_an_error():
            for _ in range(2):
                for images, labels in loader:
                    total += (images.flatten(1) @ weights).float().sum() + labels.sum()
    assert torch.isfinite(total)


@pytest.mark.parametrize("way", WAYS)
def test_epochs_after_the_first_take_no_new_memory_from_the_gpu(raw_file, way):
    with loader_for(raw_file, way) as loader:
        for _ in range(3):
            for images, labels in loader:
                (images.float().mean() + labels.sum()).sqrt()
        before = torch.cuda.memory_stats(DEVICE)["segment.all.allocated"]
        for _ in range(3):
            for images, labels in loader:
                (images.float().mean() + labels.sum()).sqrt()
        assert torch.cuda.memory_stats(DEVICE)["segment.all.allocated"] == before


@pytest.mark.parametrize("way", WAYS)
def test_batches_that_are_kept_stay_as_they_are(raw_file, way):
    with loader_for(raw_file, way, batch_size=4) as loader, loader_for(raw_file, way, batch_size=60) as whole:
        kept = torch.cat([images for images, _ in loader])
        ((images, _),) = whole
        assert torch.equal(kept.cpu(), images.cpu())


@pytest.mark.parametrize("way", WAYS)
def test_slow_work_on_a_stream_of_its_own_sees_its_own_batch(raw_file, way):
    stream, sums = torch.cuda.Stream(), []
    with loader_for(raw_file, way, floats=False) as loader, torch.cuda.stream(stream):
        for images, _ in loader:
            torch.cuda._sleep(5_000_000)
            sums.append(images.double().sum())
    stream.synchronize()
    with loader_for(raw_file, way, floats=False) as loader:
        expected = [images.double().sum().item() for images, _ in loader]
    assert [value.item() for value in sums] == expected


def test_resident_data_are_the_files_bytes_in_chunks_of_any_size(raw_file, monkeypatch):
    monkeypatch.setattr(resident, "CHUNK_BYTES", 4099)
    with loader_for(raw_file, "resident") as loader:
        ((wanted, data),) = loader.file_data.items()
        assert data.device == wanted.device == torch.device(DEVICE)
        np.testing.assert_array_equal(data.cpu().numpy(), np.fromfile(raw_file, np.uint8)[wanted.start : wanted.stop])


def test_copies_lie_in_page_locked_memory(raw_file):
    with loader_for(raw_file, "streamed") as loader:
        epoch = iter(loader)
        next(epoch)
        slot = epoch._unreleased[-1]
        buffers = [buffer for own in slot._memory.values() for buffer in own]
        arrays = [torch.from_numpy(buffer) for buffer in buffers if isinstance(buffer, np.ndarray)]
        assert arrays and all(array.is_pinned() for array in arrays)
        epoch.close()
