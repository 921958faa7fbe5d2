"""The simulated pool as a program: real trainings in it are killed, and what they took is taken again."""

import json

import pytest

from benchmarks import pool
from benchmarks.__main__ import main

pytest.importorskip("htcondor2", reason="HTCondor's bindings read the logs: pip install htcondor")


@pytest.mark.slow
def test_pool_with_a_real_training(tmp_path, capsys):
    out = tmp_path / "pool.jsonl"
    arguments = ["pool", "--jobs", "10", "--real", "1", "--other-seeds", "2", "--out", str(out)]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert "the weights of an undisturbed training" in said.err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["way"] for row in rows] == ["archive", "archive, checkpoints", "ranges", "ranges, checkpoints"]
    assert all(row["account"]["jobs"] == 10 for row in rows)
    # Another time with the same times, and without a training.
    again = [*arguments, "--times", str(out), "--logs", str(tmp_path)]
    assert main(again) == 0
    later = [json.loads(line) for line in out.read_text().splitlines()[4:]]
    assert [row["account"] for row in later] == [row["account"] for row in rows]
    assert sorted(path.name for path in tmp_path.glob("*.log")) == [
        "archive-checkpoints.log",
        "archive.log",
        "ranges-checkpoints.log",
        "ranges.log",
    ]


@pytest.mark.parametrize("arguments", [["--jobs", "0"], ["--real", "-1"], ["--other-seeds", "-1"]])
def test_numbers_that_mean_nothing_are_errors(arguments):
    with pytest.raises(SystemExit, match="expected at least one job"):
        main(["pool", *arguments])


def test_more_real_trainings_than_jobs_that_end_well_are_an_error():
    with pytest.raises(SystemExit, match="--real 9: expected at most the 8 jobs that end well"):
        main(["pool", "--jobs", "10", "--real", "9"])


def test_real_training_that_was_not_killed_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "run_job", lambda *given: pool.RealJob(tmp_path, 0, (0,), (1.0,), ()))
    with pytest.raises(SystemExit, match="was done before it was killed"):
        main(["pool", "--jobs", "10", "--real", "1"])


def test_times_of_no_run_are_an_error(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"benchmark": "loader"}\n')
    with pytest.raises(SystemExit, match="expected rows of `pool`, found none"):
        main(["pool", "--times", str(tmp_path / "rows.jsonl")])
