"""`on_gpu.sh` with a made interpreter: which steps it runs, what it remembers, what it says is missing."""

import os
import subprocess
from pathlib import Path

import pytest

from benchmarks.__main__ import COMMANDS
from tests.benchmarks.helpers import ROOT

SCRIPT = ROOT / "benchmarks" / "on_gpu.sh"
# Notes its arguments; `python -c` is the script's own question, which $GPU answers. $FAIL names a benchmark or pytest,
# $SLEEP how long each takes.
INTERPRETER = """#!/bin/sh
if [ "$1" = -c ]; then
    case $2 in *cuda*) echo "$GPU" ;; esac
    exit 0
fi
echo "$*" >> "$LOG"
echo "this is the output of $*"
sleep "${SLEEP:-0}"
case "$*" in *"$FAIL"*) exit "${STATUS:-1}" ;; esac
for word; do [ "$out" = next ] && { echo '{}' >> "$word"; out=; }; [ "$word" = --out ] && out=next; done
exit 0
"""


class Machine:
    """A place where the script runs."""

    def __init__(self, folder: Path, images: Path) -> None:
        self.log, self.state, self.out = folder / "log", folder / "state", folder / "out"
        python = folder / "python"
        python.write_text(INTERPRETER)
        python.chmod(0o755)
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in ("OUT", "IMAGES")},
            "PYTHON": str(python),
            "STATE": str(self.state),
            "LOG": str(self.log),
            "IMAGES": str(images),
            "FAIL": "nothing fails",
        }

    def run(self, *arguments, **environment):
        return subprocess.run(
            [SCRIPT, *arguments], env={**self.environment, **environment}, capture_output=True, text=True, timeout=60
        )

    def calls(self):
        """What was run so far, by the module's name."""
        return [line.split()[1:3] for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def listed(self):
        return self.run("--list").stdout.splitlines()


@pytest.fixture
def machine(tmp_path, picture_folder):
    return Machine(tmp_path, picture_folder / "val")


def test_steps_are_listed_and_begin_with_the_tests(machine):
    names = machine.listed()
    assert names[0] == "tests"
    assert {"scaling", "feeding-resnet18-160", "feeding-resnet50-224", "timetable-resnet50", "loader-1"} <= set(names)
    assert len(names) == len(set(names))


def test_all_steps_run_once_and_are_remembered(machine):
    done = machine.run(LIMIT_SECONDS="100000", OUT=str(machine.out))
    assert done.returncode == 0, done.stdout + done.stderr
    names = machine.listed()
    assert all(name.endswith("(done)") for name in names)
    assert len(machine.calls()) == len(names)
    assert machine.run(LIMIT_SECONDS="100000").returncode == 0
    assert len(machine.calls()) == len(names)
    assert {"scaling.jsonl", "feeding.jsonl", "timetable.jsonl", "device_crop.jsonl", "trace", "loader.jsonl"} == {
        path.name for path in (machine.out / "results").iterdir()
    }
    assert "this is the output of" in (machine.out / "output" / "scaling.txt").read_text()


def test_every_step_is_a_command_that_exists_with_options_that_it_knows(machine):
    from benchmarks.__main__ import main

    machine.run(LIMIT_SECONDS="100000")
    for line in machine.log.read_text().splitlines():
        words = line.split()
        assert words[0] == "-m"
        if words[1] == "pytest":
            continue
        assert words[1] == "benchmarks" and words[2] in COMMANDS
        # The parser refuses what it does not know before it comes to this.
        with pytest.raises(SystemExit) as ended:
            main([*words[2:], "--help"])
        assert ended.value.code == 0


def test_a_call_ends_in_time_and_the_next_one_goes_on(machine):
    seen = []
    for _ in range(30):
        done = machine.run(LIMIT_SECONDS="350")
        seen.append(len(machine.calls()))
        if done.returncode == 0:
            break
        assert done.returncode == 3
        assert "call again" in done.stdout
    assert done.returncode == 0
    assert seen[0] < len(machine.listed())
    assert seen == sorted(set(seen)) and seen[-1] == len(machine.listed())


def test_a_step_that_takes_too_long_is_ended_and_not_remembered(machine):
    done = machine.run("scaling", LIMIT_SECONDS="1", SLEEP="20")
    assert done.returncode == 1
    assert "scaling: ended after 1 seconds" in done.stdout
    assert "scaling" in machine.listed()


def test_named_steps_run_again(machine):
    for _ in range(2):
        assert machine.run("tests", "scaling").returncode == 0
    assert machine.calls() == [["pytest", "-m"], ["benchmarks", "scaling"]] * 2
    assert [name for name in machine.listed() if name.endswith("(done)")] == ["tests (done)", "scaling (done)"]
    assert machine.run("--forget").returncode == 0
    assert not [name for name in machine.listed() if name.endswith("(done)")]


def test_a_failed_step_is_named_and_the_others_go_on(machine):
    done = machine.run(LIMIT_SECONDS="100000", FAIL="benchmarks scaling")
    assert done.returncode == 1
    assert "scaling: failed with status 1" in done.stdout
    left = [name for name in machine.listed() if not name.endswith("(done)")]
    assert left == ["scaling"]


def test_a_step_that_skips_itself_is_not_done(machine):
    done = machine.run("timetable-resnet18", FAIL="timetable", STATUS="77")
    assert done.returncode == 4
    assert "left out" in done.stdout
    assert "timetable-resnet18" in machine.listed()


def test_without_a_gpu_only_what_needs_none_runs(machine):
    done = machine.run(GPU="torch sees no CUDA device", LIMIT_SECONDS="100000")
    assert done.returncode == 4
    assert machine.calls() == [["benchmarks", "scaling"]]
    assert "feeding-resnet18-160: left out: torch sees no CUDA device" in done.stdout


def test_missing_pictures_are_said(machine, tmp_path):
    done = machine.run(IMAGES="", LIMIT_SECONDS="100000")
    assert done.returncode == 4
    assert machine.calls() == [["pytest", "-m"]]
    assert "IMAGES names no folder" in done.stdout
    assert "is no folder" in machine.run("scaling", IMAGES=str(tmp_path / "absent")).stdout


def test_missing_interpreter_unknown_step_and_option_are_refused(machine):
    assert machine.run(PYTHON="no-such-python").returncode == 4
    done = machine.run("made-up")
    assert done.returncode == 2 and "no step made-up" in done.stderr
    assert machine.run("--made-up").returncode == 2
    assert "IMAGES=FOLDER" in machine.run("--help").stdout
