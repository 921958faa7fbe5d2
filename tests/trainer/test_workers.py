"""Processes that load images: they end with the batches, and what is wrong with an image is said in a line."""

import multiprocessing
import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from trainer.distributed import free_port
from trainer.errors import DataError
from trainer.processes import run_processes
from trainer.signals import StopRequest
from trainer.workers import load_batches

from tests.trainer.conftest import PROGRAMS, TINY
from tests.trainer.evaluating import evaluate_on_rank


class Numbers(torch.utils.data.Dataset):
    """Samples that are their indices; one of them is bad in some way."""

    def __init__(self, bad=-1, how=None):
        self.bad, self.how = bad, how

    def __len__(self):
        return 12

    def __getitem__(self, index):
        if index == self.bad:
            self.how()
        return torch.tensor(index), index


def raise_two_lines():
    raise OSError("no picture\nat all")


def be_killed():
    os.kill(os.getpid(), signal.SIGKILL)


def batches(images, workers):
    purpose = SimpleNamespace(num_workers=workers, device=torch.device("cpu"))
    return load_batches(images, lambda index: f"number {index}", purpose, 4)


@pytest.fixture
def workers_left():
    """Which processes there are that were not there before the test."""
    before = set(multiprocessing.active_children())
    return lambda: set(multiprocessing.active_children()) - before


@pytest.mark.parametrize("workers", [0, 2])
def test_samples_come_in_order_by_any_number_of_processes(workers, workers_left):
    assert [batch[1].tolist() for batch in batches(Numbers(), workers)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert not workers_left()


@pytest.mark.parametrize("workers", [0, 2])
def test_sample_that_cannot_be_read_is_named_without_a_traceback(workers, workers_left):
    seen = []
    with pytest.raises(DataError) as caught:
        seen += batches(Numbers(5, raise_two_lines), workers)
    assert str(caught.value) == "number 5: cannot be read as an image: OSError: no picture\nat all"
    assert not workers_left()


def test_process_that_is_killed_is_an_error_and_the_others_end(workers_left):
    with pytest.raises(DataError, match="ended from outside"):
        list(batches(Numbers(5, be_killed), 2))
    assert not workers_left()


def test_epoch_that_is_left_ends_its_processes(workers_left):
    given = batches(Numbers(), 2)
    next(given)
    assert workers_left()
    given.close()
    assert not workers_left()


def test_program_that_forgets_an_epoch_ends():
    code = (
        "from tests.trainer.test_workers import Numbers, batches\n"
        "given = batches(Numbers(), 2)\nnext(given)\nprint('ends now')"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PROGRAMS), str(PROGRAMS.parent.parent)])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=150, env=environment)
    assert (done.returncode, done.stdout) == (0, "ends now\n"), done.stderr


@pytest.fixture
def damaged_folder(tmp_path):
    """A data set in folders, of whose eight training images one is cut short."""
    pixels = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for split, count in (("train", 8), ("val", 4)):
        for number in range(count):
            folder = tmp_path / split / f"class {number % 2}"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / f"{number}.jpg")
    cut = tmp_path / "train" / "class 1" / "3.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    return tmp_path, cut


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.long("damaged folders")
def test_damaged_image_of_a_folder_ends_the_program_with_its_name(damaged_folder, workers):
    place, cut = damaged_folder
    given = {"data.source": "folder", "data.train_dataset": place / "train", "data.val_dataset": place / "val"}
    options = {**TINY, **given, "data.num_workers": workers, "logging.folder": place / "runs"}
    command = [
        sys.executable,
        PROGRAMS / "train_imagenet.py",
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 1
    assert f"train_imagenet.py: error: {cut}: cannot be read as an image: OSError" in done.stderr
    assert "Traceback" not in done.stderr


def test_rank_that_cannot_evaluate_ends_the_evaluation_of_all_and_they_stay_in_step(tiny, tmp_path):
    config = tiny(**{"validation.batch_size": 1})
    run_processes(evaluate_on_rank, 2, (config, free_port(), tmp_path), StopRequest())
    said = [(tmp_path / f"said{rank}").read_text().splitlines() for rank in (0, 1)]
    assert "another rank could not evaluate its share" in said[0][0]
    assert said[1][0] == "an image is damaged"
    assert said[0][1] == said[1][1]
