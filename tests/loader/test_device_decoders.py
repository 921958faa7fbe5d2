"""Decoders that crop on a device, by their CPU twin: the same crops and flips as the CPU's decoders, whatever way
the pixels take. What needs a GPU is in `test_on_a_gpu`."""

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from ffx.errors import LoaderError, PipelineError
from ffx.fields.decoders import CenterCropRGBImageDecoder, RandomResizedCropRGBImageDecoder
from ffx.kernels import step
from ffx.kernels.crop_request import CROP_HEIGHT, CROP_WIDTH, LEFT, MODE, OFFSET, REQUEST_WORDS, TOP
from ffx.kernels.stored_image import RAW_MODE, YUV420_MODE
from ffx.loader import OrderOption, resident
from ffx.pipeline import Compiler, PipelineSpec
from ffx.pipeline.state import INITIAL_STATE
from ffx.reader import Reader
from ffx.transforms import NormalizeImage, RandomHorizontalFlip, ToDevice, ToTensor, ToTorchImage
from tests.fields.decoding import Stored
from tests.loader import pretended_gpu
from tests.loader.conftest import write
from tests.loader.helpers import load
from tests.pictures import make_picture

SIZE = (24, 40)
BOTH = pytest.mark.parametrize("kept", [False, True], ids=["streamed", "resident"])


def random_crop():
    return RandomResizedCropRGBImageDecoder(SIZE)


def center_crop():
    return CenterCropRGBImageDecoder(SIZE, 0.9)


def epoch(path, *image_pipeline, **arguments) -> list[np.ndarray]:
    """An epoch's images and labels."""
    with load(path, pipelines={"image": list(image_pipeline)}, **arguments) as loader:
        batches = [[part.clone() for part in batch] for batch in loader]
    return [torch.cat(parts).numpy() for parts in zip(*batches)]


def assert_alike(found: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert found[0].shape == expected[0].shape
    difference = np.abs(found[0].astype(int) - expected[0])
    assert difference.max() <= 1 and difference.mean() < 0.01
    np.testing.assert_array_equal(found[1], expected[1])


def antialiased_crop():
    return RandomResizedCropRGBImageDecoder(SIZE, interpolation="antialias")


@BOTH
@pytest.mark.parametrize("decoder", [random_crop, center_crop, antialiased_crop])
def test_images_are_those_of_the_cpu_decoder_within_a_grey_level(raw_file, decoder, kept):
    expected = epoch(raw_file, decoder(), RandomHorizontalFlip(), ToTensor(), order=OrderOption.RANDOM)
    for workers in (1, 3):
        found = epoch(
            raw_file,
            decoder().on("cpu", resident=kept),
            RandomHorizontalFlip(),
            order=OrderOption.RANDOM,
            num_workers=workers,
        )
        assert_alike(found, expected)


MEAN, STD = [120.0, 110.0, 100.0], [60.0, 61.0, 62.0]


class OwnModule(torch.nn.Module):
    """Somebody's module that changes nothing; nothing is fused across it."""

    def forward(self, images):
        """The images."""
        return images


ROWS = {
    "as in FFCV's examples": lambda dtype: [
        RandomHorizontalFlip(),
        ToTensor(),
        ToDevice("cpu"),
        ToTorchImage(),
        NormalizeImage(MEAN, STD, dtype),
    ],
    "normalised first": lambda dtype: [RandomHorizontalFlip(), NormalizeImage(MEAN, STD, dtype), ToTorchImage()],
    "one by one": lambda dtype: [
        RandomHorizontalFlip(),
        OwnModule(),
        ToTorchImage(),
        OwnModule(),
        NormalizeImage(MEAN, STD, dtype),
    ],
}


@BOTH
@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_usual_operations_may_follow(raw_file, kept, row, dtype):
    decoder = random_crop().on("cpu", resident=kept)
    with load(raw_file, pipelines={"image": [decoder, *ROWS[row](dtype)]}) as loader:
        batches = [images for images, _ in loader]
    assert all(batch.is_contiguous(memory_format=torch.channels_last) for batch in batches)
    images = torch.cat(batches)
    levels, _ = epoch(raw_file, random_crop().on("cpu", resident=kept), RandomHorizontalFlip())
    expected = (levels.transpose(0, 3, 1, 2) - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
    assert images.dtype is dtype
    np.testing.assert_array_equal(images.numpy(), expected.astype(images.numpy().dtype))


@pytest.mark.parametrize(("row", "left"), [("as in FFCV's examples", 0), ("normalised first", 0), ("one by one", 4)])
def test_normalisation_is_fused_into_the_crop(raw_file, row, left):
    decoder = random_crop().on("cpu")
    pipelines = {"image": [decoder, *ROWS[row](torch.bfloat16)], "label": None}
    with load(raw_file, pipelines=pipelines) as loader:
        steps = loader.plan.schedule(0, 0).steps
        crop = next(number for number, step in enumerate(steps) if step.node.operation is decoder)
        assert len(steps) - crop - 1 == left
        assert bool(steps[crop].pixel_steps) == (left == 0)
        assert next(iter(loader))[0].dtype is torch.bfloat16


def test_dimensions_are_turned_round_as_often_as_asked(raw_file):
    rest = [ToTorchImage(), ToTorchImage(), ToTorchImage(), NormalizeImage(MEAN, STD, torch.float32)]
    with load(raw_file, pipelines={"image": [center_crop().on("cpu"), *rest]}) as loader:
        assert next(iter(loader))[0].shape[1:] == (*SIZE, 3)


@BOTH
def test_nothing_is_fused_that_somebody_wants_before_it(raw_file, kept):
    levels = ToTorchImage()
    rest = [RandomHorizontalFlip(), levels, NormalizeImage(MEAN, STD, torch.float32)]
    pipelines = {
        "image": [random_crop().on("cpu", resident=kept), *rest],
        "levels": PipelineSpec(levels, transforms=[]),
        "label": None,
    }
    with load(raw_file, pipelines=pipelines) as loader:
        for images, wanted in loader:
            assert wanted.dtype is torch.uint8
            expected = (wanted.numpy() - np.reshape(MEAN, (3, 1, 1))) / np.reshape(STD, (3, 1, 1))
            np.testing.assert_array_equal(images.numpy(), expected.astype(np.float32))


def test_subclass_with_code_of_its_own_is_not_fused(raw_file):
    class Zero(NormalizeImage):
        def generate_code(self):
            return lambda images, _: torch.zeros(images.shape)

    with load(raw_file, pipelines={"image": [random_crop().on("cpu"), Zero(MEAN, STD, torch.float32)]}) as loader:
        assert not any(images.any() for images, _ in loader)


@BOTH
def test_flip_by_itself_draws_the_same_numbers(raw_file, kept):
    def pipelines(decoder):
        # The derived pipeline wants the image unflipped, so that the flip cannot be fused.
        return {"image": [decoder, RandomHorizontalFlip()], "as_it_was": PipelineSpec(decoder, transforms=[])}

    with load(raw_file, pipelines=pipelines(random_crop().on("cpu", resident=kept))) as loader:
        found = [[part.clone() for part in batch] for batch in loader]
    flipped, _, plain = (torch.cat(parts) for parts in zip(*found))
    fused, _ = epoch(raw_file, random_crop().on("cpu", resident=kept), RandomHorizontalFlip())
    np.testing.assert_array_equal(flipped.numpy(), fused)
    same = (flipped == plain).flatten(1).all(1)
    assert 10 < same.sum() < 50
    assert torch.equal(flipped[~same], plain[~same].flip(2))


@BOTH
def test_plain_python_does_the_same(raw_file, kept):
    expected = epoch(raw_file, antialiased_crop().on("cpu", resident=kept), RandomHorizontalFlip())
    centred = epoch(raw_file, center_crop().on("cpu", resident=kept))
    Compiler.set_enabled(False)
    try:
        found = epoch(raw_file, antialiased_crop().on("cpu", resident=kept), RandomHorizontalFlip())
        found_centred = epoch(raw_file, center_crop().on("cpu", resident=kept))
    finally:
        Compiler.set_enabled(True)
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found_centred[0], centred[0])


@BOTH
def test_resolution_may_change_between_epochs(raw_file, kept):
    decoder = random_crop().on("cpu", resident=kept)
    expected = RandomResizedCropRGBImageDecoder(SIZE)
    with (
        load(raw_file, pipelines={"image": [decoder]}) as loader,
        load(raw_file, pipelines={"image": [expected]}) as other,
    ):
        for size in [(24, 40), (16, 16), (33, 20)]:
            decoder.output_size = expected.output_size = size
            assert decoder.output_size == size
            for (images, _), (wanted, _) in zip(loader, other, strict=True):
                assert images.shape[1:] == (*size, 3)
                assert (images.int() - torch.from_numpy(np.array(wanted)).int()).abs().max() <= 1


@BOTH
def test_batches_that_are_kept_stay_as_they_are(raw_file, kept):
    with load(raw_file, batch_size=4, pipelines={"image": [random_crop().on("cpu", resident=kept)]}) as loader:
        batches = list(loader)
    images = torch.cat([images for images, _ in batches]).numpy()
    np.testing.assert_array_equal(images, epoch(raw_file, random_crop().on("cpu", resident=kept))[0])


@BOTH
def test_pages_may_be_read_ahead_instead_of_mapped(raw_file, kept):
    decoder = random_crop().on("cpu", resident=kept)
    found = epoch(raw_file, decoder, os_cache=False, order=OrderOption.QUASI_RANDOM)
    assert_alike(found, epoch(raw_file, random_crop(), ToTensor(), os_cache=False, order=OrderOption.QUASI_RANDOM))


class Growing:
    """Pictures of which the last few are far larger than the mean."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return make_picture(30, 30, index) if index < 32 else make_picture(200 + index, 300, index), index


def test_batch_that_needs_more_room_than_the_mean_gets_it(tmp_path):
    path = write(tmp_path / "growing.beton", Growing(), write_mode="raw")
    decoder = RandomResizedCropRGBImageDecoder(SIZE, scale=(1.0, 1.0))
    expected = epoch(path, decoder, ToTensor())
    with load(path, batches_ahead=1, pipelines={"image": [decoder.on("cpu")]}) as loader:
        for _ in range(2):
            found = [torch.cat(parts).numpy() for parts in zip(*[[part.clone() for part in one] for one in loader])]
            # The second epoch has another random ratio.
            if loader.next_epoch == 1:
                assert_alike(found, expected)
            assert (found[1].reshape(-1) == np.arange(40)).all()


def requests_for(path, member=None, value=None):
    """`(outcome, requests)` for the file's samples, whose metadata change after they were looked at."""
    stored = Stored(Reader(path), "image")
    stored.metadata = np.array(stored.metadata)
    requests_of = random_crop().on("cpu", resident=True).host_parts()[0]
    stored.prepare(requests_of)
    description = requests_of.native_step(INITIAL_STATE)
    if member is not None:
        stored.metadata[member][3] = value
    ids, occurrences = np.arange(60, dtype=np.uint64), np.zeros(60, np.uint32)
    requests = np.zeros((60, REQUEST_WORDS), np.int64)
    words = np.zeros(step.OWN + len(description.words), dtype=np.int64)
    words[step.SAMPLE_IDS], words[step.OCCURRENCES] = ids.ctypes.data, occurrences.ctypes.data
    words[step.TARGET], words[step.TARGET_BYTES] = requests.ctypes.data, requests.strides[0]
    words[step.METADATA], words[step.METADATA_BYTES] = stored.metadata.ctypes.data, stored.metadata.strides[0]
    words[step.OWN :] = description.words
    kernel = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)(description.kernel.address)
    return kernel(words.ctypes.data, 0, len(ids), 0), requests


def test_planes_of_yuv_are_requested_as_such(raw_file):
    outcome, requests = requests_for(raw_file, "mode", YUV420_MODE)
    assert outcome == step.OK
    assert requests[3, MODE] == YUV420_MODE and requests[4, MODE] == RAW_MODE


def test_requests_lie_within_their_images(raw_file):
    outcome, requests = requests_for(raw_file)
    metadata = Reader(raw_file).metadata["f0"]
    assert outcome == step.OK
    np.testing.assert_array_equal(requests[:, OFFSET], metadata["data_ptr"] - metadata["data_ptr"].min())
    for start, length, side in [(TOP, CROP_HEIGHT, "height"), (LEFT, CROP_WIDTH, "width")]:
        assert (requests[:, start] >= 0).all() and (requests[:, length] > 0).all()
        assert (requests[:, start] + requests[:, length] <= metadata[side]).all()


@pytest.mark.parametrize(
    ("member", "value", "expected"),
    [
        ("height", 60000, step.OUT_OF_FILE),
        ("width", 0, step.OUT_OF_FILE),
        ("data_ptr", 10, step.OUT_OF_FILE),
        ("data_ptr", 2**63 + 5, step.OUT_OF_FILE),
        ("mode", 0, step.UNKNOWN_MODE),
    ],
)
def test_request_for_what_is_no_longer_there_fails_by_its_status(raw_file, member, value, expected):
    outcome, _ = requests_for(raw_file, member, value)
    assert outcome == step.failure(3, expected)


def test_jpegs_are_refused(mixed_file):
    with pytest.raises(PipelineError, match=r"of 60 stored as JPEG: write the file with .*write_mode='raw'"):
        load(mixed_file, pipelines={"image": [random_crop().on("cpu")]})


def test_decoder_with_a_crop_of_its_own_is_refused(raw_file):
    class Corner(RandomResizedCropRGBImageDecoder):
        @property
        def get_crop_generator(self):
            return lambda height, width, scale, ratio: (0, 0, 8, 8)

    with pytest.raises(PipelineError, match=r"Corner\.on: expected a decoder with ffx's own crop"):
        load(raw_file, pipelines={"image": [Corner(SIZE).on("cpu")]})


def test_impossible_size_is_refused(raw_file):
    with pytest.raises(PipelineError, match="output_size of at least"):
        load(raw_file, pipelines={"image": [RandomResizedCropRGBImageDecoder((0, 8)).on("cpu")]})


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", 0])
def test_missing_gpu_is_named(raw_file, device):
    with pytest.raises(PipelineError, match=r"RandomResizedCropRGBImageDecoder\.on\(.*\): torch sees no GPU here"):
        load(raw_file, pipelines={"image": [random_crop().on(device)]})


@pytest.mark.parametrize("device", ["meta", "no such device"])
def test_other_devices_are_refused(raw_file, device):
    with pytest.raises(PipelineError, match="expected a"):
        load(raw_file, pipelines={"image": [random_crop().on(device)]})


def test_file_that_does_not_fit_is_refused_before_anything_is_uploaded(raw_file, monkeypatch):
    monkeypatch.setattr(resident, "free_bytes", lambda device: 1000)
    monkeypatch.setattr(resident, "_upload", lambda *_: pytest.fail("something was uploaded"))
    with pytest.raises(LoaderError, match=r"expected .* GiB of free memory on cpu .* leave out resident=True"):
        load(raw_file, pipelines={"image": [random_crop().on("cpu", resident=True)]})


def test_upload_in_chunks_is_the_files_bytes_and_shared(raw_file, monkeypatch):
    monkeypatch.setattr(resident, "CHUNK_BYTES", 1000)
    pipelines = {"image": [random_crop().on("cpu", resident=True)]}
    with load(raw_file, pipelines=pipelines) as loader, load(raw_file, pipelines=pipelines) as other:
        (wanted, data), (also, shared) = next(iter(loader.file_data.items())), next(iter(other.file_data.items()))
        assert wanted == also and data is shared
        np.testing.assert_array_equal(data.numpy(), np.fromfile(raw_file, np.uint8)[wanted.start : wanted.stop])
    assert not loader.file_data


def test_closed_loader_uploads_again(raw_file):
    with load(raw_file, pipelines={"image": [center_crop().on("cpu", resident=True)]}) as loader:
        first = [images.clone() for images, _ in loader]
        loader.close()
        assert all(torch.equal(one, images) for one, (images, _) in zip(first, loader, strict=True))


def test_file_that_ends_early_is_named(raw_file, tmp_path, monkeypatch):
    short = tmp_path / "short.beton"
    short.write_bytes(raw_file.read_bytes())
    read = resident._read

    def shorten_and_read(file, target, start, path):
        with open(path, "r+b") as handle:
            handle.truncate(start + 10)
        read(file, target, start, path)

    monkeypatch.setattr(resident, "_read", shorten_and_read)
    with pytest.raises(LoaderError, match="found the file's end after 10: it was shortened"):
        load(short, pipelines={"image": [random_crop().on("cpu", resident=True)]})


def test_there_is_some_memory_here():
    assert resident.free_bytes(torch.device("cpu")) > 1 << 20


@pytest.mark.slow
@pytest.mark.parametrize("way", ["host", "streamed", "resident"])
def test_path_to_a_gpu_is_complete_and_waits_for_nothing_in_the_loop(raw_file, tmp_path, way):
    pytest.importorskip("triton")
    script = Path(pretended_gpu.__file__)
    subprocess.run(
        [sys.executable, script, raw_file, way, tmp_path / "results.npz"],
        env={**os.environ, "PYTHONPATH": str(script.parents[2])},
        check=True,
    )
    results = np.load(tmp_path / "results.npz")
    images, labels = pretended_gpu.epoch(str(raw_file), "cpu")
    np.testing.assert_array_equal(results["labels"], labels)
    assert results["images"].dtype == np.float16
    one_level = 1.01 / 60
    assert np.abs(results["images"].astype(float) - images.astype(float)).max() <= (0 if way == "host" else one_level)
    notes = json.loads(str(results["notes"]))
    assert set(notes) == {"copy", "wait for an event"}
    # Images (or what they are made from) and labels of each batch; once the table, and the file where it is resident.
    once = {"host": 0, "streamed": 1, "resident": 2}
    assert notes.count("copy") == 2 * pretended_gpu.SAMPLES // pretended_gpu.BATCH + once[way]
