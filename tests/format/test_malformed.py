"""Every way in which a file can be wrong is a FormatError that says where; nothing else is raised."""

import json
import os
import pickle
import re
import tracemalloc

import numpy as np
import pytest

from ffx import format as beton
from ffx.errors import ChecksumError, FieldError, FormatError
from ffx.fields import NDArrayField
from ffx.format import trailer
from ffx.kernels.checksum import xxh64
from ffx.reader import Reader
from tests.ffcv_files import unpack_ffcv_file
from tests.format.beton import PAGE, SAMPLES, MixedSamples, PlainFile, write_ffx_file

DESCRIPTORS = beton.HeaderType.itemsize
METADATA = DESCRIPTORS + 3 * beton.FieldDescType.itemsize


@pytest.fixture(scope="module")
def ffx_file(tmp_path_factory):
    return write_ffx_file(tmp_path_factory.mktemp("ffx") / "good.beton")


def refused(path, where, found=None):
    with pytest.raises(FormatError) as caught:
        Reader(path)
    error = caught.value
    assert re.search(where, error.where), f"{error.where!r} for {where!r}: {error}"
    assert error.path == str(path)
    assert str(path) in str(error)
    if found is not None:
        assert found in str(error)
    return error


def test_plain_file_is_accepted(tmp_path):
    reader = Reader(PlainFile().write(tmp_path / "good.beton"))
    assert reader.num_samples == SAMPLES
    assert not reader.has_checksums


def test_error_survives_pickling(tmp_path):
    (tmp_path / "empty.beton").touch()
    error = refused(tmp_path / "empty.beton", "header")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.where, again.expected, again.found) == (
        str(error),
        error.where,
        error.expected,
        error.found,
    )


# --- Header ---


@pytest.mark.parametrize("size", [0, 1, 23])
def test_file_shorter_than_a_header(tmp_path, size):
    path = tmp_path / "short.beton"
    path.write_bytes(bytes(size))
    refused(path, "header")


HEADER_VALUES = {
    "version": [0, 1, 3, 0xFFFF],
    "num_fields": [0, 2, 4, 0xFFFF],
    "page_size": [0, 1, PAGE - 1, PAGE + 1, PAGE // 2, 2**32 - 1],
    "num_samples": [0, SAMPLES + 1, 2**31, 2**32, 2**63, 2**64 - 1],
    "alloc_table_ptr": [0, 1, METADATA, 2 * PAGE - 24, 2 * PAGE + 1, 2 * PAGE + 24, 4 * PAGE, 2**63, 2**64 - 1],
}


@pytest.mark.parametrize("name, value", [(name, value) for name, values in HEADER_VALUES.items() for value in values])
def test_header_field_out_of_range(tmp_path, name, value):
    def change(head):
        np.frombuffer(head, dtype=beton.HeaderType, count=1)[name] = value

    with pytest.raises(FormatError):
        Reader(PlainFile().write(tmp_path / "bad.beton", change))


def test_fewer_samples_than_rows_is_refused(tmp_path):
    def change(head):
        np.frombuffer(head, dtype=beton.HeaderType, count=1)["num_samples"] = SAMPLES - 1

    refused(PlainFile().write(tmp_path / "bad.beton", change), "allocation table, row")


def test_unfinished_file_says_so(tmp_path):
    file = PlainFile()

    def change(head):
        np.frombuffer(head, dtype=beton.HeaderType, count=1)["alloc_table_ptr"] = 0

    refused(file.write(tmp_path / "bad.beton", change), "alloc_table_ptr", "never finished")


def test_other_formats_are_asked_after(tmp_path):
    path = tmp_path / "picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    refused(path, "version", "is this a .beton file?")


# --- Descriptors ---


@pytest.mark.parametrize("type_id", [7, 100, 254])
def test_unknown_field_type(tmp_path, type_id):
    file = PlainFile()
    file.type_ids[1] = type_id
    refused(file.write(tmp_path / "bad.beton"), "field type")


def test_custom_field_without_its_class(tmp_path):
    file = PlainFile()
    file.type_ids[1] = 255
    refused(file.write(tmp_path / "bad.beton"), "'text'", "custom_fields={'text'")


@pytest.mark.parametrize("name", ["", "..", "../image", "a/../b", "a\\..\\b", "tab\there", "bell\x07"])
def test_names_that_no_file_should_have(tmp_path, name):
    file = PlainFile()
    file.names[0] = name
    refused(file.write(tmp_path / "bad.beton"), "field name")


@pytest.mark.parametrize("raw", [b"caf\xe9", b"im\x00ge"])
def test_names_that_are_no_text(tmp_path, raw):
    def change(head):
        head[DESCRIPTORS + 1 : DESCRIPTORS + 1 + 16] = raw.ljust(16, b"\0")

    refused(PlainFile().write(tmp_path / "bad.beton", change), "field name")


def test_one_name_twice(tmp_path):
    file = PlainFile()
    file.names[0] = file.names[1]
    refused(file.write(tmp_path / "bad.beton"), "field names")


def array_arguments(description, shape=(3,), length=None):
    packed = np.zeros(34 * 8 - 8, dtype=np.uint8)
    packed[: 8 * len(shape)] = np.array(shape, dtype="<u8").view(np.uint8)
    text = description.encode()
    packed[256:264] = np.array([len(text) if length is None else length], dtype="<u8").view(np.uint8)
    return np.frombuffer(packed.tobytes() + text.ljust(1024 - 264, b"\0"), dtype=np.uint8)


@pytest.mark.parametrize(
    "description",
    [
        '[["", "|O"]]',
        '[["", "<f4", [2]]]',
        '[["a", "<f4"], ["b", "<i4"]]',
        '[["a", "<f4"]]',
        '[["", [["x", "<f4"]]]]',
        '"<f4"',
        "[]",
        "{}",
        "null",
        '[["", "<f3"]]',
        '[["", "<f4, <i4"]]',
        '[["", "(2,3)<f4"]]',
        '[["", "S0"]]',
        '[["", "V9999999"]]',
        '[["", "<M8[furlong]"]]',
        '[["", "<M8[xx]"]]',
        "[" * 700,
        '[["", "\xff"]]',
    ],
)
def test_array_types_that_are_not_plain(tmp_path, description):
    file = PlainFile()
    file.arguments[2] = array_arguments(description)
    refused(file.write(tmp_path / "bad.beton"), "array type")


@pytest.mark.parametrize("length", [0, 761, 2**32, 2**64 - 1])
def test_length_of_an_array_type(tmp_path, length):
    file = PlainFile()
    file.arguments[2] = array_arguments('[["", "<i4"]]', length=length)
    refused(file.write(tmp_path / "bad.beton"), "length of the array type")


@pytest.mark.parametrize(
    "shape", [(0, 3), (2**63,), (2**64 - 1,), (2**31, 2), (2**16,) * 4, (2**32,), (2,) * 32, (3, 0, 1)]
)
def test_impossible_array_shapes(tmp_path, shape):
    file = PlainFile()
    file.arguments[2] = array_arguments('[["", "<i4"]]', shape)
    refused(file.write(tmp_path / "bad.beton"), "array (shape|size)")


@pytest.mark.parametrize(
    "dtype",
    [
        np.dtype(object),
        np.dtype([("a", "f4")]),
        np.dtype(("f4", (2,))),
        np.dtype("V10"),
        np.dtype("f2"),
        np.dtype("U3"),
    ],
    ids=str,
)
def test_what_can_be_written_can_be_read(dtype):
    allowed = (dtype.kind in "fU" and dtype.subdtype is None) or (dtype.str == "|V10" and dtype.names is None)
    if not allowed:
        with pytest.raises(FieldError, match="array type"):
            NDArrayField(dtype, (2,))
    else:
        field = NDArrayField.from_binary(NDArrayField(dtype, (2, 5)).to_binary()[0])
        assert (field.dtype, field.shape) == (dtype, (2, 5))


# --- Allocation table ---


def spoil_row(file, row, **values):
    for name, value in values.items():
        file.table[name][row] = value


PLAIN = PlainFile()
FIRST = int(PLAIN.table["ptr"][0])
PLAIN_HEAD = len(PLAIN.head())

ROWS = {
    "sample out of range": {"sample_id": SAMPLES},
    "huge sample": {"sample_id": 2**64 - 1},
    "before the data": {"ptr": METADATA},
    "at zero": {"ptr": 0},
    "after the data": {"ptr": 2 * PAGE},
    "at the end": {"ptr": 2 * PAGE - 1},
    "huge pointer": {"ptr": 2**64 - 1},
    "half the range": {"ptr": 2**63},
    "huge size": {"size": 2**64 - 1},
    "size that overflows": {"size": 2**64 - FIRST},
    "larger than the file": {"size": PAGE + 1},
    "over the next row": {"size": 13},
    "over the previous row": {"ptr": FIRST},
}


@pytest.mark.parametrize("name", ROWS)
def test_row_of_the_allocation_table(tmp_path, name):
    file = PlainFile()
    spoil_row(file, 4, **ROWS[name])
    refused(file.write(tmp_path / "bad.beton"), "allocation table, (filled )?row")


def test_row_across_a_page(tmp_path):
    file = PlainFile()
    file.table_start = 3 * PAGE
    spoil_row(file, 3 * SAMPLES - 1, ptr=2 * PAGE - 6)
    file.metadata["f2"][-1] = 2 * PAGE - 6
    refused(file.write(tmp_path / "bad.beton"), "row", "one page")


@pytest.mark.parametrize("rest", [1, 8, 23])
def test_part_of_a_row(tmp_path, rest):
    file = PlainFile()
    file.rest = bytes(rest)
    refused(file.write(tmp_path / "bad.beton"), "allocation table")


@pytest.mark.parametrize("gap", [8, 24, 1000, PAGE // 2])
def test_bytes_before_the_table_that_are_no_trailer(tmp_path, gap):
    file = PlainFile()
    file.table_start += gap
    refused(file.write(tmp_path / "bad.beton"), "bytes before the table")


def test_unordered_table_is_accepted(tmp_path, generator):
    file = PlainFile()
    file.table = file.table[generator.permutation(len(file.table))]
    index = Reader(file.write(tmp_path / "good.beton")).index
    assert (np.diff(index.pointers.astype(np.int64)) > 0).all()
    order = np.argsort(file.table["ptr"])
    np.testing.assert_array_equal(index.sizes, file.table["size"][order])
    np.testing.assert_array_equal(index.sample_ids, file.table["sample_id"][order])


# --- Metadata ---

IMAGES = {
    "unknown mode": {"mode": 2},
    "JPEG's mode 255": {"mode": 255},
    "no width": {"width": 0},
    "no height": {"height": 0},
    "wider than stored": {"width": 5},
    "huge": {"width": 65535, "height": 65535},
    "pointer between rows": {"data_ptr": FIRST + 1},
    "pointer of another sample": {"data_ptr": FIRST},
    "pointer to zero": {"data_ptr": 0},
    "huge pointer": {"data_ptr": 2**64 - 1},
}


@pytest.mark.parametrize("name", IMAGES)
def test_image_metadata(tmp_path, name):
    file = PlainFile()
    for member, value in IMAGES[name].items():
        file.metadata["f0"][member][2] = value
    refused(file.write(tmp_path / "bad.beton"), "'image', sample 2")


@pytest.mark.parametrize("values", [{"ptr": FIRST}, {"ptr": 2**64 - 1}, {"size": 11}, {"size": 2**64 - 1}], ids=str)
def test_bytes_metadata(tmp_path, values):
    file = PlainFile()
    for member, value in values.items():
        file.metadata["f1"][member][2] = value
    refused(file.write(tmp_path / "bad.beton"), "'text', sample 2")


@pytest.mark.parametrize("pointer", [0, FIRST, FIRST + 12, 2**63, 2**64 - 1])
def test_array_metadata(tmp_path, pointer):
    file = PlainFile()
    file.metadata["f2"][2] = pointer
    refused(file.write(tmp_path / "bad.beton"), "'array', sample 2")


def test_braces_in_a_field_s_name_do_not_disturb_messages(tmp_path):
    file = PlainFile()
    file.names[0] = "i{age"
    file.metadata["f0"]["mode"][2] = 2
    refused(file.write(tmp_path / "bad.beton"), r"'i\{age', sample 2")


def test_array_of_another_size(tmp_path):
    file = PlainFile()
    file.arguments[2] = beton.pack_array_arguments(np.dtype("<i4"), (4,))
    refused(file.write(tmp_path / "bad.beton"), "'array', sample 0", "16 bytes")


def test_missing_rows_are_noticed(tmp_path):
    file = PlainFile()
    file.table = file.table[:-3]
    refused(file.write(tmp_path / "bad.beton"), f"sample {SAMPLES - 1}")


def test_empty_table_with_images_is_refused(tmp_path):
    file = PlainFile()
    file.table = file.table[:0]
    refused(file.write(tmp_path / "bad.beton"), "'image', sample 0")


@pytest.mark.parametrize("pointer", [0, 7, 2**64 - 1])
def test_empty_bytes_may_point_anywhere(tmp_path, pointer):
    file = PlainFile()
    file.table["size"][1] = file.metadata["f1"]["size"][0] = 0
    file.table["ptr"][1] = file.metadata["f1"]["ptr"][0] = pointer
    assert Reader(file.write(tmp_path / "good.beton")).metadata["f1"]["size"][0] == 0


def test_records_with_objects_are_refused(tmp_path):
    class Objects(NDArrayField):
        metadata_type = np.dtype(object)

        @staticmethod
        def from_binary(binary):
            return Objects(np.dtype("<i4"), (3,))

    with pytest.raises(FormatError, match="Python objects"):
        Reader(PlainFile().write(tmp_path / "good.beton"), {"array": Objects})


def test_custom_class_that_fails_is_named(tmp_path):
    class Broken(NDArrayField):
        @staticmethod
        def from_binary(binary):
            raise KeyError("no such thing")

    with pytest.raises(FormatError, match=r"Broken\.from_binary"):
        Reader(PlainFile().write(tmp_path / "good.beton"), {"array": Broken})


# --- Trailer ---


def footer_of(path):
    start = int(Reader(path).header["alloc_table_ptr"]) - trailer._FOOTER.itemsize
    packed = path.read_bytes()
    return start, np.frombuffer(packed, dtype=trailer._FOOTER, count=1, offset=start).copy(), bytearray(packed)


def write_with_footer(path, packed, start, footer, seal=True):
    if seal:
        footer["footer_checksum"] = xxh64(footer.tobytes()[:-8])
    packed[start : start + footer.nbytes] = footer.tobytes()
    path.write_bytes(packed)
    return path


FOOTER_VALUES = [
    ("version", 2, "trailer's version"),
    ("trailer_start", 0, "trailer"),
    ("trailer_start", 2**64 - 1, "trailer"),
    ("trailer_bytes", 2**63, "trailer"),
    ("trailer_checksum", 1, "^trailer$"),
    ("head_bytes", 24, "header and metadata"),
    ("head_bytes", 2**64 - 1, "trailer"),
    ("head_checksum", 1, "header and metadata"),
    ("table_checksum", 1, "allocation table"),
]


@pytest.mark.parametrize("name, value, where", FOOTER_VALUES)
def test_footer_field(ffx_file, tmp_path, name, value, where):
    start, footer, packed = footer_of(ffx_file)
    footer[name] = value
    refused(write_with_footer(tmp_path / "bad.beton", packed, start, footer), where)


def test_damaged_footer(ffx_file, tmp_path):
    start, footer, packed = footer_of(ffx_file)
    footer["unused"] = 1
    error = refused(write_with_footer(tmp_path / "bad.beton", packed, start, footer, seal=False), "footer")
    assert isinstance(error, ChecksumError)


def test_damaged_magic_is_no_file_without_trailer(ffx_file, tmp_path):
    start, footer, packed = footer_of(ffx_file)
    footer["magic"] = b"\x88ffx\r\n\x1a\n"
    refused(write_with_footer(tmp_path / "bad.beton", packed, start, footer), "bytes before the table")


def with_trailer(ffx_file, path, body):
    """The file with another trailer of the same length, all checksums right."""
    start, footer, packed = footer_of(ffx_file)
    first, count = int(footer["trailer_start"][0]), int(footer["trailer_bytes"][0])
    assert len(body) <= count
    body = body + trailer._pack_section(b"padding", bytes(count - len(body) - 16)) if len(body) < count else body
    packed[first : first + count] = body
    footer["trailer_checksum"] = xxh64(body)
    return write_with_footer(path, packed, start, footer)


def sections(rows, about):
    text = about if isinstance(about, bytes) else json.dumps(about).encode()
    return trailer._pack_section(b"rowxxh3", bytes(8 * rows)) + trailer._pack_section(b"about", text)


TRAILERS = {
    "no checksums": (trailer._pack_section(b"about", b"{}"), "checksums"),
    "too few checksums": (sections(1, {}), "checksums"),
    "no JSON": (sections(24, b"{"), "description"),
    "no object": (sections(24, b"[]"), "description"),
    "deep JSON": (sections(24, b"[" * 200), "description"),
    "settings": (sections(24, {"settings": []}), "description"),
    "class names": (sections(24, {"class_names": [1]}), "class names"),
    "field names": (sections(24, {"field_names": "abc"}), "field names"),
    "too few field names": (sections(24, {"field_names": ["image"]}), "field names"),
    "other field names": (sections(24, {"field_names": ["image", "text", "json", "array", "i", "a"]}), "field names"),
    "a section twice": (sections(24, {}) + trailer._pack_section(b"about", b"{}"), "section"),
    "countless sections": (b"".join(trailer._pack_section(b"%d" % number, b"") for number in range(33)), "section"),
    "section too long": (np.array([(b"about", 2**63)], dtype=trailer._SECTION).tobytes(), "section"),
}


@pytest.mark.parametrize("name", TRAILERS)
def test_trailer_contents(ffx_file, tmp_path, name):
    body, where = TRAILERS[name]
    assert len(Reader(ffx_file).alloc_table) == 24
    refused(with_trailer(ffx_file, tmp_path / "bad.beton", body), where)


def test_unknown_sections_are_passed_over(ffx_file, tmp_path):
    body = sections(24, {"class_names": ["x"]}) + trailer._pack_section(b"future", b"12345")
    assert Reader(with_trailer(ffx_file, tmp_path / "good.beton", body)).class_names == ["x"]


# --- Damage of any kind ---


def contents(path):
    """Everything that a reader of the tables can see."""
    reader = Reader(path)
    index = reader.index
    checksums = b"" if index.checksums is None else index.checksums.tobytes()
    tables = (reader.metadata.tobytes(), reader.alloc_table.tobytes(), reader.field_descriptors.tobytes(), checksums)
    return (*tables, reader.field_names, reader.class_names, reader.settings, reader.page_size, reader.has_checksums)


def flip_survivors(path, positions, masks, same):
    """Flip each byte, one at a time; the flips after which the file opens and differs."""
    survivors = []
    with open(path, "r+b", buffering=0) as file:
        for position in positions:
            file.seek(position)
            (byte,) = file.read(1)
            for mask in masks:
                os.pwrite(file.fileno(), bytes([byte ^ mask]), position)
                try:
                    if contents(path) != same:
                        survivors.append((position, mask))
                except FormatError:
                    pass
            os.pwrite(file.fileno(), bytes([byte]), position)
    return survivors


def table_bytes(path):
    """Offsets of everything but the pages, and of the pages' first and last bytes."""
    reader = Reader(path)
    return [*range(reader.index.data_start), *range(reader.index.data_end, reader.index.file_bytes)]


def test_every_flipped_byte_is_noticed(ffx_file, tmp_path):
    path = tmp_path / "flipped.beton"
    path.write_bytes(ffx_file.read_bytes())
    assert flip_survivors(path, table_bytes(path), (0x01, 0x80, 0xFF), contents(path)) == []


def test_flipped_bytes_of_a_file_of_scalars_are_noticed(tmp_path):
    from ffx.fields import IntField
    from ffx.writer import DatasetWriter

    path = tmp_path / "scalars.beton"
    DatasetWriter(path, {"label": IntField()}, num_workers=1, progress=False).from_indexed_dataset(range(50))
    offsets = [*range(24), *range(24 + 1041 - 10, os.path.getsize(path), 7)]
    assert flip_survivors(path, offsets, (0x01, 0xFF), contents(path)) == []


@pytest.mark.parametrize("name", ["mixed", "blobs", "empty", "scalars"])
def test_damaged_ffcv_files_open_or_are_refused(tmp_path, generator, name):
    path, _ = unpack_ffcv_file(name, tmp_path)
    size = path.stat().st_size
    offsets = [*range(24), *generator.integers(24, 24 + 3 * 1041, 60).tolist()]
    offsets += generator.integers(Reader(path).index.data_end - 100, size, 100).tolist()
    # What matters here is that nothing but a FormatError is raised.
    flip_survivors(path, [offset for offset in offsets if offset < size], (0x01, 0xFF), contents(path))


def refused_when_cut(path, lengths):
    """Cut a file to each of the lengths: it is refused, and no more memory is taken than a little."""
    tracemalloc.start()
    try:
        for length in sorted(set(lengths), reverse=True):
            os.truncate(path, length)
            with pytest.raises(FormatError):
                Reader(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def lengths_to_cut(path, generator):
    """Every one within the tables, and 1,000 others."""
    size, index = path.stat().st_size, Reader(path).index
    return [*range(index.data_end, size), *generator.integers(0, size, 1000).tolist()]


def test_truncated_file_is_refused(ffx_file, tmp_path, generator):
    path = tmp_path / "cut.beton"
    path.write_bytes(ffx_file.read_bytes())
    refused_when_cut(path, lengths_to_cut(path, generator))


@pytest.mark.parametrize("name", ["raw", "blobs"])
def test_truncated_ffcv_file_is_refused(tmp_path, generator, name):
    path, _ = unpack_ffcv_file(name, tmp_path)
    refused_when_cut(path, lengths_to_cut(path, generator))


def test_opening_takes_no_memory_for_impossible_counts(tmp_path):
    def change(head):
        np.frombuffer(head, dtype=beton.HeaderType, count=1)["num_samples"] = 2**40

    path = PlainFile().write(tmp_path / "bad.beton", change)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            Reader(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_tables_of_a_good_file(ffx_file):
    reader = Reader(ffx_file)
    assert reader.class_names == list(MixedSamples.classes)
    assert reader.field_names[-1] == "a real number's long name"
    assert reader.has_checksums
    np.testing.assert_array_equal(reader.metadata["f4"], np.arange(SAMPLES) * 10)
