"""The copy on the disk: damaged there, gone through, fetched beforehand."""

import json

import numpy as np
import pytest
import torch

import ffx
from ffx.commands import main
from ffx.errors import SampleChecksumError
from ffx.loader import OrderOption
from ffx.loader.resident import resident_data
from ffx.pipeline.operation import FileRange
from ffx.reader import Reader
from tests.loader.helpers import everything, load, random_pipelines


def remote_loader(server, options, **arguments):
    arguments = {"order": OrderOption.RANDOM, "pipelines": random_pipelines(), **arguments}
    return load(server.url("train.beton"), remote=options, **arguments)


def flip_on_disk(remote, index, sample: int) -> None:
    """One bit of a sample in the copy."""
    row = int(np.flatnonzero(index.sample_ids == sample)[0])
    with open(remote.path, "r+b") as file:
        file.seek(int(index.pointers[row]) + 200)
        byte = file.read(1)[0]
        file.seek(int(index.pointers[row]) + 200)
        file.write(bytes([byte ^ 16]))


@pytest.mark.parametrize("on_error", ["raise", "substitute", "skip"])
def test_a_sample_damaged_in_the_copy_is_fetched_anew(server, options, pages_file, on_error):
    with load(pages_file, order=OrderOption.RANDOM, pipelines=random_pipelines()) as local:
        expected = everything(local)
    # "always": this process has seen the sample before.
    with remote_loader(server, options, on_error=on_error, verify="always") as loader:
        everything(loader)
        fetched = loader.reader.remote.fetched.bytes
        flip_on_disk(loader.reader.remote, loader.reader.index, 17)
        loader.next_epoch = 0
        for one, other in zip(everything(loader), expected, strict=True):
            np.testing.assert_array_equal(one, other)
        assert not loader.culprits
        assert fetched < loader.reader.remote.fetched.bytes < fetched + (3 << 20)


def test_damaged_tables_of_the_copy_are_fetched_anew(server, options):
    reader = Reader(server.url("train.beton"), remote=options)
    with open(reader.local_path, "r+b") as file:
        file.seek(-9, 2)
        file.write(b"\xff")
    again = Reader(server.url("train.beton"), remote=options)
    np.testing.assert_array_equal(again.alloc_table, Reader(server.url("train.beton"), remote=options).alloc_table)
    assert again.remote.fetched.bytes > 0


def test_what_was_fetched_damaged_twice_is_fetched_again_by_the_next_loader(server, options, pages_file):
    good = server.files["train.beton"]
    index = Reader(pages_file).index
    bad = bytearray(good)
    bad[int(index.pointers[np.flatnonzero(index.sample_ids == 5)[0]]) + 7] ^= 1
    server.files["train.beton"] = bytes(bad)
    with remote_loader(server, options) as loader, pytest.raises(SampleChecksumError):
        everything(loader)
    server.files["train.beton"] = good
    with remote_loader(server, options) as loader:
        assert len(everything(loader)[1]) == 120


def test_verifying_an_address(server, options, pages_file):
    report = ffx.verify_file(server.url("train.beton"), remote=options)
    assert report.ok
    assert (report.samples, report.has_checksums) == (120, True)
    index = Reader(pages_file).index
    row = int(np.flatnonzero(index.sample_ids == 5)[0])
    bad = bytearray(server.files["train.beton"])
    bad[int(index.pointers[row]) + 7] ^= 1
    server.files["train.beton"], server.etags["train.beton"] = bytes(bad), '"v2"'
    report = ffx.verify_file(server.url("train.beton"), remote=options)
    assert [(one.sample_id, one.offset) for one in report.bad] == [(5, int(index.pointers[row]))]


def test_fetching_a_file_beforehand(server, options, pages_file, capsys):
    arguments = ["fetch", server.url("train.beton"), "--json", "--cache-dir", str(options.cache_dir)]
    assert main(arguments) == 0
    first = json.loads(capsys.readouterr().out)
    assert first["ok"]
    # Pages end with bytes that belong to no sample.
    assert 0.8 * first["bytes"] < first["fetched"] <= first["bytes"] == pages_file.stat().st_size
    assert main(arguments) == 0
    assert json.loads(capsys.readouterr().out)["fetched"] == 0
    with remote_loader(server, options) as loader:
        everything(loader)
        assert loader.reader.remote.fetched.bytes == 0


@pytest.mark.parametrize("arguments", [["x.beton"], ["{url}", "--cache-gb", "0.001"], ["{url}.no"]])
def test_fetching_says_what_is_wrong(server, options, arguments, capsys):
    filled = [text.format(url=server.url("train.beton")) for text in arguments]
    assert main(["fetch", *filled, "--cache-dir", str(options.cache_dir)]) == 1
    assert filled[0] in capsys.readouterr().out


def test_what_is_kept_on_a_device_is_fetched_first(server, options, pages_file):
    index = Reader(pages_file).index
    wanted = FileRange(torch.device("cpu"), int(index.pointers[0]), int(index.pointers[-1] + index.sizes[-1]))
    reader = Reader(server.url("train.beton"), remote=options)
    (data,) = resident_data(reader, [wanted]).values()
    stored = pages_file.read_bytes()
    for start, size in zip(index.pointers.tolist(), index.sizes.tolist(), strict=True):
        found = data[start - wanted.start :][:size].numpy().tobytes()
        assert found == stored[start : start + size]
