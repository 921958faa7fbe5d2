"""Each of the smaller measurements, once, on a few made pictures: its rows say what they should."""

import gc

import numpy as np
import pytest

from benchmarks import kernels, memory, scaling, writer
from benchmarks.kernels import DECODERS, RESIZERS, centre_crop
from benchmarks.peers import PEERS
from tests.benchmarks.helpers import measured

QUICK = ["--limit", 8, "--rounds", 2, "--warm-up", 0]


def test_centre_crop_has_its_share_of_the_area():
    top, left, height, width = centre_crop(300, 400, 0.25)
    assert (height, width) == (150, 200)
    assert (top, left) == (75, 100)
    assert centre_crop(3, 3, 1.0) == (0, 0, 3, 3)
    assert centre_crop(1, 9, 0.001)[2:] == (1, 1)


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_decode_every_picture(name, picture_folder):
    paths = sorted(str(path) for path in (picture_folder / "val").rglob("*.JPEG"))[:3]
    do_round = kernels.open_decode(name, paths, share=0.3, passes=2)
    assert do_round()["images"] == 6


@pytest.mark.parametrize("name", RESIZERS)
def test_resizers_take_pictures_that_are_smaller_than_the_crop(name, picture_folder):
    paths = sorted(str(path) for path in (picture_folder / "val").rglob("*.JPEG"))[:3]
    do_round = kernels.open_resize(name, paths, crop=[150, 90], side=32, passes=2)
    assert do_round()["images"] == 6


def test_too_small_pictures_are_enlarged_to_the_crop(make_picture):
    for size in ((50, 200), (200, 50), (40, 40)):
        enlarged = kernels._at_least(make_picture(*size), (100, 120))
        assert enlarged.shape[0] >= 100 and enlarged.shape[1] >= 120
    picture = make_picture(100, 120)
    assert kernels._at_least(picture, (100, 120)) is picture


def test_kernel_that_fails_ends_the_measurement(tmp_path):
    with pytest.raises(SystemExit, match="status 3"):
        kernels._check(3)


@pytest.mark.slow
def test_decode_and_resize_write_a_row_for_each_contender(picture_folder, tmp_path):
    common = ["--images", picture_folder / "val", "--cache", tmp_path / "cache", *QUICK, "--passes", 1]
    rows = measured("decode", *common, "--shares", 0.3, out=tmp_path / "decode.jsonl")
    assert [row["decoder"] for row in rows] == list(DECODERS)
    rows = measured("resize", *common, "--pairs", "50x60:32", out=tmp_path / "resize.jsonl")
    assert [row["resizer"] for row in rows] == list(RESIZERS)
    assert all(row["ratio"]["to"] == "OpenCV, INTER_AREA" and row["crop"] == [50, 60] for row in rows)


@pytest.mark.parametrize("most, counts", [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (16, [1, 2, 4, 8, 16])])
def test_workers_are_doubled_up_to_all_cores(most, counts):
    assert scaling._doubled(most) == counts


def test_efficiency_is_the_rate_over_workers_times_one_worker_s():
    rounds = {
        "alone 1": [{"images": 100, "wall": 1.0}, {"images": 100, "wall": 2.0}],
        "alone 4": [{"images": 400, "wall": 1.0}, {"images": 400, "wall": 4.0}],
    }
    share = scaling._share(rounds, "alone 4", {"of": "alone 1", "times": 4})
    assert share["median"] == pytest.approx(0.75) and share["high"] == pytest.approx(1.0)
    assert scaling._share(rounds, "alone 4", {}) is None


@pytest.mark.slow
def test_scaling_measures_workers_a_busy_main_thread_and_two_loaders(picture_folder, tmp_path):
    cores = scaling.usable_cores()
    if len(cores) < 2:
        pytest.skip("needs two cores")
    rows = measured(
        "scaling", "--images", picture_folder / "val", "--cache", tmp_path / "cache", *QUICK, "--kinds", "raw256",
        "--samples", 16, "--batch-size", 4, "--size", 32, "--peers", "ffx", "--workers", 1, 2,
        "--cores", *cores[:2], out=tmp_path / "rows.jsonl",
    )  # fmt: skip
    found = {(row["what"], row["workers"]): row for row in rows}
    assert list(found) == [("alone", 1), ("alone", 2), ("a core more", 1), ("main thread busy", 1), ("two loaders", 1)]
    assert [epoch["images"] for epoch in found["alone", 2]["rounds"]] == [32, 32]
    assert [epoch["images"] for epoch in found["two loaders", 1]["rounds"]] == [32, 32]
    assert found["alone", 1]["share"]["median"] == 1


@pytest.mark.slow
def test_startup_tells_warm_from_cold(picture_folder, tmp_path):
    rows = measured(
        "startup", "--images", picture_folder / "val", "--cache", tmp_path / "cache", *QUICK, "--rounds", 1,
        "--kinds", "raw256", "--batch-size", 4, "--size", 32, "--other-size", 48, "--peers", "ffx",
        out=tmp_path / "rows.jsonl",
    )  # fmt: skip
    warm, cold = rows
    assert (warm["state"], cold["state"]) == ("warm", "cold")
    # Compiling takes half a minute, loading what is compiled a second.
    assert cold["first_batch"]["median"] > 2 * warm["first_batch"]["median"]


def test_own_memory_grows_with_what_is_filled():
    # What earlier tests left in cycles must not be freed in between.
    gc.collect()
    before = memory.own_bytes()
    filled = np.ones(64 << 20, np.uint8)
    assert memory.own_bytes() - before >= 0.9 * filled.nbytes


@pytest.mark.slow
def test_memory_tells_slots_from_the_rest(picture_folder, tmp_path):
    rows = measured(
        "memory", "--images", picture_folder / "val", "--cache", tmp_path / "cache", *QUICK, "--kinds", "raw256",
        "--batch-size", 4, "--size", 32, "--batches", 2, "--workers", 1, "--broken-off", 6, "--peers", "ffx",
        out=tmp_path / "rows.jsonl",
    )  # fmt: skip
    (row,) = rows
    assert row["slot_bytes"] == (memory.BATCHES_AHEAD + 2) * 4 * (3 * 32 * 32 + 8)
    for round_ in row["rounds"]:
        assert round_["added_bytes"] == round_["slot_bytes"] + round_["rest_bytes"]
        assert abs(round_["grown_bytes"]) < 20 * memory.MIB


@pytest.mark.slow
def test_writer_measures_each_source_and_leaves_nothing_behind(picture_folder, tmp_path):
    rows = measured(
        "writer", "--images", picture_folder / "val", "--cache", tmp_path / "cache", *QUICK, "--rounds", 1,
        "--settings", "400 0.10 90", "as they are", "--workers", 1, out=tmp_path / "rows.jsonl",
    )  # fmt: skip
    sources = [name for name, (system, _) in writer.SOURCES.items() if not PEERS[system].missing()]
    assert [(row["setting"], row["source"]) for row in rows] == [
        (setting, source) for setting in ("400 0.10 90", "as they are") for source in sources
    ]
    for row in rows:
        assert row["rounds"][0]["images"] == 8
        assert row["file_bytes"] > 0 and row["peak_bytes"]["median"] > memory.MIB
    assert [path.name.split("_")[-1] for path in (tmp_path / "cache").iterdir()] == ["originals"]


@pytest.mark.slow
def test_archives_are_measured_beside_the_folder_and_give_the_same_file(picture_folder, tmp_path):
    common = ["--images", picture_folder / "val", "--cache", tmp_path / "cache", *QUICK, "--repeats", 2]
    rows = measured("archives", *common, "--workers", 1, out=tmp_path / "archives.jsonl")
    assert [(row["split"], row["way"]) for row in rows] == [
        (split, way) for split in ("train", "val") for way in ("folder", "archive", "unpack")
    ]
    for split in ("train", "val"):
        sums = {each["sha256"] for row in rows if row["split"] == split for each in row["rounds"]} - {""}
        assert len(sums) == 1
