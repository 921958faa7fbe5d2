"""Shards and `ffx merge`: the bytes of a single run, or an error and nothing at the path."""

import errno
import json
import os

import numpy as np
import pytest

from ffx.commands import main
from ffx.errors import FormatError, WriterError
from ffx.fields import BytesField, FloatField, IntField, RGBImageField
from ffx.fields.base import Field
from ffx.reader import Reader
from ffx.verifying import verify_file
from ffx.writer import DatasetWriter, merge_files, merging
from tests.ffcv_files import unpack_ffcv_file
from tests.writer.datasets import FEW_FIELDS, AllKinds, Large, all_fields

MIB = 1 << 20


@pytest.fixture
def write_shards(tmp_path):
    """`write_shards(dataset, fields, count, **options)`: their paths, in the order of the data set."""

    def write(dataset, fields, count, workers=1, indices=None, shuffle=False, **options):
        paths = [tmp_path / f"shard-{number:02d}.ffcv" for number in range(count)]
        for number, path in enumerate(paths):
            writer = DatasetWriter(path, fields, num_workers=workers, progress=False, **options)
            writer.from_indexed_dataset(dataset, indices, 7, shuffle, shard=(number, count))
        return paths

    return write


@pytest.mark.parametrize("count", [1, 2, 7, 60])
def test_merged_shards_are_the_file_of_a_single_run(write, write_shards, digest, tmp_path, count):
    single = write(AllKinds(), all_fields(), seed=3)
    shards = write_shards(AllKinds(), all_fields(), count, seed=3)
    assert merge_files(tmp_path / "merged.ffcv", shards[::-1]) == 60
    assert digest(tmp_path / "merged.ffcv") == digest(single)
    assert verify_file(tmp_path / "merged.ffcv").ok


@pytest.mark.parametrize(
    "options",
    [
        {"shuffle": True, "seed": 5},
        {"page_size": 8 * MIB},
        {"indices": [5, 3, 3, 50, 7, 8, 9]},
        {"class_names": ["a", "b", "c"], "workers": 2},
    ],
)
def test_options_of_the_writer_count_for_the_whole(write, write_shards, digest, tmp_path, options):
    single = write(AllKinds(), all_fields("raw"), **options)
    merge_files(tmp_path / "merged.ffcv", write_shards(AllKinds(), all_fields("raw"), 3, **options))
    assert digest(tmp_path / "merged.ffcv") == digest(single)


@pytest.mark.parametrize("mode", ["proportion", "yuv420"])
def test_pages_fill_as_in_a_single_run(write, write_shards, digest, tmp_path, mode):
    """Samples of up to a page, so that pages grow and samples change their place within them."""
    sizes = np.random.default_rng(2).integers(1, 3 * MIB, 40).tolist()
    single = write(Large(sizes), FEW_FIELDS)
    merge_files(tmp_path / "merged.ffcv", write_shards(Large(sizes), FEW_FIELDS, 4))
    assert digest(tmp_path / "merged.ffcv") == digest(single)
    fields = {"image": RGBImageField(mode), **{name: all_fields()[name] for name in ("text", "label")}}
    few = _Columns(fields, AllKinds())
    single = write(few, fields, name="planes.ffcv")
    merge_files(tmp_path / "merged.ffcv", write_shards(few, fields, 4))
    assert digest(tmp_path / "merged.ffcv") == digest(single)


class _Columns:
    def __init__(self, fields, dataset):
        self.chosen = [list(all_fields()).index(name) for name in fields]
        self.dataset = dataset

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        return tuple(self.dataset[index][column] for column in self.chosen)


def test_scalars_alone(write, write_shards, digest, tmp_path):
    fields = {"label": IntField(), "weight": FloatField()}
    dataset = _Columns(fields, AllKinds())
    single = write(dataset, fields)
    merge_files(tmp_path / "merged.ffcv", write_shards(dataset, fields, 3))
    assert digest(tmp_path / "merged.ffcv") == digest(single)


def test_other_files_follow_each_other_as_given(write, tmp_path):
    fields = {"text": BytesField(), "label": IntField()}
    dataset = _Columns(fields, AllKinds())
    first = write(dataset, fields, name="b.ffcv", indices=range(30, 60))
    second = write(dataset, fields, name="a.ffcv", indices=range(30))
    merge_files(tmp_path / "merged.ffcv", [first.file_name, second.file_name])
    merged, content = Reader(tmp_path / "merged.ffcv"), (tmp_path / "merged.ffcv").read_bytes()
    assert verify_file(tmp_path / "merged.ffcv").ok
    for position, index in enumerate([*range(30, 60), *range(30)]):
        text, label = dataset[index]
        record = merged.metadata[position]
        assert record["f1"].item() == label
        start = int(record["f0"]["ptr"])
        assert content[start : start + int(record["f0"]["size"])] == text.tobytes()


@pytest.mark.parametrize("number", [errno.EXDEV, errno.ENOSYS, None])
def test_without_the_system_s_copy(write, write_shards, digest, tmp_path, monkeypatch, number):
    if number is None:
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    else:

        def refuse(*_):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "copy_file_range", refuse, raising=False)
    single = write(AllKinds(), all_fields("raw"))
    merge_files(tmp_path / "merged.ffcv", write_shards(AllKinds(), all_fields("raw"), 2))
    assert digest(tmp_path / "merged.ffcv") == digest(single)


def test_command(write, write_shards, digest, tmp_path, capsys):
    single = write(AllKinds(), all_fields("raw"))
    shards = [str(path) for path in write_shards(AllKinds(), all_fields("raw"), 3)]
    merged = tmp_path / "merged.ffcv"
    assert main(["merge", str(merged), *shards]) == 0
    assert "60 samples of 3 files" in capsys.readouterr().out
    assert digest(merged) == digest(single)
    assert main(["merge", str(merged), *shards[:2]]) == 1
    assert "expected all shards, found none with the samples 40 to 59" in capsys.readouterr().out
    assert digest(merged) == digest(single)
    assert main(["merge", str(merged), str(tmp_path / "none.ffcv")]) == 1
    assert "none.ffcv" in capsys.readouterr().out
    assert main(["merge", str(merged), *shards, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "file": str(merged), "samples": 60, "shards": 3}


def refused(tmp_path, sources, message, kind=WriterError):
    target = tmp_path / "merged.ffcv"
    target.write_bytes(b"old")
    before = set(tmp_path.iterdir())
    with pytest.raises(kind, match=message):
        merge_files(target, sources)
    assert target.read_bytes() == b"old"
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([0, 1, 3], "samples 30 to 44"),
        ([1, 2, 3], "samples 0 to 14"),
        ([0, 1, 2], "samples 45 to 59"),
        ([0, 1, 1, 2, 3], "from sample 30 on, found one from 15"),
        ([], "at least one file"),
    ],
)
def test_shards_that_lack_or_come_twice(write_shards, tmp_path, chosen, message):
    shards = write_shards(AllKinds(), all_fields("raw"), 4)
    refused(tmp_path, [shards[number] for number in chosen], message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 9}, "different settings.seed: 0 and 9"),
        ({"class_names": ["a"]}, r"different class names: \['zero', 'one', 'two'\] and \['a'\]"),
        ({"page_size": 4 * MIB}, "different settings.shard.page_size: None and 4194304"),
        ({"fields": all_fields("jpg")}, "settings.fields.image.write_mode: 'raw' and 'jpg'"),
        ({"indices": range(50)}, "settings.shard.samples: 60 and 50"),
    ],
)
def test_shards_of_another_run(write_shards, tmp_path, change, message):
    first = write_shards(AllKinds(), all_fields("raw"), 2)[0].rename(tmp_path / "first.ffcv")
    arguments = {"fields": all_fields("raw"), **change}
    refused(tmp_path, [first, write_shards(AllKinds(), count=2, **arguments)[1]], message)


def test_other_fields(write, tmp_path):
    fields = {"text": BytesField(), "label": IntField()}
    one = write(_Columns(fields, AllKinds()), fields, name="one.ffcv").file_name
    other_names = {"words": BytesField(), "label": IntField()}
    other = write(Large([5, 6]), other_names, name="other.ffcv").file_name
    refused(tmp_path, [one, other], r"different fields: \['text', 'label'\] and \['words', 'label'\]")
    scalars = {"text": FloatField(), "label": IntField()}
    other = write([(0.5, 1)], scalars, name="other.ffcv").file_name
    refused(tmp_path, [one, other], "different types of the fields")


class _Own(Field):
    """A number of eight bytes; only its type is somebody's own."""

    metadata_type = np.dtype("<u8")

    def encode(self, destination, value, malloc):
        destination[0] = value

    def to_binary(self):
        return IntField().to_binary()

    @classmethod
    def from_binary(cls, binary):
        return cls()

    def get_decoder_class(self):
        raise NotImplementedError


def test_files_that_cannot_be_merged(write, tmp_path):
    ffcv, _ = unpack_ffcv_file("raw", tmp_path)
    refused(tmp_path, [ffcv], "expected a file that ffx wrote")
    (tmp_path / "text.ffcv").write_bytes(b"no file of this kind" * 9)
    refused(tmp_path, [tmp_path / "text.ffcv"], "version", FormatError)
    own = DatasetWriter(tmp_path / "own.ffcv", {"own": _Own()}, num_workers=1, progress=False)
    own.from_indexed_dataset([(1,), (2,)])
    refused(tmp_path, [own.fname], "is a custom field")
    good = write([(1,), (2,)], {"label": IntField()}, name="good.ffcv").file_name
    with pytest.raises(WriterError, match="found a source"):
        merge_files(good, [good])


def test_disk_that_gets_full_leaves_the_old_file(write_shards, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(merging, "_copy_range", full)
    refused(tmp_path, write_shards(AllKinds(), all_fields("raw"), 2), "No space left")


@pytest.mark.parametrize(
    ("shard", "message"), [((2, 2), "from 0 to 1 of 2"), ((-1, 2), "found -1"), ((0, 61), "at most 60 shards")]
)
def test_shard_that_there_is_not(tmp_path, shard, message):
    writer = DatasetWriter(tmp_path / "out.ffcv", all_fields("raw"), num_workers=1, progress=False)
    with pytest.raises(WriterError, match=message):
        writer.from_indexed_dataset(AllKinds(), shard=shard)
    assert not list(tmp_path.iterdir())
