"""Scalars, bytes and arrays come back as they were stored: natively, compiled, and as plain Python."""

import numpy as np
import pytest

from ffx.fields import BytesField, FloatField, IntField, JSONField, NDArrayField, TorchTensorField
from ffx.fields.basics import BasicDecoder
from ffx.fields.decoders import BytesDecoder, FloatDecoder, IntDecoder, NDArrayDecoder
from ffx.kernels import step as native
from ffx.pipeline.state import INITIAL_STATE
from ffx.reader import Reader
from ffx.writer import DatasetWriter
from tests.ffcv_files import unpack_ffcv_file
from tests.fields.decoding import Stored

COUNT = 9
ORDER = [4, 0, 8, 8, 3]


class Columns:
    """Values of every kind, made by NumPy."""

    def __init__(self):
        generator = np.random.default_rng(1)
        self.integer = generator.integers(-(2**63), 2**63 - 1, COUNT)
        self.real = generator.standard_normal(COUNT)
        self.text = [generator.integers(0, 256, 0 if i % 4 == 0 else 7 * i, dtype=np.uint8) for i in range(COUNT)]
        self.array = generator.standard_normal((COUNT, 2, 3, 1)).astype(np.float32)
        self.flags = generator.random((COUNT, 5)) > 0.5
        self.single = generator.integers(0, 99, COUNT, dtype=np.int16)

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        array, flags, single = self.array[index], self.flags[index], self.single[index]
        return self.integer[index], self.real[index], self.text[index], array, flags, single, {"i": index}


FIELDS = {
    "integer": IntField(),
    "real": FloatField(),
    "text": BytesField(),
    "array": NDArrayField(np.dtype("<f4"), (2, 3, 1)),
    "flags": NDArrayField(np.dtype("?"), (5,)),
    "single": NDArrayField(np.dtype("<i2"), ()),
    "json": JSONField(),
}


@pytest.fixture(scope="module")
def columns():
    return Columns()


@pytest.fixture(scope="module")
def reader(tmp_path_factory, columns):
    path = tmp_path_factory.mktemp("columns") / "columns.beton"
    DatasetWriter(path, FIELDS, num_workers=1, progress=False).from_indexed_dataset(columns)
    return Reader(path)


def expected(columns, name):
    if name == "text":
        rows = np.zeros((COUNT, max(map(len, columns.text))), np.uint8)
        for row, text in zip(rows, columns.text, strict=True):
            row[: len(text)] = text
        return rows
    values = getattr(columns, name)
    return values[:, None] if name in ("integer", "real") else values


DECODERS = {
    "integer": IntDecoder,
    "real": FloatDecoder,
    "text": BytesDecoder,
    "array": NDArrayDecoder,
    "flags": NDArrayDecoder,
    "single": NDArrayDecoder,
}


@pytest.mark.parametrize("name", DECODERS)
def test_native_step_gives_what_was_stored(reader, columns, name):
    status, batch = Stored(reader, name).native(DECODERS[name](), ORDER)
    assert status == native.OK
    np.testing.assert_array_equal(batch, expected(columns, name)[ORDER])


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("enabled", [True, False], ids=["compiled", "plain"])
def test_generated_code_gives_what_was_stored(reader, columns, name, enabled):
    batch = Stored(reader, name).generated(DECODERS[name](), ORDER, enabled)
    np.testing.assert_array_equal(batch, expected(columns, name)[ORDER])


@pytest.mark.parametrize("name", DECODERS)
def test_default_decoder_is_one_that_works_by_sample(reader, name):
    decoder = reader.handlers[name].get_decoder_class()
    assert decoder is DECODERS[name]
    assert decoder.per_sample


@pytest.mark.parametrize(
    "name, field, decoder",
    [
        ("blobs", "array", NDArrayDecoder),
        ("blobs", "tensor", NDArrayDecoder),
        ("blobs", "text", BytesDecoder),
        ("empty", "text", BytesDecoder),
        ("empty", "array", NDArrayDecoder),
    ],
)
def test_blobs_that_ffcv_wrote(tmp_path, name, field, decoder):
    path, arrays = unpack_ffcv_file(name, tmp_path)
    stored = Stored(Reader(path), field)
    status, batch = stored.native(decoder(), range(12))
    assert status == native.OK
    np.testing.assert_array_equal(stored.generated(decoder(), range(12), False), batch)
    if field == "text":
        for row, text in zip(batch, arrays["source_text"], strict=True):
            data = bytes.fromhex(text)
            assert row.tobytes() == data.ljust(len(row), b"\0")
    else:
        np.testing.assert_array_equal(batch, arrays[f"source_{field}"])


def test_json_comes_back(reader):
    _, batch = Stored(reader, "json").native(BytesDecoder(), ORDER)
    assert JSONField.unpack(batch) == [{"i": index} for index in ORDER]
    assert JSONField.unpack(batch[1]) == {"i": 0}


def test_width_of_bytes_is_the_longest_of_the_file(reader, columns):
    state, query = Stored(reader, "text").prepare(BytesDecoder())
    assert state.shape == query.shape == (max(map(len, columns.text)),)


def test_only_empty_bytes(tmp_path):
    path, _ = unpack_ffcv_file("onlyempty", tmp_path)
    stored = Stored(Reader(path), "text")
    status, batch = stored.native(BytesDecoder(), range(12))
    assert (status, batch.shape) == (native.OK, (12, 0))
    assert stored.generated(BytesDecoder(), range(12)).shape == (12, 0)


# --- What native steps refuse. The tables of an open file are right, but a mapped file can change. ---


@pytest.mark.parametrize("name", DECODERS)
def test_sample_outside_the_file_is_refused(reader, name):
    status, batch = Stored(reader, name).native(DECODERS[name](), [1, COUNT])
    assert status == native.failure(1, native.OUT_OF_FILE)
    assert (batch[1:].view(np.uint8) == 0xA5).all()


@pytest.mark.parametrize("name", ["text", "array"])
def test_blob_outside_the_map_is_refused(reader, name):
    stored = Stored(reader, name)
    status, _ = stored.native(DECODERS[name](), [1, 2], mapped_bytes=int(reader.index.data_start))
    assert status == native.failure(0, native.OUT_OF_FILE)


@pytest.mark.parametrize("size", [1000, 2**63, 2**64 - 1])
def test_bytes_longer_than_their_row_are_refused(reader, size):
    stored = Stored(reader, "text")
    changed = stored.metadata.copy()
    decoder = BytesDecoder()

    class Patched(BytesDecoder):
        def declare_state_and_memory(self, previous_state):
            result = decoder.declare_state_and_memory(previous_state)
            changed["size"][2] = size  # after the width is known, as when the file changes under a reader
            return result

    patched = Patched()
    decoder.accept_globals(changed, None)
    stored.metadata = changed
    status, _ = stored.native(patched, [1, 2])
    assert status == native.failure(1, native.OUT_OF_TARGET)


def test_decoder_for_other_records_has_no_native_step():
    decoder = IntDecoder()
    decoder.accept_globals(np.zeros(3, "<i4"), None)
    assert decoder.native_step(INITIAL_STATE) is None
    decoder = BytesDecoder()
    decoder.accept_globals(np.zeros(3, [("size", "<u8"), ("ptr", "<u8")]), None)
    assert decoder.native_step(INITIAL_STATE) is None


def test_subclass_of_basic_decoder_sets_only_a_type():
    class SmallDecoder(BasicDecoder):
        dtype = np.dtype("<i4")

    decoder = SmallDecoder()
    decoder.accept_globals(np.arange(5, dtype="<i4"), None)
    state, query = decoder.declare_state_and_memory(INITIAL_STATE)
    assert (state.shape, state.dtype, query.dtype) == ((1,), np.dtype("<i4"), np.dtype("<i4"))
    assert decoder.native_step(state).words == (4, 5)


def test_tensor_field_of_a_file_is_a_tensor_field(tmp_path):
    import torch

    field = TorchTensorField(torch.float16, (3,))
    again = TorchTensorField.from_binary(field.to_binary()[0])
    assert isinstance(again, TorchTensorField)
    assert (again.dtype, again.shape, again.element_size) == (np.dtype("<f2"), (3,), 6)
