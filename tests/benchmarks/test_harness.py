"""The harness: statistics, turns, processes and what they are given, CPU time of descendants."""

import subprocess
import sys

import numpy as np
import pytest

from benchmarks import harness, rows, worker
from benchmarks.harness import Contender
from tests.benchmarks.helpers import HERE


def contender(name, function, /, **arguments):
    return Contender(name, f"{HERE}:{function}", arguments)


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
    assert child.pid in worker.descendants(worker.os.getpid())
    child.communicate(b"\n")
    after = worker.cpu_seconds() - before
    assert while_living >= 0.4
    assert after >= 0.4
    assert child.pid not in worker.descendants(worker.os.getpid())


def test_epoch_counts_images_and_its_slower_clock_counts():
    batches = [(np.zeros((4, 2, 2, 3)), np.zeros(4))] * 3
    epoch = worker.run_epoch(batches)
    assert epoch["images"] == 12
    assert 0 <= epoch["first"] <= epoch["wall"]
    assert harness.images_a_second({"images": 10, "wall": 2.0, "cpu": 1.0}) == 5
    assert harness.images_a_second({"images": 10, "wall": 1.0, "cpu": 2.0}) == 5


def test_timed_work_says_what_it_took():
    found = worker.timed(lambda: sum(1 for _ in range(1000)))
    assert found["images"] == 1000
    assert found["wall"] > 0 and found["cpu"] >= 0


def test_ratios_are_formed_by_round():
    rounds = {
        "fast": [{"images": 100, "wall": wall, "cpu": 0} for wall in (1, 2, 4)],
        "slow": [{"images": 100, "wall": wall, "cpu": 0} for wall in (2, 4, 8)],
    }
    figures = {"images_a_second": harness.images_a_second, "wall": lambda round_: round_["wall"]}
    summary = harness.summarise(rounds, figures, "slow")
    assert summary["fast"]["ratio"] == {"to": "slow", "median": 2.0, "low": 2.0, "high": 2.0}
    assert summary["fast"]["images_a_second"]["median"] == 50
    assert summary["slow"]["wall"] == {"median": 4.0, "low": 2.0, "high": 8.0}
    assert "ratio" not in harness.summarise(rounds, figures, "absent")["fast"]


def test_contenders_take_turns_forwards_and_backwards_after_the_warm_up(tmp_path):
    log = str(tmp_path / "turns")
    contenders = [contender(name, "open_counting", log=log, name=name) for name in "ab"]
    found = harness.measure(contenders, warm_up=1, rounds=3)
    turns = [line.split() for line in (tmp_path / "turns").read_text().splitlines()]
    assert "".join(name for name, _ in turns) == "ba" + "ab" + "ba" + "ab"
    assert {name: len(own) for name, own in found.items()} == {"a": 3, "b": 3}
    assert len({process for _, process in turns}) == 2


def test_fresh_contenders_get_a_process_for_each_round(tmp_path):
    log = str(tmp_path / "turns")
    fresh = Contender("a", f"{HERE}:open_counting", {"log": log, "name": "a"}, fresh=True)
    harness.measure([fresh], warm_up=1, rounds=2)
    assert len({line.split()[1] for line in (tmp_path / "turns").read_text().splitlines()}) == 3


def test_contender_gets_its_cores_its_environment_and_empty_folders():
    core = harness.usable_cores()[-1]
    names = ["MADE_UP", "MADE_UP_FOLDER", "OMP_NUM_THREADS"]
    given = Contender(
        "a",
        f"{HERE}:open_environment",
        {"names": names},
        cores=(core,),
        environment={"MADE_UP": "yes"},
        empty_folders=("MADE_UP_FOLDER",),
        fresh=True,
    )
    one, other = harness.measure([given], 0, 2)["a"]
    assert one["cores"] == [core]
    assert one["values"]["MADE_UP"] == "yes" and one["values"]["OMP_NUM_THREADS"] == "1"
    assert one["inside"]["MADE_UP_FOLDER"] == []
    assert one["values"]["MADE_UP_FOLDER"] != other["values"]["MADE_UP_FOLDER"]


def test_contender_that_fails_is_named():
    with pytest.raises(SystemExit, match="broken ended with status 1"):
        harness.measure([contender("broken", "open_failing")], 0, 1)


def test_rows_come_back_as_they_were_written(tmp_path):
    path = tmp_path / "new" / "rows.jsonl"
    assert rows.read_rows(path) == []
    rows.append_row(path, {"b": 1, "a": [2]})
    rows.append_row(path, {"a": 3})
    assert rows.read_rows(path) == [{"a": [2], "b": 1}, {"a": 3}]


def test_commit_of_a_copy_without_history_comes_from_the_environment(monkeypatch, tmp_path):
    monkeypatch.setattr(rows, "ROOT", tmp_path)
    monkeypatch.setenv("BENCHMARKS_COMMIT", "abc")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert rows.describe_commit() == {"commit": "abc", "changed": None}


@pytest.mark.parametrize("name", __import__("benchmarks.__main__", fromlist=["COMMANDS"]).COMMANDS)
def test_every_command_explains_itself(name, capsys):
    from benchmarks.__main__ import main

    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert f"python -m benchmarks {name}" in capsys.readouterr().out
