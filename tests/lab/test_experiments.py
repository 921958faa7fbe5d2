"""C1 to C8: real trainings of two steps, and comparisons of made ones."""

import json
import re
from pathlib import Path

import codes
import lab2
import pytest
from lab import experiments as module
from lab import tables
from lab.experiments import CODES, Experiments
from lab.options import OPTIMIZERS, LabOptions
from lab.runs import Epoch, Run
from lab.tables import Table, epochs_table
from trainer.errors import TrainingError


def rows_of(text):
    """The cells of a table's rows."""
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.long("codes of the lab")
def test_all_codes_run_on_a_processor(tiny, capsys):
    assert codes.main([*tiny, "--max-num-of-workers-for-code-3=4", "--out=results"]) == 0
    shown = capsys.readouterr().out
    tables_found = {name: Path("results", f"{name}.md").read_text() for name in CODES}
    assert all(text in shown for text in tables_found.values())
    assert [[row[0] for row in rows_of(tables_found[name])] for name in CODES] == [
        ["1"],
        ["1", "all"],
        ["0", "4"],
        ["1", "4"],
        ["cpu"],
        list(OPTIMIZERS),
        ["with", "without"],
        ["1", "all"],
    ]
    assert re.search(r"Fastest: [04] workers", tables_found["C3"])
    assert "Speed-up of an epoch with 4 workers" in tables_found["C4"]
    pictures = sorted(path.name for path in Path("results").glob("*.png"))
    assert pictures == ["C2.png", "C3.png", "C4.png", "C5.png", "C6.png", "C7.png"]
    names = [event.get("name", "") for event in json.loads(Path("trace.json").read_text())["traceEvents"]]
    assert any("convolution" in name for name in names)
    assert "Optimizer.step#SGD.step" in names


def test_trainings_times_add_up(tiny, capsys):
    assert lab2.main([*tiny, "--epochs=2"]) == 0
    rows = [list(map(float, row[1:5])) for row in rows_of(capsys.readouterr().out)]
    assert len(rows) == 3
    for load, copy, compute, total in rows:
        assert 0 < load + copy + compute <= total + 0.002
    assert rows[2] == pytest.approx([one + other for one, other in zip(*rows[:2])], abs=0.0021)


@pytest.mark.parametrize("shown", ["true", "false"])
def test_epochs_are_shown_where_that_is_wanted(shown, tiny, capsys):
    assert lab2.main([*tiny, f"--print-epochs={shown}"]) == 0
    text = capsys.readouterr().out
    assert ("epoch 1/1" in text) == (shown == "true")
    assert [row[0] for row in rows_of(text)] == (["1", "all"] if shown == "true" else ["all"])


def test_profiler_writes_the_trace_that_is_named(tiny, capsys):
    assert lab2.main([*tiny, "--run-profiler=true", "--trace-file-name=steps"]) == 0
    assert json.loads(Path("steps.json").read_text())["traceEvents"]
    assert "steps.json" in capsys.readouterr().out


def test_wrong_flags_and_failed_trainings_have_a_status(tiny, capsys):
    assert lab2.main([*tiny, "--epochs=none"]) == 2
    assert codes.main([*tiny, "C9"]) == 2
    assert lab2.main([*tiny, "--batch-size=64"]) == 1
    errors = capsys.readouterr().err.splitlines()
    assert "expected a whole number of at least 1, found 'none'" in errors[0]
    assert "unknown code C9: expected C1, C2" in errors[1]
    assert "8 images make no batch of 64" in errors[2]


# Comparisons, of trainings that are made up


def made_run(total=4.0, loss=1.0):
    return Run(Path(), (Epoch(1, 0.5, 0.25, total - 1, total, 3, loss, 0.5, 10.0),))


@pytest.fixture
def trainings(monkeypatch):
    """The options of all trainings that were asked for; `answers` maps them to runs."""
    asked = []

    def train(options, stop):
        asked.append(options)
        return trainings.answer(options)

    trainings = type("Trainings", (), {"asked": asked, "answer": staticmethod(lambda options: made_run())})
    monkeypatch.setattr(module, "train", train)
    return trainings


def test_c3_tries_workers_in_steps_of_four_and_c4_takes_the_best(trainings):
    trainings.answer = lambda options: made_run(total={0: 9.0, 1: 8.0, 4: 5.0, 8: 4.0, 12: 6.0}[options.num_of_workers])
    session = Experiments(LabOptions(device="cpu", max_num_of_workers_for_code_3=12))
    assert [row[0] for row in session.workers().rows] == ["0", "4", "8", "12"]
    assert session.best_workers == 8
    table = session.one_against_best()
    assert [row[0] for row in table.rows] == ["1", "8"]
    assert table.remarks[0] == "Speed-up of an epoch with 8 workers: 2.00"


@pytest.mark.parametrize("most, counts", [(0, [0]), (3, [0]), (8, [0, 4, 8]), (11, [0, 4, 8])])
def test_c3_stays_below_the_most_workers(most, counts, trainings):
    Experiments(LabOptions(device="cpu", max_num_of_workers_for_code_3=most)).workers()
    assert [options.num_of_workers for options in trainings.asked] == counts


def test_c4_alone_compares_one_with_four(trainings):
    Experiments(LabOptions(device="cpu")).one_against_best()
    assert [options.num_of_workers for options in trainings.asked] == [1, 4]


def test_c2_uses_the_training_of_c1(trainings):
    session = Experiments(LabOptions(device="cpu"))
    session.training()
    session.times()
    assert len(trainings.asked) == 1


@pytest.mark.parametrize("gpu", [False, True])
def test_c5_compares_with_a_gpu_where_there_is_one(gpu, trainings, monkeypatch):
    from lab import configuration

    monkeypatch.setattr(module, "has_gpu", lambda: gpu)
    monkeypatch.setattr(configuration, "has_gpu", lambda: gpu)
    trainings.answer = lambda options: made_run(total={"cuda": 2.0, "cpu": 9.0}[options.device])
    table = Experiments(LabOptions()).devices()
    assert [row[0] for row in table.rows] == (["cuda", "cpu"] if gpu else ["cpu"])
    assert table.remarks[0] == (
        "Speed-up of an epoch by the GPU: 4.50"
        if gpu
        else "There is no GPU on this machine. With one, the same 5 epochs would be trained on it with --device=cuda, "
        "and stand here as another row."
    )


def test_c6_goes_on_behind_an_optimizer_that_diverges(trainings):
    def answer(options):
        if options.optimizer == "adagrad":
            raise TrainingError("epoch 0: the mean loss is nan")
        return made_run()

    trainings.answer = answer
    table = Experiments(LabOptions(device="cpu")).optimizers()
    assert [row[0] for row in table.rows] == list(OPTIMIZERS)
    assert table.rows[2][5] == "no number"
    assert "adagrad: epoch 0: the mean loss is nan" in table.remarks


def test_c7_trains_with_batch_norms_and_without(trainings):
    Experiments(LabOptions(device="cpu")).no_batch_norm()
    assert [options.no_batch_norm for options in trainings.asked] == [False, True]


def test_table_is_markdown_of_even_columns():
    table = Table("title", ("a", "long name"), [("12345", "1")], ["a remark"])
    assert str(table) == "## title\n\n|     a | long name |\n|------:|----------:|\n| 12345 |         1 |\n\na remark\n"
    epochs = (Epoch(1, 1, 2, 3, 6.5, 2, 0.5, 0.25, 9), Epoch(2, 1, 2, 3, 7, 2, 0.25, 0.5, 9))
    assert epochs_table("t", Run(Path(), epochs)).rows == [
        ["1", "1.000", "2.000", "3.000", "6.500", "0.500", "25.00%"],
        ["2", "1.000", "2.000", "3.000", "7.000", "0.250", "50.00%"],
        ["all", "2.000", "4.000", "6.000", "13.500", "", ""],
    ]


def test_tables_need_no_matplotlib(trainings, tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "new_axes", lambda *_: None)
    table = Experiments(LabOptions(device="cpu"), tmp_path).no_batch_norm()
    assert not any("Picture" in remark for remark in table.remarks)
    assert not list(tmp_path.iterdir())
