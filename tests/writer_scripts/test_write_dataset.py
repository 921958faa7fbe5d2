"""`write_dataset.sh` and its launchers, run as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ffx.commands import main as ffx_command
from ffx.reader import Reader
from tests.ilsvrc_archives import made_pictures, write_archives

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


@pytest.fixture(scope="module")
def ilsvrc(tmp_path_factory):
    """Folder with archives, and what the plain script unpacks them to below it."""
    made = write_archives(tmp_path_factory.mktemp("ilsvrc"), made_pictures(4, 5), made_pictures(4, 2, seed=5))
    script = ROOT / "writer" / "extract_ILSVRC.sh"
    subprocess.run([script, made.folder, made.folder / "unpacked"], check=True, capture_output=True)
    return made.folder


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.long("files from archives")
def test_archives_give_the_files_of_the_folders(ilsvrc, tmp_path):
    for name, source in (
        ("folders", {"IMAGENET_DIR": ilsvrc / "unpacked"}),
        ("archives", {"IMAGENET_TARS": ilsvrc, "IMAGENET_DIR": ""}),
    ):
        done = run_script("writer", 40, "0.5", 90, **source, WRITE_DIR=tmp_path / name, NUM_WORKERS=2)
        assert done.returncode == 0, done.stderr
    assert files_of(tmp_path / "archives") == files_of(tmp_path / "folders")
    assert sorted(files_of(tmp_path / "archives")) == ["train_40_0.5_90.ffcv", "val_40_0.5_90.ffcv"]


@pytest.mark.long("files from archives")
def test_shards_of_an_array_are_merged_into_the_files_of_one_run(ilsvrc, tmp_path):
    source = {"IMAGENET_TARS": ilsvrc, "IMAGENET_DIR": "", "NUM_WORKERS": 1}
    done = run_script("writer", 40, "0.5", 90, **source, WRITE_DIR=tmp_path / "one")
    assert done.returncode == 0, done.stderr
    for shard in range(3):
        done = run_script(
            "writer", 40, "0.5", 90, **source, WRITE_DIR=tmp_path, WRITE_SHARD=shard, WRITE_SHARDS=3
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    for split in ("train", "val"):
        parts = [str(tmp_path / f"{split}_40_0.5_90.shard-{shard}-of-3.ffcv") for shard in (2, 0, 1)]
        merged = tmp_path / f"{split}_40_0.5_90.ffcv"
        assert ffx_command(["merge", str(merged), *parts]) == 0
        assert merged.read_bytes() == (tmp_path / "one" / merged.name).read_bytes()


@pytest.mark.parametrize(
    ("environment", "options", "message"),
    [
        ({"IMAGENET_DIR": "x"}, (), "IMAGENET_DIR and IMAGENET_TARS are both set"),
        ({"IMAGENET_TARS": "unpacked"}, (), "has no ILSVRC2012_img_train.tar"),
        ({"WRITE_SHARD": 0}, (), "WRITE_SHARDS: expected a number of parts such as 16, found ''"),
        ({"WRITE_SHARDS": 4}, (), "WRITE_SHARD: expected 0 to 3, found ''"),
        ({"WRITE_SHARD": 4, "WRITE_SHARDS": 4}, (), "WRITE_SHARD: expected 0 to 3, found '4'"),
        ({}, ("--cfg.shard=1", "--cfg.shards=2"), "expected WRITE_SHARD and WRITE_SHARDS in the environment"),
    ],
)
def test_wrong_environment_of_archives_and_shards(ilsvrc, tmp_path, environment, options, message):
    given = {"IMAGENET_TARS": ilsvrc, "IMAGENET_DIR": "", "WRITE_DIR": tmp_path, **environment}
    done = run_script("writer", 40, "0.5", 90, *options, **given)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_archives_without_classes(ilsvrc, tmp_path):
    for split in ("train", "val"):
        (tmp_path / f"ILSVRC2012_img_{split}.tar").symlink_to(ilsvrc / f"ILSVRC2012_img_{split}.tar")
    done = run_script("writer", 40, "0.5", 90, IMAGENET_TARS=tmp_path, IMAGENET_DIR="", WRITE_DIR=tmp_path / "new")
    assert done.returncode == 2
    assert "has neither valprep.sh nor ILSVRC2012_devkit_t12.tar.gz" in done.stderr


def test_a_search_path_of_cd_changes_nothing(tmp_path):
    environment = {
        **os.environ,
        "CDPATH": ".",
        "IMAGENET_DIR": str(tmp_path),
        "WRITE_DIR": str(tmp_path),
        "PYTHON": "echo",
    }
    (tmp_path / "train").mkdir()
    (tmp_path / "val").mkdir()
    done = subprocess.run(
        ["bash", "writer/write_dataset.sh", "40", "0.5", "90"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    # Once for each split, and in one line.
    assert done.stdout.count(f"{ROOT}/writer") == done.stdout.count(f"{ROOT}/writer/write_imagenet.py --cfg.") == 2


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
