"""The commands of the document on ResNet-50 under SLURM that unpack the data, as they stand there, on small archives.

The document's commands lack the backslash behind `--num_threads 8`, so a shell would end them there; it is added here
and in our documentation. The other commands are in `test_kempner_cluster.py`.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.ilsvrc_archives import made_pictures, write_archives

ROOT = Path(__file__).resolve().parents[2]

# "Option 2", lines 63 to 69, 75 to 79 and 85 to 90.
ALL = """
python scripts/extract_ILSVRC_mp.py \\
       --train_tar /path/to/ILSVRC2012_img_train.tar \\
       --val_tar /path/to/ILSVRC2012_img_val.tar \\
       --output_dir /path/to/output \\
       --valprep_script /path/to/valprep.sh \\
       --num_threads 8 \\
       --run_type all
"""
TRAIN = """
python scripts/extract_ILSVRC_mp.py \\
       --train_tar /path/to/ILSVRC2012_img_train.tar \\
       --output_dir /path/to/output \\
       --num_threads 8 \\
       --run_type train
"""
VAL = """
 python scripts/extract_ILSVRC_mp.py \\
       --val_tar /path/to/ILSVRC2012_img_val.tar \\
       --output_dir /path/to/output \\
       --valprep_script /path/to/valprep.sh \\
       --num_threads 8 \\
       --run_type val
"""
# "Option 1", line 51.
SLOW = "scripts/extract_ILSVRC.sh"


@pytest.fixture
def shell(tmp_path):
    """Runs lines in bash, in `folder` or the project's root, with archives in place of /path/to."""
    made = write_archives(tmp_path / "tars", made_pictures(3, 2), made_pictures(3, 1, seed=4))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}

    def run(lines, folder=ROOT):
        lines = lines.replace("/path/to", str(made.folder))
        done = subprocess.run(["bash", "-ec", lines], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return made

    return run


def tree(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*.JPEG")}


def expected(made, *splits):
    return {f"{split}/{name}/{each}" for split in splits for name, own in getattr(made, split).items() for each in own}


def test_fast_way(shell):
    made = shell(ALL)
    assert tree(made.folder / "output") == expected(made, "train", "val")


def test_fast_way_one_after_the_other(shell):
    made = shell(TRAIN)
    assert tree(made.folder / "output") == expected(made, "train")
    shell(VAL)
    assert tree(made.folder / "output") == expected(made, "train", "val")


def test_slow_way(shell, tmp_path):
    made = shell(f"{ROOT}/{SLOW}", tmp_path / "tars")
    assert tree(made.folder) == expected(made, "train", "val")
