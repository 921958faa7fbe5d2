"""`ffx verify`: names every bad sample with its offset, and says so by its exit status."""

import json
import os
import subprocess
import sys

import pytest

from ffx import verifying
from ffx.commands import main
from ffx.errors import FormatError
from ffx.fields import BytesField, IntField, RGBImageField
from ffx.verifying import verify_file
from ffx.writer import DatasetWriter
from tests.damaged_files import flip_payload_bits, payload_rows
from tests.ffcv_files import unpack_ffcv_file
from tests.pictures import PictureDataset

BAD = (0, 11, 130)
SAMPLES = 150


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("verify") / "good.beton"
    fields = {"image": RGBImageField("proportion", compress_probability=0.5), "label": IntField()}
    dataset = PictureDataset(SAMPLES, sides=(20, 40))
    DatasetWriter(str(path), fields, num_workers=1, progress=False).from_indexed_dataset(dataset)
    return path


@pytest.fixture
def damaged(good, tmp_path):
    return flip_payload_bits(good, tmp_path / "damaged.beton", BAD)


@pytest.mark.parametrize("workers", [1, 3])
def test_report_names_every_bad_sample_with_its_place(damaged, workers):
    counted = []
    report = verify_file(damaged, workers=workers, on_progress=counted.append)
    assert not report.ok and sum(counted) == SAMPLES == report.samples
    rows = payload_rows(damaged)
    assert [(bad.sample_id, bad.offset, bad.size) for bad in report.bad] == [(sample, *rows[sample]) for sample in BAD]
    assert {bad.field for bad in report.bad} == {"image"}
    assert report.data_bytes == sum(size for _, size in rows.values())


def test_good_file_is_good(good, capsys):
    assert main(["verify", str(good)]) == 0
    text = capsys.readouterr().out
    assert "150 samples" in text and "all checksums compared: all good" in text
    assert main(["verify", "--decode", str(good)]) == 0
    assert "JPEGs decoded: all good" in capsys.readouterr().out


def test_command_lists_them_and_fails(good, damaged, capsys):
    assert main(["verify", str(good), str(damaged)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + len(BAD) and "3 bad" in lines[1]
    for sample, line in zip(BAD, lines[2:], strict=True):
        offset, size = payload_rows(damaged)[sample]
        assert line.startswith(
            f"  sample {sample}, field 'image': {size:,} bytes at offset {offset:,}: its bytes differ"
        )


def test_json_can_be_read_by_programs(damaged, tmp_path, capsys):
    missing = tmp_path / "missing.beton"
    assert main(["verify", "--json", str(damaged), str(missing)]) == 1
    report, error = map(json.loads, capsys.readouterr().out.splitlines())
    assert [bad["sample_id"] for bad in report["bad"]] == list(BAD) and report["ok"] is False
    assert error["ok"] is False and str(missing) in error["error"]


def test_file_without_checksums_is_decoded(tmp_path, capsys):
    path, _ = unpack_ffcv_file("jpg", tmp_path)
    report = verify_file(path)
    assert report.ok and not report.has_checksums and report.decoded == report.samples
    offset, size = payload_rows(path)[2]
    content = bytearray(path.read_bytes())
    content[offset + size // 2 : offset + size] = bytes(size - size // 2)
    path.write_bytes(content)
    assert main(["verify", str(path)]) == 1
    text = capsys.readouterr().out
    assert "no checksums in it" in text and "sample 2, field 'image'" in text and "JPEG data are damaged" in text


def test_field_is_told_among_several(tmp_path):
    path = tmp_path / "two.beton"
    fields = {"first": BytesField(), "label": IntField(), "second": BytesField()}
    samples = [(bytes([number] * 50), number, bytes([100 + number] * 70)) for number in range(1, 20)]
    DatasetWriter(str(path), fields, num_workers=1, progress=False).from_indexed_dataset(samples)
    content = bytearray(path.read_bytes())
    place = content.index(bytes([107] * 70))
    content[place + 3] ^= 4
    path.write_bytes(content)
    (bad,) = verify_file(path).bad
    assert (bad.sample_id, bad.field, bad.offset, bad.size) == (6, "second", place, 70)


def test_tables_are_looked_at_first(good, tmp_path, capsys):
    path = tmp_path / "short.beton"
    path.write_bytes(good.read_bytes()[:-5])
    with pytest.raises(FormatError):
        verify_file(path)
    assert main(["verify", str(path)]) == 1
    assert str(path) in capsys.readouterr().out


def test_module_is_the_command(good):
    outcome = subprocess.run([sys.executable, "-m", "ffx", "verify", str(good)], capture_output=True, text=True)
    assert outcome.returncode == 0 and "all good" in outcome.stdout
    assert subprocess.run([sys.executable, "-m", "ffx"], capture_output=True).returncode == 2


class Doubled(IntField):
    """A field of somebody's own."""


def test_fields_of_ones_own_can_be_named(tmp_path, capsys):
    path = tmp_path / "own.beton"
    DatasetWriter(str(path), {"own": Doubled()}, num_workers=1, progress=False).from_indexed_dataset([(1,), (2,)])
    assert main(["verify", str(path)]) == 1
    assert "name its class" in capsys.readouterr().out
    assert main(["verify", "--custom-field", f"own={__name__}:Doubled", str(path)]) == 0
    with pytest.raises(SystemExit, match="expected NAME=MODULE:CLASS, found 'own'"):
        main(["verify", "--custom-field", "own", str(path)])


def test_nothing_to_compare_is_not_called_good(tmp_path, capsys):
    path, _ = unpack_ffcv_file("raw", tmp_path)
    assert main(["verify", str(path)]) == 0
    assert "its tables are right, there is nothing else to look at" in capsys.readouterr().out


def test_file_that_changes_meanwhile_is_an_error(good, tmp_path, monkeypatch):
    path = tmp_path / "file.beton"
    path.write_bytes(good.read_bytes())
    real = verifying.Reader

    def read_and_cut(*arguments):
        reader = real(*arguments)
        os.truncate(path, 100)
        return reader

    monkeypatch.setattr(verifying, "Reader", read_and_cut)
    with pytest.raises(FormatError, match="expected the one that was opened first"):
        verify_file(path)
