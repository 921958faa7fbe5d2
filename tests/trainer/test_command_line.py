import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from trainer.command_line import read_command_line
from trainer.config import LearningRateConfig, ModelConfig, TrainerConfig, all_options
from trainer.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[2]
DATA = ["--data.train_dataset=train.ffcv", "--data.val_dataset=val.ffcv"]

# The defaults of FFCV's ImageNet example.
FFCV_DEFAULTS = {
    "model.arch": "resnet18",
    "model.pretrained": 0,
    "resolution.min_res": 160,
    "resolution.max_res": 160,
    "resolution.end_ramp": 0,
    "resolution.start_ramp": 0,
    "lr.step_ratio": 0.1,
    "lr.step_length": 30,
    "lr.lr_schedule_type": "cyclic",
    "lr.lr": 0.5,
    "lr.lr_peak_epoch": 2,
    "logging.log_level": 1,
    "validation.batch_size": 512,
    "validation.resolution": 224,
    "validation.lr_tta": 1,
    "training.eval_only": 0,
    "training.batch_size": 512,
    "training.optimizer": "sgd",
    "training.momentum": 0.9,
    "training.weight_decay": 4e-5,
    "training.epochs": 30,
    "training.label_smoothing": 0.1,
    "training.distributed": 0,
    "training.use_blurpool": 0,
    "dist.world_size": 1,
    "dist.address": "localhost",
    "dist.port": 12355,
}
# A value for each option that is not its default.
OTHER_VALUES = {
    "model.arch": "resnet50",
    "model.weights": "weights.pt",
    "lr.lr_schedule_type": "step",
    "lr.milestones": "4,5",
    "lr.pct_start": 0.4,
    "data.source": "ffx",
    "data.augmentation": "cifar",
    "logging.profile": "trace.json",
    "data.cache_dir": "cache",
    "data.on_error": "substitute",
    "training.optimizer": "adamw",
    "training.no_decay": "nothing",
    "training.device": "cpu",
    "training.precision": "bf16",
    "training.resume": "runs/one",
    "dist.address": "node7",
    "data.train_dataset": "other_train.ffcv",
    "data.val_dataset": "other_val.ffcv",
    "logging.folder": "elsewhere",
    "logging.log_folder": "logs",
    "logging.log_level": 2,
    "logging.tensorboard": "on",
    "logging.wandb": "off",
    "logging.wandb_project": "mine",
    "resolution.min_res": 128,
    "resolution.end_ramp": 9,
    "resolution.schedule": "0,96,8;2,128",
    "training.label_smoothing": 0.3,
    "recipe.ema": 0.99,
    "recipe.loss": "bce",
    "recipe.stochastic_depth": 0.1,
    "logging.export_folder": "exported",
    "dist.url": "tcp://node7:4000",
    "dist.backend": "gloo",
}


def other_value(option):
    if option.name in OTHER_VALUES:
        return OTHER_VALUES[option.name]
    return not option.default if isinstance(option.default, bool) else option.default + 3


def read(*arguments, folder=ROOT):
    return read_command_line(arguments, "train_imagenet.py", "", folder)


def value_of(config, name):
    section, key = name.split(".")
    return getattr(getattr(config, section), key)


@pytest.fixture
def options():
    return {option.name: option for option in all_options()}


def test_defaults_are_those_of_ffcv():
    config = read(*DATA).config
    assert {name: value_of(config, name) for name in FFCV_DEFAULTS} == FFCV_DEFAULTS


@pytest.mark.parametrize("name", [option.name for option in all_options()])
@pytest.mark.parametrize("by", ["argument", "file"])
def test_every_option_is_read(name, by, options, tmp_path):
    value = other_value(options[name])
    # One option needs another one.
    others = {"resolution.start_ramp": "--resolution.end_ramp=50", "lr.warmup_epochs": "--lr.lr_schedule_type=step"}
    others["data.download"] = "--data.source=cifar10"
    others["model.new_last_layer"] = "--model.pretrained=1"
    extra = [others[name]] if name in others else []
    given = f"--{name}={int(value) if isinstance(value, bool) else value}"
    if by == "file":
        section, key = name.split(".")
        (tmp_path / "options.yaml").write_text(yaml.safe_dump({section: {key: value}}))
        given = f"--config-file={tmp_path / 'options.yaml'}"
    arguments = [argument for argument in DATA if name not in argument]
    assert value_of(read(*arguments, *extra, given).config, name) == value


def test_arguments_win_over_environment_and_files(tmp_path, monkeypatch):
    for number in (1, 2):
        (tmp_path / f"{number}.yaml").write_text(f"lr:\n  lr: {number}\n")
    files = [f"--config-file={tmp_path / '1.yaml'}", "-C", str(tmp_path / "2.yaml")]
    assert read(*DATA, *files).config.lr.lr == 2
    monkeypatch.setenv("lr.lr", "3")
    assert read(*DATA, *files).config.lr.lr == 3
    assert read(*DATA, "--lr.lr=4", *files).config.lr.lr == 4


@pytest.mark.parametrize(
    "text, message",
    [
        ("lr:\n  lrr: 1", r"options.yaml: unknown option lr.lrr \(did you mean lr.lr\?\)"),
        ("training:\n  weigth_decay: 1", r"did you mean training.weight_decay\?"),
        ("training:\n  lr: 1", r"unknown option training.lr \(did you mean lr.lr\?\)"),
        ("lr: 0.5", r"unknown option lr \(did you mean lr.lr\?\)"),
        ("quite:\n  other: 1", r"unknown option quite.other \(--help lists all\)"),
        ("lr:\n  lr:", "lr.lr has no value"),
        ("lr:\n  lr: fast", r"options.yaml: lr.lr: expected a number of at least 0, found 'fast'"),
        ("lr:\n  lr: .nan", "lr.lr: expected a number"),
        ("lr:\n  lr: -1", "lr.lr: expected a number of at least 0"),
        ("training:\n  epochs: 4.5", "training.epochs: expected a whole number of at least 1, found 4.5"),
        ("training:\n  epochs: true", "training.epochs: expected a whole number"),
        ("training:\n  epochs: 0", "training.epochs: expected a whole number of at least 1"),
        ("training:\n  label_smoothing: 2", "training.label_smoothing: expected a number from 0 to 1"),
        ("training:\n  optimizer: adamm", "training.optimizer: expected sgd, adamw"),
        ("training:\n  use_blurpool: 2", "training.use_blurpool: expected 1 or 0"),
        ("training:\n  bn_wd: 1", "training.bn_wd=1: only 0"),
        ("model:\n  arch: resnet19", "model.arch: expected a classification network"),
        ("lr:\n  lr_schedule_type: cosinus", "expected cyclic, step, multistep, cosine or onecycle"),
        ("logging:\n  folder: [a]", "logging.folder: expected a path"),
        ("- lr", "expected sections of options"),
        ("lr: {", "options.yaml cannot be read"),
        ("lr: !!python/object/apply:os.getcwd []", "options.yaml cannot be read"),
    ],
)
def test_mistakes_in_a_file_are_errors(text, message, tmp_path):
    (tmp_path / "options.yaml").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read(*DATA, f"--config-file={tmp_path / 'options.yaml'}")


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:pathlib.Path.touch [{mark}]",
        "!!python/object/new:pathlib.Path.touch [{mark}]",
        "!!python/object/apply:os.system ['touch {mark}']",
        "!!python/name:os.system",
        "!!python/module:os",
        "!!python/object:pathlib.Path {{}}",
        "!!python/tuple [1, 2]",
    ],
)
@pytest.mark.parametrize("place", ["lr: {tag}", "lr:\n  lr: {tag}", "{tag}", "? {tag}\n: 1"])
def test_file_of_options_cannot_run_code(tag, place, tmp_path):
    mark = tmp_path / "it ran"
    (tmp_path / "options.yaml").write_text(place.format(tag=tag.format(mark=mark)))
    with pytest.raises(ConfigurationError, match=r"options.yaml cannot be read"):
        read(*DATA, f"--config-file={tmp_path / 'options.yaml'}")
    assert not mark.exists()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--lr.lrr=1"], r"unknown option --lr.lrr \(did you mean lr.lr\?\)"),
        (["--training.batch=4"], "unknown option --training.batch"),
        (["lr.lr=4"], "unexpected argument 'lr.lr=4'"),
        (["--lr.lr"], "argument --lr.lr: expected one argument"),
        (["--lr.lr=fast"], "command line: lr.lr: expected a number"),
        (["--data.num_workers=-2"], "data.num_workers: expected a whole number of at least -1"),
        (["--dist.port=http"], "dist.port: expected a whole number from 0 to 65535"),
        (["--resolution.min_res=192"], "min_res=192 is above resolution.max_res=160"),
        (["--resolution.start_ramp=3"], "start_ramp=3 is after resolution.end_ramp=0"),
        (["--model.pretrained=1", "--model.weights=a.pt"], "exclude each other"),
        (["--model.new_last_layer=1"], "new_last_layer=1 goes with model.weights or model.pretrained=1"),
        (["--data.download=1"], r"data.download=1 goes with data.source=cifar10, found auto"),
        (["--training.device=cpu", "--training.precision=fp16"], "fp16 needs a GPU"),
        (["--recipe.ema=1.5"], "recipe.ema: expected a number from 0 to 1"),
        (["--recipe.mixup=1e-300"], "recipe.mixup=1e-300: expected 0, or an alpha of at least 0.001"),
        (["--lr.lr_schedule_type=cosine", "--lr.final_lr=1"], "lr.final_lr=1 is above lr.lr=0.5"),
        (["--recipe.loss=mse"], "recipe.loss: expected ce or bce"),
        (["--recipe.randaugment=31"], "recipe.randaugment: expected a whole number from 0 to 30"),
        (["--recipe.alternating_flip=1", "--training.flip=0"], "alternating_flip=1 and training.flip=0 exclude each"),
        (["--recipe.alternating_flip=1", "--data.source=synthetic"], "alternating_flip needs images"),
        (["--recipe.randaugment=9", "--data.source=synthetic"], "recipe.randaugment needs images"),
        (["--config-file=rn18_configs/blurpool_17.yaml"], r"no such file .* did you mean blurpool_16.yaml\?"),
    ],
)
def test_mistakes_in_arguments_are_errors(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        read(*DATA, *arguments)


def test_all_mistakes_are_named_at_once(tmp_path):
    (tmp_path / "options.yaml").write_text("lr: {lrr: 1, lr: fast}\n")
    with pytest.raises(ConfigurationError) as caught:
        read(*DATA, "--training.epochs=x", "--nothing=1", f"-C{tmp_path / 'options.yaml'}")
    assert len(str(caught.value).splitlines()) == 4


def test_data_sets_are_needed_unless_they_are_made_up():
    with pytest.raises(ConfigurationError, match=r"data.val_dataset is missing"):
        read("--data.train_dataset=a")
    with pytest.raises(ConfigurationError, match=r"data.train_dataset is missing"):
        read("--data.val_dataset=a")
    assert read("--data.val_dataset=a", "--training.eval_only=1").config.training.eval_only
    assert read("--data.source=synthetic").config.data.source == "synthetic"


def test_published_files_are_accepted(tmp_path):
    # The keys and the notation of FFCV's files: extra keys, true for 1, and a number that YAML reads as text.
    (tmp_path / "published.yaml").write_text(
        "uid: some-name\ndata: {gpu: 0, in_memory: 1, num_workers: 12}\ndist:\n"
        "training: {bn_wd: 0, weight_decay: 5e-5}\nvalidation: {lr_tta: true}\n"
    )
    config = read(*DATA, f"-C{tmp_path / 'published.yaml'}").config
    assert config.training.weight_decay == 5e-5
    assert config.validation.lr_tta is True


def test_config_file_is_looked_for_in_current_folder_then_in_root(tmp_path, monkeypatch):
    root, here = tmp_path / "root", tmp_path / "here"
    for folder, rate in ((root, 1), (here, 2)):
        (folder / "configs").mkdir(parents=True)
        (folder / "configs" / "both.yaml").write_text(f"lr: {{lr: {rate}}}")
    (root / "configs" / "one.yaml").write_text("lr: {lr: 3}")
    monkeypatch.chdir(here)
    assert read(*DATA, "--config-file=configs/both.yaml", folder=root).config.lr.lr == 2
    assert read(*DATA, "--config-file=configs/one.yaml", folder=root).config.lr.lr == 3


def test_help_lists_every_option(capsys, options):
    with pytest.raises(SystemExit) as caught:
        read("--help")
    shown = capsys.readouterr().out
    assert caught.value.code == 0
    assert all(f"--{name} " in shown and option.help.split(",")[0] for name, option in options.items())


def test_wrong_option_ends_the_program_with_status_2_and_without_torch():
    code = (
        "import runpy, sys; sys.argv = ['train_imagenet.py', '--training.epoch=3']\n"
        "try: runpy.run_path('train_imagenet.py', run_name='__main__')\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2
    assert "did you mean training.epochs?" in done.stderr
    assert done.stdout == "False\n"


def test_configuration_made_in_python_is_checked_too():
    assert LearningRateConfig(lr="5e-5").lr == 5e-5
    with pytest.raises(ConfigurationError, match=r"ModelConfig.pretrained: expected 1 or 0"):
        ModelConfig(pretrained="perhaps")
    with pytest.raises(ConfigurationError, match=r"unknown option lr.lrr"):
        TrainerConfig.from_params({"lr.lrr": 1})


def test_params_make_the_same_configuration_again():
    config = read(*DATA, "--lr.lr=0.25", "--training.flip=0").config
    assert TrainerConfig.from_params(config.as_params()) == config


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1])
def test_seeds_beyond_the_reach_of_floats_are_taken_as_they_are(number):
    assert read(*DATA, f"--training.seed={number}").config.training.seed == number
    assert TrainerConfig.from_params({"data.source": "synthetic", "training.seed": number}).training.seed == number


def test_on_and_off_of_yaml_are_words_where_an_option_has_them(tmp_path):
    (tmp_path / "options.yaml").write_text("logging: {tensorboard: off, wandb: on}")
    logging = read(*DATA, f"--config-file={tmp_path / 'options.yaml'}").config.logging
    assert (logging.tensorboard, logging.wandb) == ("off", "on")
    (tmp_path / "options.yaml").write_text("training: {optimizer: off}")
    with pytest.raises(ConfigurationError, match=r"training\.optimizer: expected sgd, adamw"):
        read(*DATA, f"--config-file={tmp_path / 'options.yaml'}")
