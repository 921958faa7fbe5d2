"""run.py: each flag, the data it finds, its learning rates, its modules, its examples."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from config import (
    DEFAULT_PROGRESSIVE_SCHEDULE,
    DataConfig,
    TrainingConfig,
    all_settings,
    get_default_config,
)
from data import find_data, open_training, open_validation
from distributed import is_main_process, mean_over_ranks, world_size
from model import count_parameters, resnet50
from optimizer import learning_rates, make_optimizer
from run import main, make_parser, read_arguments, worded
from torch import nn
from train import Trainer
from train_utils import autocast, parse_progressive_schedule, weight_decay_groups
from trainer.errors import ConfigurationError
from translation import progressive_schedule

from ffx.errors import FfxWarning

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "examples" / "imagenet"

TINY_TEXT = (
    "--arch shufflenet_v2_x0_5 --batch-size 4 --image-size 32 --epochs 1 --max-steps 2 --workers 0 --device cpu "
    "--no-compile --amp off --checkpoint-every 0"
)
TINY = TINY_TEXT.split()


@pytest.fixture
def place(training_file, validation_file, tmp_path, monkeypatch):
    """The current folder, with an `imagenet/` that holds two files."""
    (tmp_path / "imagenet").mkdir()
    (tmp_path / "imagenet" / "train_400.ffcv").symlink_to(training_file)
    (tmp_path / "imagenet" / "val_400.ffcv").symlink_to(validation_file)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def options_of(*arguments):
    """What a command line is for the trainer, on data that need not be there."""
    arguments = arguments if "--amp" in arguments else (*arguments, "--amp", "off")
    config, options, _ = read_arguments(["--synthetic", *arguments])
    return config.to_trainer_config(**options).as_params()


# Flag, value: the trainer's options that it decides.
FLAGS = [
    (["--batch-size", "64"], {"training.batch_size": 64, "validation.batch_size": 64}),
    (["--image-size", "96"], {"resolution.min_res": 96, "resolution.max_res": 96, "validation.resolution": 96}),
    (["--workers", "3"], {"data.num_workers": 3}),
    (["--no-in-memory"], {"data.in_memory": False}),
    (["--cache-dir", "/fast/cache", "--cache-gb", "20"], {"data.cache_dir": "/fast/cache", "data.cache_gb": 20.0}),
    (["--synthetic"], {"data.source": "synthetic"}),
    (["--arch", "resnet18"], {"model.arch": "resnet18", "model.zero_init": True}),
    (["--arch", "shufflenet_v2_x0_5"], {"model.arch": "shufflenet_v2_x0_5", "model.zero_init": False}),
    (["--zero-init", "off"], {"model.zero_init": False}),
    (["--arch", "cifar_resnet18_no_norm", "--zero-init", "on"], {"model.zero_init": True}),
    (["--weights", "w.pt"], {"model.weights": "w.pt"}),
    (["--epochs", "7"], {"training.epochs": 7}),
    (["--label-smoothing", "0.2"], {"training.label_smoothing": 0.2}),
    (["--seed", "9"], {"training.seed": 9}),
    (["--device", "cpu"], {"training.device": "cpu"}),
    (["--max-steps", "5"], {"training.max_steps": 5}),
    (["--eval-only"], {"training.eval_only": True}),
    (["--optimizer", "adamw", "--lr", "0.001"], {"training.optimizer": "adamw", "lr.lr": 0.001}),
    (["--lr", "0.3"], {"lr.lr": 0.3}),
    (["--momentum", "0.8"], {"training.momentum": 0.8}),
    (["--weight-decay", "5e-5"], {"training.weight_decay": 5e-5}),
    (["--no-bn-weight-decay"], {"training.no_decay": "norms_and_biases"}),
    (["--grad-clip", "0"], {"training.grad_clip": 0.0}),
    (["--amp", "bf16"], {"training.precision": "bf16"}),
    (["--amp", "off"], {"training.precision": "fp32"}),
    (["--progressive-resize"], {"resolution.schedule": DEFAULT_PROGRESSIVE_SCHEDULE}),
    (["--progressive-schedule", "0,96,8;2,128"], {"resolution.schedule": "0,96,8;2,128"}),
    (["--no-compile"], {"training.compile": False}),
    (["--no-channels-last"], {"training.channels_last": False}),
    (["--channels-last"], {"training.channels_last": True}),
    (["--scheduler", "cosine"], {"lr.lr_schedule_type": "cosine", "lr.final_lr": 0.0}),
    (["--scheduler", "onecycle"], {"lr.lr_schedule_type": "onecycle", "lr.lr": 0.1, "lr.final_lr": 0.001}),
    (["--scheduler", "onecycle", "--max-lr", "0.4"], {"lr.lr": 0.4, "lr.final_lr": 0.4 * 0.01}),
    (["--optimizer", "adamw", "--scheduler", "onecycle", "--max-lr", "0.0005"], {"lr.final_lr": 0.0005 * 0.01}),
    (["--scheduler", "onecycle", "--pct-start", "0.4"], {"lr.pct_start": 0.4}),
    (["--milestones", "2,4"], {"lr.milestones": "2,4"}),
    (["--gamma", "0.5"], {"lr.step_ratio": 0.5}),
    (["--device", "cpu", "--distributed"], {"training.distributed": True, "dist.world_size": 1}),
    (["--distributed", "--world-size", "2"], {"training.distributed": True, "dist.world_size": 2}),
    (["--checkpoint-dir", "c"], {"logging.folder": "c"}),
    (["--log-dir", "l"], {"logging.log_folder": "l"}),
    (["--checkpoint-every", "3"], {"training.checkpoint_every": 3}),
    (["--checkpoint-minutes", "2.5"], {"training.checkpoint_minutes": 2.5}),
    (["--resume", "auto"], {"training.resume": "auto"}),
    (["--set", "training.use_blurpool=1"], {"training.use_blurpool": True}),
    (["--epochs", "7", "--set", "training.epochs=3"], {"training.epochs": 3}),
    pytest.param(
        ["--telemetry", "2"],
        {"logging.telemetry": 2.0},
    ),
]


@pytest.mark.parametrize("arguments, expected", FLAGS)
def test_flag_is_translated(arguments, expected):
    found = options_of(*arguments)
    assert {name: found[name] for name in expected} == expected


def test_every_flag_has_a_test_of_its_translation():
    used = {word for case in FLAGS for word in (case.values if hasattr(case, "values") else case)[0]}
    # Of these, the tests below.
    elsewhere = {"--data-path", "--s3-bucket", "--in-memory", "--compile"}
    negatives = {f"--no-{setting.flag[2:]}" for _, setting in all_settings()} & used
    named = used | {f"--{flag.removeprefix('--no-')}" for flag in negatives}
    assert {setting.flag for _, setting in all_settings()} <= named | elsewhere


def test_documentation_lists_every_flag_with_its_default_and_the_trainers_option():
    text = (ROOT / "docs" / "fast_pipeline.md").read_text()
    table = text.partition("<!-- flags -->\n")[2].partition("<!-- end")[0]
    rows = [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    named = {row[0]: row for row in rows}
    assert named.keys() == {setting.flag for _, setting in all_settings()}
    for _, setting in all_settings():
        default = {True: "on", False: "off"}[setting.default] if isinstance(setting.default, bool) else setting.default
        assert named[setting.flag][1] == str(default), setting.flag
        assert not setting.option or setting.option in named[setting.flag][2], setting.flag


def test_help_lists_every_flag(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for _, setting in all_settings():
        assert setting.flag in shown
    assert "--no-channels-last" in shown


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--batch-size", "0"], "--batch-size: expected a whole number of at least 1, found '0'"),
        (["--lr", "fast"], "--lr: expected a number of at least 0, found 'fast'"),
        (["--amp", "fp8"], "--amp: expected fp16, bf16 or off, found 'fp8'"),
        (["--progressive-schedule", "5,128,4"], "--progressive-schedule: expected 'epoch,side,batch;...'"),
        (["--bach-size", "3"], "unrecognized arguments: --bach-size 3"),
        (["--epoch", "3"], "unrecognized arguments: --epoch 3"),
        (["--epochs"], "argument --epochs: expected one argument"),
        (["--set", "training.flip"], "--set training.flip: expected SECTION.OPTION=VALUE"),
        (["--synthetic", "--set", "training.flop=1"], "unknown option training.flop"),
        (["--synthetic", "--world-size", "2"], "--world-size 2 goes with --distributed"),
        (["--s3-bucket", "gs://pictures"], "--s3-bucket gs://pictures: expected NAME, NAME/FOLDER or s3://NAME/FOLDER"),
        (["--s3-bucket", "s3://"], "--s3-bucket s3://: expected NAME, NAME/FOLDER"),
        (["--s3-bucket", "pictures", "--synthetic"], "--synthetic and --s3-bucket exclude each other"),
        (["--s3-bucket", "pictures", "--data-path", "x"], "--data-path x and --s3-bucket pictures exclude each other"),
        (["--data-path", "https://me:secret@host/sets"], "--data-path https://host/sets: expected the address of a"),
        (["--data-path", "nowhere"], "--data-path nowhere: no such folder"),
    ],
)
def test_mistake_is_named_with_status_2(arguments, message, capsys):
    assert main(["--amp", "off", *arguments] if "--amp" not in arguments else arguments) == 2
    assert f"run.py: error: {message}" in capsys.readouterr().err


def test_all_mistakes_are_named_together(capsys):
    assert main(["--epochs", "0", "--lr", "-1"]) == 2
    said = capsys.readouterr().err
    assert "--epochs: " in said
    assert "--lr: " in said


def test_run_trains_and_logs_in_both_folders(place, capsys):
    assert main([*TINY, "--checkpoint-every", "1"]) == 0
    (run,) = (place / "checkpoints").iterdir()
    assert (run / "final_weights.pt").exists()
    (entry,) = [json.loads(line) for line in (place / "logs" / run.name / "log").read_text().splitlines()]
    assert (entry["steps"], entry["resolution"], entry["batch_size"]) == (2, 32, 4)
    assert "data: imagenet/train_400.ffcv, imagenet/val_400.ffcv" in capsys.readouterr().out


def test_resume_goes_on_and_another_training_is_refused_in_words_of_the_flags(place, capsys):
    two_epochs = [*TINY, "--epochs", "2", "--max-steps", "0", "--checkpoint-every", "1"]
    assert main([*two_epochs, "--max-steps", "5"]) == 0
    (run,) = (place / "checkpoints").iterdir()
    assert main([*two_epochs, "--resume", "auto"]) == 0
    epochs = [json.loads(line)["epoch"] for line in (place / "logs" / run.name / "log").read_text().splitlines()]
    assert epochs == [0, 1]
    capsys.readouterr()
    assert main([*two_epochs, "--epochs", "3", "--batch-size", "2", "--resume", str(run)]) != 0
    assert worded("--training.resume=x and --training.batch_size=2") == "--resume=x and --batch-size=2"


def test_flags_that_messages_of_the_trainer_recommend_are_flags_of_this_program():
    said = re.findall(
        r"--[a-z]+\.[a-z_]+(?:=\w+)?", "".join(path.read_text() for path in PROGRAMS.glob("trainer/*.py"))
    )
    assert {"--training.precision=fp32", "--training.allow_batch_change=1"} <= set(said)
    flags = {word for action in make_parser()._actions for word in action.option_strings}
    for option in said:
        first = worded(option).split()[0]
        assert first.partition("=")[0] in flags | {"no"}, option
    assert worded("--training.precision=fp32") == "--amp off"
    assert worded("--training.allow_batch_change=1 goes on") == "--set training.allow_batch_change=1 goes on"


@pytest.mark.slow
def test_signal_ends_run_with_a_checkpoint_and_its_status(place):
    words = [sys.executable, str(PROGRAMS / "run.py"), *TINY, "--epochs", "2000", "--max-steps", "0"]
    program = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    deadline = time.monotonic() + 120
    while not list(place.glob("logs/*/log")) and time.monotonic() < deadline:
        time.sleep(0.1)
    program.send_signal(signal.SIGTERM)
    said = program.communicate(timeout=60)[1]
    assert program.returncode == 85
    (run,) = (place / "checkpoints").iterdir()
    assert f"with a checkpoint: --resume={run} goes on" in said
    assert (run / "checkpoint.pt").exists()


def test_batches_that_are_too_large_are_an_error_in_words_of_the_flags(place, capsys):
    assert main([*TINY, "--batch-size", "64"]) == 1
    assert "use a smaller --batch-size" in capsys.readouterr().err


def test_stages_change_images_and_batches(place):
    stages = ["--epochs", "2", "--max-steps", "0", "--progressive-schedule", "0,32,10;1,64,5"]
    assert main([*TINY, *stages]) == 0
    (log,) = (place / "logs").glob("*/log")
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(entry["resolution"], entry["batch_size"], entry["steps"]) for entry in entries] == [
        (32, 10, 2),
        (64, 5, 4),
    ]


def test_compiled_model_says_so(place, capsys, monkeypatch):
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: real(model, backend="eager"))
    assert main([*TINY, "--compile"]) == 0
    assert "Model compiled successfully!" in capsys.readouterr().out


# Data


def test_class_folders_are_found(picture_folder):
    found = find_data(picture_folder)
    assert (found.train, found.val) == (picture_folder / "train", picture_folder / "val")


def test_training_file_has_its_validation_file_beside_it(place):
    found = find_data("imagenet/train_400.ffcv")
    assert (found.train.name, found.val.name) == ("train_400.ffcv", "val_400.ffcv")


def test_beton_files_win_over_class_folders(tmp_path):
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        (tmp_path / f"{split}.beton").touch()
    assert find_data(tmp_path).train == tmp_path / "train.beton"


def test_same_suffix_is_preferred_where_there_are_several_sets(tmp_path):
    for name in ("train_a", "val_a", "train_b", "val_b"):
        (tmp_path / f"{name}.ffcv").touch()
    assert find_data(tmp_path / "train_b.ffcv").val.name == "val_b.ffcv"
    with pytest.raises(ConfigurationError, match=r"more than one train file \(train_a.ffcv, train_b.ffcv\)"):
        find_data(tmp_path)


def test_what_is_missing_is_named(tmp_path):
    (tmp_path / "train").mkdir()
    with pytest.raises(ConfigurationError, match=r"val/ missing there: .* found train"):
        find_data(tmp_path)
    (tmp_path / "data.ffcv").touch()
    with pytest.raises(ConfigurationError, match=r"expected a file named train\*"):
        find_data(tmp_path / "data.ffcv")


def tiny_config(path):
    config = TrainingConfig(device="cpu", data=DataConfig(path=str(path), batch_size=4, image_size=32, workers=1))
    config.optimization.amp = "off"
    return config


def test_sources_open_from_a_configuration(place):
    training, validation = open_training(tiny_config("imagenet")), open_validation(tiny_config("imagenet"))
    batches = training.epoch(0, 32, 4)
    images, labels = next(batches)
    batches.close()
    assert (images.shape, labels.shape) == ((4, 3, 32, 32), (4,))
    assert (training.images, validation.images) == (20, 9)
    training.close()
    validation.close()


# Configuration


def test_wrong_names_and_values_are_errors_when_they_are_assigned():
    config = get_default_config()
    with pytest.raises(ConfigurationError, match=r"DataConfig.batchsize: no such setting: did you mean batch_size\?"):
        config.data.batchsize = 3
    with pytest.raises(ConfigurationError, match=r"DataConfig.batch_size: expected a whole number of at least 1"):
        config.data.batch_size = "many"
    with pytest.raises(ConfigurationError, match=r"TrainingConfig.data: expected a DataConfig, found {}"):
        config.data = {}
    with pytest.raises(ConfigurationError, match=r"OptimizerConfig.quantum: no such setting: there are name, lr"):
        config.optimizer.quantum = 3
    with pytest.raises(ConfigurationError, match=r"TrainingConfig.epochs: expected a whole number .* found 0"):
        TrainingConfig(epochs=0)
    assert config == get_default_config()


def test_default_configurations_share_nothing():
    one = get_default_config()
    one.data.batch_size = 512
    assert get_default_config().data.batch_size == 256


def test_trainer_trains_what_the_configuration_says(place):
    config = tiny_config("imagenet")
    config.epochs, config.max_steps, config.model.arch, config.optimization.compile = 1, 1, "shufflenet_v2_x0_5", False
    run = Trainer(config, {"training.use_blurpool": 1}).train()
    assert run.parent == place / "checkpoints"
    assert json.loads((run / "params.json").read_text())["training.use_blurpool"] is True


def test_fp16_without_a_gpu_is_fp32_with_a_warning():
    config = get_default_config()
    config.device, config.data.synthetic = "cpu", True
    with pytest.warns(FfxWarning, match="--amp fp16 needs a GPU, and this training has none: it computes in fp32"):
        assert config.to_trainer_config().training.precision == "fp32"


@pytest.mark.gpu
def test_fp16_is_used_on_a_gpu():
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    assert options_of("--amp", "fp16")["training.precision"] == "fp16"


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--scheduler", "onecycle", "--lr", "0.4"], "--lr 0.4 is not used: onecycle rises to --max-lr, 0.1"),
        (["--scheduler", "cosine", "--max-lr", "0.4"], "--max-lr 0.4 is not used: cosine begins at --lr, 0.1"),
        (["--epochs", "18"], "the learning rate never falls: .* --milestones 6,12,16 are at the same shares"),
        (["--optimizer", "adamw"], "a learning rate of 0.1 is high for adamw: 0.001 is usual"),
    ],
)
def test_what_is_hardly_meant_is_a_warning(arguments, message):
    with pytest.warns(FfxWarning, match=message):
        options_of(*arguments)


@pytest.mark.parametrize(
    "batch_size, image_size, expected",
    [
        (256, 224, DEFAULT_PROGRESSIVE_SCHEDULE),
        (128, 224, "0,128,256;5,160,192;10,192,160;15,224,128"),
        (256, 176, "0,96,512;5,128,384;10,160,320;15,176,256"),
        (1, 16, "0,16,2;5,16,2;10,16,1;15,16,1"),
    ],
)
def test_default_stages_stretch_with_batch_and_image_size(batch_size, image_size, expected):
    config = TrainingConfig(data=DataConfig(batch_size=batch_size, image_size=image_size))
    config.optimization.progressive_resize = True
    assert progressive_schedule(config) == expected


# Learning rates


STEPS_BY_EPOCH = [3, 3, 5, 5, 6, 6, 6, 6, 6, 6]


def rates_of(*arguments, epochs=10):
    config, _, _ = read_arguments(["--synthetic", "--amp", "off", "--epochs", str(epochs), *arguments])
    return learning_rates(config, STEPS_BY_EPOCH[:epochs])


def test_one_cycle_rises_from_0_to_the_highest_rate_in_its_share_and_ends_at_a_hundredth_of_it():
    rates, total = rates_of("--scheduler", "onecycle", "--max-lr", "0.2"), sum(STEPS_BY_EPOCH)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1)
    factors = {"div_factor": 1e12, "final_div_factor": 100 / 1e12}
    course = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total, pct_start=0.3, **factors)
    expected = []
    for _ in range(total):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        course.step()
    np.testing.assert_allclose(rates, expected, atol=1e-9)
    assert (rates[0], rates[-1]) == (0, pytest.approx(0.002))
    assert rates.max() == pytest.approx(0.2, rel=0.01)


def test_multistep_falls_at_its_milestones():
    rates = rates_of("--milestones", "2,4", "--lr", "0.4", epochs=6)
    by_epoch = np.repeat([0.4, 0.4, 0.04, 0.04, 0.004, 0.004], STEPS_BY_EPOCH[:6])
    np.testing.assert_allclose(rates, by_epoch)


def test_cosine_is_torchs():
    rates = rates_of("--scheduler", "cosine", "--lr", "0.4")
    by_epoch = 0.2 * (1 + np.cos(np.pi * np.arange(10) / 10))
    np.testing.assert_allclose(rates, np.repeat(by_epoch, STEPS_BY_EPOCH))


# Modules


def test_resnet50_has_its_parameters_and_begins_as_the_identity():
    model = resnet50()
    assert count_parameters(model) == 25_557_032
    assert not model.layer3[1].bn3.weight.any()
    assert resnet50(classes=7, zero_init=False).layer3[1].bn3.weight.all()


@pytest.mark.parametrize("text", ["", "1,32", "0,32,4;0,64,4", "4,32;2,64", "0", "0,0,4", "0,32,4,9", "a,b,c"])
def test_progressive_schedule_that_is_none(text):
    if not text:
        assert parse_progressive_schedule(text) == ()
        return
    with pytest.raises(ConfigurationError, match="progressive schedule: expected 'epoch,side,batch;"):
        parse_progressive_schedule(text)


def test_weight_decay_leaves_out_norms_and_biases_only_when_asked():
    model = resnet50(classes=3)
    free, decayed = weight_decay_groups(model, 0.1, no_bn_weight_decay=True)
    biases_and_norms = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    assert {id(one) for one in free["params"]} == {id(one) for one in biases_and_norms}
    assert (free["weight_decay"], decayed["weight_decay"]) == (0, 0.1)
    everything = weight_decay_groups(model, 0.1, no_bn_weight_decay=False)[1]
    assert len(everything["params"]) == len(list(model.parameters()))


def test_optimizer_is_the_one_asked_for():
    config, _, _ = read_arguments(
        ["--synthetic", "--amp", "off", "--optimizer", "adamw", "--lr", "0.01", "--weight-decay", "0.3"]
    )
    made = make_optimizer(config, nn.Linear(2, 2))
    assert isinstance(made, torch.optim.AdamW)
    assert made.param_groups[1]["weight_decay"] == 0.3
    assert made.param_groups[1]["lr"] == 0.01


def test_autocast_computes_in_the_precision_asked_for():
    layer, images = nn.Linear(3, 2), torch.ones(1, 3)
    with autocast("bf16", "cpu"):
        assert layer(images).dtype is torch.bfloat16
    with autocast("off", "cpu"):
        assert layer(images).dtype is torch.float32
    with pytest.raises(ConfigurationError, match="needs a GPU"):
        autocast("fp16", "cpu")
    with pytest.raises(ConfigurationError, match="expected fp16, bf16, off, found 'fp8'"):
        autocast("fp8", "cpu")


def test_one_process_is_the_main_one():
    assert (is_main_process(), world_size(), mean_over_ranks(0.25)) == (True, 1, 0.25)


def test_modules_import_from_their_folder_without_any_path(tmp_path):
    names = "config, model, data, train_utils, optimizer, distributed, train, run, translation"
    done = subprocess.run([sys.executable, "-c", f"import {names}"], cwd=PROGRAMS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_requirements_are_the_projects():
    project = (ROOT / "pyproject.toml").read_text().partition("\ndependencies = [")[2].partition("\n]")[0]
    wanted = re.findall(r'^    "(.+)",$', project, re.MULTILINE)
    lines = (PROGRAMS / "requirements.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == wanted


# Examples


SMALL_TEXT = (
    "--data-path imagenet --arch shufflenet_v2_x0_5 --epochs 1 --batch-size 2 --image-size 32 --max-steps 2 "
    "--workers 0 --device cpu --no-compile --checkpoint-every 0 --lr 0.01 --max-lr 0.01"
)
SMALL = SMALL_TEXT.split()
WITH_GPUS = (3, 4, 5, 11)
WITH_STAGES = (2, 4, 6, 11, 12)
RUNS = {8: 3, 9: 3}


def example(number, place, python, *more):
    words = ["bash", str(PROGRAMS / "examples.sh"), *([str(number), "--", *SMALL, *more] if number else [])]
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": str(python), "GPUS": "2", "OMP_NUM_THREADS": "1"}
    return subprocess.run(words, cwd=place, env=environment, capture_output=True, text=True)


def more_of(number):
    return ["--progressive-schedule", "0,32,2"] if number in WITH_STAGES else []


@pytest.mark.parametrize("number", [number for number in range(1, 13) if number not in WITH_GPUS])
def test_example_trains(number, place, recwarn):
    """Its commands, as the script gives them, run in this process: starting another takes seconds."""
    python = place / "python"
    python.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {place}/command.$$\n')
    python.chmod(0o755)
    done = example(number, place, python, *more_of(number))
    assert done.returncode == 0, done.stderr
    commands = sorted(place.glob("command.*"), key=lambda path: path.stat().st_mtime_ns)
    assert len(commands) == RUNS.get(number, 1)
    for command in commands:
        program, *arguments = command.read_text().splitlines()
        assert program == str(PROGRAMS / "run.py")
        assert main([*arguments, "--amp", "off"] if number != 9 else arguments) == 0
    assert len(list(place.glob("checkpoints/**/final_weights.pt"))) == len(commands)
    if number == 9:
        precisions = [json.loads(path.read_text())["training.precision"] for path in place.glob("logs/*/*/params.json")]
        assert sorted(precisions) == ["bf16", "fp32", "fp32"]
    said = [str(one.message) for one in recwarn if not str(one.message).startswith("--amp fp16 needs a GPU")]
    assert not said


@pytest.mark.parametrize("number", [3, *(pytest.param(number, marks=pytest.mark.slow) for number in (4, 5, 11))])
def test_example_for_several_gpus_trains_on_as_many_processes(number, place):
    done = example(number, place, sys.executable, *more_of(number))
    assert done.returncode == 0, done.stderr
    (params,) = place.glob("logs/**/params.json")
    assert json.loads(params.read_text())["setup"].startswith("2 x CPU")


def test_examples_list_themselves_and_refuse_other_numbers(place):
    listed = example(0, place, sys.executable)
    assert listed.returncode == 0
    assert [int(number) for number in re.findall(r"^ +(\d+)  ", listed.stdout, re.MULTILINE)] == list(range(1, 13))
    assert example(13, place, sys.executable).returncode == 2
    words = ["bash", str(PROGRAMS / "examples.sh"), "1", "--epochs", "3"]
    assert "stand behind --" in subprocess.run(words, capture_output=True, text=True).stderr
