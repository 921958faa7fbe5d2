import subprocess
import sys
from pathlib import Path

import make_config
import pytest
import yaml
from trainer.command_line import read_command_line
from trainer.recipes import PUBLISHED, config_text, shipped_configs
from trainer.schedule import resolution_of_epoch

ROOT = Path(__file__).resolve().parents[2]
# Epochs -> last epoch of the first resolution, first epoch of the last one, as published.
RAMPS = {88: (65, 76), 56: (41, 48), 40: (29, 34), 32: (23, 27), 24: (17, 20), 16: (11, 13)}
COMMON = {
    "resolution.min_res": 160,
    "resolution.max_res": 196,
    "data.in_memory": True,
    "data.num_workers": 12,
    "lr.lr_schedule_type": "cyclic",
    "lr.lr_peak_epoch": 2,
    "training.label_smoothing": 0.1,
    "training.momentum": 0.9,
    "training.optimizer": "sgd",
    "validation.resolution": 256,
    "validation.lr_tta": True,
}
OWN = {
    "rn50": {
        "model.arch": "resnet50",
        "lr.lr": 1.7,
        "training.batch_size": 512,
        "training.weight_decay": 1e-4,
        "training.distributed": True,
        "dist.world_size": 8,
    },
    "rn18": {
        "model.arch": "resnet18",
        "lr.lr": 0.5,
        "training.batch_size": 1024,
        "training.weight_decay": 5e-5,
        "training.distributed": False,
        "dist.world_size": 1,
    },
}

# What ffx's configurations have beyond FFCV's with BlurPool.
FFX = {
    arch: {
        "training.nesterov": True,
        "training.no_decay": "norms_and_biases",
        "recipe.ema": ema,
        "recipe.alternating_flip": True,
    }
    for arch, ema in {"rn50": 0.998, "rn18": 0.999}.items()
}
MUON = {
    "training.optimizer": "muon",
    "lr.lr": 0.02,
    "training.momentum": 0.95,
    "training.weight_decay": 0.01,
}
PLAIN = {
    "training.nesterov": False,
    "training.no_decay": "norms",
    "recipe.ema": 0.0,
    "recipe.alternating_flip": False,
    "recipe.loss": "ce",
    "recipe.mixup": 0.0,
}


def read(name):
    arguments = [f"--config-file={name}", "--data.train_dataset=a", "--data.val_dataset=b"]
    return read_command_line(arguments, "", "", ROOT).config


def test_repository_holds_what_the_generator_makes():
    shipped = shipped_configs()
    found = {str(path.relative_to(ROOT)) for path in ROOT.glob("rn*_configs/*.yaml")}
    assert found == set(shipped)
    for name, text in shipped.items():
        assert (ROOT / name).read_text() == text, f"{name}: run examples/imagenet/make_config.py --write-shipped ."


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_shipped_file_has_the_published_recipe(name):
    config = read(name)
    arch, stem = name.split("_")[0], Path(name).stem
    variant, _, length = stem.rpartition("_") if "_" in stem else ("ffcv", "", "")
    epochs = int(length) if length else {row.uuid: row.epochs for row in PUBLISHED}[stem]
    start, end = RAMPS[epochs]
    expected = {
        **COMMON,
        **OWN[arch],
        "training.epochs": epochs,
        "training.use_blurpool": variant != "ffcv",
        **(FFX[arch] if variant in ("ffx", "ffx_muon") else PLAIN),
        **(MUON if variant == "ffx_muon" else {}),
        "resolution.start_ramp": start,
        "resolution.end_ramp": end,
    }
    params = config.as_params()
    assert {option: params[option] for option in expected} == expected
    assert resolution_of_epoch(config.resolution, start) == 160
    assert resolution_of_epoch(config.resolution, end) == 196
    between = [resolution_of_epoch(config.resolution, epoch) for epoch in range(start, end)]
    assert set(between) == {160, 192}
    assert between == sorted(between)


def test_files_hold_numbers_where_numbers_are_meant():
    for text in shipped_configs().values():
        for section, options in yaml.safe_load(text).items():
            words = {key for key, value in options.items() if isinstance(value, str)}
            assert words <= {"arch", "optimizer", "lr_schedule_type", "no_decay"}, section


@pytest.mark.parametrize("epochs", [1, 2, 3, 5, 20, 300])
def test_recipe_for_any_number_of_epochs_is_a_valid_configuration(epochs, tmp_path):
    path = tmp_path / "stretched.yaml"
    path.write_text(config_text("rn18", epochs))
    config = read(path)
    assert config.training.epochs == epochs
    assert config.resolution.start_ramp <= config.resolution.end_ramp < max(epochs, 2)
    assert config.lr.lr_peak_epoch < epochs


def test_make_config_prints_the_recipe():
    command = [sys.executable, "examples/imagenet/make_config.py", "--arch", "rn50", "--epochs", "20", "--blurpool"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed == config_text("rn50", 20, "blurpool")


@pytest.mark.parametrize(
    "flags, variant",
    [([], "ffcv"), (["--blurpool"], "blurpool"), (["--ffx"], "ffx"), (["--ffx-muon"], "ffx_muon")],
)
def test_make_config_knows_each_recipe(flags, variant, capsys):
    assert make_config.main(["--arch", "rn18", "--epochs", "20", *flags]) == 0
    assert capsys.readouterr().out == config_text("rn18", 20, variant)


def test_recipe_of_the_benchmark_is_the_shipped_one():
    """But for the length of the average, which goes by the steps of an epoch."""
    from benchmarks.recipes import RECIPES

    assert RECIPES["ffx"].keys() == FFX["rn18"].keys() | {"training.use_blurpool"}
    for name, value in RECIPES["ffx"].items():
        assert name == "recipe.ema" or read("rn18_configs/ffx_16.yaml").as_params()[name] == value
    assert RECIPES["muon"] == {**MUON, "training.nesterov": 1}


def test_make_config_refuses_half_a_question(capsys):
    for arguments in (["--arch", "rn50"], ["--arch", "rn50", "--epochs", "0"]):
        with pytest.raises(SystemExit) as caught:
            make_config.main(arguments)
        assert caught.value.code == 2


def fast_or_slow(name):
    row = {row.uuid: row for row in PUBLISHED}.get(Path(name).stem)
    fast = row is not None and row.epochs == 16
    return pytest.param(name, marks=() if fast else pytest.mark.slow)


@pytest.mark.parametrize("name", [fast_or_slow(name) for name in sorted(shipped_configs())])
def test_shipped_configuration_trains(name, tiny):
    from trainer.loop import Trainer

    small = {"dist.world_size": 1, "training.distributed": 0, "training.max_steps": 1, "training.batch_size": 4}
    sides = dict.fromkeys(("resolution.min_res", "resolution.max_res", "validation.resolution"), 32)
    shipped = {**read(name).as_params(), **small, **sides, "validation.batch_size": 9}
    for option in ("data.train_dataset", "data.val_dataset", "logging.folder"):
        del shipped[option]
    with Trainer(tiny(**shipped)) as trainer:
        result = trainer.train_epoch(0)
        scores = trainer.validate()
    assert result.steps == 1
    assert 1 < result.loss < 5
    assert scores.top_5 == 1
