"""Jobs on a real SLURM of one node: ranks, requeues, submissions, data sets in parts."""

import os
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import torch
from ddp.measurements import read_log

from tests.slurm.conftest import SLURM
from tests.slurm.jobs import TINY, make_tools, write_classes

pytestmark = pytest.mark.cluster

GPUS = (1, 2, 4, 8, 16, 32, 64, 128)
EPOCHS = 12
# Twice, as long as a busy machine takes.
PATIENCE = 240


@pytest.fixture(scope="module")
def place(cluster, tmp_path_factory):
    """A folder with pictures and a `python`; the cluster's jobs find them."""
    folder = tmp_path_factory.mktemp("jobs")
    write_classes(folder / "data", 10)
    cluster.environment |= {"PATH": make_tools(folder / "bin"), "OMP_NUM_THREADS": "1", "DATA": str(folder / "data")}
    return folder


def test_ranks_are_those_of_the_step(cluster):
    code = (
        "from trainer.config import TrainerConfig; from trainer.distributed import find_ranks; "
        "print(find_ranks(TrainerConfig.from_params({'data.source': 'synthetic'})))"
    )
    environment = {**cluster.environment, "PYTHONPATH": str(SLURM.parent / "imagenet")}
    told = subprocess.run(
        ["srun", "--ntasks=2", os.sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    pattern = rf"Ranks\(rank=(\d), world=2, local_rank=(\d), address='{cluster.host}', port=12355, started_here=False\)"
    assert sorted(re.findall(pattern, told.stdout)) == [("0", "0"), ("1", "1")]


def two_task_script(folder):
    """The submission for two GPUs, for two processors in their place."""
    text = (SLURM / "run_results" / "A100" / "gpus_002.sh").read_text()
    text = re.sub(r"^#SBATCH --(gpus-per-node|mem-per-cpu).*\n", "", text, flags=re.MULTILINE)
    text = text.replace("--cpus-per-task=16", "--cpus-per-task=1")
    path = folder / "gpus_002.sh"
    path.write_text(text)
    (folder / "logs").mkdir(exist_ok=True)
    return path


def weights_of(output):
    (run,) = (output / "runs").iterdir()
    return torch.load(run / "final_weights.pt", weights_only=True), run


def wait_for_text(cluster, path, text, number):
    def is_there():
        assert cluster.job(number)["JobState"] not in ("COMPLETED", "FAILED", "CANCELLED"), path.read_text()
        return path.exists() and text in path.read_text()

    cluster.wait_until(is_there, PATIENCE)


@pytest.mark.slow
def test_two_task_job_goes_on_behind_requeues_to_the_same_weights(cluster, place):
    """Once by a signal as at the end of the time limit, once requeued by SLURM: both in the middle of an epoch."""
    flags = [*TINY, "--epochs", EPOCHS]
    results = {}
    for name in ("whole", "requeued"):
        folder = place / name
        folder.mkdir()
        script = two_task_script(folder)
        environment = f"--export=ALL,FFX_SLURM={SLURM},OUTPUT={folder / 'output'}"
        number = cluster.submit(environment, script, *flags, cwd=folder)
        out = folder / "logs" / f"resnet50_2-{number}.out"
        if name == "requeued":
            wait_for_text(cluster, out, "Epoch: [2][ 3/10]", number)
            # To the step and not to the batch script, as --signal=USR1@120 has it.
            cluster.call("scancel", "--signal=USR1", number)
            wait_for_text(cluster, out, "Epoch: [6][ 3/10]", number)
            assert cluster.job(number)["Restarts"] == "1"
            cluster.call("scontrol", "requeue", number)
        state = cluster.wait_for_end(number, 2 * PATIENCE)
        print(f"--- {name}: job {number} {state}, {cluster.job(number)['Restarts']} restarts\n{out.read_text()}")
        assert state == "COMPLETED", out.read_text()
        results[name] = (*weights_of(folder / "output" / str(number)), out.read_text(), cluster.job(number))
    weights, run, _, _ = results["whole"]
    found, resumed_run, shown, job = results["requeued"]
    assert job["Restarts"] == "2"
    assert shown.count("main.py: shufflenet_v2_x0_5, 12 epochs, 2 ranks on 1 node, batch 4 (2 a rank)") == 3
    assert "SIGUSR1: stopped in epoch" in shown
    assert "SIGTERM: stopped in epoch" in shown
    assert shown.count("goes on after") == 2
    assert all(torch.equal(found[name], weights[name]) for name in weights)
    lines = [len((folder / "log").read_text().splitlines()) for folder in (run, resumed_run)]
    assert lines == [EPOCHS, EPOCHS]
    # What the report makes of its log, three times begun, is one training.
    measured = read_log(place / "requeued" / "logs" / f"resnet50_2-{job['JobId']}.out")
    assert (measured.gpus, measured.batch_size, measured.nodes) == (2, 4, 1)
    assert measured.seconds > 0 and measured.top_1 is not None
    # Each step was made once.
    steps = Counter(re.findall(r"^Epoch: \[\d+\]\[ *\d+/10\]", shown, re.MULTILINE))
    assert len(steps) == 10 * EPOCHS and set(steps.values()) == {1}


@pytest.mark.slow
def test_cancelled_job_does_not_come_again(cluster, place):
    folder = place / "cancelled"
    folder.mkdir()
    environment = f"--export=ALL,FFX_SLURM={SLURM},OUTPUT={folder / 'output'}"
    number = cluster.submit(environment, two_task_script(folder), *TINY, "--epochs", 2000, cwd=folder)
    out = folder / "logs" / f"resnet50_2-{number}.out"
    wait_for_text(cluster, out, "Epoch: [1]", number)
    cluster.call("scancel", number)
    assert cluster.wait_for_end(number, PATIENCE) == "CANCELLED"
    # But its checkpoint is there.
    cluster.wait_until(lambda: "SIGTERM: stopped in epoch" in out.read_text(), 40)
    assert (folder / "output" / str(number) / "checkpoint.pth.tar").exists()


@pytest.mark.parametrize("gpus", GPUS)
def test_submission_is_accepted_for_its_nodes(gpus, cluster):
    script = SLURM / "run_results" / "A100" / f"gpus_{gpus:03}.sh"
    told = cluster.call("sbatch", "--test-only", "--partition=a100", script, cwd=script.parent)
    processors, nodes = re.search(
        r"to start at \S+ using (\d+) processors on nodes (\S+) in partition a100", told
    ).groups()
    assert int(processors) == 16 * gpus
    names = cluster.call("scontrol", "show", "hostnames", nodes).split()
    assert len(names) == max(1, gpus // 4)


def test_submission_for_more_than_there_is_is_refused(cluster, tmp_path):
    """So that the test above could fail."""
    script = tmp_path / "gpus_256.sh"
    script.write_text((SLURM / "run_results" / "A100" / "gpus_128.sh").read_text().replace("nodes=32", "nodes=64"))
    with pytest.raises(subprocess.CalledProcessError):
        cluster.call("sbatch", "--test-only", "--partition=a100", script)


@pytest.mark.slow
def test_array_of_jobs_writes_parts_and_the_job_behind_them_merges(cluster, place):
    """To the bytes of a single run."""
    options = ["--cfg.dataset=imagenet", "--cfg.split=train", "--cfg.max_resolution=32", "--cfg.write_mode=proportion"]
    options += ["--cfg.compress_probability=0.5"]
    source, whole, merged = place / "data" / "train", place / "whole.ffcv", place / "merged.ffcv"
    writer = SLURM.parent.parent / "writer" / "write_imagenet.py"
    subprocess.run(
        [
            os.sys.executable,
            writer,
            f"--cfg.data_dir={source}",
            f"--cfg.write_path={whole}",
            "--cfg.num_workers=1",
            *options,
        ],
        check=True,
        capture_output=True,
    )
    environment = {
        **cluster.environment,
        "SBATCH_OPTIONS": f"--cpus-per-task=1 --mem-per-cpu=0 --output={place}/%x-%A_%a.out",
        "FFX_WRITER": str(writer.parent),
    }
    told = subprocess.run(
        [SLURM / "write_dataset.sh", "3", source, merged, *options], env=environment, capture_output=True, text=True
    )
    assert told.returncode == 0, told.stderr
    number = int(told.stdout)
    assert cluster.job(number)["Dependency"].startswith("afterok:")
    state = cluster.wait_for_end(number, 2 * PATIENCE)
    assert state == "COMPLETED", "\n".join(path.read_text() for path in Path(place).glob("*_shards-*.out"))
    assert merged.read_bytes() == whole.read_bytes()
    assert not list(place.glob("merged.shard-*"))
