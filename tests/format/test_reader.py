"""What a Reader hands out: of files that FFCV wrote, and of our own."""

import os
import shutil
import threading

import numpy as np
import pytest

from ffx.fields import BytesField, IntField, JSONField, NDArrayField, RGBImageField, TorchTensorField
from ffx.format import HeaderType
from ffx.reader import Reader
from tests.ffcv_files import FFCV_FILES, unpack_ffcv_file
from tests.format.beton import MixedSamples, PlainFile, write_ffx_file
from tests.pictures import make_picture


def stored(reader, pointer, size):
    with open(reader.file_name, "rb") as file:
        file.seek(int(pointer))
        return file.read(int(size))


@pytest.mark.parametrize("name", FFCV_FILES)
def test_files_that_ffcv_wrote_open(tmp_path, name):
    path, arrays = unpack_ffcv_file(name, tmp_path)
    reader = Reader(path)
    assert reader.num_samples == 12
    assert reader.class_names is None
    assert reader.settings == {}
    assert not reader.has_checksums
    assert {f"source_{field}" for field in reader.field_names} >= {key for key in arrays if key.startswith("source_")}


@pytest.mark.parametrize(
    "name, field", [("scalars", "integer"), ("scalars", "real"), ("raw", "label"), ("empty", "label")]
)
def test_scalars_that_ffcv_wrote(tmp_path, name, field):
    path, arrays = unpack_ffcv_file(name, tmp_path)
    reader = Reader(path)
    values = reader.metadata[f"f{reader.field_names.index(field)}"]
    np.testing.assert_array_equal(values, arrays[f"source_{field}"])
    np.testing.assert_array_equal(values, arrays[f"loaded_{field}"][:, 0])


def test_pixels_that_ffcv_wrote(tmp_path):
    path, arrays = unpack_ffcv_file("raw", tmp_path)
    reader = Reader(path)
    for sample, record in enumerate(reader.metadata["f0"]):
        pixels = np.frombuffer(stored(reader, record["data_ptr"], 24 * 32 * 3), np.uint8).reshape(24, 32, 3)
        np.testing.assert_array_equal(pixels, arrays["loaded_image"][sample])
        np.testing.assert_array_equal(pixels, make_picture(24, 32, seed=sample))


def test_byte_strings_that_ffcv_wrote(tmp_path):
    for name in ("blobs", "empty"):
        path, arrays = unpack_ffcv_file(name, tmp_path)
        reader = Reader(path)
        for record, expected in zip(reader.metadata["f0"], arrays["source_text"], strict=True):
            assert stored(reader, record["ptr"], record["size"]).hex() == expected


def test_fields_are_known_by_their_types(tmp_path):
    reader = Reader(unpack_ffcv_file("blobs", tmp_path)[0])
    kinds = {name: type(field) for name, field in reader.handlers.items()}
    assert kinds == {"text": BytesField, "json": JSONField, "array": NDArrayField, "tensor": TorchTensorField}
    assert (reader.handlers["array"].dtype, reader.handlers["array"].shape) == (np.dtype("<f4"), (2, 3))
    assert (reader.handlers["tensor"].dtype, reader.handlers["tensor"].shape) == (np.dtype("<i2"), (4,))


def test_empty_and_full_blob_at_one_offset(tmp_path):
    reader = Reader(unpack_ffcv_file("empty", tmp_path)[0])
    texts, arrays = reader.metadata["f0"], reader.metadata["f1"]
    assert (texts["ptr"] == arrays).any()
    index = reader.index
    last = np.searchsorted(index.pointers, arrays, side="right") - 1
    assert (index.sizes[last] == 40).all()


def test_custom_field_gets_its_arguments(tmp_path):
    class Doubled(NDArrayField):
        @staticmethod
        def from_binary(binary):
            field = NDArrayField.from_binary(binary)
            return Doubled(field.dtype, field.shape)

    reader = Reader(PlainFile().write(tmp_path / "plain.beton"), custom_fields={"array": Doubled})
    assert type(reader.handlers["array"]) is Doubled
    assert reader.handlers["array"].shape == (3,)


def test_paths_of_any_kind(tmp_path):
    path = PlainFile().write(tmp_path / "plain.beton")
    assert Reader(path).file_name == str(path)
    assert Reader(str(path)).file_name == str(path)


def test_missing_file_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        Reader(tmp_path / "none.beton")


def test_metadata_are_mapped_and_read_only(tmp_path):
    reader = Reader(write_ffx_file(tmp_path / "file.beton"))
    assert not reader.metadata.flags.owndata
    with pytest.raises(ValueError, match="read-only"):
        reader.metadata["f4"][0] = 1
    assert reader.header.dtype == HeaderType


def test_trailer_of_our_own_files(tmp_path):
    reader = Reader(write_ffx_file(tmp_path / "file.beton"))
    assert reader.class_names == list(MixedSamples.classes)
    assert reader.has_checksums
    assert reader.settings["seed"] == 0
    assert reader.settings["fields"]["image"]["write_mode"] == "proportion"
    assert set(reader.settings["versions"]) == {"ffx", "numpy", "opencv", "pillow"}
    assert len(reader.index.checksums) == len(reader.alloc_table)


def test_table_is_sorted_by_pointer(tmp_path):
    table = Reader(write_ffx_file(tmp_path / "file.beton")).alloc_table
    assert (np.diff(table["ptr"].astype(np.int64)) > 0).all()


def test_open_readers_leave_no_file_open(tmp_path):
    path = write_ffx_file(tmp_path / "file.beton")
    folder = "/proc/self/fd"
    if not os.path.isdir(folder):
        pytest.skip("needs /proc")
    before = len(os.listdir(folder))
    readers = [Reader(path) for _ in range(20)]
    del readers
    assert len(os.listdir(folder)) <= before + 1


def test_several_threads_may_open_one_file(tmp_path):
    path = write_ffx_file(tmp_path / "file.beton")
    found = []
    threads = [threading.Thread(target=lambda: found.append(Reader(path).num_samples)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [6] * 8


def test_replacing_a_file_leaves_open_readers_alone(tmp_path):
    path = write_ffx_file(tmp_path / "file.beton")
    reader = Reader(path)
    values = reader.metadata["f4"].copy()
    PlainFile().write(tmp_path / "other.beton")
    shutil.move(tmp_path / "other.beton", path)
    np.testing.assert_array_equal(reader.metadata["f4"], values)


def test_image_field_of_a_file_has_no_writer_settings(tmp_path):
    assert (
        Reader(PlainFile().write(tmp_path / "plain.beton")).handlers["image"].settings() == RGBImageField().settings()
    )
    assert IntField().settings() == {}
