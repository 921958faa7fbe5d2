"""Submissions come from their template, shell scripts are shell scripts, and without SLURM the cluster's tests skip."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import submissions
from ddp.submissions import RATES, Submission
from trainer.errors import ConfigurationError

from tests.slurm import cluster as clusters
from tests.slurm.conftest import ROOT, SLURM

A100 = SLURM / "run_results" / "A100"
SCRIPTS = sorted(path for pattern in ("*.sh", "*.sbatch") for path in SLURM.rglob(pattern))


def test_submissions_are_those_that_the_template_makes(tmp_path, capsys):
    assert submissions.main(["--out", str(tmp_path)]) == 0
    made = {path.name: path for path in tmp_path.glob("*.sh")}
    assert sorted(made) == sorted(path.name for path in A100.glob("*.sh")) == [f"gpus_{gpus:03}.sh" for gpus in RATES]
    for name, path in made.items():
        assert path.read_bytes() == (A100 / name).read_bytes(), f"{name}: run examples/slurm/submissions.py"
        assert os.access(path, os.X_OK) and os.access(A100 / name, os.X_OK)
    assert (tmp_path / "logs").is_dir()
    assert capsys.readouterr().out.splitlines() == [str(made[name]) for name in sorted(made)]


def test_submissions_for_another_cluster(tmp_path):
    flags = ["--gpus", "16,8", "--gpus-a-node", "8", "--cpus-a-task", "12", "--batch-a-gpu", "128", "--scale-lr"]
    assert submissions.main([*flags, "--out", str(tmp_path)]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.sh")) == ["gpus_008.sh", "gpus_016.sh"]
    text = (tmp_path / "gpus_016.sh").read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?$", text, re.MULTILINE))
    assert (options["nodes"], options["ntasks-per-node"], options["gpus-per-node"]) == ("2", "8", "8")
    assert options["cpus-per-task"] == "12"
    assert "-b 2048 --lr 0.8 -j 12 " in text and "srun --cpus-per-task=12 " in text


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--gpus", "6"], "6 GPUs fill no whole nodes of 4: use a multiple, or fewer"),
        (["--gpus", "12"], "12 GPUs with 256 images each: the table has learning rates for 1, 2, 4, 8"),
        (["--batch-a-gpu", "128"], "1 GPUs with 128 images each: the table has learning rates for"),
        (["--gpus", "0"], "--gpus: expected a whole number of at least 1, found '0'"),
        (["--gpus", "1,x"], "--gpus: expected a whole number of at least 1, found 'x'"),
        (["--gpus-a-node", "0"], "--gpus-a-node: expected a whole number of at least 1"),
        (["--cpus-a-task", "x"], "--cpus-a-task: expected a whole number of at least 1"),
        (["--nodes", "2"], "unrecognized arguments: --nodes 2 (--help lists all options)"),
    ],
)
def test_submissions_that_cannot_be_are_refused(flags, message, tmp_path, capsys):
    assert submissions.main([*flags, "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_job_has_time_for_a_half_more_than_one_gpu_took():
    assert Submission.of(1, 256, 4, 16, False).hours == 55
    assert Submission.of(128, 256, 4, 16, False).hours == 2
    with pytest.raises(ConfigurationError, match="fill no whole nodes"):
        Submission.of(5, 256, 4, 16, True)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_shell(path):
    done = subprocess.run(["bash", "-n", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert path.name == "template.sbatch" or not re.search(r"@\w+@", path.read_text())


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
def test_shellcheck_has_nothing_to_say():
    done = subprocess.run(["shellcheck", *SCRIPTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def run_script(path, cwd, **environment):
    environment = {"PATH": os.environ["PATH"], "HOME": str(cwd), **environment}
    return subprocess.run(["bash", path], cwd=cwd, env=environment, capture_output=True, text=True)


def test_submission_without_data_or_main_says_what_it_needs(tmp_path):
    done = run_script(A100 / "gpus_008.sh", tmp_path, DATA="x")
    assert done.returncode == 2
    assert "gpus_008.sh: there is no" in done.stderr and "set FFX_SLURM to that of main.py" in done.stderr
    done = run_script(A100 / "gpus_008.sh", A100)
    assert done.returncode == 2
    assert "gpus_008.sh: DATA is not set: the folder with train/ and val/" in done.stderr


@pytest.mark.parametrize("arguments", [[], ["0", "a", "b"], ["x", "a", "b"], ["3", "a"]])
def test_writing_in_parts_says_what_it_expects(arguments, tmp_path):
    script = SLURM / "write_dataset.sh"
    done = subprocess.run([script, *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "expected SHARDS DATA_DIR WRITE_PATH, found:" in done.stderr and "usage:" in done.stderr
    assert subprocess.run([script, "--help"], capture_output=True, text=True).stdout.startswith("usage:")


@pytest.fixture
def submitted(tmp_path, monkeypatch):
    """In place of `sbatch`: what each call got, with its folder and the variables that its job would have."""
    calls, place = tmp_path / "calls", tmp_path / "bin" / "sbatch"
    place.parent.mkdir()
    place.write_text(
        """#!/bin/bash
        printf '%s\\t' "$PWD" "${DATA_DIR:-}" "${WRITE_PATH:-}" "${DATA:-}" "$@" >> "$CALLS"
        echo >> "$CALLS"
        wc -l < "$CALLS"
        """
    )
    place.chmod(0o755)
    monkeypatch.setenv("PATH", f"{place.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("CALLS", str(calls))
    return lambda: [line.split("\t")[:-1] for line in calls.read_text().splitlines()] if calls.exists() else []


def test_steps_of_the_readme_write_both_files_and_train_behind_them(tmp_path, submitted):
    readme = (SLURM / "README.md").read_text()
    steps = readme[readme.index("# 2. Data") : readme.index("# 4. The table")]
    for place in ("/data/", "/fast/"):
        steps = steps.replace(place, f"{tmp_path}{place}")
    (tmp_path / "data").mkdir()
    for name in ("train", "val"):
        (tmp_path / "data" / f"ILSVRC2012_img_{name}.tar").touch()
    subprocess.run(["bash", "-euc", steps], cwd=SLURM, check=True, capture_output=True)
    train, merge_train, val, merge_val, training = submitted()
    for name, write, merge in (("train", train, merge_train), ("val", val, merge_val)):
        assert write[1:3] == [f"{tmp_path}/data/ILSVRC2012_img_{name}.tar", f"{tmp_path}/fast/imagenet/{name}.ffcv"]
        assert write[2] == merge[2] and f"--cfg.split={name}" in write
    assert f"--cfg.valprep_script={tmp_path}/data/valprep.sh" in val
    # The numbers of the two jobs that merge.
    assert training[-3:] == ["--dependency=afterok:2:4", "--kill-on-invalid-dep=yes", "gpus_008.sh"]
    assert training[0] == str(A100) and training[3] == f"{tmp_path}/fast/imagenet"
    assert all({"--partition=...", "--account=..."} <= set(call) for call in submitted())


@pytest.mark.parametrize("name", ["train", ".ffcv", "train."])
def test_file_in_parts_needs_an_ending(name, tmp_path, submitted):
    """Without one, the parts of v1.0/train would be called v1.shard-0-of-2.0/train."""
    command = [SLURM / "write_dataset.sh", "2", tmp_path, tmp_path / "v1.0" / name]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and not submitted()
    assert f"expected a file's name with its ending, such as train.ffcv, found {command[-1]}\n" in done.stderr


def test_nothing_is_submitted_for_data_that_is_not_there(tmp_path, submitted):
    command = [SLURM / "write_dataset.sh", "2", tmp_path / "nowhere.tar", tmp_path / "train.ffcv"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and not submitted()
    assert f"DATA_DIR: expected a folder of class folders or an archive, found no {tmp_path}/nowhere.tar" in done.stderr


@pytest.mark.parametrize("name, missing", [("write_shards", "DATA_DIR"), ("merge_shards", "WRITE_PATH")])
def test_jobs_that_write_say_which_variable_is_missing(name, missing, tmp_path):
    done = run_script(SLURM / f"{name}.sbatch", SLURM)
    assert done.returncode != 0
    assert f"{missing}: is not set" in done.stderr


def test_merging_that_was_preempted_behind_its_merge_removes_the_other_parts(tmp_path):
    """Only then: in a job's first run, a part that is missing is for `ffx merge` to name."""
    merged, part = tmp_path / "train.ffcv", tmp_path / "train.shard-1-of-2.ffcv"
    merged.write_text("merged")
    part.touch()
    (tmp_path / "python").write_text('#!/bin/bash\necho "$@"\nexit 3\n')
    (tmp_path / "python").chmod(0o755)
    job = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "WRITE_PATH": str(merged), "SHARDS": "2"}
    first = run_script(SLURM / "merge_shards.sbatch", SLURM, **job)
    both = f"{tmp_path}/train.shard-0-of-2.ffcv {part}"
    assert (first.returncode, first.stdout) == (3, f"-m ffx merge {merged} {both}\n") and part.exists()
    again = run_script(SLURM / "merge_shards.sbatch", SLURM, **job, SLURM_RESTART_COUNT="1")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert merged.read_text() == "merged" and not part.exists()


# Where SLURM is not installed


def test_reason_names_what_is_missing_and_how_to_get_it(monkeypatch):
    monkeypatch.setattr(clusters, "_find", lambda program: None if program in ("munged", "slurmd") else "/bin/true")
    assert clusters.why_not() == "SLURM is not installed (no munged, slurmd): apt-get install slurm-wlm munge"
    monkeypatch.setattr(clusters, "_find", lambda program: "/bin/true")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert clusters.why_not() == "a SLURM of one's own needs root"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert clusters.why_not() == ""


def test_cluster_tests_skip_themselves_and_say_why(tmp_path):
    """In a process of its own, where no program of SLURM is found."""
    plugin = tmp_path / "no_slurm.py"
    plugin.write_text("import tests.slurm.cluster as cluster\ncluster._find = lambda program: None\n")
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "-p", "no_slurm", "-p", "no:cacheprovider", "-m", "cluster"]
    done = subprocess.run(
        [*command, str(Path(__file__).with_name("test_cluster.py"))],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\d+ skipped", done.stdout, re.MULTILINE), done.stdout
    assert "SLURM is not installed (no munged, slurmctld" in done.stdout
    assert "passed" not in done.stdout and "failed" not in done.stdout
