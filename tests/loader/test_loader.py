"""The loader against NumPy and OpenCV: right pictures, right order, right errors, nothing left behind."""

import gc
import itertools
import os
import signal
import warnings

import cv2
import numpy as np
import pytest
import torch

from ffx.errors import DecodeError, FfxWarning, LoaderError, PipelineError
from ffx.fields.decoders import CenterCropRGBImageDecoder, IntDecoder, RandomResizedCropRGBImageDecoder
from ffx.loader import Loader, OrderOption
from ffx.pipeline import Compiler, PipelineSpec
from ffx.transforms import Cutout, NormalizeImage, RandomHorizontalFlip, ToTensor, ToTorchImage
from ffx.traversal_order import GlobalOrder, Sequential
from tests.loader.helpers import SIZE, everything, load, random_pipelines


def test_center_crops_match_opencv_on_numpy_slices(raw_file, dataset):
    loader = load(raw_file, pipelines={"image": [CenterCropRGBImageDecoder((48, 40), ratio=0.8)]})
    images, _ = everything(loader)
    for index, image in enumerate(images):
        picture = dataset.picture(index)
        side = int(0.8 * min(picture.shape[:2]))
        top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
        expected = cv2.resize(
            np.ascontiguousarray(picture[top : top + side, left : left + side]), (40, 48), interpolation=cv2.INTER_AREA
        )
        assert np.abs(image.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("interpolation", ["antialias", "bilinear"])
def test_interpolation_of_decoders_is_torchs(interpolation, raw_file, dataset):
    decoder = CenterCropRGBImageDecoder((24, 120), 1.0, interpolation=interpolation)
    images, _ = everything(load(raw_file, pipelines={"image": [decoder]}))
    for index, image in enumerate(images):
        picture = dataset.picture(index)
        side = min(picture.shape[:2])
        top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
        part = torch.from_numpy(picture[top : top + side, left : left + side].copy()).permute(2, 0, 1)[None].double()
        expected = torch.nn.functional.interpolate(
            part, (24, 120), mode="bilinear", antialias=interpolation == "antialias"
        )
        assert np.abs(image.astype(float) - expected[0].permute(1, 2, 0).numpy()).max() <= 1


def test_labels_come_in_file_order_when_sequential(raw_file, dataset):
    (labels,) = everything(load(raw_file, pipelines={"image": None}))
    assert labels.dtype == np.int64 and labels.shape == (60, 1)
    assert labels[:, 0].tolist() == [dataset[index][1] for index in range(60)]


def test_random_order_is_a_new_permutation_each_epoch(raw_file):
    loader = load(raw_file, order=OrderOption.RANDOM, pipelines={"image": None})
    orders = [loader.next_traversal_order()]
    list(loader)
    orders.append(loader.next_traversal_order())
    assert all(sorted(order.tolist()) == list(range(60)) for order in orders)
    assert orders[0].tolist() != orders[1].tolist()


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("file", ["raw_file", "mixed_file"])
def test_one_seed_gives_one_result_for_any_number_of_workers(request, file, workers):
    path = request.getfixturevalue(file)
    reference = load(path, num_workers=3, order=OrderOption.RANDOM, pipelines=random_pipelines())
    other = load(path, num_workers=workers, order=OrderOption.RANDOM, pipelines=random_pipelines())
    for _ in range(2):
        for expected, found in zip(everything(reference), everything(other), strict=True):
            np.testing.assert_array_equal(expected, found)


def test_a_second_loader_running_changes_nothing(mixed_file):
    alone = everything(load(mixed_file, pipelines=random_pipelines()))
    first, second = (iter(load(mixed_file, pipelines=random_pipelines())) for _ in range(2))
    pairs = list(zip(first, second, strict=True))
    for side in (0, 1):
        together = [np.concatenate([np.asarray(pair[side][output]) for pair in pairs]) for output in (0, 1)]
        np.testing.assert_array_equal(alone[0], together[0])
        np.testing.assert_array_equal(alone[1], together[1])


def test_epochs_seeds_and_repeats_draw_differently(raw_file):
    loader = load(raw_file, pipelines=random_pipelines())
    epochs = [everything(loader)[0] for _ in range(2)]
    other_seed = everything(load(raw_file, seed=4, pipelines=random_pipelines()))[0]
    assert not np.array_equal(epochs[0], epochs[1])
    assert not np.array_equal(epochs[0], other_seed)
    repeated = everything(load(raw_file, indices=[7, 7, 7], pipelines=random_pipelines()))[0]
    assert not np.array_equal(repeated[0], repeated[1])
    np.testing.assert_array_equal(repeated[0], epochs[0][7])


def test_batch_size_can_be_set_between_epochs(raw_file):
    loader = load(raw_file, batch_size=7, order=OrderOption.RANDOM, pipelines=random_pipelines(), drop_last=False)
    open_epoch = iter(loader)
    next(open_epoch)
    loader.batch_size = 25
    # An iterator keeps the size that it began with.
    assert [len(images) for images, _ in open_epoch] == [7] * 7 + [4]
    assert [len(images) for images, _ in loader] == [25, 25, 10] and len(loader) == 3
    fresh = load(raw_file, batch_size=10, order=OrderOption.RANDOM, pipelines=random_pipelines(), drop_last=False)
    fresh.next_epoch = loader.next_epoch
    for mine, expected in zip(everything(loader), everything(fresh), strict=True):
        np.testing.assert_array_equal(mine, expected)
    for wrong in (0, None, True, 2.5, float("nan"), float("inf"), "8"):
        with pytest.raises(LoaderError, match=f"expected batch_size to be a whole number .* 1, found {wrong!r}"):
            loader.batch_size = wrong
    assert loader.batch_size == 25


def test_an_order_of_ones_own_that_repeats_samples_draws_anew_for_each(raw_file):
    class Thrice(GlobalOrder):
        def global_order(self, epoch):
            return np.repeat(self.indices[:4], 3)

    images = everything(load(raw_file, order=Thrice, pipelines=random_pipelines()))[0]
    once = everything(load(raw_file, pipelines=random_pipelines()))[0]
    np.testing.assert_array_equal(images[::3], once[:4])
    assert not any(np.array_equal(images[first], images[first + 1]) for first in range(0, 12, 3))


def test_augmentations_do_not_depend_on_batch_size_or_order(raw_file):
    in_order = everything(load(raw_file, pipelines=random_pipelines()))[0]
    shuffled = load(raw_file, batch_size=7, order=OrderOption.RANDOM, pipelines=random_pipelines())
    order = shuffled.next_traversal_order()
    np.testing.assert_array_equal(everything(shuffled)[0], in_order[order.astype(int)])


def test_fused_flip_equals_flip_after_the_decoder(mixed_file):
    decoder = RandomResizedCropRGBImageDecoder(SIZE)
    flip = RandomHorizontalFlip()
    both = {"image": [decoder, flip], "plain": PipelineSpec(decoder, transforms=[]), "label": None}
    # A derived pipeline wants the unflipped picture, so here the flip is a step of its own.
    flipped, plain = everything(load(mixed_file, pipelines=both))
    fused = everything(load(mixed_file, pipelines={"image": [decoder, flip], "label": None}))[0]
    np.testing.assert_array_equal(flipped, fused)
    mirrored = [not np.array_equal(one, other) for one, other in zip(flipped, plain)]
    assert 10 < sum(mirrored) < 50
    for one, other, changed in zip(flipped, plain, mirrored):
        np.testing.assert_array_equal(one, other[:, ::-1] if changed else other)


@pytest.mark.parametrize("decoder", [RandomResizedCropRGBImageDecoder(SIZE), CenterCropRGBImageDecoder(SIZE, 0.9)])
def test_fast_upsampling_is_the_same_in_both_forms_and_differs_a_little(jpeg_file, decoder):
    pipelines = {"image": [decoder], "label": None}
    smooth = everything(load(jpeg_file, pipelines=pipelines))[0]
    decoder.upsampling = "fast"
    fast = everything(load(jpeg_file, pipelines=pipelines))[0]
    Compiler.set_enabled(False)
    try:
        python = everything(load(jpeg_file, pipelines=pipelines))[0]
    finally:
        Compiler.set_enabled(True)
    np.testing.assert_array_equal(fast, python)
    assert 0 < np.abs(fast.astype(int) - smooth).mean() < 3


@pytest.mark.parametrize("interpolation", ["area", "antialias"])
def test_native_steps_equal_generated_code_in_plain_python(interpolation, mixed_file):
    decoder = RandomResizedCropRGBImageDecoder(SIZE, interpolation=interpolation)
    pipelines = {**random_pipelines(), "image": [decoder, RandomHorizontalFlip(), ToTensor()]}
    native = everything(load(mixed_file, pipelines=pipelines))
    Compiler.set_enabled(False)
    try:
        python = everything(load(mixed_file, pipelines=pipelines))
    finally:
        Compiler.set_enabled(True)
    for expected, found in zip(native, python, strict=True):
        np.testing.assert_array_equal(expected, found)


def test_pages_read_ahead_give_what_the_map_gives(mixed_file):
    for order in (OrderOption.SEQUENTIAL, OrderOption.RANDOM):
        mapped = load(mixed_file, os_cache=True, order=order, pipelines=random_pipelines())
        pages = load(mixed_file, os_cache=False, order=order, pipelines=random_pipelines())
        for expected, found in zip(everything(mapped), everything(pages), strict=True):
            np.testing.assert_array_equal(expected, found)


def test_quasi_random_order_gives_every_sample_once(mixed_file):
    loader = load(mixed_file, os_cache=False, order=OrderOption.QUASI_RANDOM, pipelines={"image": None})
    assert sorted(loader.next_traversal_order().tolist()) == list(range(60))
    assert len(everything(loader)[0]) == 60


def test_batches_that_are_kept_are_not_overwritten(raw_file):
    loader = load(raw_file, batch_size=4, batches_ahead=1, pipelines=random_pipelines())
    kept = list(loader)
    again = load(raw_file, batch_size=4, batches_ahead=1, pipelines=random_pipelines())
    for (image, label), (other_image, other_label) in zip(kept, again, strict=True):
        assert torch.equal(image, other_image) and torch.equal(label, other_label)


def test_a_kept_batch_survives_the_next_epoch(raw_file):
    loader = load(raw_file, batch_size=4, pipelines=random_pipelines())
    first = next(iter(loader))[0]
    copy = first.clone()
    for _ in range(2):
        list(loader)
    assert torch.equal(first, copy)


@pytest.mark.parametrize("drop_last, lengths", [(True, [16] * 3), (False, [16, 16, 16, 12])])
def test_last_batch_is_dropped_or_short(raw_file, drop_last, lengths):
    loader = load(raw_file, batch_size=16, drop_last=drop_last, order=OrderOption.RANDOM, pipelines=random_pipelines())
    assert len(loader) == len(lengths)
    assert [len(image) for image, _ in loader] == lengths


def test_dropping_samples_in_file_order_is_warned_of(raw_file):
    labels = {"image": None}
    with pytest.warns(FfxWarning, match="last 12 samples"):
        Loader(str(raw_file), batch_size=16, pipelines=labels)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Loader(str(raw_file), batch_size=15, pipelines=labels)


def test_batches_of_one_keep_their_batch_dimension(raw_file):
    for image, label in load(raw_file, batch_size=1, indices=[3, 5], pipelines=random_pipelines()):
        assert image.shape == (1, 3, 32, 32) and label.shape == (1,)


def test_resolution_changes_between_epochs(mixed_file):
    decoder = RandomResizedCropRGBImageDecoder((32, 32))
    loader = load(mixed_file, pipelines={"image": [decoder, ToTensor()], "label": None})
    shapes = []
    for side in (32, 48, 20):
        decoder.output_size = (side, side)
        shapes.append({tuple(image.shape[1:]) for (image,) in loader})
    assert shapes == [{(32, 32, 3)}, {(48, 48, 3)}, {(20, 20, 3)}]


def test_normalised_tensors_match_numpy(raw_file):
    mean, std = np.array([120.0, 110.0, 100.0]), np.array([60.0, 61.0, 62.0])
    crop = CenterCropRGBImageDecoder(SIZE, ratio=1.0)
    plain = everything(load(raw_file, pipelines={"image": [crop], "label": None}))[0]
    pipeline = [crop, NormalizeImage(mean, std, np.float32), ToTensor(), ToTorchImage()]
    images = everything(load(raw_file, pipelines={"image": pipeline, "label": None}))[0]
    assert images.dtype == np.float32
    np.testing.assert_allclose(images, ((plain - mean) / std).transpose(0, 3, 1, 2), rtol=1e-5, atol=1e-5)


def test_indices_choose_samples_and_wrong_ones_are_refused(raw_file):
    (labels,) = everything(load(raw_file, indices=[5, 2, 9], pipelines={"image": None}))
    assert labels[:, 0].tolist() == [1, 2, 1]
    with pytest.raises(LoaderError, match="from 0 to 59"):
        load(raw_file, indices=[60])


def test_filter_keeps_indices_of_the_file(raw_file):
    loader = load(raw_file, indices=np.arange(20, 40), pipelines=random_pipelines())
    filtered = loader.filter("label", lambda label: int(label) == 1)
    assert filtered.indices.tolist() == [21, 25, 29, 33, 37]
    # The user's own list still has its decoder.
    assert everything(filtered)[1].tolist() == [1] * 5


def test_an_order_of_ones_own_is_used(raw_file):
    class Backwards(Sequential):
        def sample_order(self, epoch):
            return super().sample_order(epoch)[::-1]

    (labels,) = everything(load(raw_file, order=Backwards, pipelines={"image": None}))
    assert labels[:, 0].tolist() == [index % 4 for index in reversed(range(60))]


@pytest.mark.usefixtures("no_threads_left")
def test_leaving_an_epoch_early_leaves_nothing_behind(mixed_file):
    loader = load(mixed_file, batch_size=4, pipelines=random_pipelines())
    for taken in range(4):
        for _ in itertools.islice(loader, taken):
            pass
    next(iter(loader))
    iterator = iter(loader)
    next(iterator)
    iterator.close()
    iterator.close()
    assert next(iterator, None) is None
    del iterator
    gc.collect()


@pytest.mark.usefixtures("no_threads_left")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_is_told_that_the_epoch_is_not_its_own(mixed_file):
    loader = load(mixed_file, pipelines=random_pipelines())
    batches = iter(loader)
    next(batches)
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads, which this is about.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.alarm(60)  # or a child that waits for ever would outlive the test
        status = 1
        try:
            next(batches)
        except LoaderError as error:
            batches.close()
            status = (
                0 if "forked" in str(error) and len(everything(load(mixed_file, pipelines=random_pipelines()))) else 2
            )
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert sum(len(batch[0]) for batch in batches) > 0


def test_a_damaged_jpeg_is_an_error_that_names_field_and_sample(jpeg_file, tmp_path):
    damaged = tmp_path / "damaged.beton"
    content = bytearray(jpeg_file.read_bytes())
    metadata = load(jpeg_file, pipelines={"image": None}).reader.metadata["f0"]
    start = int(metadata["data_ptr"][37])
    content[start + 500 : start + 700] = bytes(200)
    damaged.write_bytes(content)
    with pytest.raises(DecodeError, match="field 'image' of sample 37") as caught:
        list(load(damaged, pipelines=random_pipelines()))
    assert caught.value.sample_id == 37 and caught.value.field == "image"


@pytest.mark.parametrize(
    "pipelines, message",
    [
        ({"picture": [ToTensor()]}, "named after no field"),
        ({"image": 7}, "expected a sequence of operations"),
        ({"image": [IntDecoder(), "flip"]}, "expected an ffx operation or a torch module"),
        ({"image": [CenterCropRGBImageDecoder(SIZE, 1.0), ToTensor(), Cutout(3)]}, "ToTensor"),
        ({"image": [CenterCropRGBImageDecoder(SIZE, 1.0), torch.nn.Identity()]}, "ToTensor"),
        ({"other": PipelineSpec(RandomHorizontalFlip())}, "no operation of another pipeline"),
        ({"image": [CenterCropRGBImageDecoder((0, 4), 1.0)]}, "output_size of at least"),
        ({}, "images of one size"),
    ],
)
def test_mistakes_in_pipelines_are_named_when_the_loader_is_made(raw_file, pipelines, message):
    with pytest.raises(PipelineError, match=message):
        load(raw_file, pipelines=pipelines)


def test_unknown_interpolation_is_refused():
    for decoder, arguments in ((CenterCropRGBImageDecoder, (SIZE, 1.0)), (RandomResizedCropRGBImageDecoder, (SIZE,))):
        with pytest.raises(PipelineError, match="one of 'area', 'antialias', 'bilinear', found 'lanczos'"):
            decoder(*arguments, interpolation="lanczos")


def test_wrong_arguments_are_refused(raw_file):
    for arguments, message in [
        ({"batch_size": 0}, "batch_size"),
        ({"batches_ahead": 0}, "batches_ahead"),
        ({"order": "random"}, "OrderOption"),
        ({"indices": [0.5]}, "integers"),
    ]:
        with pytest.raises(LoaderError, match=message):
            load(raw_file, **arguments)
