"""The commands of the ResNet-18 lab's document, as they stand there, on four small pictures.

Each command is given with its line in the document. conda, pip3, sbatch and singularity are stand-ins that
take what they are given. What follows behind `SMALL` is appended, because the document trains on 50,000 pictures with
a GPU.
"""

import json
import os
import re
import subprocess
import sys

import pytest
import torch

from tests.lab.class_folders import LAB, write_classes

HAS_GPU = torch.cuda.is_available()
SMALL = "--batch-size=4" if HAS_GPU else "--batch-size=4 --device=cpu"
FILES = ("lab2.py", "codes.py", "lab2.batch", "run.sbatch")

# Writes down how it was called.
TAKE_NOTE = '#!/bin/sh\necho "$(basename "$0") $*" >> "$HOME/called"\n'
# Runs the script in a copy, as SLURM does, where sbatch was called.
SBATCH = '#!/bin/sh\ncp "$1" "$HOME/slurm_script"\nSLURM_SUBMIT_DIR="$PWD" exec bash "$HOME/slurm_script"\n'
# Runs the command of `singularity exec [--nv] --overlay FILE:ro IMAGE COMMAND...`.
SINGULARITY = (
    TAKE_NOTE
    + 'test "$1" = exec && shift\ntest "$1" = --nv && shift\ntest "$1" = --overlay && shift 2\nshift\nexec "$@"\n'
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp("lab"), side=32, train=1)


@pytest.fixture
def shell(tmp_path, pictures):
    """Runs lines in bash in a folder with the lab's files, with a home of its own; `DATASET_PATH` is set."""
    home, here, tools = tmp_path / "home", tmp_path / "lab", tmp_path / "bin"
    for folder in (home / "path" / "to" / "my" / "dataset", here / "path" / "to", tools):
        folder.mkdir(parents=True)
    for place in (home / "path" / "to" / "my" / "dataset" / "dir", here / "path" / "to" / "dataset"):
        place.symlink_to(pictures)
    for name in FILES:
        (here / name).symlink_to(LAB / name)
    python = f'#!/bin/sh\nexec "{sys.executable}" "$@"\n'
    scripts = {"python3": python, "sbatch": SBATCH, "singularity": SINGULARITY, "conda": TAKE_NOTE, "pip3": TAKE_NOTE}
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    environment = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{tools}:{os.environ['PATH']}",
        "DATASET_PATH": str(pictures),
        "OMP_NUM_THREADS": "1",
    }

    def run(*lines):
        return subprocess.run(
            ["bash", "-c", "\n".join(lines)], cwd=here, env=environment, capture_output=True, text=True
        )

    run.here, run.home = here, home
    return run


def epochs_of(text):
    """The first cells of a table's rows."""
    return re.findall(r"^\| +(\w+) \|", text, re.MULTILINE)[1:]


def test_requirements(shell):
    """Lines 25 and 26."""
    done = shell(
        "set -e",
        "conda install pytorch torchvision torchaudio pytorch-cuda=12.1 -c pytorch -c nvidia",
        "pip3 install tqdm",
    )
    assert done.returncode == 0
    assert len((shell.home / "called").read_text().splitlines()) == 2
    # That they are all that the lab needs beside ffx: torchaudio is not among what it imports.
    assert "torchaudio" not in "".join(path.read_text() for path in LAB.rglob("*.py"))


CODES_SMALL = f"{SMALL} --epochs=1 --num-of-workers=0 --max-num-of-workers-for-code-3=4"


def assert_all_codes_ran(folder):
    saved = (folder / "pp2959.out").read_text()
    assert re.findall(r"^## (C\d)", saved, re.MULTILINE) == [f"C{number}" for number in range(1, 9)]
    assert json.loads((folder / "trace.json").read_text())["traceEvents"]


@pytest.mark.long("codes of the lab")
def test_option_1_all_codes_in_a_shell(shell):
    """Line 31; the path is quoted, so the lab itself has to make a folder of the tilde."""
    done = shell(f"source lab2.batch '~/path/to/my/dataset/dir' {CODES_SMALL}", "echo the shell lives: $?")
    assert "the shell lives: 0" in done.stdout, done.stderr
    assert_all_codes_ran(shell.here)


@pytest.mark.skipif(HAS_GPU, reason="needs a machine without a GPU")
@pytest.mark.parametrize("how", ["source", "bash"])
def test_option_1_as_it_stands_says_that_there_is_no_gpu(how, shell):
    """Line 31."""
    done = shell(f"{how} lab2.batch '~/path/to/my/dataset/dir'", "echo the shell lives: $?")
    assert "the shell lives: 2" in done.stdout
    assert "--device=cuda, but torch finds no GPU on this machine: use --device=cpu" in done.stderr


def test_option_1_without_a_path_says_what_it_needs(shell):
    done = shell("source lab2.batch", "echo the shell lives: $?")
    assert "the shell lives: 2" in done.stdout
    assert "expected the folder of the data set" in done.stderr


@pytest.mark.long("codes of the lab")
def test_option_2_all_codes_by_sbatch(shell):
    """Lines 34, 35 and 37: the three variables are replaced first."""
    text = (LAB / "run.sbatch").read_text()
    for name, value in {
        "SINGULARITY_IMAGE": shell.home / "my.sif",
        "OVERLAY_FILE": shell.home / "my.ext3",
        "DATASET_PATH": "'~/path/to/my/dataset/dir'",
    }.items():
        text, count = re.subn(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
        assert count == 1
    (shell.here / "run.sbatch").unlink()
    (shell.here / "run.sbatch").write_text(text)
    failed = shell("sbatch run.sbatch")
    assert failed.returncode == 1 and "my.sif: no such file: set SINGULARITY_IMAGE" in failed.stderr
    for name in ("my.sif", "my.ext3"):
        (shell.home / name).touch()
    done = shell(f"export LAB2_FLAGS='{CODES_SMALL} C1 C4'", "sbatch run.sbatch")
    assert done.returncode == 0, done.stderr
    saved = (shell.here / "pp2959.out").read_text()
    assert re.findall(r"^## (C\d)", saved, re.MULTILINE) == ["C1", "C4"]
    assert re.match(
        r"singularity exec (--nv )?--overlay \S+/my.ext3:ro \S+/my.sif bash", (shell.home / "called").read_text()
    )


def run_command(shell, command, more=""):
    """A command as it stands; where there is no GPU it has to say so, and runs on the processor instead."""
    if not HAS_GPU:
        refused = shell(command)
        assert refused.returncode == 2
        assert "--device=cuda, but torch finds no GPU on this machine: use --device=cpu" in refused.stderr
    done = shell(f"{command} {SMALL} {more}")
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long("codes of the lab")
def test_example_of_arguments(shell):
    """Line 43."""
    shown = run_command(
        shell,
        "python3 lab2.py --device=cuda --num-of-workers=2 --epochs=5 --optimizer=sgd --batch-size=128 "
        "--dataset-path='path/to/dataset'  ",
    )
    assert epochs_of(shown) == ["1", "2", "3", "4", "5", "all"]
    assert "epoch 5/5" in shown


@pytest.mark.long("codes of the lab")
def test_c3(shell):
    """Line 71."""
    shown = run_command(
        shell,
        "python3 lab2.py --device=cuda --epochs=5 --optimizer=sgd --dataset-path=$DATASET_PATH --run-code-3=true "
        "--max-num-of-workers-for-code-3=12 --print-epochs=false ",
        # Four numbers of workers with five epochs each are a minute or more.
        "--epochs=1",
    )
    assert epochs_of(shown) == ["0", "4", "8", "12"]
    assert "epoch 1/1" not in shown


@pytest.mark.long("codes of the lab")
def test_c7(shell):
    """Line 82."""
    shown = run_command(
        shell,
        "python3 lab2.py --device=cuda --epochs=5 --optimizer=sgd --num-of-workers=4 --dataset-path=$DATASET_PATH "
        "--no-batch-norm=true",
        "--epochs=2",
    )
    assert epochs_of(shown) == ["1", "2", "all"]
    # 4 classes here: 6 rows of 513 weights less than the 11,164,362 of 10 classes.
    assert f"cifar_resnet18_no_norm: {11_164_362 - 6 * 513:,} parameters" in shown


@pytest.mark.long("codes of the lab")
def test_extra_credits(shell):
    """Line 94."""
    run_command(
        shell,
        "python3 lab2.py --device=cuda --optimizer=sgd --num-of-workers=4 --dataset-path=$DATASET_PATH "
        "--run-profiler=true --trace-file-name=trace",
        "--epochs=1",
    )
    events = json.loads((shell.here / "trace.json").read_text())["traceEvents"]
    assert any("convolution" in event.get("name", "") for event in events)


# The blocks with possible values of a flag: each is a run of its own


@pytest.fixture
def lab(pictures, tmp_path, monkeypatch):
    """Runs `lab2.py` in this process, on the processor."""
    import lab2

    monkeypatch.chdir(tmp_path)
    small = [f"--dataset-path={pictures}", "--batch-size=4", "--epochs=1", "--num-of-workers=0", "--device=cpu"]
    return lambda *flags: lab2.main([*small, *flags])


@pytest.mark.parametrize("line, value", [(48, "cuda"), (51, "cpu")])
def test_device(line, value, lab, capsys):
    expected = 0 if HAS_GPU or value == "cpu" else 2
    assert lab(f"--device={value}") == expected
    assert ("finds no GPU" in capsys.readouterr().err) == bool(expected)


@pytest.mark.parametrize(
    "line, value", [(55, "sgd"), (58, "sgd-nesterov"), (61, "adagrad"), (64, "adadelta"), (67, "adam")]
)
def test_optimizer(line, value, lab, capsys):
    assert lab(f"--optimizer={value}") == 0
    assert f"## {value} on cpu" in capsys.readouterr().out


@pytest.mark.parametrize("line, value", [(75, "true"), (78, "false")])
def test_run_code_3_and_print_epochs(line, value, lab, capsys):
    assert lab(f"--run-code-3={value}", f"--print-epochs={value}", "--max-num-of-workers-for-code-3=0") == 0
    shown = capsys.readouterr().out
    assert ("C3" in shown) == ("epoch 1/1" in shown) == (value == "true")


@pytest.mark.parametrize("line, value", [(87, "true"), (90, "false")])
def test_no_batch_norm(line, value, lab, capsys):
    assert lab(f"--no-batch-norm={value}") == 0
    assert ("cifar_resnet18_no_norm" in capsys.readouterr().out) == (value == "true")
