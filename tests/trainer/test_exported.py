"""What the trainer does for programs in the manner of PyTorch's ImageNet example: lines, checkpoints, first epoch."""

import json
import re
import shutil

import pytest
import torch
from trainer.errors import ConfigurationError
from trainer.exported import export_checkpoint
from trainer.launch import launch
from trainer.loop import Trainer
from trainer.step_clock import StepClock
from trainer.step_lines import StepLines

LINE = (
    r"Epoch: \[(\d+)\]\[ *(\d+)/(\d+)\]\tTime +[\d.]+ \( *[\d.]+\)\tData +[\d.]+ \( *[\d.]+\)\t"
    r"Loss (\S+) \((\S+)\)\tAcc@1 +([\d.]+) \( *([\d.]+)\)\tAcc@5 +([\d.]+) \( *([\d.]+)\)"
)


def log_of(folder):
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def test_lines_of_steps_are_those_of_their_batches():
    shown = []
    lines = StepLines(2, 7, 12, StepClock(), shown.append)
    outputs, labels = torch.eye(8), torch.arange(8)
    lines.add(0, torch.tensor(2.0), outputs, labels)
    # Half of the labels are the second best guess.
    lines.add(1, torch.tensor(4.0), outputs, labels.roll(4))
    halves = torch.where(torch.arange(8) < 4, labels, labels.roll(1))
    lines.add(2, torch.tensor(6.0), outputs + 0.1 * outputs.roll(1, 0), halves)
    found = [re.fullmatch(LINE, line).groups() for line in shown]
    assert [each[:3] for each in found] == [("7", "1", "12"), ("7", "3", "12")]
    assert [float(number) for number in found[0][3:7]] == [2, 2, 100, 100]
    loss, mean_loss, top_1, mean_top_1 = map(float, found[1][3:7])
    assert (loss, mean_loss, top_1) == (6, 4, 50)
    assert mean_top_1 == pytest.approx((100 + 0 + 50) / 3, abs=0.01)


def test_training_shows_lines_instead_of_a_bar(tiny, capsys):
    folder = launch(tiny(**{"logging.print_every": 2, "training.epochs": 1}))
    shown = capsys.readouterr()
    steps = [re.fullmatch(LINE, line) for line in shown.out.splitlines() if line.startswith("Epoch:")]
    assert [(found[1], found[2], found[3]) for found in steps] == [("0", "1", "5"), ("0", "3", "5"), ("0", "5", "5")]
    # The label smoothing is in both; and the last line's mean is that of the whole epoch.
    (entry,) = log_of(folder)
    assert float(steps[-1][5]) == pytest.approx(entry["train_loss"], rel=1e-3)
    assert f" * Acc@1 {100 * entry['top_1']:.3f} Acc@5 {100 * entry['top_5']:.3f}" in shown.out.splitlines()
    assert "images/s" not in shown.err


def test_newest_and_best_checkpoint_are_exported_and_gone_on_with(tiny, tmp_path):
    place = tmp_path / "exported"
    options = {"logging.export_folder": str(place), "training.seed": 3}
    whole = launch(tiny(**options, **{"training.epochs": 3}))
    scores = [entry["top_1"] for entry in log_of(whole)]
    newest = torch.load(place / "checkpoint.pth.tar", weights_only=True)
    assert (newest["epoch"], newest["arch"]) == (3, "shufflenet_v2_x0_5")
    assert newest["best_acc1"] == pytest.approx(100 * max(scores))
    weights = torch.load(whole / "final_weights.pt", weights_only=True)
    assert all(torch.equal(newest["state_dict"][name], weights[name]) for name in weights)
    best = torch.load(place / "model_best.pth.tar", weights_only=True)
    assert best["epoch"] == 1 + scores.index(max(scores))
    # The first epochs alone, and a copy of the checkpoint elsewhere: the same weights as without a break.
    first = launch(tiny(**options, **{"training.epochs": 3, "training.max_steps": 7}))
    elsewhere = tmp_path / "elsewhere" / "copy.pth.tar"
    elsewhere.parent.mkdir()
    shutil.copy(place / "checkpoint.pth.tar", elsewhere)
    for params in ({}, {"training.distributed": 0}):
        again = launch(tiny(**options, **params, **{"training.epochs": 3, "training.resume": str(elsewhere)}))
        assert again == first
        resumed = torch.load(again / "final_weights.pt", weights_only=True)
        assert all(torch.equal(resumed[name], weights[name]) for name in weights)
    assert [entry["top_1"] for entry in log_of(first)] == scores
    assert sorted(path.name for path in elsewhere.parent.iterdir()) == ["copy.pth.tar"]


def test_export_without_hard_links_is_a_copy(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no hard links")

    (tmp_path / "checkpoint.pt").write_bytes(b"content")
    monkeypatch.setattr("trainer.exported.os.link", refuse)
    export_checkpoint(tmp_path / "checkpoint.pt", str(tmp_path / "out"), is_best=True)
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert found == {"checkpoint.pth.tar": b"content", "model_best.pth.tar": b"content"}


def test_training_begins_with_a_given_epoch(tiny):
    options = {
        "training.epochs": 3,
        "training.start_epoch": 2,
        "lr.lr_schedule_type": "multistep",
        "lr.milestones": "2",
    }
    (entry,) = log_of(launch(tiny(**options)))
    assert (entry["epoch"], entry["current_lr"]) == (2, pytest.approx(0.005))
    with pytest.raises(ConfigurationError, match=r"start_epoch=3 leaves nothing of training.epochs=3"):
        tiny(**{"training.epochs": 3, "training.start_epoch": 3})


def test_ranks_meet_at_a_given_address_by_a_given_backend(tiny, monkeypatch):
    from trainer.distributed import free_port

    asked = []
    begin = torch.distributed.init_process_group

    def note(backend, init_method, **options):
        asked.append((backend, init_method))
        return begin(backend, init_method=init_method, **{**options, "world_size": 1, "rank": 0})

    monkeypatch.setattr(torch.distributed, "init_process_group", note)
    address = f"tcp://localhost:{free_port()}"
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "nowhere.invalid"}.items():
        monkeypatch.setenv(name, value)
    from trainer.distributed import find_ranks

    config = tiny(**{"dist.url": address, "dist.backend": "gloo"})
    with Trainer(config, find_ranks(config)):
        pass
    assert asked == [("gloo", address)]
    with pytest.raises(ConfigurationError, match=r"dist.backend=nccl connects GPUs, and this training is on cpu"):
        launch(tiny(**{"dist.backend": "nccl"}))
    for wrong in ("tcp://localhost", "localhost:3", "tcp://localhost:70000", "file:///tmp/x"):
        with pytest.raises(ConfigurationError, match="expected tcp://HOST:PORT, or nothing, found"):
            tiny(**{"dist.url": wrong})
