"""The front end of the OSG's benchmark: its flags mean what the document says, and a killed training goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from imagenet_resnet50 import main
from osg import real_jobs
from osg.dataset import CustomImageNetDataset
from osg.options import Options, configuration, read_options
from osg.pool import Eviction
from osg.real_jobs import Training, run_job
from trainer.errors import DataError, TrainingError

from tests.htcondor.conftest import PROGRAMS, SMALL


def options_of(*flags):
    return read_options("imagenet_resnet50.py", "", flags)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_defaults_are_the_documents(pictures):
    params = configuration(options_of("--data", str(pictures / "train"))).as_params()
    expected = {
        "model.arch": "resnet50",
        "training.batch_size": 256,
        "training.epochs": 10,
        "training.optimizer": "sgd",
        "training.momentum": 0.9,
        "training.weight_decay": 5e-4,
        "training.seed": 1,
        "training.label_smoothing": 0.0,
        "lr.lr": 0.01,
        "logging.print_every": 10,
        "resolution.max_res": 224,
    }
    assert {name: params[name] for name in expected} == expected
    assert Options().save_model is False


@pytest.mark.parametrize(
    "flag, value, option, expected",
    [
        ("--batch-size", "64", "training.batch_size", 64),
        ("--epochs", "5", "training.epochs", 5),
        ("--lr", "0.1", "lr.lr", 0.1),
        ("--momentum", "0.8", "training.momentum", 0.8),
        ("--weight-decay", "0", "training.weight_decay", 0.0),
        ("--seed", "7", "training.seed", 7),
        ("--log-interval", "1", "logging.print_every", 1),
        ("--arch", "resnet18", "model.arch", "resnet18"),
        ("--image-size", "64", "resolution.min_res", 64),
        ("--workers", "3", "data.num_workers", 3),
        ("--device", "cpu", "training.device", "cpu"),
        ("--checkpoints", "kept", "logging.folder", "kept"),
        ("--checkpoint-minutes", "2.5", "training.checkpoint_minutes", 2.5),
        ("--cache-dir", "cache", "data.cache_dir", "cache"),
        ("--max-steps", "3", "training.max_steps", 3),
        ("--val-data", "val", "data.val_dataset", "val"),
    ],
)
def test_flag_becomes_an_option(flag, value, option, expected, pictures):
    params = configuration(options_of("--data", str(pictures / "train"), flag, value)).as_params()
    assert params[option] == expected


def test_the_learning_rate_stays(pictures):
    from trainer.schedule import epoch_learning_rates

    config = configuration(options_of("--data", str(pictures / "train"), "--epochs", "3"))
    rates = [epoch_learning_rates(config.lr, [4] * 3, epoch, 4).tolist() for epoch in range(3)]
    assert rates == [pytest.approx([0.01] * 4)] * 3


@pytest.mark.parametrize("flags", [["--epochs", "0"], ["--lr", "-1"], ["--lr", "inf"], ["--seed", "x"], ["--wrong"]])
def test_wrong_flag_is_an_error(flags, capsys):
    assert main(flags) == 2
    assert "imagenet_resnet50.py: error:" in capsys.readouterr().err


def test_data_set_has_sorted_labels(pictures):
    images = CustomImageNetDataset(pictures / "train")
    names = sorted(path.name for path in (pictures / "train").iterdir())
    assert images.classes == names
    assert [Path(path).parent.name for path, _ in images.samples] == [names[label] for _, label in images.samples]
    assert [images[0][0].size, images[0][1]] == [(40, 40), 0]
    assert CustomImageNetDataset(pictures / "train", lambda image: image.size)[0] == ((40, 40), 0)
    with pytest.raises(DataError, match="expected a folder of pictures for each class"):
        CustomImageNetDataset(pictures / "nowhere")


def test_file_needs_something_to_evaluate_on(tmp_path):
    (tmp_path / "train.ffcv").touch()
    for data in (str(tmp_path / "train.ffcv"), "https://origin.example.org/train.ffcv"):
        with pytest.raises(DataError, match="a file needs --val-data"):
            configuration(options_of("--data", data))
    with pytest.raises(DataError, match=r"--data https://origin/train\.ffcv: a file") as caught:
        configuration(options_of("--data", "https://user:SECRET@origin/train.ffcv?X-Amz-Signature=SECRET"))
    assert "SECRET" not in str(caught.value)


def test_without_validation_data_some_training_images_are_evaluated(pictures, tmp_path):
    place = configuration(options_of("--data", str(pictures / "train"))).data.val_dataset
    assert Path(place).parent == tmp_path
    assert CustomImageNetDataset(place).classes == CustomImageNetDataset(pictures / "train").classes
    assert len(CustomImageNetDataset(place)) == 24
    # Once more, as behind an eviction; and another training in the same folder.
    assert configuration(options_of("--data", str(pictures / "train"))).data.val_dataset == place
    other = configuration(options_of("--data", str(pictures / "train"), "--checkpoints", "other"))
    assert other.data.val_dataset != place


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_what_is_no_sample_of_training_images_is_not_removed(kind, pictures, tmp_path):
    theirs = tmp_path / "theirs"
    (theirs / "class").mkdir(parents=True)
    (theirs / "class" / "picture.png").write_bytes(b"theirs")
    place = tmp_path / "checkpoints_training_sample"
    if kind == "file":
        place.touch()
    elif kind == "folder":
        theirs.rename(place)
    else:
        place.symlink_to(theirs)
    with pytest.raises(DataError, match="expected no more than links that an earlier run made"):
        configuration(options_of("--data", str(pictures / "train")))
    assert place.is_file() or (place / "class" / "picture.png").read_bytes() == b"theirs"


def test_loss_is_shown_at_its_interval(pictures, tmp_path, capsys):
    (tmp_path / "train").symlink_to(pictures / "train")
    assert main(["--data", "train", *SMALL, "--log-interval", "4", "--save-model"]) == 0
    shown = capsys.readouterr().out
    lines = [line for line in shown.splitlines() if line.startswith("Epoch: [")]
    assert [line.partition("\t")[0] for line in lines] == [
        f"Epoch: [{epoch}][{step}/6]" for epoch in (0, 1) for step in (1, 5)
    ]
    assert all("\tLoss " in line for line in lines)
    assert "imagenet_resnet50.pt: the weights of" in shown
    (run,) = (tmp_path / "checkpoints").iterdir()
    assert (tmp_path / "imagenet_resnet50.pt").read_bytes() == (run / "final_weights.pt").read_bytes()


# Killed and resumed


def weights_of(path):
    return torch.load(path, weights_only=True)


def assert_same_weights(one, other):
    first, second = weights_of(one), weights_of(other)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.fixture(scope="module")
def training(pictures):
    return Training(str(pictures / "train"), 24, 2, 4, ("--val-data", str(pictures / "val"), *SMALL[:4], *SMALL[8:]))


@pytest.fixture(scope="module")
def undisturbed(training, tmp_path_factory):
    return run_job(training, 5, (), tmp_path_factory.mktemp("undisturbed") / "job").weights


@pytest.mark.parametrize(
    "hard, statuses",
    [
        pytest.param(False, (85, 85, 0), id="SIGTERM"),
        pytest.param(True, (-signal.SIGKILL, -signal.SIGKILL, 0), id="SIGKILL", marks=pytest.mark.slow),
    ],
)
@pytest.mark.long("kills")
def test_training_killed_in_mid_epoch_goes_on_to_the_same_weights(hard, statuses, training, undisturbed, tmp_path):
    evictions = [Eviction(0.2, hard), Eviction(0.7, hard)]
    job = run_job(training, 5, evictions, tmp_path / "job")
    assert job.statuses == statuses
    assert_same_weights(job.weights, undisturbed)


class Pretended(Training):
    """Two epochs of three steps: stands still behind step `last` at first; a second start begins with step `first`."""

    first, last = 1, 5

    def command(self, seed):
        code = (
            "import os, signal, sys, time\n"
            "signal.signal(signal.SIGTERM, lambda *given: sys.exit(85))\n"
            f"first, last = ({self.first}, 0) if os.path.exists('begun') else (1, {self.last})\n"
            "open('begun', 'w').close()\n"
            "for step in range(first - 1, 6):\n"
            "    print(f'Epoch: [{step // 3}][{step % 3 + 1}/3]', flush=True)\n"
            "    time.sleep(60 if step + 1 == last else 0)\n"
        )
        return [sys.executable, "-c", code]


@pytest.mark.parametrize(
    ("hard", "first", "kept"), [(False, 1, 5), (False, 4, 5), (False, 6, None), (True, 3, 3), (True, 4, None)]
)
def test_training_that_begins_anew_what_was_kept_is_an_error(hard, first, kept, tmp_path, monkeypatch):
    monkeypatch.setattr(Pretended, "first", first)
    training = Pretended("", images=3, epochs=2, batch_size=1, flags=())
    if kept is None:
        assert len(run_job(training, 1, [Eviction(5 / 6, hard)], tmp_path / "job").statuses) == 2
        return
    with pytest.raises(TrainingError, match=f"job 1: expected to go on behind step {kept}, found step {first}"):
        run_job(training, 1, [Eviction(5 / 6, hard)], tmp_path / "job")


def test_training_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(Pretended, "last", 2)
    monkeypatch.setattr(real_jobs, "_SECONDS", 1.5)
    training = Pretended("", images=3, epochs=2, batch_size=1, flags=())
    with pytest.raises(TrainingError, match=r"expected a process that ends within 1\.5 s"):
        run_job(training, 1, [Eviction(0.9, True)], tmp_path / "job")


def test_signal_before_the_first_step_asks_for_another_execution(pictures, tmp_path):
    command = [sys.executable, str(PROGRAMS / "imagenet_resnet50.py"), "--data", str(pictures / "train"), *SMALL]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, env={**os.environ}) as process:
        time.sleep(0.7)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    # Python itself takes a while until handlers are installed.
    assert process.returncode in (85, -signal.SIGTERM)
    assert process.returncode != 85 or b"SIGTERM" in said
