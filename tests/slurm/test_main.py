"""The options of `main.py`: what each means to the trainer, each error, and runs without SLURM."""

import math
import os
import re
import subprocess
import sys

import pytest
import torch
from ddp.configuration import configuration, learning_rate, worded
from ddp.measurements import read_log
from ddp.options import MainOptions, options_of
from ddp.results import Heading, Total
from main import main
from trainer.errors import ConfigurationError
from trainer.schedule import epoch_learning_rates

from tests.slurm.conftest import SLURM
from tests.slurm.jobs import TINY, write_classes

LINE = re.compile(r"Epoch: \[(\d+)\]\[ *(\d+)/(\d+)\]\tTime +[\d.]+ \( *[\d.]+\)\tData .*\tLoss .*\tAcc@1 .*\tAcc@5 ")
SCORES = re.compile(r"^ \* Acc@1 ([\d.]+) Acc@5 ([\d.]+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Class folders with 40 pictures to train on and 12 to evaluate on."""
    return str(write_classes(tmp_path_factory.mktemp("data"), 10))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder, and no launcher's variables."""
    for name in [name for name in os.environ if name.startswith(("SLURM", "TORCHELASTIC", "RANK", "WORLD_SIZE"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(*arguments, world=1):
    place, options, further = options_of(arguments, "")
    return configuration(place, options, further, world)


def params(*arguments, world=1):
    return read(*arguments, world=world).as_params()


# What an option without a value of its own in a test has there.
DEFAULTS = {
    "model.arch": "resnet18",
    "model.pretrained": False,
    "data.num_workers": 4,
    "training.epochs": 90,
    "training.start_epoch": 0,
    "training.batch_size": 256,
    "validation.batch_size": 256,
    "lr.lr": 0.1,
    "lr.lr_schedule_type": "multistep",
    "lr.milestones": "30,60",
    "lr.step_ratio": 0.1,
    "lr.warmup_epochs": 0,
    "training.optimizer": "sgd",
    "training.momentum": 0.9,
    "training.weight_decay": 1e-4,
    "training.no_decay": "nothing",
    "training.label_smoothing": 0.0,
    "training.seed": 0,
    "training.resume": "",
    "training.eval_only": False,
    "training.precision": "fp32",
    "training.device": "auto",
    "training.checkpoint_minutes": 0.0,
    "logging.print_every": 10,
    "logging.folder": "./runs",
    "logging.export_folder": ".",
    "resolution.min_res": 224,
    "resolution.max_res": 224,
    "validation.resolution": 224,
    "validation.lr_tta": False,
    "validation.plain_resolution": 0,
    "dist.url": "",
    "dist.backend": "auto",
}
MEANINGS = {
    "-a": (["resnet50"], {"model.arch": "resnet50"}),
    "--arch": (["resnet50"], {"model.arch": "resnet50"}),
    "-j": (["16"], {"data.num_workers": 16}),
    "--workers": (["16"], {"data.num_workers": 16}),
    "--epochs": (["100"], {"training.epochs": 100, "lr.milestones": "30,60,90"}),
    "--start-epoch": (["3"], {"training.start_epoch": 3}),
    "-b": (["512"], {"training.batch_size": 512, "validation.batch_size": 512}),
    "--batch-size": (["512"], {"training.batch_size": 512, "validation.batch_size": 512}),
    "--lr": (["6.4"], {"lr.lr": 6.4}),
    "--learning-rate": (["6.4"], {"lr.lr": 6.4}),
    "--momentum": (["0.8"], {"training.momentum": 0.8}),
    "--wd": (["5e-5"], {"training.weight_decay": 5e-5}),
    "--weight-decay": (["5e-5"], {"training.weight_decay": 5e-5}),
    "-p": (["100"], {"logging.print_every": 100}),
    "--print-freq": (["100"], {"logging.print_every": 100}),
    "--resume": (["auto"], {"training.resume": "auto"}),
    "-e": (["--pretrained"], {"training.eval_only": True, "model.pretrained": True}),
    "--evaluate": (["--pretrained"], {"training.eval_only": True, "model.pretrained": True}),
    "--pretrained": ([], {"model.pretrained": True}),
    "--dist-url": (["tcp://node1:4000"], {"dist.url": "tcp://node1:4000"}),
    "--dist-backend": (["gloo"], {"dist.backend": "gloo"}),
    "--seed": (["7"], {"training.seed": 7}),
    "--dummy": (
        [],
        {"data.source": "synthetic", "data.synthetic_images": 1_281_167, "data.synthetic_val_images": 50_000},
    ),
    "--optimizer": (["lars"], {"training.optimizer": "lars"}),
    "--warmup-epochs": (["5"], {"lr.warmup_epochs": 5}),
    "--scale-lr": (["-b", "1024"], {"lr.lr": 0.4, "training.batch_size": 1024, "validation.batch_size": 1024}),
    "--schedule": (["cosine"], {"lr.lr_schedule_type": "cosine"}),
    "--precision": (["bf16"], {"training.precision": "bf16"}),
    "--device": (["cpu"], {"training.device": "cpu"}),
    "--checkpoint-minutes": (["15"], {"training.checkpoint_minutes": 15.0}),
    "--output-dir": (["out/7"], {"logging.folder": "out/7/runs", "logging.export_folder": "out/7"}),
    "--set": (["recipe.ema=0.99"], {"recipe.ema": 0.99}),
}


@pytest.mark.parametrize("flag", MEANINGS)
def test_option_means_this_to_the_trainer_and_nothing_else(flag, data):
    values, expected = MEANINGS[flag]
    plain, found = params(data), params(flag, *values, data)
    assert {name: value for name, value in found.items() if value != plain[name]} | expected == {
        **expected,
        **({"data.train_dataset": "", "data.val_dataset": ""} if flag == "--dummy" else {}),
    }
    assert {name: found[name] for name in expected} == expected


def test_every_option_stands_in_that_table_and_in_the_help(capsys):
    flags = {flag for item in MainOptions.__dataclass_fields__.values() for flag in item.metadata["flags"].split()}
    assert MEANINGS.keys() == {*flags, "--set"}
    with pytest.raises(SystemExit) as end:
        options_of(["--help"], "Trains.")
    shown = capsys.readouterr().out
    assert end.value.code == 0
    assert all(re.search(rf"{flag}\b", shown) for flag in MEANINGS)
    assert "--gpu" not in shown


def test_defaults_are_those_of_pytorchs_example(data):
    found = params(data)
    assert {name: found[name] for name in DEFAULTS} == DEFAULTS
    assert (found["data.train_dataset"], found["data.val_dataset"]) == (f"{data}/train", f"{data}/val")
    assert options_of([], "")[0] == "imagenet"


def test_batch_is_that_of_all_ranks(data):
    assert params("-b", "2048", data, world=8)["training.batch_size"] == 256
    with pytest.raises(ConfigurationError, match=r"-size 100: expected a multiple of the number of ranks, 8: .* as 96"):
        params("-b", "100", data, world=8)
    with pytest.raises(ConfigurationError, match="such as 8"):
        params("-b", "4", data, world=8)


def rates(*arguments):
    config = read(*arguments)
    per_epoch = [5] * config.training.epochs
    return [epoch_learning_rates(config.lr, per_epoch, e, 5, 0.0).tolist() for e in range(config.training.epochs)]


def test_rate_falls_as_torchs_step_schedule(data):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=30, gamma=0.1)
    for own in rates(data):
        assert own == pytest.approx([optimizer.param_groups[0]["lr"]] * 5)
        optimizer.step()
        schedule.step()
    # A training that ends before the first fall.
    assert all(own == pytest.approx([0.1] * 5) for own in rates(data, "--epochs", "30"))


def test_large_batches_may_have_a_scaled_rate_that_warms_up_and_falls_as_a_cosine(data):
    flags = ["--optimizer", "lars", "--scale-lr", "-b", "4096", "--warmup-epochs", "5", "--schedule", "cosine", data]
    assert learning_rate(options_of(flags, "")[1]) == pytest.approx(1.6)
    found = rates(*flags)
    assert found[0][0] < 0.4 and sorted(found[0] + found[4]) == found[0] + found[4]
    # In the sixth epoch the rate is up, and on the cosine of the whole training.
    assert max(map(max, found)) == pytest.approx(1.6 * (1 + math.cos(math.pi * 5 / 90)) / 2)
    assert found[-1][-1] < 0.01


# Each error, with the exit status


ERRORS = [
    (["--epoch", "3"], 2, "unrecognized arguments: --epoch"),
    (["-a", "resnet"], 2, "-a/--arch: expected a classification network of torchvision.models, such as resnet18"),
    (["-b", "none"], 2, "-b/--batch-size: expected a whole number of at least 1, found 'none'"),
    (["-b", "0"], 2, "-b/--batch-size: expected a whole number of at least 1, found '0'"),
    (["-j", "-2"], 2, "-j/--workers: expected a whole number"),
    (["--epochs", "0"], 2, "--epochs: expected a whole number of at least 1"),
    (["--start-epoch", "x"], 2, "--start-epoch: expected a whole number of at least 0"),
    (["--lr", "nan"], 2, "--lr/--learning-rate: expected a number of at least 0, found 'nan'"),
    (["--momentum", "-1"], 2, "--momentum: expected a number"),
    (["--wd", "x"], 2, "--wd/--weight-decay: expected a number"),
    (["-p", "0"], 2, "-p/--print-freq: expected a whole number of at least 1"),
    (["--dist-backend", "mpi"], 2, "--dist-backend: expected auto, nccl or gloo, found 'mpi'"),
    (["--dist-url", "file:///x", "DATA"], 2, "--dist-url: expected tcp://HOST:PORT, or nothing, found 'file:///x'"),
    (["--seed", "-1"], 2, "--seed: expected a whole number"),
    (["--optimizer", "adam"], 2, "--optimizer: expected sgd or lars, found 'adam'"),
    (["--warmup-epochs", "-1"], 2, "--warmup-epochs: expected a whole number"),
    (["--schedule", "linear"], 2, "--schedule: expected step or cosine, found 'linear'"),
    (["--precision", "fp8"], 2, "--precision: expected fp32, fp16 or bf16, found 'fp8'"),
    (["--device", "tpu"], 2, "--device: expected auto, cpu or cuda, found 'tpu'"),
    (["--checkpoint-minutes", "-1"], 2, "--checkpoint-minutes: expected a number"),
    (["DATA", "more"], 2, "unrecognized arguments: more"),
    (["--gpu", "0", "DATA"], 2, "--gpu: expected that srun starts a process for each GPU"),
    (["--rank", "0"], 2, "--rank: expected that srun starts"),
    (["--world-size", "2"], 2, "--world-size: expected that srun starts"),
    (["--multiprocessing-distributed"], 2, "--multiprocessing-distributed: expected that srun starts"),
    (["-e", "DATA"], 2, "--evaluate needs something to evaluate: --resume checkpoint.pth.tar, or --pretrained"),
    (["--start-epoch", "3", "--resume", "a.pth.tar"], 2, "--start-epoch and --resume a.pth.tar exclude each other"),
    (["--start-epoch", "90", "DATA"], 2, "--start-epoch=90 leaves nothing of --epochs=90"),
    (["--set", "recipe.ema"], 2, "--set recipe.ema: expected SECTION.OPTION=VALUE"),
    (["--set", "recipe.emma=1", "DATA"], 2, "unknown option recipe.emma"),
    (["--set", "recipe.ema=x", "DATA"], 2, "RecipeConfig.ema: expected a number from 0 to 1, found 'x'"),
    (["nowhere"], 2, "DATA nowhere: no such folder: expected one with train/ and val/"),
    (["DATA/train"], 2, "train/ and val/ missing there"),
    (["--precision", "fp16", "--device", "cpu", "DATA"], 2, "--precision=fp16 needs a GPU"),
    (["--dist-backend", "nccl", "--device", "cpu", "DATA"], 2, "--dist-backend=nccl connects GPUs, and this training"),
    (
        ["--resume", "missing.pth.tar", "DATA"],
        1,
        "--resume=missing.pth.tar: expected a run's folder with checkpoint.pt",
    ),
    (["-e", "--resume", "auto", "DATA"], 2, "--resume=auto finds no run in"),
    (
        ["-b", "64", "--device", "cpu", "DATA"],
        1,
        "no batch of 64 for each of 1 rank(s): use a smaller -b (that of all ranks)",
    ),
]


@pytest.mark.parametrize("arguments, status, message", ERRORS, ids=[" ".join(each[0]) for each in ERRORS])
def test_errors_name_the_option_and_what_was_expected(arguments, status, message, data, here, capsys):
    assert main([argument.replace("DATA", data) for argument in arguments]) == status
    told = capsys.readouterr().err
    assert message in told
    assert all(line.startswith("main.py: error: ") for line in told.splitlines())


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_missing_gpu_is_an_error(data, here, capsys):
    assert main(["--device", "cuda", data]) == 2
    assert "--device=cuda, but torch finds no GPU" in capsys.readouterr().err


def test_incomplete_variables_of_slurm_are_an_error(data, here, capsys, monkeypatch):
    for name, value in {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"}.items():
        monkeypatch.setenv(name, value)
    assert main([data]) == 2
    assert "the launcher's environment is incomplete or wrong: 'SLURM_PROCID'" in capsys.readouterr().err


def test_trainers_names_are_reworded_the_longer_first():
    assert worded("training.resume=x, --training.resume=y, dist.url") == "--resume=x, --resume=y, --dist-url"


# Runs


def test_training_evaluation_and_going_on(data, here, capsys):
    """One after the other: a training, its best and newest checkpoint evaluated, two more epochs."""
    flags = [*TINY, "--output-dir", "out", data]
    assert main([*flags, "--epochs", "2"]) == 0
    shown = capsys.readouterr().out
    first, last = shown.splitlines()[0], shown.splitlines()[-1]
    assert Heading.find(first) == Heading("shufflenet_v2_x0_5", 2, 1, 1, 4, 0.02, "sgd", "multistep")
    total = Total.find(last)
    assert total.is_complete and total.epochs == total.planned_epochs == 2 and total.seconds > 0
    steps = [found.groups() for found in map(LINE.match, shown.splitlines()) if found]
    assert steps == [(str(epoch), str(step), "10") for epoch in (0, 1) for step in range(1, 11)]
    scores = SCORES.findall(shown)
    assert len(scores) == 2
    (here / "job.out").write_text(shown)
    measured = read_log(here / "job.out")
    assert (measured.gpus, measured.batch_size, measured.nodes, measured.rate) == (1, 4, 1, 0.02)
    assert measured.seconds == total.seconds and measured.training == "shufflenet_v2_x0_5, 2 epochs"
    assert (measured.top_1, measured.top_5) == tuple(map(float, scores[-1]))
    newest = torch.load("out/checkpoint.pth.tar", weights_only=True)
    assert (newest["epoch"], newest["arch"]) == (2, "shufflenet_v2_x0_5")
    assert newest["best_acc1"] == pytest.approx(max(float(top_1) for top_1, _ in scores), abs=1e-3)
    best = torch.load("out/model_best.pth.tar", weights_only=True)
    assert best["best_acc1"] == newest["best_acc1"]

    assert main([*flags, "--epochs", "2", "-e", "--resume", "out/checkpoint.pth.tar"]) == 0
    shown = capsys.readouterr().out
    assert SCORES.findall(shown) == scores[-1:]
    assert " * Time" not in shown and "Epoch:" not in shown
    # All is done; and there is still a last line for a report.
    assert main([*flags, "--epochs", "2", "--resume", "auto"]) == 0
    assert Total.find(capsys.readouterr().out.splitlines()[-1]).is_complete


def test_checkpoint_before_there_were_best_scores_is_gone_on_with(data, here, capsys):
    from trainer.checkpoint import CHECKPOINT
    from trainer.sealed import sealed, unsealed

    flags = [*TINY, "--output-dir", "out", "--epochs", "3", data]
    assert main([*flags, "--set", "training.max_steps=10"]) == 0
    (run,) = (here / "out" / "runs").iterdir()
    content = unsealed((run / CHECKPOINT).read_bytes())
    new = {"best_top_1", "arch", "state_dict", "best_acc1"}
    assert new <= content.keys()
    old = {name: value for name, value in content.items() if name not in new}
    old["params"] = {name: value for name, value in old["params"].items() if name != "data.synthetic_val_images"}
    (here / "old.pth.tar").write_bytes(sealed(old))
    capsys.readouterr()
    # Its run is another folder's, where all lies as it lay.
    assert main([*flags, "--resume", "old.pth.tar"]) == 0
    shown = capsys.readouterr().out
    assert [found[0] for found in re.findall(r"^Epoch: \[(\d)\]\[( 1)/", shown, re.MULTILINE)] == ["1", "2"]
    best = max(float(top_1) for top_1, _ in SCORES.findall(shown))
    assert torch.load("out/checkpoint.pth.tar", weights_only=True)["best_acc1"] == pytest.approx(best, abs=1e-3)


def test_dummy_data_are_as_many_as_asked_for_and_each_is_evaluated_once(here, capsys, monkeypatch):
    from trainer import validation

    counted = []
    count = validation._count

    def note(outputs, labels, views):
        counted.append(len(labels))
        return count(outputs, labels, views)

    monkeypatch.setattr(validation, "_count", note)
    few = ["--set", "data.synthetic_images=8", "--set", "data.synthetic_val_images=11"]
    assert main([*TINY, "--dummy", *few, "--epochs", "1"]) == 0
    shown = capsys.readouterr().out
    assert [found.groups() for found in map(LINE.match, shown.splitlines()) if found] == [
        ("0", "1", "2"),
        ("0", "2", "2"),
    ]
    assert counted == [4, 4, 3]


def test_print_frequency_and_first_epoch(data, here, capsys):
    flags = ["--epochs", "3", "--start-epoch", "2", data]
    assert main([*TINY, "-p", "4", *flags]) == 0
    shown = capsys.readouterr().out
    steps = [found.groups()[:2] for found in map(LINE.match, shown.splitlines()) if found]
    assert steps == [("2", "1"), ("2", "5"), ("2", "9")]
    assert Total.find(shown.splitlines()[-1]).is_complete


@pytest.mark.slow
def test_two_processes_that_a_launcher_started_train_together(data, here):
    """As `srun` starts them, here by torchrun, for whom no cluster is needed."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", SLURM / "main.py"]
    done = subprocess.run([*command, *TINY, "--epochs", "1", data], capture_output=True, text=True, cwd=here)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("main.py: shufflenet_v2_x0_5, 1 epochs, 2 ranks on 1 node, batch 4 (2 a rank)") == 1
    assert len(SCORES.findall(done.stdout)) == 1
    assert len(list((here / "runs").iterdir())) == 1
