"""Trainings in processes of their own to which something happens at a certain step; what they did is written down."""

import os
import signal
import sys
import time
from pathlib import Path

PROGRAMS = str(Path(__file__).resolve().parents[2] / "examples" / "imagenet")
# Before the repository's root, which has a launcher of the same name.
sys.path[:] = [PROGRAMS, *(folder for folder in sys.path if folder != PROGRAMS)]

import torch  # noqa: E402
import torchvision.models  # noqa: E402, F401
import trainer.launch  # noqa: E402, F401
from trainer.signals import REPEAT_SECONDS  # noqa: E402

import train_imagenet  # noqa: E402
from tests.trainer.quick_start import start  # noqa: E402

STATUS_LIMIT_SECONDS = 60


def statuses_of(processes):
    """Exit statuses (negative: a signal) of processes, which have to end by themselves."""
    deadline = time.monotonic() + STATUS_LIMIT_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    left = [process for process in processes if process.is_alive()]
    for process in left:
        process.kill()
        process.join()
    assert not left, "processes did not end by themselves"
    return [process.exitcode for process in processes]


def train(config, world=1, events=(), records=None, vote_seconds=0.0, grace_seconds=None):
    """Train with so many ranks, as a launcher would start them; returns their exit statuses.

    Args:
        config: a `TrainerConfig`.
        world: number of ranks.
        events: `(rank, step, what)`: before a rank's step of that number, counted in its process, it sends itself a
            signal, or several (a tuple), or one to its workers as well (`"TERM to all"`), or never comes back after one
            (`"stuck"`, `"stuck until the second signal"`); as step -1, before the first validation batch; -2, before
            data are opened.
        records: folder in which each rank writes its steps down.
        vote_seconds: see `agreement.VOTE_SECONDS`; 0: the ranks compare what they know after each step.
        grace_seconds: see `signals.GRACE_SECONDS`.
    """
    port = _free_port()
    arguments = [f"--{name}={int(value) if isinstance(value, bool) else value}" for name, value in _given(config)]
    processes = [
        start(_rank, arguments, rank, world, port, list(events), str(records or ""), vote_seconds, grace_seconds)
        for rank in range(world)
    ]
    return statuses_of(processes)


def _given(config):
    return [(name, value) for name, value in config.as_params().items() if value != ""]


def _free_port():
    from trainer.distributed import free_port

    return free_port()


def _rank(arguments, rank, world, port, events, records, vote_seconds, grace_seconds):
    torch.set_num_threads(1)
    os.setpgrp()
    if world > 1:
        os.environ |= {
            "RANK": str(rank),
            "WORLD_SIZE": str(world),
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(port),
        }
    from trainer import agreement, signals

    agreement.VOTE_SECONDS = vote_seconds
    if grace_seconds is not None:
        signals.GRACE_SECONDS = grace_seconds
    if records:
        # What the process says.
        handle = os.open(f"{records}/said.{rank}.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
    _prepare({step: what for number, step, what in events if number == rank}, rank, records)
    raise SystemExit(train_imagenet.main(arguments))


def _prepare(events, rank, records):
    from trainer import loop, progress
    from trainer.learner import Learner

    done = {"steps": 0}
    step, outputs, add, open_training = Learner.step, Learner.outputs, progress.EpochRun.add, loop.open_training

    def stepping(self, images, labels, rate):
        _happen(events.get(done["steps"]))
        done["steps"] += 1
        self.seen = [float(total).hex() for total in images.double().sum((1, 2, 3))]
        return step(self, images, labels, rate)

    def evaluating(self, images, *arguments, **options):
        _happen(events.pop(-1, None))
        return outputs(self, images, *arguments, **options)

    def adding(self, loss):
        add(self, loss)
        if records:
            with open(f"{records}/steps.{rank}.txt", "a") as file:
                place = self._start.steps + self.steps - 1
                file.write(f"{self._start.epoch} {place} {float(loss).hex()}\n")

    def opening(*arguments):
        _happen(events.pop(-2, None))
        return open_training(*arguments)

    Learner.step, Learner.outputs, progress.EpochRun.add, loop.open_training = stepping, evaluating, adding, opening


def _happen(what):
    if what is None:
        return
    if what == "TERM to all":
        os.killpg(0, signal.SIGTERM)
        time.sleep(0.2)
        return
    if what == "stuck":
        os.kill(os.getpid(), signal.SIGTERM)
        _wait_for_ever()
    if what == "stuck until the second signal":
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(REPEAT_SECONDS + 0.2)
        os.kill(os.getpid(), signal.SIGTERM)
        _wait_for_ever()
    for number in what if isinstance(what, tuple) else (what,):
        os.kill(os.getpid(), number)
        # Noticed by the thread that listens.
        time.sleep(0.05)


def _wait_for_ever():
    while True:
        time.sleep(1)
