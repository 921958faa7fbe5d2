"""The report: README agrees with the rows, pictures are drawn of whatever rows there are."""

import json
from pathlib import Path

import pytest

from benchmarks import plots, report
from benchmarks.__main__ import main
from benchmarks.goals import GOALS, SIZES
from tests.benchmarks.helpers import ROOT, loader_row

PNG = b"\x89PNG"


def made_rows():
    """Rows of every kind that is drawn."""
    rows = []
    for goal in GOALS:
        for size in SIZES:
            rows.append(loader_row("ffx", goal.kind, size, rate=400, ratio=(4, 3.5, 4.5)))
            rows.append(loader_row("ffcv", goal.kind, size, ratio=(1, 1, 1)))
    rows += [loader_row("torchvision", "jpg500", size, rate=70, ratio=(0.7, 0.6, 0.8)) for size in SIZES]
    about = {name: rows[0][name] for name in ("commit", "machine", "pictures", "time")}
    ratio = {"to": "OpenCV", "median": 2.0, "low": 1.5, "high": 2.5}
    rows += [{"benchmark": "decode", "decoder": name, "share": 0.3, "ratio": ratio, **about} for name in ("a", "b")]
    rows += [{"benchmark": "resize", "resizer": "a", "crop": [5, 6], "side": 4, "ratio": ratio, **about}]
    share = {"median": 0.9, "low": 0.8, "high": 1.0}
    for workers in (1, 2, 4):
        rows.append(
            {"benchmark": "scaling", "what": "alone", "kind": "k", "peer": "ffx", "workers": workers, "share": share}
            | about
        )
    for source in ("synthetic", "2", "4"):
        rows.append(
            {"benchmark": "feeding", "network": "resnet18", "size": 160, "source": source, "share": share} | about
        )
    return rows


def test_readme_agrees_with_the_rows():
    text = (ROOT / "README.md").read_text()
    table = report.readme_table(report.read_results(report.RESULTS))
    assert report.with_table(text, table) == text, "run: python -m benchmarks report --readme README.md"


def test_table_has_ffx_ffcv_and_goal_for_each_kind_and_size_and_all_peers():
    table = report.readme_table(made_rows())
    lines = table.splitlines()
    assert sum("**4.0** (3.5 to 4.5)" in line for line in lines) == 12
    assert "| raw, 400 px | 224 | 400 | 100 | **4.0** (3.5 to 4.5) | 8 |" in lines
    assert "| torchvision | 70 | 70 |" in lines
    assert "commit 012345678" in lines[-1] and "20 pictures" in lines[-1]


def test_table_without_rows_is_an_error():
    with pytest.raises(SystemExit, match="no rows"):
        report.readme_table([])


def test_table_goes_between_its_markers():
    text = f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n"
    assert report.with_table(text, "new\n") == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    with pytest.raises(SystemExit, match="benchmarks:begin"):
        report.with_table("no markers", "new\n")


def test_command_rewrites_the_file_and_draws_pictures(tmp_path):
    results, readme = tmp_path / "results", tmp_path / "README.md"
    results.mkdir()
    (results / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made_rows()))
    readme.write_text(f"{report.BEGIN}\n{report.END}\n")
    assert main(["report", "--results", str(results), "--readme", str(readme)]) == 0
    assert "**4.0**" in readme.read_text()
    drawn = {path.name for path in results.iterdir()} - {"all.jsonl"}
    names = ("loader", "peers", "decode", "resize", "scaling", "feeding")
    assert drawn == {f"{name}.{kind}" for name in names for kind in ("png", "svg")}
    for name in names:
        assert (results / f"{name}.png").read_bytes()[:4] == PNG
        assert "<svg" in (results / f"{name}.svg").read_text()


def test_nothing_is_drawn_without_rows(tmp_path):
    assert plots.draw_all([], tmp_path) == []
    assert list(Path(tmp_path).iterdir()) == []
