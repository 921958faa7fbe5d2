"""Processes that the trainer starts live and end together; so do those of the whole programs."""

import contextlib
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from trainer.checkpoint import load_checkpoint
from trainer.errors import DataError, Interrupted, TrainingError
from trainer.processes import run_processes
from trainer.signals import StopRequest

from tests.trainer.tasks import fail, start_one_that_waits, stop_when_asked, stop_with_a_full_disk, succeed

pytestmark = pytest.mark.starts_anew

PROGRAMS = Path(__file__).resolve().parents[2] / "examples" / "imagenet"


def test_all_processes_run_to_their_end(tmp_path):
    run_processes(succeed, 2, (tmp_path,), StopRequest())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]


@pytest.mark.parametrize(
    "kind, error, text",
    [
        ("said", DataError, "the data are wrong"),
        ("killed", TrainingError, "rank 1 was killed by signal 9"),
        ("left", TrainingError, "rank 1 ended with status 7"),
    ],
)
def test_one_that_fails_ends_the_others_and_is_the_reason(kind, error, text):
    with pytest.raises(error, match=text):
        run_processes(fail, 2, (kind,), StopRequest())


@contextlib.contextmanager
def asked_when_both_wait(folder, number):
    """A stop request that a thread makes when two processes have left a file."""
    stop = StopRequest()

    def ask():
        while len(list(folder.iterdir())) < 2:
            time.sleep(0.02)
        stop.receive(number)

    asking = threading.Thread(target=ask)
    asking.start()
    yield stop
    asking.join()


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 85), (signal.SIGINT, 130)])
def test_signal_is_passed_on_and_its_status_comes_back(tmp_path, number, status):
    expected = pytest.raises(Interrupted, match="stopped and saved")
    with asked_when_both_wait(tmp_path, number) as stop, expected as caught:
        run_processes(stop_when_asked, 2, (tmp_path,), stop)
    assert caught.value.status == status


def test_failure_after_a_signal_is_no_stop_with_a_checkpoint(tmp_path):
    expected = pytest.raises(TrainingError, match="No space left on device")
    with asked_when_both_wait(tmp_path, signal.SIGTERM) as stop, expected:
        run_processes(stop_with_a_full_disk, 2, (tmp_path,), stop)


def test_death_of_the_parent_ends_its_processes(tmp_path):
    parent = multiprocessing.get_context("spawn").Process(target=start_one_that_waits, args=(tmp_path,))
    parent.start()
    while not list(tmp_path.iterdir()):
        time.sleep(0.02)
    (child,) = children_of(parent.pid)
    parent.kill()
    parent.join()
    deadline = time.monotonic() + 30
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def children_of(parent):
    with open(f"/proc/{parent}/task/{parent}/children") as file:
        found = file.read().split()
    # Python's tracker of shared memory is one of them, too.
    return [int(child) for child in found if "spawn_main" in command_of(child)]


def command_of(process):
    with open(f"/proc/{process}/cmdline") as file:
        return file.read()


def is_running(process):
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


# The whole programs, which take tens of seconds to start


def started(config, *launcher):
    """The program with a training of many epochs by two ranks."""
    options = {**config.as_params(), "training.epochs": 2000, "training.batch_size": 2, "training.resume": "auto"}
    if not launcher:
        options |= {"training.distributed": 1, "dist.world_size": 2, "dist.port": 0}
    arguments = [f"--{name}={int(value) if isinstance(value, bool) else value}" for name, value in options.items()]
    program = [*launcher, "train_imagenet.py", *[one for one in arguments if not one.endswith("=")]]
    return subprocess.Popen(
        [sys.executable, *program], cwd=PROGRAMS, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def wait_for_epoch(folder, epoch):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for log in folder.glob("*/log"):
            if any(json.loads(line)["epoch"] >= epoch for line in log.read_text().splitlines(keepends=True)[:-1]):
                return
        time.sleep(0.1)
    raise AssertionError("the training did not get there")


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher", [(), ("torchrun_requeue.py", "--standalone", "--nproc-per-node=2")], ids=["own processes", "torchrun"]
)
def test_signal_to_the_program_stops_all_ranks_and_the_same_command_goes_on(launcher, tmp_path, make_tiny):
    reached = 0
    for number, status in ((signal.SIGTERM, 85), (signal.SIGUSR1, 85), (signal.SIGINT, 130)):
        program = started(make_tiny(tmp_path), *launcher)
        wait_for_epoch(tmp_path, reached + 1)
        program.send_signal(number)
        said = program.communicate(timeout=30)[1]
        assert program.returncode == status
        assert ": stopped in epoch" in said
        (run,) = tmp_path.iterdir()
        before, reached = reached, load_checkpoint(run / "checkpoint.pt").epoch
        assert reached > before
    epochs = [json.loads(line)["epoch"] for line in (run / "log").read_text().splitlines()]
    assert epochs == list(range(reached))


@pytest.mark.slow
def test_death_of_a_rank_ends_the_program_with_an_error(tmp_path, make_tiny):
    program = started(make_tiny(tmp_path))
    wait_for_epoch(tmp_path, 1)
    os.kill(children_of(program.pid)[-1], signal.SIGKILL)
    said = program.communicate(timeout=60)[1]
    assert program.returncode == 1
    assert "was killed by signal 9, and the others were ended" in said


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [2, 4, 8])
def test_signal_while_the_program_starts_ends_it_with_its_status(seconds, tmp_path, make_tiny):
    program = started(make_tiny(tmp_path))
    time.sleep(seconds)
    program.send_signal(signal.SIGTERM)
    program.communicate(timeout=30)
    assert program.returncode == 85
