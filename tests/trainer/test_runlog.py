"""A run's log: a crash may cut its last line short; nothing that comes later is lost by that."""

import json

import pytest
from report import read_run
from trainer.config import TrainerConfig
from trainer.entries import read_entries
from trainer.runlog import LOG, RunLog
from trainer.trackers import draw_curves

CUT = '{"epoch": 1, "top_1": 0.5, "to'


@pytest.fixture
def cut_short(tmp_path):
    """A log of two epochs, of whose second a crash left half a line."""
    log = RunLog(tmp_path)
    config = TrainerConfig.from_params({"data.source": "synthetic", "training.epochs": 3})
    log.write_params(config, "", "CPU")
    log.write(epoch=0, top_1=0.25, top_5=0.5, train_loss=2.0)
    with open(tmp_path / LOG, "a") as file:
        file.write(CUT)
    return log


def epochs_of(log):
    return [entry.get("epoch", "evaluation") for entry in read_entries((log.folder / LOG).read_text())]


def test_line_after_one_that_was_cut_short_stands_for_itself(cut_short):
    cut_short.write(top_1=0.75, top_5=1.0)
    assert epochs_of(cut_short) == [0, "evaluation"]
    assert (cut_short.folder / LOG).read_text().splitlines()[1] == CUT


def test_training_goes_on_after_an_evaluation_behind_a_line_that_was_cut_short(cut_short):
    cut_short.write(top_1=0.75, top_5=1.0)
    cut_short.keep_epochs_before(1)
    lines = (cut_short.folder / LOG).read_text().splitlines()
    assert [json.loads(line).get("epoch") for line in lines] == [0, None]
    cut_short.write(epoch=1, top_1=0.5, top_5=0.75)
    assert epochs_of(cut_short) == [0, "evaluation", 1]


def test_epochs_that_will_be_trained_again_leave_the_log(cut_short):
    cut_short.keep_epochs_before(0)
    assert (cut_short.folder / LOG).read_text() == ""


def test_report_and_curves_pass_over_a_line_that_was_cut_short(cut_short):
    assert read_run(cut_short.folder).top_1 == 0.25
    assert draw_curves(cut_short.folder / LOG, cut_short.folder / "curves.png").stat().st_size
