"""The measuring itself: statistics, the cached files, CPU time of descendants, and a tiny run from end to end."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks import files, loader, parity, peers, rows, worker

ROOT = Path(__file__).resolve().parents[2]


def run_benchmarks(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def test_interval_holds_the_median_and_covers_it_as_often_as_it_says(generator):
    found = rows.median_with_interval([5.0, 1.0, 3.0])
    assert found == {"median": 3.0, "low": 1.0, "high": 5.0}
    inside = 0
    for _ in range(100):
        found = rows.median_with_interval(generator.normal(10, 1, size=15), draws=500)
        assert found["low"] <= found["median"] <= found["high"]
        inside += found["low"] <= 10 <= found["high"]
    assert inside >= 85


def test_cpu_seconds_count_this_process_and_its_living_children():
    code = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ninput()"
    before = worker.cpu_seconds()
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    child.stdout.readline()
    while_living = worker.cpu_seconds() - before
    child.communicate(b"\n")
    after = worker.cpu_seconds() - before
    assert while_living >= 0.4
    assert after >= 0.4


def test_epoch_counts_images_and_its_slower_clock_counts():
    batches = [(np.zeros((4, 2, 2, 3)), np.zeros(4))] * 3
    epoch = worker.run_epoch(batches)
    assert epoch["images"] == 12
    assert 0 <= epoch["first"] <= epoch["wall"]
    assert loader.images_a_second({"images": 10, "wall": 2.0, "cpu": 1.0}) == 5
    assert loader.images_a_second({"images": 10, "wall": 1.0, "cpu": 2.0}) == 5


def test_ratios_are_formed_by_round():
    rounds = {
        "fast": [{"images": 100, "wall": wall, "cpu": 0} for wall in (1, 2, 4)],
        "slow": [{"images": 100, "wall": wall, "cpu": 0} for wall in (2, 4, 8)],
    }
    summary = loader.summarise(rounds, "slow")
    assert summary["fast"]["ratio"] == {"to": "slow", "median": 2.0, "low": 2.0, "high": 2.0}
    assert summary["fast"]["images_a_second"]["median"] == 50
    assert "ratio" not in loader.summarise(rounds, "absent")["fast"]


def test_pictures_take_classes_in_turn(picture_folder):
    pictures = files.Pictures(picture_folder / "train", limit=6)
    assert [label for _, label in pictures.samples] == [0, 1, 2, 3, 0, 1]
    assert pictures[0][0].ndim == 3
    assert pictures.checksum() != files.Pictures(picture_folder / "train", limit=5).checksum()


def test_no_pictures_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="no pictures"):
        files.Pictures(tmp_path, limit=6)


def test_a_file_is_written_once(picture_folder, tmp_path):
    pictures = files.Pictures(picture_folder / "val", limit=8)
    path = files.written_file("ffx", files.KINDS["raw256"], pictures, tmp_path, workers=1)
    changed = path.stat().st_mtime_ns
    time.sleep(0.01)
    assert files.written_file("ffx", files.KINDS["raw256"], pictures, tmp_path, workers=1) == path
    assert path.stat().st_mtime_ns == changed
    folder = files.jpeg_folder(files.KINDS["jpg500"], pictures, tmp_path)
    assert len(list(folder.rglob("*.jpg"))) == 8


@pytest.mark.slow
def test_loader_benchmark_writes_a_row_for_each_peer(picture_folder, tmp_path):
    options = ["--limit", 8, "--samples", 32, "--batch-size", 8, "--rounds", 2, "--sizes", 32, "--kinds", "jpg500"]
    done = run_benchmarks(
        "loader", "--images", picture_folder / "val", "--out", tmp_path / "rows.jsonl", "--cache", tmp_path / "cache",
        *options, "--peers", "ffx", "torchvision", "--reference", "torchvision",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [row["peer"] for row in written] == ["ffx", "torchvision"]
    for row in written:
        assert [epoch["images"] for epoch in row["rounds"]] == [32, 32]
        assert row["ratio"]["to"] == "torchvision"
        assert {"commit", "command", "machine", "versions", "time", "load_before"} <= row.keys()
        assert row["peer"] in done.stdout


def test_peers_take_turns_and_give_their_images(picture_folder, tmp_path):
    path = files.jpeg_folder(files.KINDS["jpg500"], files.Pictures(picture_folder / "val", 8), tmp_path)
    epochs = loader.measure({"torchvision": peers.Task(str(path), 32, 20, 4, 1)}, [], warm_up=0, rounds=2)
    assert [epoch["images"] for epoch in epochs["torchvision"]] == [20, 20]


def test_peer_that_fails_is_named(picture_folder, tmp_path):
    task = peers.Task(str(tmp_path / "absent.beton"), 32, 8, 4, 1)
    with pytest.raises(SystemExit, match="ffx ended with status 1"):
        loader.measure({"ffx": task}, [], warm_up=0, rounds=1)


def test_parity_says_when_ffcv_is_missing(monkeypatch, picture_folder, capsys):
    monkeypatch.setattr(peers.Peer, "is_here", lambda peer: False)
    options = type("Options", (), {"images": picture_folder / "val"})
    assert parity.run(options) == 2
    assert "install_peers.sh" in capsys.readouterr().err


@pytest.mark.slow
def test_parity_with_ffcv_is_within_its_limits(picture_folder, tmp_path):
    pytest.importorskip("ffcv")
    done = run_benchmarks(
        "parity", "--images", picture_folder / "val", "--out", tmp_path / "rows.jsonl", "--cache", tmp_path / "cache",
        "--limit", 10, "--kinds", "raw256", "jpg500", "--size", 48,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    compared = [json.loads(line)["compared"] for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert compared == ["stored", "raw", "raw", "jpeg", "jpeg"]
