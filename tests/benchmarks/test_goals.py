"""The table of goals: which rows count, when a goal is met."""

import json

import pytest

from benchmarks import goals
from benchmarks.__main__ import main
from tests.benchmarks.helpers import loader_row, measured

NEW, OLD = "2026-02-01T00:00:00+00:00", "2026-01-01T00:00:00+00:00"


def line_of(rows, kind, size):
    number = [goal.kind for goal in goals.GOALS].index(kind) * len(goals.SIZES) + goals.SIZES.index(size)
    return list(goals.goal_lines(rows))[number]


def test_goals_are_those_of_the_design_for_all_kinds_and_both_sizes():
    assert {goal.kind: tuple(goal.times[size] for size in goals.SIZES) for goal in goals.GOALS} == {
        "jpg500": (2.5, 2.6),
        "tiled500": (3.3, 3.4),
        "mix400": (6, 6),
        "raw400": (7, 8),
        "raw256": (6.5, 6),
        "yuv400": (8, 7),
    }


@pytest.mark.parametrize(
    "ratio, verdict",
    [((7.5, 7.1, 7.9), "met"), ((7.5, 6.9, 7.9), "met, just"), ((6.9, 6.0, 7.2), "missed"), (None, "not measured")],
)
def test_verdict_follows_median_and_interval(ratio, verdict):
    rows = [loader_row("ffx", rate=750, ratio=ratio), loader_row("ffcv", ratio=(1, 1, 1))]
    met, cells = line_of(rows, "raw400", 160)
    assert cells[-1] == verdict
    assert met == verdict.startswith("met")
    if ratio:
        assert cells[3:6] == [f"**{ratio[0]:.2f}** ({ratio[1]:.2f} to {ratio[2]:.2f})", "750", "100"]


def test_newest_run_of_one_worker_counts():
    rows = [
        loader_row("ffx", rate=2, time=NEW),
        loader_row("ffx", rate=1, time=OLD),
        loader_row("torchvision", rate=3, time=OLD),
        loader_row("ffx", rate=4, time="2026-03-01T00:00:00+00:00", workers=2),
        loader_row("ffx", rate=5, time="2026-03-01T00:00:00+00:00", size=224),
        # FFCV's start of an epoch would count for more.
        loader_row("ffx", rate=6, time="2026-03-01T00:00:00+00:00", samples=2_000),
    ]
    found = goals.newest(rows, "raw400", 160)
    assert {peer: row["images_a_second"]["median"] for peer, row in found.items()} == {"ffx": 2}


def test_peers_are_those_of_the_run_with_most_of_them_and_its_length_is_said():
    rows = [loader_row("ffx"), loader_row("ffcv")]
    assert goals.fullest(rows, "raw400", 160) == (12_000, {"ffx": rows[0], "ffcv": rows[1]})
    more = [loader_row(peer, samples=2_000, time=OLD) for peer in ("ffx", "ffcv", "torchvision")]
    length, found = goals.fullest(rows + more, "raw400", 160)
    assert length == 2_000
    assert list(found.values()) == more
    assert goals.fullest([], "raw400", 160) == (12_000, {})


def test_command_without_pictures_reads_rows_and_tells_by_its_status(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    rows = []
    for goal in goals.GOALS:
        for size in goals.SIZES:
            rows.append(loader_row("ffx", goal.kind, size, ratio=(20, 19, 21)))
            rows.append(loader_row("ffcv", goal.kind, size, ratio=(1, 1, 1)))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["goals", "--rows", str(path)]) == 0
    assert capsys.readouterr().out.count("| met |") == 12
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[2:]))
    assert main(["goals", "--rows", str(path)]) == 1
    assert "not measured" in capsys.readouterr().out


@pytest.mark.slow
def test_loader_writes_a_row_for_each_peer(picture_folder, tmp_path):
    options = ["--limit", 8, "--samples", 32, "--batch-size", 8, "--rounds", 2, "--sizes", 32, "--kinds", "jpg500"]
    written = measured(
        "loader", "--images", picture_folder / "val", "--cache", tmp_path / "cache",
        *options, "--peers", "ffx", "torchvision", "--reference", "torchvision", out=tmp_path / "rows.jsonl",
    )  # fmt: skip
    assert [row["peer"] for row in written] == ["ffx", "torchvision"]
    for row in written:
        assert [epoch["images"] for epoch in row["rounds"]] == [32, 32]
        assert row["ratio"]["to"] == "torchvision"
        assert row["task"]["file_bytes"] > 0
