"""The OSG document's table and observations, from event logs that have just its hours; and what becomes of odd logs."""

import json
import re
import zipfile

import pytest
from job_statistics import main
from osg.accounting import account_of
from osg.event_log import EventLog
from osg.events import read_logs

from tests.htcondor.conftest import status_of
from tests.htcondor.document_log import HOUR, Story, write_document_log

pytest.importorskip("htcondor2", reason="HTCondor's bindings read the logs: pip install htcondor")


@pytest.fixture(scope="module")
def document_log(tmp_path_factory):
    path = tmp_path_factory.mktemp("logs") / "imagenet.7.log"
    write_document_log(path)
    # The document has 100 jobs; the one more that was removed only ends the week.
    return path


def test_account_is_the_documents(document_log):
    jobs = [job for job in read_logs([document_log]) if job.process < 100]
    account = account_of(jobs)
    assert (account.jobs, account.successes, account.held, account.wrong, account.others) == (100, 79, 18, 3, 0)
    found = {name: round(value, 1) for name, value in account.as_dict().items()}
    expected = {
        "compute": 318.6,
        "transfer": 45.8,
        "retried": 302.2,
        "preempted_compute": 16.0,
        "preempted_transfer": 0.8,
        "wrong_compute": 0.6,
        "wrong_transfer": 2.2,
        "total": 686.2,
        "mean": 8.6,
        "median": 4.9,
    }
    assert {name: found[name] for name in expected} == expected


def test_program_prints_every_row_and_observation(document_log, capsys):
    assert main([str(document_log)]) == 0
    shown = capsys.readouterr().out
    rows = dict(re.findall(r"^\| (.+?) +\| (.+?) +\|$", shown, re.MULTILINE))
    # The rows of the document's lines 44 to 56.
    assert {
        name: value for name, value in rows.items() if name.startswith(("Number", "Total time", "Mean", "Median"))
    } == {
        "Number of jobs that got held (no automated recovery)": "18",
        "Number of jobs that failed due to wrong output": "3",
        "Total time spent computing for successful jobs": "318.6 hours",
        "Total time spent transferring files for successful jobs": "45.8 hours",
        "Total time wasted due to retried transfers (successful jobs)": "302.2 hours",
        "Total time wasted in compute due to preemption": "16.0 hours",
        "Total time wasted in file transfers for preempted jobs": "0.8 hours",
        "Total time wasted in compute due to wrong outputs": "0.6 hours",
        "Total time wasted in file transfers for wrong outputs": "2.2 hours",
        "Mean time successful jobs took from matching to completion": "8.6 hours",
        "Median time successful jobs took from matching to completion": "4.9 hours",
    }
    for text in (
        "in 7.0 days, 686.2 GPU hours",
        # The 101st is the one that was removed.
        "78.2% of the jobs (79) were successful, 20.8% failed, 1 were removed",
        "46.4% of the time was successful computing, 6.7% file transfers: an overhead of 14.4%",
        "44.0% retried file transfers, 2.4% preemption, 0.4% wrong outputs",
    ):
        assert text in shown


def test_the_documents_47_percent_are_of_its_rounded_685_hours():
    assert (f"{318.6 / 686.2:.1%}", f"{318.6 / 685:.0%}") == ("46.4%", "47%")


def one_job(tmp_path, tell):
    log = EventLog()
    story = Story(log, 0)
    tell(log, story)
    log.write(tmp_path / "log")
    (job,) = read_logs([tmp_path / "log"])
    return job, account_of([job])


def test_checkpoint_keeps_what_an_evicted_job_computed(tmp_path):
    def tell(log, story):
        story.preempted(600, 2 * HOUR, checkpointed=True)
        story.preempted(600, HOUR, checkpointed=False)
        story.finish(600, 3 * HOUR)

    job, account = one_job(tmp_path, tell)
    assert [attempt.end for attempt in job.attempts] == ["evicted", "evicted", "terminated"]
    assert (account.compute, account.preempted_compute) == (5.0, 1.0)
    assert account.preempted_transfer == pytest.approx(1200 / HOUR)


def test_output_files_that_a_running_job_handed_over_are_kept(tmp_path):
    def tell(log, story):
        story.start(600)
        log.transfer(0, story.go(2 * HOUR), story.go(HOUR), output=True)
        log.evicted(0, story.go(HOUR), checkpointed=False)
        story.finish(0, HOUR)

    job, account = one_job(tmp_path, tell)
    assert (job.attempts[0].compute, job.attempts[0].kept) == (3 * HOUR, 2 * HOUR)
    assert (account.compute, account.preempted_compute) == (3.0, 1.0)


def test_output_transfer_at_the_end_is_a_transfer(tmp_path):
    def tell(log, story):
        story.start(HOUR)
        log.transfer(0, story.go(2 * HOUR), story.go(HOUR), output=True)
        log.terminated(0, story.go(1))

    _, account = one_job(tmp_path, tell)
    assert (account.compute, account.transfer) == (2.0, 2.0)


def test_released_job_goes_on_and_removed_one_is_none_of_the_others(tmp_path):
    def release(log, story):
        story.held(HOUR)
        log.released(0, story.go(HOUR))
        story.finish(0, HOUR)

    job, account = one_job(tmp_path, release)
    assert (job.outcome, account.retried, account.mean) == ("success", 1.0, pytest.approx(3 + 1 / HOUR))

    def give_up(log, story):
        story.held(HOUR)
        log.aborted(0, story.go(HOUR))

    assert one_job(tmp_path, give_up)[0].outcome == "held"

    def remove(log, story):
        story.start(60)
        log.aborted(0, story.go(HOUR))

    job, account = one_job(tmp_path, remove)
    assert (job.outcome, account.others, account.total) == ("removed", 1, 0.0)


def test_job_that_was_killed_by_a_signal_has_no_right_output(tmp_path):
    def tell(log, story):
        story.start(60)
        log.terminated(0, story.go(HOUR), signal=9)

    job, account = one_job(tmp_path, tell)
    assert (job.outcome, account.wrong_compute) == ("wrong", 1.0)


def test_unfinished_job_counts_as_such(tmp_path):
    job, account = one_job(tmp_path, lambda log, story: story.start(60))
    assert (job.outcome, account.others, account.mean) == ("unfinished", 1, 0.0)


def test_outputs_are_looked_at(tmp_path, capsys):
    log = EventLog(cluster=3)
    for process in range(3):
        Story(log, process).finish(60, HOUR)
    log.write(tmp_path / "log")
    with zipfile.ZipFile(tmp_path / "model.3.0.pt", "w") as file:
        file.writestr("data.pkl", b"weights")
    (tmp_path / "model.3.1.pt").touch()
    pattern = str(tmp_path / "model.{cluster}.{process}.pt")
    assert main([str(tmp_path / "log"), "--outputs", pattern, "--json", str(tmp_path / "figures")]) == 0
    figures = json.loads((tmp_path / "figures").read_text())
    assert (figures["successes"], figures["wrong"], figures["wrong_compute"]) == (1, 2, 2.0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--outputs", "model.pt"], "--outputs model.pt: expected a path with {process} in it"),
        (["--outputs", "{process}.{job}.pt"], "with no other braces but {cluster}"),
        (["--outputs", "{process"], "--outputs {process: expected a path with {process} in it"),
        (["--gpus", "0"], "--gpus: expected at least 1, found 0"),
        (["--gpus", "x"], "invalid int value: 'x'"),
    ],
)
def test_mistakes_in_arguments_are_errors(arguments, message, document_log, capsys):
    assert status_of(main, document_log, *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["nothing", "no log", "in the middle"])
def test_log_that_cannot_be_read_is_an_error(damage, document_log, tmp_path, capsys):
    text = document_log.read_text()
    middle = text.index("...\n", len(text) // 2) + 4
    contents = {"nothing": "", "no log": "hello\n", "in the middle": f"{text[:middle]}what is this\n{text[middle:]}"}
    (tmp_path / "log").write_text(contents[damage])
    assert main([str(tmp_path / "log")]) == 1
    assert "expected a whole job event log of HTCondor, found" in capsys.readouterr().err
    assert main([str(tmp_path / "nowhere")]) == 1
    assert "no such file" in capsys.readouterr().err


def test_last_event_of_a_log_that_is_being_written_may_be_incomplete(document_log, tmp_path):
    text = document_log.read_text()
    (tmp_path / "log").write_text(text[: text.rindex("Job was aborted")])
    assert len(read_logs([tmp_path / "log"])) == 101
