"""`write_dataset.sh` and its launchers, run as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ffx.reader import Reader

ROOT = Path(__file__).resolve().parents[2]
NAMES = {"writer": "writer", "root": ".", "examples": "examples", "imagenet": "examples/imagenet"}


def run_script(folder, *arguments, **environment):
    environment = {**os.environ, "PYTHON": sys.executable, **{name: str(value) for name, value in environment.items()}}
    return subprocess.run(
        ["./write_dataset.sh", *map(str, arguments)], cwd=ROOT / folder, env=environment, capture_output=True, text=True
    )


def jpeg_count(path):
    modes = Reader(str(path)).metadata["f0"]["mode"]
    return int((modes == 0).sum()), len(modes)


def test_writes_both_files_with_the_share_of_jpegs_that_was_asked_for(picture_folder, tmp_path):
    target = tmp_path / "made" / "here"
    done = run_script("examples", 90, "0.40", 90, IMAGENET_DIR=picture_folder, WRITE_DIR=target, NUM_WORKERS=2)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in target.iterdir()) == ["train_90_0.40_90.ffcv", "val_90_0.40_90.ffcv"]
    jpegs, samples = jpeg_count(target / "train_90_0.40_90.ffcv")
    assert samples == 40
    # Five standard deviations of a binomial distribution.
    assert abs(jpegs - 0.4 * samples) < 5 * np.sqrt(samples * 0.4 * 0.6)
    assert 0 < jpegs < samples


@pytest.mark.parametrize("name", NAMES)
def test_every_launcher_starts_the_script(name):
    done = run_script(NAMES[name], "--help")
    assert done.returncode == 0
    assert done.stdout == run_script("writer", "--help").stdout


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_launcher_writes(picture_folder, tmp_path, name):
    environment = {"IMAGENET_DIR": picture_folder, "WRITE_DIR": tmp_path, "NUM_WORKERS": 1}
    done = run_script(NAMES[name], 64, "1.0", 80, "--cfg.subset=2", **environment)
    assert done.returncode == 0, done.stderr
    assert jpeg_count(tmp_path / "val_64_1.0_80.ffcv") == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "expected MAXSIDE PROBABILITY QUALITY"),
        ((400, "0.10"), "found 2 argument(s)"),
        (("big", "0.10", 90), "MAXSIDE: expected a number of pixels such as 400, found 'big'"),
        ((0, "0.10", 90), "MAXSIDE"),
        ((400, "10", 90), "PROBABILITY: expected 0 to 1"),
        ((400, "1.5", 90), "PROBABILITY"),
        ((400, "-1", 90), "PROBABILITY"),
        ((400, ".", 90), "PROBABILITY"),
        ((400, "0.10", 0), "QUALITY: expected 1 to 100"),
        ((400, "0.10", 101), "QUALITY"),
    ],
)
def test_wrong_argument_is_named(picture_folder, tmp_path, arguments, message):
    done = run_script("writer", *arguments, IMAGENET_DIR=picture_folder, WRITE_DIR=tmp_path / "new")
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "new").exists()


def test_missing_environment_is_named(picture_folder, tmp_path):
    done = run_script("writer", 400, "0.10", 90, IMAGENET_DIR="", WRITE_DIR=tmp_path)
    assert done.returncode == 2
    assert "IMAGENET_DIR is not set" in done.stderr
    done = run_script("writer", 400, "0.10", 90, IMAGENET_DIR=picture_folder, WRITE_DIR="")
    assert done.returncode == 2
    assert "WRITE_DIR is not set" in done.stderr
    done = run_script("writer", 400, "0.10", 90, IMAGENET_DIR=picture_folder / "train", WRITE_DIR=tmp_path)
    assert done.returncode == 2
    assert "has no folder train" in done.stderr


def test_missing_interpreter_is_named(picture_folder, tmp_path):
    done = run_script(
        "writer", 400, "0.10", 90, IMAGENET_DIR=picture_folder, WRITE_DIR=tmp_path, PYTHON="no-such-python"
    )
    assert done.returncode == 2
    assert "no-such-python" in done.stderr


def test_unknown_option_stops_the_script(picture_folder, tmp_path):
    done = run_script(
        "writer", 400, "0.10", 90, "--cfg.sbuset=1", IMAGENET_DIR=picture_folder, WRITE_DIR=tmp_path, NUM_WORKERS=1
    )
    assert done.returncode == 2
    assert "--cfg.sbuset" in done.stderr
    assert not list(tmp_path.iterdir())


def test_help_says_when_to_choose_what():
    done = run_script("writer", "--help")
    assert done.returncode == 0
    assert "Which parameters?" in done.stdout
