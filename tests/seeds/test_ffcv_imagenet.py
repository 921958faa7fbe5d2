"""The commands of FFCV's ImageNet document, as they stand there, on a few small pictures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ffx.reader import Reader

ROOT = Path(__file__).resolve().parents[2]

# "Training Models", first block: with the example's paths.
WRITE = """
# Required environmental variables for the script:
export IMAGENET_DIR=/path/to/pytorch/format/imagenet/directory/
export WRITE_DIR=/your/path/here/

# Starting in the root of the Git repo:
cd examples;

# Serialize images with:
# - 400px side length maximum
# - 10% JPEG encoded, 90% raw pixel values
# - quality=90 JPEGs
./write_dataset.sh 400 0.10 90
"""
# Second block.
TRAIN = """
# 1 GPU training
export CUDA_VISIBLE_DEVICES=0

# Set the visible GPUs according to the `world_size` configuration parameter
# Modify `data.in_memory` and `data.num_workers` based on your machine
python train_imagenet.py --config-file path/to/config/file.yaml \\
    --data.train_dataset=/path/to/train/dataset.ffcv \\
    --data.val_dataset=/path/to/val/dataset.ffcv \\
\t--data.num_workers=6 --data.in_memory=1 """
# "FAQ": what a machine with 300 to 500 GB runs instead.
WRITE_SMALLER = "./write_dataset.sh 350 0.10 90"

# Appended, because the configurations are for ImageNet on A100s.
SMALL = (
    "--training.distributed=0 --dist.world_size=1 --training.epochs=1 "
    "--training.batch_size=8 --validation.batch_size=8 "
    "--resolution.min_res=32 --resolution.max_res=32 --validation.resolution=32 --training.checkpoint_every=0"
)


@pytest.fixture
def shell(tmp_path):
    """Runs lines in bash, from the repository's root, where `python` is the interpreter of the tests."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "NUM_WORKERS": "1",
        "OMP_NUM_THREADS": "1",
    }

    def run(*lines, folder=ROOT):
        script = "\n".join(("set -e", *lines))
        return subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)

    return run


def test_document_from_pictures_to_a_trained_model(shell, picture_folder, tmp_path):
    files = tmp_path / "written"
    write = WRITE.replace("/path/to/pytorch/format/imagenet/directory/", f"{picture_folder}/")
    write = write.replace("/your/path/here/", f"{files}/")
    train = TRAIN.replace("path/to/config/file.yaml", "rn18_configs/08508b1c-ae7f-4022-9090-06a520f998c8.yaml")
    train = train.replace("/path/to/train/dataset.ffcv", str(files / "train_400_0.10_90.ffcv"))
    train = train.replace("/path/to/val/dataset.ffcv", str(files / "val_400_0.10_90.ffcv"))
    done = shell(write, f"{train} {SMALL} --logging.folder={tmp_path / 'runs'}")
    assert done.returncode == 0, done.stderr
    assert [Reader(files / f"{split}_400_0.10_90.ffcv").num_samples for split in ("train", "val")] == [40, 12]
    (run,) = (tmp_path / "runs").iterdir()
    (line,) = [json.loads(text) for text in (run / "log").read_text().splitlines()]
    assert 0 <= line["top_1"] <= line["top_5"] == 1
    assert (line["epoch"], line["steps"], line["resolution"]) == (0, 5, 32)
    assert (run / "final_weights.pt").exists()


@pytest.mark.slow
def test_parameters_for_less_memory(shell, picture_folder, tmp_path):
    exports = (f"export IMAGENET_DIR={picture_folder}", f"export WRITE_DIR={tmp_path}")
    done = shell(*exports, WRITE_SMALLER)
    assert done.returncode == 0, done.stderr
    assert Reader(tmp_path / "train_350_0.10_90.ffcv").num_samples == 40


@pytest.mark.parametrize("folder", [".", "examples", "examples/imagenet"])
@pytest.mark.parametrize("file", ["rn18_configs/08508b1c-ae7f-4022-9090-06a520f998c8.yaml"])
def test_training_command_starts_in_each_folder(shell, folder, file, tmp_path):
    # The data sets of the document are not there; that this is the complaint shows that all options were read.
    command = TRAIN.replace("path/to/config/file.yaml", file)
    done = shell(f"{command} {SMALL}", folder=ROOT / folder)
    assert done.returncode == 1
    assert "/path/to/val/dataset.ffcv: no such file or folder" in done.stderr
