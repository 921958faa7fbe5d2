"""The other commands of the document on ResNet-50 under SLURM, as they stand there, in `examples/slurm`.

Each is given with its line in the document. wget, conda and pip3 are stand-ins that note what they are given, and so is
`module`, which is a function on clusters. Submissions run on a real SLURM in `tests/slurm`, options of `main.py` too.
"""

import importlib.metadata
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.ilsvrc_archives import made_pictures, write_archives

ROOT = Path(__file__).resolve().parents[2]
SLURM = ROOT / "examples" / "slurm"
for _folder in (SLURM, SLURM.parent / "imagenet"):
    if str(_folder) not in sys.path:
        sys.path.append(str(_folder))

# Lines 20 and 21.
SUMS = {
    "ILSVRC2012_img_train.tar": "1d675b47d978889d74fa0da5fadfb00e",
    "ILSVRC2012_img_val.tar": "29b22e2961454d5413ddabcf34fc5622",
}
FETCH = {
    32: "wget --user=your_username --password=your_password https://image-net.org/data/ILSVRC/2012/ILSVRC2012_img_train.tar",
    33: "wget --user=your_username --password=your_password https://image-net.org/data/ILSVRC/2012/ILSVRC2012_img_val.tar",
}
CHECK = {40: "md5sum ILSVRC2012_img_train.tar", 41: "md5sum ILSVRC2012_img_val.tar"}
MODULES = {
    101: "module load python/3.12.8-fasrc01",
    102: "module load cuda/12.4.1-fasrc01",
    103: "module load cudnn/9.5.1.17_cuda12-fasrc01",
}
ENVIRONMENT = {
    109: "conda create --name resnet_pytorch_env python=3.12.8",
    110: "conda activate resnet_pytorch_env",
    116: "pip3 install torch torchvision torchaudio",
    124: "pip3 install -r requirements.txt",
    130: "conda env create -f environment.yml",
}
# Lines 156 to 163: batch, nodes, GPUs, learning rate.
TABLE = {
    156: (256, 1, 1, 0.1),
    157: (512, 1, 2, 0.1),
    158: (1024, 1, 4, 0.1),
    159: (2048, 2, 8, 0.1),
    160: (4096, 4, 16, 1.6),
    161: (8192, 8, 32, 3.2),
    162: (16384, 16, 64, 6.4),
    163: (32768, 32, 128, 6.4),
}

TAKE_NOTE = '#!/bin/sh\necho "$(basename "$0") $*" >> "$NOTES"\n'


@pytest.fixture
def shell(tmp_path):
    """Runs lines in bash; what the stand-ins were called with is in `notes()`."""
    (tmp_path / "bin").mkdir()
    for name in ("wget", "conda", "pip3"):
        (tmp_path / "bin" / name).write_text(TAKE_NOTE)
        (tmp_path / "bin" / name).chmod(0o755)
    notes = tmp_path / "notes"
    notes.touch()
    environment = {**os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "NOTES": str(notes)}
    module = 'module() { echo "module $*" >> "$NOTES"; }'

    def run(*lines, folder=SLURM):
        script = "\n".join(("set -e", module, *lines))
        done = subprocess.run(["bash", "-c", script], cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run.notes = lambda: notes.read_text().splitlines()
    return run


@pytest.mark.parametrize("line", [*FETCH, *MODULES, *ENVIRONMENT])
def test_command_is_one_that_a_shell_takes(line, shell):
    command = {**FETCH, **MODULES, **ENVIRONMENT}[line]
    shell(command)
    assert shell.notes() == [command]


def test_downloads_are_the_archives_whose_sums_the_programs_know():
    from download_imagenet_dataset import ARCHIVES

    assert [command.rpartition("/")[2] for command in FETCH.values()] == list(SUMS)
    assert {archive.name: archive.md5 for archive in ARCHIVES.values()} == SUMS


@pytest.mark.parametrize("line", CHECK)
def test_md5sum_is_what_check_computes(line, shell, tmp_path, capsys):
    from download_imagenet_dataset import md5_of

    from writer import extract_ILSVRC_mp

    made = write_archives(tmp_path / "tars", made_pictures(3, 2), made_pictures(3, 1, seed=4))
    (told,) = shell(CHECK[line], folder=made.folder).splitlines()
    digest, name = told.split()
    assert md5_of(made.folder / name) == digest
    split = "train" if "train" in name else "val"
    flags = [f"--{split}_tar", str(made.folder / name), "--run_type", split, "--check"]
    assert extract_ILSVRC_mp.main(flags) == 1
    told = capsys.readouterr().err
    assert f"expected {name} with the MD5 sum {SUMS[name]}" in told and digest in told


def test_jobs_load_the_documents_modules_and_environment(shell):
    # conda is a program here, and its hook is a line of shell: `conda activate` reaches the stand-in.
    shell("source environment.sh")
    assert shell.notes() == [*MODULES.values(), "conda shell.posix hook", ENVIRONMENT[110]]


def test_where_there_are_no_modules_and_no_conda_jobs_take_python_from_the_path(tmp_path):
    done = subprocess.run(
        ["/bin/bash", "-ec", "source environment.sh; echo fine"],
        cwd=SLURM,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "fine\n", "")


def requirements(path):
    for line in path.read_text().splitlines():
        if line.startswith("-r "):
            yield from requirements(path.parent / line.removeprefix("-r "))
        elif line and not line.startswith("#"):
            yield line


def test_requirements_are_what_is_installed_for_the_tests():
    """Line 124."""
    found = list(requirements(SLURM / "requirements.txt"))
    names = [re.match(r"[\w-]+", line)[0] for line in found]
    assert {"torch", "torchvision", "numba", "matplotlib"} <= set(names)
    # What the document installs beside them (line 116) is nothing that a program here imports.
    assert "torchaudio" not in names
    assert not [path for path in SLURM.rglob("*.py") if "torchaudio" in path.read_text()]
    from packaging.requirements import Requirement

    for requirement in map(Requirement, found):
        if requirement.marker is None or requirement.marker.evaluate():
            assert requirement.specifier.contains(importlib.metadata.version(requirement.name)), requirement


def test_environment_has_the_documents_name_and_python_and_those_requirements():
    """Lines 109 and 130."""
    made = yaml.safe_load((SLURM / "environment.yml").read_text())
    assert made["name"] == "resnet_pytorch_env"
    assert made["dependencies"] == ["python=3.12.8", "pip", {"pip": ["-r requirements.txt"]}]
    assert f"--name {made['name']} {made['dependencies'][0]}" in ENVIRONMENT[109]


@pytest.mark.parametrize("line", TABLE)
def test_submission_has_the_tables_batch_nodes_and_rate(line):
    """Line 144: 16 processors a task, 256 images a GPU; scripts in run_results/A100, logs in its folder logs."""
    batch, nodes, gpus, rate = TABLE[line]
    text = (SLURM / "run_results" / "A100" / f"gpus_{gpus:03}.sh").read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", text, re.MULTILINE))
    tasks = min(4, gpus)
    assert [options[name] for name in ("nodes", "ntasks-per-node", "gpus-per-node")] == [f"{nodes}", *[f"{tasks}"] * 2]
    assert nodes * tasks == gpus and batch == 256 * gpus
    assert options["cpus-per-task"] == "16" and options["output"].startswith("logs/")
    assert f"-a resnet50 -b {batch} --lr {rate:g} -j 16 " in text
    # Lines 139 to 142: srun starts the processes, nothing else does.
    assert len(re.findall(r"^srun ", text, re.MULTILINE)) == 1 and "torchrun" not in text
    assert (SLURM / "run_results" / "A100" / "logs").is_dir()


def test_ranks_come_from_slurms_variables_and_nothing_is_spawned(monkeypatch):
    """Lines 141 and 142."""
    import ddp  # noqa: F401 - puts the trainer on the path
    from trainer.config import TrainerConfig
    from trainer.distributed import find_ranks

    step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5", "SLURM_LOCALID": "1"}
    config = TrainerConfig.from_params({"data.source": "synthetic"})
    ranks = find_ranks(config, {**step, "MASTER_ADDR": "node1", "MASTER_PORT": "4000", "WORLD_SIZE": "8"})
    assert (ranks.rank, ranks.world, ranks.local_rank) == (5, 8, 1)
    assert (ranks.address, ranks.port, ranks.started_here) == ("node1", 4000, False)
    sources = [path.read_text() for path in [*SLURM.glob("*.py"), *SLURM.glob("ddp/*.py")]]
    assert not any(re.search(r"spawn|import multiprocessing|from multiprocessing", text) for text in sources)
