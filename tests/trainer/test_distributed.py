import json

import pytest
import torch
from trainer.config import TrainerConfig
from trainer.distributed import Ranks, choose_device, find_ranks, free_port
from trainer.errors import ConfigurationError
from trainer.launch import launch
from trainer.loop import Trainer
from trainer.processes import run_processes
from trainer.signals import StopRequest

from tests.trainer.compiling import train_on_rank

STEP = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1"}


@pytest.fixture
def config():
    return TrainerConfig.from_params({"data.source": "synthetic", "dist.address": "given", "dist.port": 4000})


def test_without_a_launcher_there_are_no_ranks(config):
    assert find_ranks(config, {}) is None


def test_torchrun_is_asked_for_its_own_store(config):
    environment = {"TORCHELASTIC_RUN_ID": "x", "RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}
    expected = Ranks(2, 4, 0, None, 0, started_here=False)
    assert find_ranks(config, environment) == expected
    # `srun torchrun` has both kinds of variables; those of torchrun are right.
    assert find_ranks(config, {**environment, **STEP}) == expected


def test_slurm_step_gives_ranks(config, monkeypatch):
    monkeypatch.setenv("PATH", "")
    nodes = {"SLURM_STEP_NODELIST": "gpu[07-09,11],big1"}
    assert find_ranks(config, {**STEP, **nodes}) == Ranks(3, 4, 1, "gpu07", 4000, started_here=False)
    assert find_ranks(config, {**STEP, "SLURM_JOB_NODELIST": "gpu1,gpu2"}).address == "gpu1"
    assert find_ranks(config, STEP).address == "given"
    master = {"MASTER_ADDR": "node", "MASTER_PORT": "77"}
    assert find_ranks(config, {**STEP, **nodes, **master}) == Ranks(3, 4, 1, "node", 77, started_here=False)


def test_slurm_is_asked_for_the_first_host(config, monkeypatch, tmp_path):
    (tmp_path / "scontrol").write_text('#!/bin/sh\n[ "$3" = "gpu[1-2]" ] && printf "first\\nsecond\\n"\n')
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert find_ranks(config, {**STEP, "SLURM_STEP_NODELIST": "gpu[1-2]"}).address == "first"


def test_batch_script_or_step_of_one_task_is_no_group_of_ranks(config):
    batch_script = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
    assert find_ranks(config, batch_script) is None
    assert find_ranks(config, {**STEP, "SLURM_STEP_NUM_TASKS": "1"}) is None


def test_other_launchers_set_rank_and_world_size(config):
    environment = {"RANK": "1", "WORLD_SIZE": "2"}
    assert find_ranks(config, environment) == Ranks(1, 2, 1, "given", 4000, started_here=False)


def test_incomplete_environment_is_named(config):
    with pytest.raises(ConfigurationError, match="SLURM_PROCID"):
        find_ranks(config, {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2"})


def test_each_local_rank_takes_a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto", Ranks(5, 8, 1, started_here=False)) == torch.device("cuda", 1)
    assert choose_device("cpu", Ranks(5, 8, 1)) == torch.device("cpu")
    with pytest.raises(ConfigurationError, match=r"needs GPU 2, but torch finds 2: use --dist.world_size=2"):
        choose_device("auto", Ranks(2, 8, 2))
    # A launcher may show each process one GPU only.
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert choose_device("auto", Ranks(5, 8, 1, started_here=False)) == torch.device("cuda", 0)


def test_two_ranks_train_one_model_and_count_every_image_once(tiny):
    options = {"training.distributed": 1, "dist.world_size": 2, "dist.port": 0, "training.batch_size": 2}
    folder = launch(tiny(**options, **{"training.epochs": 1}), "two ranks")
    params = json.loads((folder / "params.json").read_text())
    assert params["setup"].startswith("2 x CPU")
    (line,) = [json.loads(text) for text in (folder / "log").read_text().splitlines()]
    assert line["steps"] == 5
    # Nine images on two ranks: the same scores as those of one process that sees all of them. So both ranks have the
    # weights and batch statistics that the first one saved.
    with Trainer(tiny(**{"training.eval_only": 1, "model.weights": str(folder / "final_weights.pt")})) as trainer:
        scores = trainer.validate()
    assert (line["top_1"], line["top_5"]) == (scores.top_1, scores.top_5)
    assert line["val_loss"] == pytest.approx(scores.loss, rel=1e-5)


@pytest.mark.parametrize("failure", [pytest.param("fail", marks=pytest.mark.slow), "fail_in_backward"])
@pytest.mark.long("compiled ranks")
def test_where_compiling_fails_on_one_rank_all_go_on_without_it(tiny, tmp_path, failure):
    """The one that failed would else exchange other gradients than the others, or none: all would wait for ever."""
    digests = {}
    for backends in (("none", "none"), ("works", failure)):
        (tmp_path / backends[1]).mkdir()
        changes = {"training.compile": int(backends[0] != "none"), "training.batch_size": 2, "training.epochs": 1}
        run_processes(train_on_rank, 2, (tiny(**changes), free_port(), backends, tmp_path / backends[1]), StopRequest())
        digests[backends[1]] = [(tmp_path / backends[1] / f"digest{rank}").read_text() for rank in (0, 1)]
    assert digests["none"][0] == digests["none"][1] == digests[failure][0] == digests[failure][1]
    assert "it did on another rank" in (tmp_path / failure / "warnings0").read_text()
    assert "no compiler was found" in (tmp_path / failure / "warnings1").read_text()


@pytest.mark.long("compiled ranks")
def test_ranks_that_compile_train_one_model(tiny, tmp_path):
    changes = {"training.compile": 1, "training.batch_size": 2, "training.epochs": 1}
    run_processes(train_on_rank, 2, (tiny(**changes), free_port(), ("works", "works"), tmp_path), StopRequest())
    assert (tmp_path / "digest0").read_text() == (tmp_path / "digest1").read_text()
    assert (tmp_path / "warnings0").read_text() == (tmp_path / "warnings1").read_text() == ""
