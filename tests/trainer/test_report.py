import json
import re
from pathlib import Path

import pytest
import report
from PIL import Image
from trainer.recipes import PUBLISHED

ROOT = Path(__file__).resolve().parents[2]
RN18_16 = "08508b1c-ae7f-4022-9090-06a520f998c8"


def make_run(folder, config="tiny", arch="resnet18", epochs=2, done=2, minutes=3.0, top_1=0.5, **params):
    folder.mkdir(parents=True)
    content = {"model.arch": arch, "training.epochs": epochs, "config": config, "setup": "1 x NVIDIA A100", **params}
    (folder / "params.json").write_text(json.dumps(content))
    lines = [
        {
            "epoch": epoch,
            "top_1": top_1 - 0.1 * (done - 1 - epoch),
            "top_5": 0.9,
            "relative_time": 60 * minutes * (epoch + 1) / done,
        }
        for epoch in range(done)
    ]
    (folder / "log").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def test_report_has_the_columns_of_the_source_and_a_line_for_each_run(tmp_path, capsys):
    make_run(tmp_path / "runs" / "one")
    make_run(tmp_path / "runs" / "two", config="wide", arch="wide_resnet50_2", top_1=0.7512)
    assert report.main([str(tmp_path / "runs")]) == 0
    printed = capsys.readouterr().out
    table = (tmp_path / "runs" / "report.md").read_text()
    assert printed.startswith(table)
    header, rule, *lines = table.splitlines()
    assert cells(header) == ["Link to Config", "top_1", "top_5", "# Epochs", "Time (mins)", "Architecture", "Setup"]
    assert [cell[-1] == ":" for cell in cells(rule)] == [False, True, True, True, True, False, False]
    assert cells(lines[0]) == ["[tiny](one/params.json)", "0.500", "0.900", "2", "3.0", "ResNet-18", "1 x NVIDIA A100"]
    assert cells(lines[1])[1:6] == ["0.751", "0.900", "2", "3.0", "Wide ResNet-50-2"]
    assert len({len(line) for line in table.splitlines()}) == 1


def test_report_json_lists_the_runs(tmp_path):
    make_run(tmp_path / "one", config=RN18_16, epochs=16, done=16, minutes=30)
    report.main([str(tmp_path / "one"), "--out", str(tmp_path / "out")])
    (row,) = json.loads((tmp_path / "out" / "report.json").read_text())
    expected = {
        "config": RN18_16,
        "top_1": 0.5,
        "top_5": 0.9,
        "epochs": 16,
        "minutes": 30.0,
        "architecture": "ResNet-18",
        "setup": "1 x NVIDIA A100",
        "run": str(tmp_path / "one"),
    }
    assert {name: row[name] for name in expected} == expected
    assert row["reported"] == {
        "top_1": 0.655,
        "top_5": 0.868,
        "epochs": 16,
        "minutes": 34.8,
        "setup": "1 x A100",
        "by": "FFCV",
    }


def test_published_result_stands_below_the_measured_one(tmp_path, capsys):
    for number in (1, 2):
        make_run(tmp_path / f"run{number}", config=RN18_16, epochs=16, done=16)
    make_run(tmp_path / "run3")
    report.main([str(tmp_path)])
    lines = [cells(line) for line in capsys.readouterr().out.splitlines()[2:6]]
    assert [RN18_16 in line[0] for line in lines] == [True, True, True, False]
    target = re.search(r"\((.*)\)", lines[2][0])[1]
    assert (tmp_path / target).resolve() == ROOT / "rn18_configs" / f"{RN18_16}.yaml"
    assert lines[2][1:] == ["0.655", "0.868", "16", "34.8", "ResNet-18", "1 x A100, reported by FFCV"]


def test_all_published_results_can_be_shown(tmp_path, capsys):
    make_run(tmp_path / "run", config=RN18_16, epochs=16, done=16)
    report.main([str(tmp_path), "--published"])
    table = capsys.readouterr().out
    assert table.count("reported by FFCV") == 12
    assert all(f"{row.top_1:.3f}" in table and row.uuid in table for row in PUBLISHED)
    assert len(json.loads((tmp_path / "report.json").read_text())) == 1


def test_unfinished_run_says_so(tmp_path, capsys):
    make_run(tmp_path / "run", epochs=16, done=5)
    report.main([str(tmp_path)])
    assert "| 5 of 16 |" in capsys.readouterr().out.replace("  ", " ")


def test_runs_without_results_are_left_out_with_a_reason(tmp_path, capsys):
    make_run(tmp_path / "good")
    (make_run(tmp_path / "begun") / "log").write_text("")
    (make_run(tmp_path / "broken") / "log").write_text("{")
    (make_run(tmp_path / "bare") / "log").unlink()
    assert report.main([str(tmp_path)]) == 0
    shown = capsys.readouterr()
    assert len(json.loads((tmp_path / "report.json").read_text())) == 1
    for name in ("begun", "broken", "bare"):
        assert f"{name} is left out" in shown.err


def test_no_run_at_all_is_an_error(tmp_path, capsys):
    assert report.main([str(tmp_path)]) == 1
    assert "no run with results" in capsys.readouterr().err


def test_later_evaluation_does_not_replace_the_training(tmp_path):
    run = make_run(tmp_path / "run")
    with open(run / "log", "a") as log:
        log.write(json.dumps({"top_1": 0.1, "top_5": 0.2, "relative_time": 9999}) + "\n")
    assert (report.read_run(run).top_1, report.read_run(run).minutes) == (0.5, 3.0)


def test_evaluation_alone_is_a_result(tmp_path):
    run = make_run(tmp_path / "run", done=0, **{"training.eval_only": True})
    (run / "log").write_text(json.dumps({"top_1": 0.1, "top_5": 0.2, "relative_time": 60}) + "\n")
    assert (report.read_run(run).top_1, report.read_run(run).finished) == (0.1, True)


@pytest.mark.parametrize("published", [[], ["--published"]])
def test_scatter_plot_is_drawn_twice(tmp_path, published):
    make_run(tmp_path / "run", arch="resnet50")
    report.main([str(tmp_path), *published])
    with Image.open(tmp_path / "accuracy_time.png") as picture:
        assert picture.width >= 1000
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 50
    drawing = (tmp_path / "accuracy_time.svg").read_text()
    assert "<svg" in drawing
    assert ("reported by FFCV" in drawing) == bool(published)


def test_way_of_each_run_is_drawn_when_it_has_several_epochs(tmp_path):
    make_run(tmp_path / "one" / "run", done=1, epochs=1)
    report.main([str(tmp_path / "one")])
    assert not (tmp_path / "one" / "accuracy_epochs.png").exists()
    make_run(tmp_path / "two" / "run", config="long", done=5, epochs=5)
    report.main([str(tmp_path / "two")])
    assert report.read_run(tmp_path / "two" / "run").history[-1] == (5, 0.5)
    assert "ResNet-18, long: 50.0% after 3.0 minutes" in (tmp_path / "two" / "accuracy_epochs.svg").read_text()
