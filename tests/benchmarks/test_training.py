"""Feeding and the time table: what is projected from what, and a tiny training on the CPU from end to end."""

import pytest

from benchmarks import feeding, peers, timetable
from benchmarks.__main__ import main
from benchmarks.harness import SKIPPED
from tests.benchmarks.helpers import measured


def test_rounds_of_one_process_become_rounds_of_each_thing():
    assert feeding.transposed([{"a": 1, "b": 2}, {"a": 3, "b": 4}]) == {"a": [1, 3], "b": [2, 4]}


def test_twelve_configurations_pass_through_their_resolutions():
    found = timetable.configurations()
    assert len(found) == 12
    assert sorted(entry.epochs for entry in found) == sorted(2 * [16, 24, 32, 40, 56, 88])
    for entry in found:
        assert min(entry.resolutions) == 160 and max(entry.resolutions) > 180
        assert entry.network in ("resnet18", "resnet50")
    longest = next(entry for entry in found if entry.network == "resnet50" and entry.epochs == 88)
    assert longest.published_minutes == pytest.approx(8 * 69.9)


def test_minutes_are_projected_from_the_rates():
    made = timetable.Configuration("made", "resnet18", {160: 3, 192: 1}, 1.0, "nothing")
    minutes = timetable.projected_minutes(made, {160: 1000.0, 192: 500.0}, validation=2000.0)
    assert minutes == pytest.approx((3 * 1281.167 + 2 * 1281.167 + 4 * 25) / 60)


@pytest.mark.parametrize("command", ["feeding", "timetable"])
def test_without_a_gpu_it_says_so_and_measures_nothing(command, monkeypatch, picture_folder, tmp_path, capsys):
    monkeypatch.setattr(feeding, "gpu_is_here", lambda: False)
    arguments = ["--images", str(picture_folder), "--cache", str(tmp_path / "cache")]
    assert main([command, *arguments]) == SKIPPED
    assert "needs a CUDA device" in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


@pytest.mark.slow
def test_real_data_take_turns_with_synthetic(picture_folder, tmp_path):
    rows = measured(
        "feeding", "--images", picture_folder / "val", "--cache", tmp_path / "cache", "--limit", 8, "--rounds", 1,
        "--warm-up", 0, "--kind", "raw256", "--networks", "shufflenet_v2_x0_5", "--sizes", 32, "--core-counts", 1,
        "--batch-size", 4, "--samples", 16, "--epochs", 1, "--device", "cpu", "--precision", "bf16",
        out=tmp_path / "rows.jsonl",
    )  # fmt: skip
    synthetic, real = rows
    assert (real["precision"], real["compiled"]) == ("bf16", False)
    assert (synthetic["source"], real["source"]) == ("synthetic", "1")
    # Four steps, the first of which is not timed.
    assert synthetic["rounds"][0]["images"] == real["rounds"][0]["images"] == 12
    assert synthetic["share"]["median"] == 1 and real["share"]["median"] > 0
    assert len(real["cores"]) == 1


@pytest.mark.gpu
def test_copies_are_measured_on_the_device():
    torch = pytest.importorskip("torch")
    if not (peers.gpu_is_here() and torch.cuda.is_available()):
        pytest.skip("needs a CUDA device")
    from benchmarks.training import open_copies

    found = open_copies(8)()
    assert all(copy["bytes"] == 20 * (8 << 20) and copy["wall"] > 0 for copy in found.values())


@pytest.mark.gpu
def test_batches_end_on_the_device(picture_folder, tmp_path):
    torch = pytest.importorskip("torch")
    if not (peers.gpu_is_here() and torch.cuda.is_available()):
        pytest.skip("needs a CUDA device")
    from benchmarks import files

    pictures = files.Pictures(picture_folder / "val", 8)
    for name in ("ffx-to-gpu", "dali-gpu"):
        if not peers.PEERS[name].missing():
            path, _ = peers.PEERS[name].prepare(files.KINDS["jpg500"], pictures, tmp_path)
            batches = list(peers.PEERS[name].open(peers.Task(str(path), 32, 20, 8, 1)))
            assert sum(len(batch[0]) for batch in batches) == 20
            assert all(batch[0].is_cuda for batch in batches)
