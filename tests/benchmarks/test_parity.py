"""Parity: the comparison counts what differs, and ffx's paths are within their limits on made pictures."""

import numpy as np
import pytest

from benchmarks import files, parity
from tests.benchmarks.helpers import measured, run_benchmarks


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


def test_raw_and_jpeg_are_within_their_limits(picture_folder, tmp_path):
    rows = measured(
        "parity", "--images", picture_folder / "val", "--cache", tmp_path / "cache", "--limit", 10,
        "--paths", "raw", "jpeg", "--sizes", 48, "--shares", 0.9, out=tmp_path / "rows.jsonl",
    )  # fmt: skip
    assert [(row["path"], row["samples"], row["within"]) for row in rows] == [("raw", 10, True), ("jpeg", 10, True)]
    assert rows[0]["maximum"] <= 1


def test_exceeded_limit_is_the_exit_status(picture_folder, tmp_path, monkeypatch, capsys):
    from benchmarks.__main__ import main

    monkeypatch.setattr(parity, "WAYS", (parity.Way("raw", "raw256", "opencv", mean=-1.0),))
    arguments = ["--images", str(picture_folder / "val"), "--cache", str(tmp_path), "--limit", "4"]
    assert main(["parity", *arguments, "--sizes", "32", "--shares", "0.9", "--paths", "raw"]) == 1
    assert "| NO |" in capsys.readouterr().out


def test_options_that_a_decoder_refuses_leave_the_path_out(picture_folder, tmp_path, monkeypatch, capsys):
    from benchmarks.__main__ import main

    monkeypatch.setattr(parity, "WAYS", (parity.Way("raw", "raw256", "opencv", options={"made_up": 1}),))
    arguments = ["--images", str(picture_folder / "val"), "--cache", str(tmp_path), "--limit", "4"]
    assert main(["parity", *arguments, "--sizes", "32", "--shares", "0.9", "--paths", "raw"]) == 0
    assert "left out: raw" in capsys.readouterr().err


@pytest.mark.slow
def test_portable_code_gives_the_same_pixels(picture_folder, tmp_path):
    rows = measured(
        "parity", "--images", picture_folder / "val", "--cache", tmp_path / "cache", "--limit", 10,
        "--paths", "portable-raw", "--sizes", 48, "--shares", 0.9, out=tmp_path / "rows.jsonl",
    )  # fmt: skip
    assert [(row["maximum"], row["within"]) for row in rows] == [(0, True)]


@pytest.mark.slow
def test_parity_with_ffcv_is_within_its_limits(picture_folder, tmp_path):
    pytest.importorskip("ffcv")
    done = run_benchmarks(
        "parity", "--images", picture_folder / "val", "--cache", tmp_path / "cache", "--limit", 10,
        "--paths", "ffcv-raw", "ffcv-jpeg", "ffcv-stored", "--sizes", 48, "--shares", 0.9,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("| yes |") == 4
