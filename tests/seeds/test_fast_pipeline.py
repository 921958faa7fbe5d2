"""The commands of the guide to a fast ResNet-50 pipeline, as they stand there, each with its line in that document.

Each command of run.py is shown twice: as it stands, translated to the trainer's options, and run on a few small
pictures with a small network, for which options are appended. What the document gets wrong is said where it is run.
"""

import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import cv2
import pytest

from ffx.errors import FfxWarning
from tests.pictures import CLASS_NAMES, make_picture

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "examples" / "imagenet"
if str(PROGRAMS) not in sys.path:
    sys.path.insert(0, str(PROGRAMS))

# Appended, because the document's trainings are for ImageNet on GPUs.
SMALL = (
    "--arch shufflenet_v2_x0_5 --epochs 1 --batch-size 2 --image-size 32 --max-steps 2 --workers 0 --no-compile "
    "--checkpoint-every 0 --device cpu"
)
SMALL_STAGES = "0,32,2"

DEFAULTS = {
    "model.arch": "scratch_resnet50",
    "model.zero_init": True,
    "resolution.min_res": 224,
    "resolution.max_res": 224,
    "resolution.schedule": "",
    "data.num_workers": 8,
    "lr.lr_schedule_type": "multistep",
    "lr.milestones": "30,60,80",
    "lr.step_ratio": 0.1,
    "lr.lr": 0.1,
    "logging.folder": "./checkpoints",
    "logging.log_folder": "./logs",
    "validation.resolution": 224,
    "validation.lr_tta": False,
    "training.batch_size": 256,
    "training.optimizer": "sgd",
    "training.momentum": 0.9,
    "training.weight_decay": 1e-4,
    "training.no_decay": "nothing",
    "training.grad_clip": 1.0,
    "training.epochs": 90,
    "training.label_smoothing": 0.0,
    "training.compile": True,
    "training.channels_last": True,
    "training.distributed": False,
    # Where there is a GPU, fp16.
    "training.precision": "fp32",
}
STAGES = "0,128,512;5,160,384;10,192,320;15,224,256"
ONE_CYCLE = {"lr.lr_schedule_type": "onecycle", "lr.pct_start": 0.3, "lr.final_lr": 0.001}
FAST = {
    "training.epochs": 18,
    "lr.lr": 0.4,
    "training.precision": "bf16",
    "resolution.schedule": STAGES,
    "training.no_decay": "norms_and_biases",
    "lr.lr_schedule_type": "cosine",
    "lr.final_lr": 0.0,
    "data.num_workers": 16,
}
NEVER_FALLS = "the learning rate never falls"

# Line of the document: the command, what differs from the defaults, a warning that it gives.
COMMANDS = {
    75: (
        """python run.py \\
    --data-path ./imagenet \\
    --epochs 90 \\
    --progressive-resize \\
    --scheduler onecycle""",
        {"resolution.schedule": STAGES, **ONE_CYCLE},
        "",
    ),
    93: (
        """python run.py \\
    --data-path ./imagenet \\
    --epochs 18 \\
    --lr 0.4 \\
    --amp bf16 \\
    --progressive-resize \\
    --no-bn-weight-decay \\
    --scheduler cosine \\
    --workers 16""",
        FAST,
        "",
    ),
    208: ("python run.py --data-path ./imagenet --epochs 100 --lr 0.1", {"training.epochs": 100}, ""),
    288: ("python run.py --batch-size 128", {"training.batch_size": 128, "validation.batch_size": 128}, ""),
    291: (
        "python run.py --image-size 192",
        {"resolution.min_res": 192, "resolution.max_res": 192, "validation.resolution": 192},
        "",
    ),
    294: ("python run.py --no-channels-last", {"training.channels_last": False}, ""),
    # 297 is a piece of a command: flags alone.
    297: (
        'python run.py --progressive-schedule "0,128,256;5,160,192;10,192,128;15,224,96"',
        {"resolution.schedule": "0,128,256;5,160,192;10,192,128;15,224,96"},
        "",
    ),
    303: ("python run.py --workers 16", {"data.num_workers": 16}, ""),
    316: ("python run.py --scheduler onecycle --max-lr 0.08", {**ONE_CYCLE, "lr.lr": 0.08, "lr.final_lr": 0.0008}, ""),
    319: ("python run.py --scheduler cosine", {"lr.lr_schedule_type": "cosine", "lr.final_lr": 0.0}, ""),
    # 322 too.
    322: ("python run.py --lr 0.05 --grad-clip 0.5", {"lr.lr": 0.05, "training.grad_clip": 0.5}, ""),
    328: ("python run.py --lr 0.05 --grad-clip 0.5", {"lr.lr": 0.05, "training.grad_clip": 0.5}, ""),
    351: (
        """python run.py \\
    --epochs 18 \\
    --lr 0.4 \\
    --amp bf16 \\
    --progressive-resize \\
    --no-bn-weight-decay \\
    --scheduler cosine \\
    --workers 16""",
        FAST,
        "",
    ),
    # "For Best Accuracy" names a training of 30 epochs and a schedule whose first step is at epoch 30.
    363: (
        """python run.py \\
    --epochs 30 \\
    --lr 0.1 \\
    --amp fp16 \\
    --progressive-resize \\
    --scheduler multistep""",
        {"training.epochs": 30, "resolution.schedule": STAGES},
        f"{NEVER_FALLS}.*--milestones 10,20,27",
    ),
    373: (
        """python run.py \\
    --epochs 5 \\
    --amp bf16 \\
    --progressive-resize \\
    --progressive-schedule "0,128,512;3,224,256\"""",
        {"training.epochs": 5, "training.precision": "bf16", "resolution.schedule": "0,128,512;3,224,256"},
        "",
    ),
    382: (
        """python run.py \\
    --progressive-schedule "0,128,128;5,160,96;10,192,64;15,224,48" \\
    --amp fp16""",
        {"resolution.schedule": "0,128,128;5,160,96;10,192,64;15,224,48"},
        "",
    ),
    462: ("python run.py --epochs 1 --batch-size 32", {"training.epochs": 1, "training.batch_size": 32}, ""),
    463: (
        "python run.py --data-path ./imagenet --epochs 90 --progressive-resize",
        {"resolution.schedule": STAGES},
        "",
    ),
    465: (
        "python run.py --epochs 18 --lr 0.4 --amp bf16 --progressive-resize",
        {
            "training.epochs": 18,
            "lr.lr": 0.4,
            "training.precision": "bf16",
            "resolution.schedule": STAGES,
        },
        NEVER_FALLS,
    ),
}
TORCHRUN = {
    84: """torchrun --nproc_per_node=4 run.py \\
    --data-path ./imagenet \\
    --epochs 90 \\
    --distributed \\
    --progressive-resize""",
    427: "torchrun --nproc_per_node=4 run.py --data-path ./imagenet --distributed",
    464: "torchrun --nproc_per_node=4 run.py --data-path ./imagenet --distributed",
}


def write_classes(folder: Path, pictures: int) -> None:
    for number, name in enumerate(CLASS_NAMES):
        (folder / name).mkdir(parents=True)
        for index in range(pictures):
            picture = make_picture(20, 24, seed=100 * number + index)
            assert cv2.imwrite(str(folder / name / f"{name}_{index}.png"), picture)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """On a busy machine several threads wait for each other at every tiny layer."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The document's project: all programs in a folder, beside `imagenet/` with a few small pictures."""
    folder = tmp_path_factory.mktemp("project")
    for path in PROGRAMS.iterdir():
        # Not what somebody's own trainings left there.
        if path.suffix in (".py", ".sh", ".txt") or path.name == "trainer":
            (folder / path.name).symlink_to(path)
    write_classes(folder / "imagenet" / "train", 4)
    write_classes(folder / "imagenet" / "val", 1)
    return folder


@pytest.fixture
def shell(tmp_path):
    """Runs lines in bash; `python` and `torchrun` append small options to commands of run.py, `pip` only notes them."""
    stand_ins = {
        "python": f'small=""; [ "$1" = run.py ] && small="{SMALL}"\nexec "{sys.executable}" "$@" $small\n',
        "torchrun": f'exec "{sys.executable}" -m torch.distributed.run --standalone "$@" {SMALL} $STAGES\n',
        "pip": f'echo "$@" >> {tmp_path}/pip\n',
    }
    (tmp_path / "bin").mkdir()
    for name, script in stand_ins.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(ROOT)

    def run(*lines, folder, **more):
        script = "\n".join(("set -e", *lines))
        return subprocess.run(
            ["bash", "-c", script], cwd=folder, env={**environment, **more}, capture_output=True, text=True
        )

    return run


def options_of(command: str) -> list[str]:
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:2] == ["python", "run.py"]
    return words[2:]


def new_run(folder: Path, before: set[Path]) -> Path:
    (run,) = set(folder.glob("checkpoints/*")) - before
    return run


@pytest.mark.parametrize("line", COMMANDS)
def test_command_means_what_the_document_says(line, project, monkeypatch):
    from run import read_arguments

    command, differences, warning = COMMANDS[line]
    monkeypatch.chdir(project)
    config, options, _ = read_arguments(options_of(command))
    config.device = "cpu"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = config.to_trainer_config(**options).as_params()
    expected = {**DEFAULTS, **differences}
    assert {name: found[name] for name in expected} == expected
    assert (found["data.train_dataset"], found["data.val_dataset"]) == ("imagenet/train", "imagenet/val")
    said = [str(one.message) for one in caught if not str(one.message).startswith("--amp fp16 needs a GPU")]
    assert len(said) == bool(warning)
    assert not warning or re.search(warning, said[0])
    assert all(issubclass(one.category, FfxWarning) for one in caught)


@pytest.mark.parametrize("line", COMMANDS)
def test_command_trains(line, project, monkeypatch):
    from run import main

    arguments = [*options_of(COMMANDS[line][0]), *SMALL.split()]
    # A processor computes in fp32 instead of fp16, which a warning says; another test shows that.
    arguments += [] if "bf16" in arguments else ["--amp", "off"]
    if any(word.startswith("--progressive") for word in arguments):
        arguments += ["--progressive-schedule", SMALL_STAGES]
    monkeypatch.chdir(project)
    before = set(Path("checkpoints").glob("*"))
    assert main(arguments) == 0
    run = new_run(Path(), before)
    assert (run / "final_weights.pt").exists()
    (text,) = (Path("logs") / run.name / "log").read_text().splitlines()
    entry = json.loads(text)
    assert (entry["steps"], entry["resolution"], entry["batch_size"]) == (2, 32, 2)
    assert entry["train_loss"] > 0


def test_set_up_is_checked_and_the_first_command_trains_in_a_shell(shell, project, tmp_path):
    """Lines 57 to 63 and 462: with the default precision, which a processor cannot compute in."""
    before = set(project.glob("checkpoints/*"))
    done = shell(
        "pip install torch torchvision tqdm",
        'python -c "import torch; print(torch.__version__)"',
        'python -c "import torch; print(torch.cuda.is_available())"',
        "python run.py --epochs 1 --batch-size 32",
        folder=project,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pip").read_text() == "install torch torchvision tqdm\n"
    import torch

    assert done.stdout.splitlines()[:2] == [torch.__version__, str(torch.cuda.is_available())]
    assert "--amp fp16 needs a GPU, and this training has none: it computes in fp32" in done.stderr
    assert {path.name for path in new_run(project, before).iterdir()} >= {"log", "params.json", "final_weights.pt"}


@pytest.mark.parametrize("line", [84, *(pytest.param(line, marks=pytest.mark.slow) for line in (427, 464))])
def test_torchrun_starts_four_ranks(line, shell, project):
    before = set(project.glob("checkpoints/*"))
    stages = f"--progressive-schedule {SMALL_STAGES}" if "--progressive-resize" in TORCHRUN[line] else ""
    done = shell(TORCHRUN[line], folder=project, STAGES=stages)
    assert done.returncode == 0, done.stderr
    # One run, not four; the fourth of the 16 images is each rank's.
    run = new_run(project, before)
    (entry,) = [json.loads(text) for text in (run / "log").read_text().splitlines()]
    assert (entry["steps"], entry["batch_size"]) == (2, 2)
    assert json.loads((run / "params.json").read_text())["setup"].startswith("4 x CPU")


def test_data_are_copied_to_a_faster_disk(project, tmp_path, monkeypatch):
    """Lines 306 and 307."""
    from run import main

    (tmp_path / "data").mkdir()
    (tmp_path / "ssd").mkdir()
    (tmp_path / "data" / "imagenet").symlink_to(project / "imagenet")
    lines = "cp -r /data/imagenet/ /ssd/imagenet".replace("/data/", f"{tmp_path}/data/")
    subprocess.run(lines.replace(" /ssd/", f" {tmp_path}/ssd/"), shell=True, check=True)
    monkeypatch.chdir(tmp_path)
    command = "python run.py --data-path /ssd/imagenet".replace("/ssd/", f"{tmp_path}/ssd/")
    assert main([*options_of(command), *SMALL.split(), "--amp", "off"]) == 0


# Lines 213 to 220.
METHOD_2 = """
from config import TrainingConfig, DataConfig

config = TrainingConfig(
    epochs=100,
    data=DataConfig(batch_size=512),
)
trainer = Trainer(config)
trainer.train()
"""
# Lines 225 to 229.
METHOD_3 = """
from config import get_default_config

cfg = get_default_config()
cfg.data.batch_size = 512
cfg.optimizer.lr = 0.2
"""


def test_python_code_configures_and_trains(project, monkeypatch):
    """The second snippet lacks an import of `Trainer`; here it gets one that makes the training small as well."""
    import train

    made = []

    def small_trainer(config):
        made.append((config.epochs, config.data.batch_size))
        config.epochs, config.data.batch_size, config.data.image_size, config.data.workers = 1, 2, 32, 0
        config.model.arch, config.max_steps, config.device = "shufflenet_v2_x0_5", 2, "cpu"
        config.optimization.compile, config.optimization.amp = False, "off"
        return train.Trainer(config)

    monkeypatch.chdir(project)
    before = set(Path("checkpoints").glob("*"))
    exec(METHOD_2, {"Trainer": small_trainer})
    assert made == [(100, 512)]
    assert (new_run(Path(), before) / "final_weights.pt").exists()


def test_python_code_changes_defaults(project, monkeypatch):
    monkeypatch.chdir(project)
    names: dict = {}
    exec(METHOD_3, names)
    names["cfg"].optimization.amp = "off"
    options = names["cfg"].to_trainer_config()
    assert (options.training.batch_size, options.lr.lr) == (512, 0.2)


def test_rule_for_learning_rates():
    """Lines 335 to 339."""
    from train_utils import scaled_learning_rate

    assert [scaled_learning_rate(0.1, batch) for batch in (256, 512, 1024)] == pytest.approx([0.1, 0.2, 0.4])


def test_schedules_are_those_of_the_document():
    """Lines 181 to 201: the default one, and the one of its own with what it creates."""
    from config import DEFAULT_PROGRESSIVE_SCHEDULE
    from train_utils import parse_progressive_schedule, stage_of_epoch

    def sizes(text, epochs):
        stages = parse_progressive_schedule(text)
        return [(stage_of_epoch(stages, epoch).side, stage_of_epoch(stages, epoch).batch_size) for epoch in epochs]

    default = [(128, 512), (128, 512), (160, 384), (160, 384), (192, 320), (192, 320), (224, 256), (224, 256)]
    assert sizes(DEFAULT_PROGRESSIVE_SCHEDULE, (0, 4, 5, 9, 10, 14, 15, 89)) == default
    own = "0,96,2048;4,128,1024;8,160,512;12,224,256"
    expected = [(96, 2048), (96, 2048), (128, 1024), (128, 1024), (160, 512), (160, 512), (224, 256), (224, 256)]
    assert sizes(own, (0, 3, 4, 7, 8, 11, 12, 99)) == expected


def test_examples_want_a_number(shell, project):
    """Line 256 stands for a number from 1 to 12."""
    done = shell("bash examples.sh [1-12]", folder=project)
    assert done.returncode == 2
    assert "expected a number from 1 to 12, found '[1-12]'" in done.stderr


def test_project_has_the_documents_files(project):
    """Lines 20 to 36; README.md is docs/fast_pipeline.md here."""
    names = "config model data train_utils optimizer distributed train run download_imagenet_dataset test_single_batch"
    files = [*(f"{name}.py" for name in names.split()), "examples.sh", "requirements.txt"]
    assert all((project / name).is_file() for name in files)
    assert (ROOT / "docs" / "fast_pipeline.md").is_file()
