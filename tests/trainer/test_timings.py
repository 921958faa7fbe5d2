"""Times of loading, copying and computing, and the profiler's trace."""

import json
import time

import pytest
import torch
from trainer.loop import Trainer
from trainer.progress import EpochProgress
from trainer.step_clock import StepClock, StepTimes

from ffx.errors import FfxWarning


@pytest.fixture
def clock_hands(monkeypatch):
    """A list with the time, which stands still unless it is set."""
    hands = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: hands[0])
    return hands


def source_of(clock, hands, steps):
    for number in range(steps):
        hands[0] += 1
        with clock.copying():
            hands[0] += 10
        hands[0] += 100
        yield number


def test_times_are_those_of_load_copy_and_compute(clock_hands):
    clock = StepClock()
    for step in clock.batches(source_of(clock, clock_hands, 3)):
        clock_hands[0] += 1000
        # In the middle of a step, as a checkpoint sees it.
        assert clock.times == StepTimes(101.0 * (step + 1), 10.0 * (step + 1), 1000.0 * (step + 1))
    assert clock.times == StepTimes(303.0, 30.0, 3000.0)
    clock.restart()
    assert clock.times == StepTimes()


def test_abandoned_step_is_not_counted_for_ever(clock_hands):
    clock = StepClock()
    batches = clock.batches(source_of(clock, clock_hands, 3))
    next(batches)
    batches.close()
    clock_hands[0] += 1000
    assert clock.times.compute == 0


def test_times_wait_for_a_gpu_only_when_asked(monkeypatch, clock_hands, tiny, capsys):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    for device, synchronised in (("cuda", True), ("cuda", False), ("cpu", True)):
        clock = StepClock(torch.device(device), synchronised)
        list(clock.batches(source_of(clock, clock_hands, 1)))
        assert bool(waited) == (device == "cuda" and synchronised)
        waited.clear()
    monkeypatch.undo()
    for timings in (0, 1):
        with Trainer(tiny(**{"training.epochs": 1, "logging.timings": timings})) as trainer:
            trainer.train()
        assert ("copy 0.0" in capsys.readouterr().out) == bool(timings)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_times_of_an_epoch_stand_in_its_line(kind, tiny, picture_folder):
    places = {f"data.{name}_dataset": str(picture_folder / name) for name in ("train", "val")}
    with Trainer(tiny(**(places if kind == "folder" else {}), **{"data.num_workers": 0})) as trainer:
        trainer.train()
    lines = [json.loads(text) for text in (trainer.run_folder / "log").read_text().splitlines()]
    assert len(lines) == 2
    for line in lines:
        times = [line["load_time"], line["copy_time"], line["compute_time"]]
        assert times[0] > 0 and times[2] > 0
        assert (times[1] > 0) == (kind == "folder")
        assert sum(times) <= line["train_time"]


def test_times_of_a_broken_epoch_are_added(tiny):
    with Trainer(tiny(**{"training.max_steps": 2})) as trainer:
        begun = EpochProgress(0, load_seconds=100.0, copy_seconds=200.0, compute_seconds=300.0)
        times = trainer._train_epoch(begun).times
        assert 100 < times.load < 200 <= times.copy < 300 < times.compute
        again = EpochProgress.from_dict(json.loads(json.dumps(trainer._progress.as_dict())))
        assert (again.load_seconds, again.compute_seconds) == (times.load, times.compute)


@pytest.mark.parametrize("steps, traced_steps", [(5, 3), (2, 1), (1, 1)])
def test_profile_is_a_chrome_trace_of_some_steps(steps, traced_steps, tiny, tmp_path, capsys):
    path = tmp_path / "deep" / "trace.json"
    with Trainer(tiny(**{"training.max_steps": steps, "logging.profile": str(path)})) as trainer:
        trainer.train()
    assert f"trace of {traced_steps} step{'s' * (traced_steps > 1)}: {path}" in capsys.readouterr().out
    names = [event.get("name", "") for event in json.loads(path.read_text())["traceEvents"]]
    # One backward pass, and so on, a step.
    assert sum(name.startswith("Optimizer.step") for name in names) == traced_steps
    assert any("convolution" in name for name in names)
    assert "load" in names or steps == 1


def test_trace_that_cannot_be_written_is_warned_of(tiny, tmp_path):
    (tmp_path / "file").write_text("")
    config = tiny(**{"logging.profile": str(tmp_path / "file" / "trace.json"), "training.epochs": 1})
    with pytest.warns(FfxWarning, match="logging.profile: the trace cannot be written to"), Trainer(config) as trainer:
        trainer.train()
    assert (trainer.run_folder / "final_weights.pt").exists()
