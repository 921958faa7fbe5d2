"""Parity: the comparison counts what differs, and ffx's paths are within their limits on made pictures."""

import numpy as np
import pytest

from benchmarks import files, parity
from benchmarks.__main__ import main
from benchmarks.rows import read_rows


@pytest.fixture
def without_ffcv(monkeypatch):
    """FFCV takes half a minute to import; ffx's own files do as well."""
    monkeypatch.setattr(files, "ffcv_is_here", lambda: False)


def test_comparison_finds_mean_and_maximum():
    one = np.zeros((2, 2, 2, 3), np.uint8)
    other = one.copy()
    other[1, 0, 0] = (12, 0, 0)
    found = parity.compare(one, other)
    assert (found.samples, found.maximum) == (2, 12)
    assert found.mean == pytest.approx(0.5)
    assert found.largest_mean == pytest.approx(1.0)


def test_comparison_of_different_shapes_or_counts_is_an_error():
    with pytest.raises(SystemExit, match="sample 0"):
        parity.compare(np.zeros((1, 2, 2, 3), np.uint8), np.zeros((1, 2, 3, 3), np.uint8))
    with pytest.raises(ValueError, match="zip"):
        parity.compare(np.zeros((1, 2, 2, 3), np.uint8), np.zeros((2, 2, 2, 3), np.uint8))


@pytest.mark.long("measured files")
def test_reference_is_a_crop_of_what_is_stored(picture_folder, tmp_path):
    pictures = files.Pictures(picture_folder / "val", 3)
    path = files.written_file("ffx", files.Kind("whole", "raw", 500), pictures, tmp_path, workers=1)
    for index, crop in enumerate(parity.reference_crops(path, 16, 1.0)):
        picture, _ = pictures[index]
        side = min(picture.shape[:2])
        top, left = (picture.shape[0] - side) // 2, (picture.shape[1] - side) // 2
        part = picture[top : top + side, left : left + side]
        assert crop.shape == (16, 16, 3)
        assert abs(float(crop.mean()) - float(part.mean())) < 1


def parity_of(picture_folder, tmp_path, *arguments):
    """Run the command in this process; its status and rows."""
    common = ["--images", picture_folder / "val", "--cache", tmp_path / "cache", "--out", tmp_path / "rows.jsonl"]
    common += ["--limit", 10, "--sizes", 48, "--shares", 0.9]
    return main(["parity", *map(str, [*common, *arguments])]), read_rows(tmp_path / "rows.jsonl")


@pytest.mark.usefixtures("without_ffcv")
@pytest.mark.long("measured files")
def test_raw_and_jpeg_are_within_their_limits(picture_folder, tmp_path):
    status, rows = parity_of(picture_folder, tmp_path, "--paths", "raw", "jpeg")
    assert status == 0
    assert [(row["path"], row["samples"], row["within"]) for row in rows] == [("raw", 10, True), ("jpeg", 10, True)]
    assert rows[0]["maximum"] <= 1


@pytest.mark.parametrize("maximum, status", [(1, 0), (2, 1)])
def test_exceeded_limit_is_the_exit_status(maximum, status, picture_folder, tmp_path, monkeypatch):
    found = parity.Comparison(samples=3, maximum=maximum)
    monkeypatch.setattr(parity, "_compared", lambda *_: ("ffx", found))
    exit_status, rows = parity_of(picture_folder, tmp_path, "--paths", "raw")
    assert (exit_status, rows[0]["within"]) == (status, status == 0)


def test_options_that_a_decoder_refuses_leave_the_path_out(picture_folder, tmp_path, monkeypatch, capsys):
    refusal = parity.open_crops("ffx", "", 32, 0.9, {"made_up": 1}, "")()
    assert "made_up" in refusal["refused"]
    monkeypatch.setattr(parity, "ffx_file", lambda *_: (tmp_path, "ffx"))
    monkeypatch.setattr(parity, "measure", lambda contenders, *_: {contenders[0].name: [refusal]})
    assert parity_of(picture_folder, tmp_path, "--paths", "jpeg-fast") == (0, [])
    assert "left out: jpeg-fast" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("without_ffcv")
def test_portable_code_gives_the_same_pixels(picture_folder, tmp_path):
    _, rows = parity_of(picture_folder, tmp_path, "--paths", "portable-raw")
    assert [(row["maximum"], row["within"]) for row in rows] == [(0, True)]


@pytest.mark.slow
def test_parity_with_ffcv_is_within_its_limits(picture_folder, tmp_path):
    pytest.importorskip("ffcv")
    status, rows = parity_of(picture_folder, tmp_path, "--paths", "ffcv-raw", "ffcv-jpeg", "ffcv-stored")
    assert status == 0
    assert [row["path"] for row in rows] == ["ffcv-raw", "ffcv-jpeg", "ffcv-stored", "ffcv-stored"]
