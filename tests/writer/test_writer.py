"""What DatasetWriter puts into a file, and that it is the same for any number of workers."""

import collections
import io
import tarfile

import numpy as np
import pytest
import torch
import xxhash
from PIL import Image

from ffx.errors import FieldError, SampleError, WriterError
from ffx.fields import BytesField, FloatField, IntField, JSONField, NDArrayField, RGBImageField
from ffx.fields.base import ARG_TYPE, Field
from ffx.fields.rgb_image import resizer
from ffx.reader import Reader
from ffx.writer import DatasetWriter, JPEGFolder
from ffx.writer import encoding as writer_encoding
from ffx.writer import waiting as writer_waiting
from tests.pictures import decode_jpeg, encode_jpeg, make_picture
from tests.writer.datasets import FEW_FIELDS, AllKinds, Large, all_fields

MIB = 1 << 20


def file_bytes(reader):
    return np.fromfile(reader.file_name, dtype=np.uint8)


def blob(reader, pointer, size):
    return file_bytes(reader)[int(pointer) : int(pointer) + int(size)]


# --- Contents ---


def test_every_kind_of_field_comes_back(write):
    dataset = AllKinds()
    reader = write(dataset, all_fields("raw"))
    data = file_bytes(reader)
    for index, record in enumerate(reader.metadata):
        picture, text, label, weight, array, described = dataset[index]
        image = record["f0"]
        expected = resizer(picture, 40)
        assert (image["height"], image["width"]) == expected.shape[:2]
        start = int(image["data_ptr"])
        np.testing.assert_array_equal(data[start : start + expected.size].reshape(expected.shape), expected)
        start, size = int(record["f1"]["ptr"]), int(record["f1"]["size"])
        np.testing.assert_array_equal(data[start : start + size], text)
        assert (record["f2"], record["f3"]) == (label, weight)
        np.testing.assert_array_equal(data[int(record["f4"]) :][:24].view("<f4").reshape(2, 3), array)
        start, size = int(record["f5"]["ptr"]), int(record["f5"]["size"])
        assert JSONField.unpack(data[start : start + size]) == described
    assert list(reader.handlers) == list(all_fields())
    assert reader.class_names == AllKinds.classes


def test_checksums_are_those_of_the_stored_bytes(write):
    reader = write(AllKinds(20), all_fields())
    data, index = file_bytes(reader), reader.index
    for pointer, size, checksum in zip(index.pointers, index.sizes, index.checksums, strict=True):
        assert xxhash.xxh3_64_intdigest(data[int(pointer) : int(pointer + size)]) == checksum
    assert (np.bincount(index.sample_ids.astype(int)) == 4).all()


def test_scalars_alone_need_no_page(write):
    reader = write([(i, i / 2) for i in range(50)], {"a": IntField(), "b": FloatField()})
    np.testing.assert_array_equal(reader.metadata["f0"], np.arange(50))
    np.testing.assert_array_equal(reader.metadata["f1"], np.arange(50) / 2)
    assert len(reader.alloc_table) == 0
    assert reader.index.file_bytes < 8192


def test_empty_bytes_alone(write):
    reader = write([(b"", i) for i in range(5)], FEW_FIELDS)
    assert (reader.metadata["f0"]["size"] == 0).all()
    # FFCV looks sizes up by pointer: no two blobs share one.
    assert len(set(reader.alloc_table["ptr"].tolist())) == 5


# --- The same bytes for any number of workers ---


@pytest.mark.parametrize("workers, chunksize, start_method", [(2, 7, None), (4, 1, "fork"), (2, 100, "spawn")])
def test_bytes_do_not_depend_on_the_workers(write, digest, workers, chunksize, start_method):
    alone = write(AllKinds(), all_fields())
    together = write(AllKinds(), all_fields(), "other.beton", workers, chunksize=chunksize, start_method=start_method)
    assert digest(together) == digest(alone)


def test_parts_of_any_size_give_the_same_bytes(write, digest, monkeypatch):
    expected = digest(write(AllKinds(), all_fields()))
    monkeypatch.setattr(writer_encoding, "_PART_SAMPLES", 2)
    monkeypatch.setattr(writer_encoding, "_PART_BYTES", 3000)
    monkeypatch.setattr(writer_waiting, "_WAITING_PARTS", 1)
    assert digest(write(AllKinds(), all_fields(), "here.beton")) == expected
    for workers in (2, 3):
        assert digest(write(AllKinds(), all_fields(), "other.beton", workers, start_method="fork")) == expected


def test_large_samples_grow_the_page(write, digest):
    sizes = [1000, 300_000, 5, 3 * MIB, 0, 2 * MIB, 17 * MIB, 1, 900_000]
    reader = write(Large(sizes), FEW_FIELDS)
    assert reader.page_size == 32 * MIB
    for index, record in enumerate(reader.metadata["f0"]):
        stored = blob(reader, record["ptr"], record["size"])
        assert stored.size == sizes[index]
        assert (stored == index).all()
    assert digest(write(Large(sizes), FEW_FIELDS, "other.beton", 2, chunksize=2)) == digest(reader)


def test_given_page_size_is_kept(write):
    for page in (2 * MIB, 16 * MIB):
        assert write(AllKinds(5), all_fields(), page_size=page).page_size == page


# --- Proportion and seed ---


def modes(reader):
    return reader.metadata["f0"]["mode"].tolist()


PICTURES = [(make_picture(8, 8, seed=seed), seed) for seed in range(300)]
IMAGE_FIELDS = {"image": RGBImageField("proportion", compress_probability=0.25), "label": IntField()}


def test_proportion_is_the_seeds_and_the_samples_alone(write):
    alone = modes(write(PICTURES, IMAGE_FIELDS))
    jpegs = alone.count(0)
    assert 48 <= jpegs <= 105  # 75 expected; four deviations of 7.5
    assert modes(write(PICTURES, IMAGE_FIELDS, workers=3, chunksize=11)) == alone
    assert modes(write(PICTURES[:100], IMAGE_FIELDS)) == alone[:100]
    assert modes(write(PICTURES, IMAGE_FIELDS, seed=1)) != alone
    renamed = {"picture": IMAGE_FIELDS["image"], "label": IntField()}
    assert modes(write(PICTURES, renamed)) != alone


# As docs/format.md says. Files that were written before must be reproducible: these are seed 0's choices.
PINNED = [1, 6, 12, 15, 16, 19, 26, 29, 31, 38]


def test_choice_of_samples_is_fixed_for_ever(write):
    assert [i for i, mode in enumerate(modes(write(PICTURES[:40], IMAGE_FIELDS))) if mode == 0] == PINNED


# --- Indices ---


def labels(reader):
    return reader.metadata["f1"].tolist()


NUMBERS = [(b"", i) for i in range(50)]


@pytest.mark.parametrize(
    "indices",
    [range(5, 15), [3, 3, 1], np.array([9, 0], np.int32), torch.tensor([4, 2])],
    ids=lambda x: type(x).__name__,
)
def test_indices_choose_samples(write, indices):
    assert labels(write(NUMBERS, FEW_FIELDS, indices=indices)) == [int(index) for index in indices]


def test_shuffled_order_follows_the_seed(write):
    indices = list(range(50))
    first = labels(write(NUMBERS, FEW_FIELDS, indices=indices, shuffle=True))
    assert indices == list(range(50))
    assert sorted(first) == indices
    assert first != indices
    assert labels(write(NUMBERS, FEW_FIELDS, shuffle=True, workers=2)) == first
    assert labels(write(NUMBERS, FEW_FIELDS, shuffle=True, seed=1)) != first


@pytest.mark.parametrize("indices", [[0.5], "abc", [[1, 2]]], ids=str)
def test_indices_that_are_none(write, indices):
    with pytest.raises(WriterError, match="indices"):
        write(NUMBERS, FEW_FIELDS, indices=indices)


def test_dataset_gets_plain_integers(write):
    class Strict:
        def __len__(self):
            return 3

        def __getitem__(self, index):
            assert type(index) is int
            return b"", index

    assert labels(write(Strict(), FEW_FIELDS)) == [0, 1, 2]


# --- Samples of any form ---


def test_samples_of_any_form(write):
    named = collections.namedtuple("Sample", "first second")
    samples = [
        (b"a", 1),
        [b"a", 1],
        named(b"a", 1),
        {"label": 1, "data": b"a"},
        {"data": b"a", "__key__": "x", "label": 1},
    ]
    reader = write(samples, FEW_FIELDS)
    assert labels(reader) == [1] * 5
    assert (reader.metadata["f0"]["size"] == 1).all()


def test_single_field_takes_bare_values(write):
    assert write([1, (2,), [3], {"label": 4}], {"label": IntField()}).metadata["f0"].tolist() == [1, 2, 3, 4]


# --- Fields and names ---


@pytest.mark.parametrize(
    "names", [["a" * 17, "a" * 16 + "b"], [""], ["ümlaut"], ["../a"], ["a\0b"], ["line\nbreak"]], ids=str
)
def test_names_that_are_refused(tmp_path, names):
    with pytest.raises(FieldError, match="field name"):
        DatasetWriter(tmp_path / "x.beton", {name: IntField() for name in names})


def test_long_names_are_kept_in_full(write):
    names = ["the_label_of_the_sample", "another_long_name"]
    reader = write([(1, 2)], dict.fromkeys(names, IntField()))
    assert list(reader.handlers) == reader.field_names == names
    assert bytes(reader.field_descriptors["name"][0]) == b"the_label_of_the"


@pytest.mark.parametrize("fields", [{}, {"a": 5}, {"a": IntField}], ids=str)
def test_fields_that_are_none(tmp_path, fields):
    with pytest.raises(FieldError):
        DatasetWriter(tmp_path / "x.beton", fields)


@pytest.mark.parametrize("page", [0, 3 * MIB, MIB, 2**32])
def test_page_sizes_that_no_file_has(tmp_path, page):
    with pytest.raises(WriterError, match="page_size"):
        DatasetWriter(tmp_path / "x.beton", FEW_FIELDS, page_size=page)


def test_class_names_from_anywhere(write):
    few = [(b"", 1)]

    class Outer(list):
        dataset = AllKinds()

    assert write(few, FEW_FIELDS).class_names is None
    assert write(few, FEW_FIELDS, class_names=["x", "y"]).class_names == ["x", "y"]
    assert write(few, FEW_FIELDS, class_names={"y": 1, "x": 0}).class_names == ["x", "y"]
    assert write(few, FEW_FIELDS, class_names=[("crane", "bird"), "ü"]).class_names == ["crane, bird", "ü"]
    assert write(Outer(few), FEW_FIELDS).class_names == AllKinds.classes
    assert write(Outer(few), FEW_FIELDS, class_names=["x"]).class_names == ["x"]


# --- Fields of one's own ---


class Ragged(Field):
    """A custom field as somebody would write it for FFCV: two blobs, pointers in its record."""

    metadata_type = np.dtype([("count", "<u2"), ("first", "<u8"), ("second", "<u8"), ("tail", "<u8")])

    @staticmethod
    def from_binary(binary):
        return Ragged()

    def to_binary(self):
        return np.zeros(1, dtype=ARG_TYPE)[0]

    def encode(self, destination, field, malloc):
        destination["count"] = len(field)
        for name in ("first", "second"):
            destination[name], buffer = malloc(len(field))
            buffer[:] = field
        destination["tail"] = destination["second"] + 1

    def get_decoder_class(self):
        raise NotImplementedError


class Forgetful(Ragged):
    def encode(self, destination, field, malloc):
        malloc(5)


def test_custom_fields_get_their_pointers(tmp_path):
    path = tmp_path / "custom.beton"
    values = [(np.arange(3 + i, dtype=np.uint8) + i, i) for i in range(40)]
    fields = {"ragged": Ragged(), "label": IntField()}
    DatasetWriter(path, fields, num_workers=2, progress=False).from_indexed_dataset(values, chunksize=3)
    reader = Reader(path, {"ragged": Ragged})
    assert reader.field_descriptors["type_id"].tolist() == [255, 1]
    data = file_bytes(reader)
    for (value, _), record in zip(values, reader.metadata["f0"], strict=True):
        for name in ("first", "second"):
            np.testing.assert_array_equal(data[int(record[name]) :][: len(value)], value)
        assert record["tail"] == record["second"] + 1


def test_custom_field_that_forgets_its_pointer_is_told(write):
    with pytest.raises(SampleError, match="stored no pointer"):
        write([(b"abc", 1)], {"a": Forgetful(), "b": IntField()})


def test_values_that_look_like_pointers_are_left_alone(write):
    mark = 0x3C9AE1B7 << 32
    values = [(np.frombuffer((mark | i).to_bytes(8, "little"), np.uint8), mark | i) for i in range(5)]
    reader = write(values, FEW_FIELDS)
    assert labels(reader) == [mark | i for i in range(5)]
    for i, record in enumerate(reader.metadata["f0"]):
        assert int.from_bytes(blob(reader, record["ptr"], 8).tobytes(), "little") == mark | i


# --- Folders of JPEGs ---


def test_folder_of_jpegs_passes_through(write, picture_folder):
    folder = JPEGFolder(picture_folder / "val")
    reader = write(folder, {"image": RGBImageField("jpg", retile=False), "label": IntField()}, workers=2)
    assert reader.class_names == folder.classes
    assert labels(reader) == [label for _, label in folder.samples]
    for (path, _), record, size in zip(folder.samples, reader.metadata["f0"], reader.index.sizes, strict=True):
        with open(path, "rb") as file:
            assert blob(reader, record["data_ptr"], size).tobytes() == file.read()


def test_folder_of_jpegs_gives_the_pixels_of_an_image_folder(write, digest, picture_folder):
    from torchvision.datasets import ImageFolder

    fields = {"image": RGBImageField("raw", max_resolution=70), "label": IntField()}
    folder = ImageFolder(str(picture_folder / "val"))
    assert digest(write(folder, fields)) == digest(write(JPEGFolder(folder), fields, "other.beton"))


def test_error_in_a_folder_names_the_file(write, tmp_path):
    for name, data in (("a.jpg", encode_jpeg(make_picture(9, 9))), ("b.jpg", b"no picture")):
        (tmp_path / "train" / "class").mkdir(parents=True, exist_ok=True)
        (tmp_path / "train" / "class" / name).write_bytes(data)
    with pytest.raises(SampleError, match=r"sample 1 \(.*b\.jpg\): field 'image': expected an encoded image") as caught:
        write(JPEGFolder(tmp_path / "train"), {"image": RGBImageField("jpg"), "label": IntField()})
    assert caught.value.index == 1


# --- WebDataset ---


def make_shards(folder, counts):
    number = 0
    for shard, count in enumerate(counts):
        with tarfile.open(folder / f"shard-{shard}.tar", "w") as archive:
            for _ in range(count):
                picture = io.BytesIO()
                Image.fromarray(make_picture(12, 16, seed=number)).save(picture, "PNG")
                for extension, data in (("png", picture.getvalue()), ("cls", str(number).encode())):
                    member = tarfile.TarInfo(f"{number:06d}.{extension}")
                    member.size = len(data)
                    archive.addfile(member, io.BytesIO(data))
                number += 1
    return [str(folder / f"shard-{shard}.tar") for shard in range(len(counts))]


def to_tuples(dataset):
    return dataset.decode("rgb8").to_tuple("png", "cls")


def to_dicts(dataset):
    return dataset.decode("rgb8").rename(image="png", label="cls")


def fails_in_the_second_shard(dataset):
    for picture, label in to_tuples(dataset):
        if label == 7:
            raise RuntimeError("bad shard")
        yield picture, label


WEB_FIELDS = {"image": RGBImageField("proportion"), "label": IntField()}


# webdataset leaves its shards for the garbage collector to close.
LEFT_OPEN = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture
def write_shards(tmp_path):
    pytest.importorskip("webdataset")

    def run(shards, pipeline, workers=1, fields=WEB_FIELDS, name="web.beton"):
        DatasetWriter(tmp_path / name, fields, num_workers=workers, progress=False).from_webdataset(shards, pipeline)
        return Reader(tmp_path / name)

    return run


@LEFT_OPEN
@pytest.mark.parametrize("pipeline", [to_tuples, to_dicts])
@pytest.mark.parametrize("workers", [1, 3])
def test_webdataset_is_written_in_the_shards_order(tmp_path, write_shards, pipeline, workers):
    reader = write_shards(make_shards(tmp_path, [4, 1, 6]), pipeline, workers)
    assert labels(reader) == list(range(11))
    for index, (record, size) in enumerate(zip(reader.metadata["f0"], reader.index.sizes, strict=True)):
        stored, picture = blob(reader, record["data_ptr"], size), make_picture(12, 16, seed=index)
        if record["mode"]:
            assert stored.tobytes() == picture.tobytes()
        else:
            np.testing.assert_array_equal(decode_jpeg(stored.tobytes()), decode_jpeg(encode_jpeg(picture)))


@LEFT_OPEN
def test_webdataset_gives_the_same_bytes_for_any_number_of_workers(tmp_path, write_shards, digest, monkeypatch):
    shards = make_shards(tmp_path, [30, 2, 20, 15])
    expected = digest(write_shards(shards, to_tuples))
    assert digest(write_shards(shards, to_tuples, 4)) == expected
    # Now with everything that waits for its turn kept on disk.
    monkeypatch.setattr(writer_encoding, "_PART_SAMPLES", 3)
    monkeypatch.setattr(writer_waiting, "_WAITING_BYTES", 1000)
    assert digest(write_shards(shards, to_tuples, 3)) == expected


class Wide(BytesField):
    """Records so long that the metadata outgrow the room before the first page."""

    metadata_type = np.dtype([("ptr", "<u8"), ("size", "<u8"), ("more", "<u1", (100_000,))])

    def encode(self, destination, field, malloc):
        super().encode(destination, np.frombuffer(bytes([field]) * 70_000, np.uint8), malloc)
        destination["more"] = field


def only_labels(dataset):
    return dataset.decode().to_tuple("cls", "cls")


@LEFT_OPEN
@pytest.mark.parametrize("workers", [1, 2])
def test_unknown_length_with_large_metadata(tmp_path, write_shards, workers):
    shards = make_shards(tmp_path, [50, 40])
    fields = {"wide": Wide(), "label": IntField()}
    with pytest.raises(ValueError, match="custom_fields"):
        write_shards(shards, only_labels, workers, fields)
    reader = Reader(tmp_path / "web.beton", {"wide": Wide})
    assert reader.index.data_start > 8 * MIB
    data = file_bytes(reader)
    for index, record in enumerate(reader.metadata["f0"]):
        stored = data[int(record["ptr"]) : int(record["ptr"]) + int(record["size"])]
        assert stored.size == 70_000
        assert (stored == index).all()
        assert (record["more"] == index).all()
    assert (np.diff(reader.alloc_table["ptr"].astype(np.int64)) > 0).all()


@LEFT_OPEN
@pytest.mark.parametrize("workers", [1, 2])
def test_error_in_a_shard_names_it(tmp_path, write_shards, workers):
    shards = make_shards(tmp_path, [5, 5])
    with pytest.raises(SampleError, match=r"sample 2 of shard .*shard-1\.tar: RuntimeError: bad shard") as caught:
        write_shards(shards, fails_in_the_second_shard, workers)
    assert caught.value.index == 2
    assert not (tmp_path / "web.beton").exists()


def test_no_shards(write_shards):
    with pytest.raises(WriterError, match="at least one sample"):
        write_shards([], to_tuples)


# --- Progress ---


@pytest.mark.parametrize("workers", [1, 2])
def test_progress_goes_to_standard_error_and_counts_every_sample(tmp_path, capsys, workers):
    writer = DatasetWriter(tmp_path / "shown.beton", FEW_FIELDS, num_workers=workers)
    writer.from_indexed_dataset(NUMBERS, chunksize=9)
    output = capsys.readouterr()
    assert "50/50" in output.err
    assert "shown.beton" in output.err
    assert output.out == ""


def test_progress_can_be_switched_off(write, capfd):
    write(NUMBERS, FEW_FIELDS, workers=2)
    assert capfd.readouterr() == ("", "")


def test_minus_one_uses_the_cores_that_the_process_may_use(tmp_path):
    import os

    writer = DatasetWriter(tmp_path / "x.beton", FEW_FIELDS)
    assert 1 <= writer.num_workers <= len(os.sched_getaffinity(0))
    arrays = {"a": NDArrayField(np.dtype("<i4"), (2,))}
    assert DatasetWriter(tmp_path / "x.beton", arrays, num_workers=7).num_workers == 7
