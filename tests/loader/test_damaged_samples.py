"""Samples that differ from their checksum, or that a decoder refuses: found, named, and dealt with as asked."""

import logging
import os
import pickle
import threading
import time
from contextlib import contextmanager

import cv2
import numpy as np
import pytest
import torch

from ffx import Reader
from ffx.errors import ChecksumError, DecodeError, LoaderError, PipelineError, SampleChecksumError
from ffx.fields import IntField, RGBImageField
from ffx.fields.decoders import CenterCropRGBImageDecoder
from ffx.kernels.verify import check_rows
from ffx.loader import OrderOption
from ffx.loader import verification as verification_module
from ffx.loader.device import HostLink
from ffx.memory_managers.process_cache import ProcessCacheContext
from ffx.transforms import ToTensor
from ffx.writer import DatasetWriter
from tests.damaged_files import flip_payload_bits, payload_rows
from tests.ffcv_files import unpack_ffcv_file
from tests.loader.helpers import SIZE, everything, load, random_pipelines
from tests.pictures import make_picture

BAD = (3, 17, 44)
CROP = {"image": [CenterCropRGBImageDecoder(SIZE, 1.0)]}


@pytest.fixture
def damaged(raw_file, tmp_path):
    return flip_payload_bits(raw_file, tmp_path / "damaged.beton", BAD)


@pytest.fixture
def broken_jpegs(jpeg_file, tmp_path):
    """JPEGs whose coded data are overwritten, with `verify="never"` only a decoder's business."""
    content = bytearray(jpeg_file.read_bytes())
    for sample in BAD:
        pointer, size = payload_rows(jpeg_file)[sample]
        content[pointer + size // 2 : pointer + size // 2 + 200] = bytes(200)
    path = tmp_path / "broken.beton"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("file", ["raw_file", "jpeg_file", "mixed_file"])
def test_every_flipped_bit_of_a_sample_is_found(request, file, generator):
    path = request.getfixturevalue(file)
    content, index = np.fromfile(path, np.uint8), Reader(str(path)).index
    good = np.zeros(len(index.pointers), bool)
    arguments = (content.ctypes.data, content.size, index.pointers, index.sizes, index.checksums)
    check_rows(*arguments, 0, len(good), good)
    assert good.all()
    for _ in range(10_000):
        row = int(generator.integers(len(good)))
        place = int(index.pointers[row]) + int(generator.integers(int(index.sizes[row])))
        bit = np.uint8(1 << int(generator.integers(8)))
        content[place] ^= bit
        check_rows(*arguments, row, row + 1, good)
        content[place] ^= bit
        assert not good[row]


def test_row_beyond_the_file_is_not_good(raw_file):
    content, index = np.fromfile(raw_file, np.uint8), Reader(str(raw_file)).index
    good = np.ones(len(index.pointers), bool)
    last = int(index.pointers[-1])
    check_rows(content.ctypes.data, last, index.pointers, index.sizes, index.checksums, 0, len(good), good)
    assert good[:-1].all() and not good[-1]


@pytest.mark.parametrize("os_cache", [True, False])
def test_damaged_sample_is_an_error_that_names_it(damaged, os_cache):
    with pytest.raises(
        SampleChecksumError, match=r"field 'image' of sample 3 cannot be used: its bytes differ"
    ) as caught:
        list(load(damaged, pipelines=random_pipelines(), os_cache=os_cache))
    error = caught.value
    assert isinstance(error, ChecksumError) and isinstance(error, DecodeError)
    assert error.sample_id == 3 and error.field == "image" and error.path == str(damaged)
    assert error.offset == payload_rows(damaged)[3][0]
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.sample_id, again.offset) == (str(error), 3, error.offset)


def test_nothing_is_looked_at_that_is_not_wanted(damaged):
    loader = load(damaged, pipelines={"image": None})
    assert len(everything(loader)[0]) == 60 and loader.verification.step is None


def test_never_looks_at_no_checksum(damaged, raw_file):
    found, expected = (everything(load(path, pipelines=CROP, verify="never"))[0] for path in (damaged, raw_file))
    assert {int(sample) for sample in np.flatnonzero((found != expected).any(axis=(1, 2, 3)))} <= set(BAD)


def test_first_look_is_remembered_by_the_process_and_always_looks_again(raw_file, tmp_path):
    path = tmp_path / "good.beton"
    path.write_bytes(raw_file.read_bytes())
    loader = load(path, pipelines=CROP)
    assert loader.verification.step is not None
    everything(loader)
    assert loader.verification.step is None and load(path, pipelines=CROP).verification.step is None
    pointer, _ = payload_rows(path)[5]
    with open(path, "r+b") as handle:
        handle.seek(pointer)
        byte = handle.read(1)
        handle.seek(pointer)
        handle.write(bytes([byte[0] ^ 1]))
    with pytest.raises(SampleChecksumError, match="sample 5"):
        everything(load(path, pipelines=CROP, verify="always"))
    # Another time of change: the process does not take it for the file that it knows.
    with pytest.raises(SampleChecksumError, match="sample 5"):
        everything(load(path, pipelines=CROP))


def test_memory_of_what_was_seen_is_bounded(raw_file, tmp_path):
    for number in range(20):
        path = tmp_path / f"{number}.beton"
        path.hardlink_to(raw_file)
        load(path, pipelines=CROP)
    assert len(verification_module._known) <= 16


def test_files_without_checksums_have_nothing_to_verify(tmp_path):
    path, arrays = unpack_ffcv_file("raw", tmp_path)
    loader = load(path, pipelines={"image": [CenterCropRGBImageDecoder(SIZE, 1.0)]}, verify="always")
    assert loader.verification.step is None
    assert len(everything(loader)[0]) == len(arrays["loaded_label"])


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("os_cache", [True, False])
@pytest.mark.parametrize("order", [OrderOption.SEQUENTIAL, OrderOption.RANDOM])
def test_skipped_samples_are_missing_and_nothing_else(damaged, raw_file, workers, os_cache, order, caplog):
    arguments = {"order": order, "os_cache": os_cache, "num_workers": workers, "pipelines": random_pipelines()}
    loader = load(damaged, on_error="skip", **arguments)
    whole = load(raw_file, **arguments)
    samples = whole.next_traversal_order()
    kept = ~np.isin(samples, BAD)
    with caplog.at_level(logging.WARNING, "ffx.loader"):
        found = everything(loader)
    for mine, expected in zip(found, everything(whole), strict=True):
        np.testing.assert_array_equal(mine, expected[kept])
    assert sorted(culprit.sample_id for culprit in loader.culprits) == list(BAD)
    assert all(culprit.field == "image" and culprit.substitute is None for culprit in loader.culprits)
    for culprit in loader.culprits:
        assert int(samples[culprit.batch * 8 : culprit.batch * 8 + 8].tolist().count(culprit.sample_id)) == 1
    assert len([record for record in caplog.records if "left out" in record.getMessage()]) == len(BAD)


def test_pages_are_freed_when_nobody_reads_them_any_more(damaged, monkeypatch):
    readers = []
    release = ProcessCacheContext.release

    def look_and_release(context):
        names = [thread.name for thread in threading.enumerate()]
        readers.append([name for name in names if name.startswith(("ffx-worker", "ffx-finisher"))])
        release(context)

    monkeypatch.setattr(ProcessCacheContext, "release", look_and_release)
    for _ in range(5):
        with pytest.raises(SampleChecksumError):
            list(load(damaged, pipelines=random_pipelines(), os_cache=False, batch_size=1, num_workers=2))
        for _ in load(damaged, pipelines=random_pipelines(), os_cache=False, batch_size=1, verify="never"):
            break
    assert len(readers) >= 10 and not any(readers)


def test_batch_without_a_good_sample_is_missing(damaged, raw_file):
    loader = load(damaged, batch_size=1, on_error="skip", pipelines=CROP)
    assert len(list(loader)) == 57 and len(loader.culprits) == 3
    only = load(damaged, indices=list(BAD), batch_size=2, on_error="skip", pipelines=CROP)
    assert list(only) == [] and [culprit.batch for culprit in only.culprits] == [0, 0, 1]


@pytest.mark.parametrize("batch_size, workers, os_cache", [(8, 1, True), (8, 3, True), (5, 2, False), (60, 1, False)])
def test_substitutes_are_the_same_for_any_batches_and_storage(damaged, raw_file, batch_size, workers, os_cache):
    arguments = {"order": OrderOption.RANDOM, "pipelines": random_pipelines()}
    loader = load(
        damaged, on_error="substitute", batch_size=batch_size, num_workers=workers, os_cache=os_cache, **arguments
    )
    reference = load(raw_file, **arguments)
    samples = reference.next_traversal_order()
    images, labels = everything(loader)
    expected_images, _ = everything(reference)
    other = np.isin(samples, BAD)
    np.testing.assert_array_equal(images[~other], expected_images[~other])
    found = {culprit.sample_id: culprit.substitute for culprit in loader.culprits}
    assert set(found) == set(BAD) and not set(found.values()) & set(BAD)
    first = load(damaged, on_error="substitute", **arguments)
    again_images, _ = everything(first)
    assert {culprit.sample_id: culprit.substitute for culprit in first.culprits} == found
    np.testing.assert_array_equal(images, again_images)
    for place in np.flatnonzero(other):
        # Its own label comes along, and a crop that it has nowhere else.
        substitute = found[int(samples[place])]
        assert labels[place] == substitute % 4
        assert not np.array_equal(images[place], expected_images[samples.tolist().index(substitute)])


def test_other_epochs_have_other_substitutes(damaged):
    loader = load(damaged, on_error="substitute", pipelines=CROP)
    for _ in range(4):
        everything(loader)
    assert [culprit.epoch for culprit in loader.culprits] == [epoch for epoch in range(4) for _ in BAD]
    assert len({culprit.substitute for culprit in loader.culprits}) > 3


def test_no_substitute_at_all_is_an_error(damaged):
    loader = load(damaged, indices=list(BAD), on_error="substitute", pipelines=CROP)
    with pytest.raises(LoaderError, match="none can be used either"):
        list(loader)


@pytest.mark.parametrize("on_error, rows", [("skip", 57), ("substitute", 60)])
def test_decoder_s_refusals_are_dealt_with_too(broken_jpegs, jpeg_file, on_error, rows):
    loader = load(broken_jpegs, verify="never", on_error=on_error, pipelines=random_pipelines())
    images, _ = everything(loader)
    assert len(images) == rows
    assert [culprit.sample_id for culprit in loader.culprits] == list(BAD)
    assert all("its JPEG data are damaged" in culprit.reason for culprit in loader.culprits)
    good = np.setdiff1d(np.arange(60), BAD)
    expected, _ = everything(load(jpeg_file, pipelines=random_pipelines()))
    np.testing.assert_array_equal(images[good] if rows == 60 else images, expected[good])


def test_no_pixel_of_another_image_is_left_in_the_place_of_a_bad_one(broken_jpegs, jpeg_file):
    loader = load(broken_jpegs, verify="never", on_error="skip", pipelines=CROP, batch_size=10)
    expected = everything(load(jpeg_file, pipelines=CROP))[0][np.setdiff1d(np.arange(60), BAD)]
    for _ in range(3):
        # The slots' memory, which serves again in the next epoch, is poisoned.
        for slot in loader.slot_pool._slots:
            for buffers in slot._memory.values():
                for buffer in buffers:
                    buffer[...] = 0xA5
        np.testing.assert_array_equal(everything(loader)[0], expected)


def test_tail_s_own_operations_get_the_shorter_batch(damaged, dataset):
    pipelines = random_pipelines()
    loader = load(damaged, on_error="skip", pipelines=pipelines, batch_size=60)
    ((images, labels),) = list(loader)
    assert images.shape[0] == labels.shape[0] == 57


def test_filter_needs_no_image(damaged):
    chosen = load(damaged, on_error="skip", pipelines={"image": None}).filter("label", lambda label: label == 3)
    assert chosen.indices.tolist() == list(range(3, 60, 4))


class StrictLink(HostLink):
    """A link of which each batch must be made before it is received, and received before its slot is filled again."""

    @contextmanager
    def making(self, slot):
        yield
        slot.ready = "made"

    def receive(self, slot, results):
        assert slot.ready == "made"

    def wait_until_free(self, slot):
        slot.ready = None


def test_batch_that_is_missing_takes_no_other_batch_s_memory(damaged, monkeypatch):
    """The second batch has no good sample, and the consumer is slower than the loader."""
    chosen = [0, 1, *BAD[:2], *range(4, 60)]
    chosen = [index for number, index in enumerate(chosen) if number in (2, 3) or index not in BAD]
    loader = load(damaged, batch_size=2, on_error="skip", indices=chosen, batches_ahead=1, pipelines=random_pipelines())
    link = StrictLink()
    monkeypatch.setattr(loader, "link", lambda device: link)
    numbers = []
    for _, labels in loader:
        time.sleep(0.01)
        numbers += labels.tolist()
    assert numbers == [index % 4 for index in chosen if index not in BAD]


@pytest.fixture(scope="module")
def many_pages(tmp_path_factory):
    """Raw pictures on many pages, some of them damaged."""
    folder = tmp_path_factory.mktemp("pages")
    fields = {"image": RGBImageField("raw"), "number": IntField()}
    pictures = [(make_picture(300, 300, number), number) for number in range(60)]
    writer = DatasetWriter(str(folder / "good.beton"), fields, page_size=1 << 21, num_workers=1, progress=False)
    writer.from_indexed_dataset(pictures)
    return flip_payload_bits(folder / "good.beton", folder / "damaged.beton", BAD), pictures


@pytest.mark.parametrize("os_cache", [True, False])
@pytest.mark.parametrize("on_device", [False, True])
def test_substitutes_of_other_pages_have_their_own_pixels(many_pages, os_cache, on_device):
    path, pictures = many_pages
    decoder = CenterCropRGBImageDecoder(SIZE, 1.0)
    pipelines = {"image": [decoder.on("cpu") if on_device else decoder]}
    loader = load(path, batch_size=4, on_error="substitute", os_cache=os_cache, pipelines=pipelines)
    images, numbers = everything(loader)
    assert len(loader.culprits) == len(BAD)
    for image, number in zip(images, numbers.ravel(), strict=True):
        expected = cv2.resize(pictures[int(number)][0], SIZE, interpolation=cv2.INTER_AREA)
        assert np.abs(image.astype(int) - expected).max() <= 2


class OwnCode(CenterCropRGBImageDecoder):
    """Somebody's decoder that is compiled as FFCV does it."""

    def native_step(self, previous_state):
        return None


def test_decoders_with_code_of_their_own_cannot_have_substitutes_of_other_pages(many_pages):
    path, _ = many_pages
    arguments = {"on_error": "substitute", "pipelines": {"image": [OwnCode(SIZE, 1.0)]}}
    with pytest.raises(PipelineError, match="use os_cache=True"):
        load(path, os_cache=False, **arguments)
    assert len(everything(load(path, os_cache=True, **arguments))[0]) == 60


def test_loader_that_is_closed_while_its_epoch_goes_on_still_finds_substitutes(many_pages):
    path, _ = many_pages
    with load(path, batch_size=4, on_error="substitute", os_cache=False, pipelines=CROP) as loader:
        iterator = iter(loader)
        next(iterator)
    assert sum(len(batch[0]) for batch in iterator) == 56


def test_culprits_of_a_batch_that_ends_in_an_error_are_noted(damaged):
    class Broken(torch.nn.Module):
        def forward(self, images):
            raise RuntimeError("later")

    pipelines = {"image": [*CROP["image"], ToTensor(), Broken()]}
    loader = load(damaged, batch_size=60, on_error="skip", pipelines=pipelines)
    with pytest.raises(LoaderError, match="later"):
        list(loader)
    assert [culprit.sample_id for culprit in loader.culprits] == list(BAD)


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), LoaderError("another file")])
def test_file_that_is_gone_still_has_its_bad_sample_named(damaged, monkeypatch, error):
    def fail(reader):
        raise error

    monkeypatch.setattr("ffx.loader.damage.open_again", fail)
    with pytest.raises(SampleChecksumError, match="sample 3 cannot be used") as caught:
        list(load(damaged, pipelines=CROP))
    assert caught.value.sample_id == 3 and caught.value.offset is None


def test_file_that_is_written_anew_in_place_is_looked_at_anew(raw_file, tmp_path):
    """Of the same length and time of change."""
    path = tmp_path / "file.beton"
    path.write_bytes(raw_file.read_bytes())
    everything(load(path, pipelines=CROP))
    before = path.stat()
    content = flip_payload_bits(raw_file, tmp_path / "other.beton", [7]).read_bytes()
    with open(path, "r+b") as handle:
        handle.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(SampleChecksumError, match="sample 7"):
        everything(load(path, pipelines=CROP))


def test_batch_without_a_good_sample_cannot_be_made_again(damaged):
    loader = load(damaged, indices=list(BAD), batch_size=2, on_error="skip", pipelines=CROP)
    with pytest.raises(LoaderError, match="batch 1 of epoch 0 has no sample that can be used"):
        loader.replay(0, 1)
    assert loader.culprits == []


@pytest.mark.parametrize("arguments", [{"verify": "often"}, {"on_error": "ignore"}])
def test_unknown_ways_are_refused(raw_file, arguments):
    with pytest.raises(LoaderError, match="expected one of"):
        load(raw_file, pipelines=CROP, **arguments)
