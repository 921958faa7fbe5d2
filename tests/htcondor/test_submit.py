"""The submit descriptions as HTCondor's own parser reads them, and what is said of inputs before jobs are held."""

import re
from pathlib import Path

import pytest
from osg.bindings import read_submit_description
from osg.inputs import LIMIT_BYTES, Job, jobs_of, show_jobs
from preflight import main
from trainer.errors import ConfigurationError

from tests.htcondor.conftest import PROGRAMS, status_of

pytest.importorskip("htcondor2", reason="HTCondor's bindings read the descriptions: pip install htcondor")

ARCHIVE = "osdf:///nrp/osdf/ILSVRC2012/ILSVRC2012_img_train.tar"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder as that of examples/htcondor, with an archive of the code of 2 MB."""
    for name in ("imagenet.sub", "shards.sub", "imagenet.sh"):
        (tmp_path / name).write_bytes((PROGRAMS / name).read_bytes())
    sparse(tmp_path / "ffx.tar.gz", 2_000_000)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sparse(path, size):
    """A file of so many bytes that takes no room."""
    path.parent.mkdir(exist_ok=True)
    with open(path, "wb") as file:
        file.truncate(size)


def values_of(name, **values):
    submit = read_submit_description(PROGRAMS / name, values)
    return submit, {key: submit.expand(key) for key in submit if key != "image"}


def test_training_asks_for_what_the_document_had():
    submit, found = values_of("imagenet.sub")
    assert submit.getQArgs() == "100"
    expected = {
        "request_gpus": "1",
        "request_cpus": "6",
        "request_memory": "20GB",
        "request_disk": "300GB",
        "MY.SingularityImage": '"osdf:///ospool/uc-shared/public/OSG-Staff/pytorch-2.1.1.sif"',
        "arguments": f'"train {ARCHIVE} --epochs 5 --log-interval 1 --save-model "',
        "transfer_input_files": f"ffx.tar.gz, {ARCHIVE}, ",
        "transfer_output_files": "imagenet_resnet50.pt, checkpoints",
    }
    assert {key: found[key] for key in expected} == expected


def test_training_checkpoints_by_itself_and_held_transfers_are_tried_again():
    _, found = values_of("imagenet.sub")
    expected = {
        "checkpoint_exit_code": "85",
        "transfer_checkpoint_files": "checkpoints",
        "when_to_transfer_output": "ON_EXIT_OR_EVICT",
        "kill_sig": "SIGTERM",
    }
    assert {key: found[key] for key in expected} == expected
    from trainer.signals import REQUEUE

    assert int(found["checkpoint_exit_code"]) == REQUEUE
    import classad2

    release = classad2.ExprTree(found["periodic_release"])
    cases = {(13, 1, 700): True, (12, 5, 700): True, (13, 6, 700): False, (13, 1, 60): False, (3, 1, 700): False}
    for (code, holds, seconds), expected in cases.items():
        ad = classad2.ClassAd({"HoldReasonCode": code, "NumHolds": holds})
        ad["EnteredCurrentStatus"] = classad2.ExprTree(f"time() - {seconds}")
        assert release.eval(ad) is expected


def test_values_of_the_command_line_win():
    _, found = values_of("imagenet.sub", data="https://x/train.ffcv", fetch="job", options="--lr 0.1", image="my.sif")
    assert found["arguments"] == '"train https://x/train.ffcv --epochs 5 --log-interval 1 --save-model --lr 0.1"'
    assert found["transfer_input_files"] == "ffx.tar.gz, "
    assert found["MY.SingularityImage"] == '"my.sif"'


@pytest.mark.parametrize("name", ["imagenet.sub", "shards.sub"])
def test_image_that_has_the_code_needs_no_archive_of_it(name, place, capsys):
    sparse(place / "parts" / "part-0-of-1.tar", 100)
    (place / "ffx.tar.gz").unlink()
    assert main([name, "code=image", "image=osdf:///lab/ffx.sif"]) == 0
    assert "ffx.tar.gz" not in capsys.readouterr().out
    assert main([name]) == 1
    assert "missing: ffx.tar.gz" in capsys.readouterr().out


def test_file_to_evaluate_on_comes_as_the_data_do():
    given = {"data": "osdf:///lab/train.ffcv", "val_data": "osdf:///lab/val.ffcv"}
    _, found = values_of("imagenet.sub", **given)
    assert found["transfer_input_files"] == "ffx.tar.gz, osdf:///lab/train.ffcv, osdf:///lab/val.ffcv"
    assert found["environment"] == '"CHECKPOINT_MINUTES=30 VAL_DATA=osdf:///lab/val.ffcv"'
    _, found = values_of("imagenet.sub", fetch="job", **given)
    assert "val.ffcv" not in found["transfer_input_files"]
    assert "VAL_DATA=osdf:///lab/val.ffcv" in found["environment"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("executable = imagenet.sh\n", "it queues no jobs"),
        ("executable imagenet.sh\nqueue\n", "expected a submit description"),
        (None, "No such file"),
    ],
)
def test_file_that_is_no_description_is_an_error(text, message, tmp_path, capsys):
    if text is not None:
        (tmp_path / "jobs.sub").write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_submit_description(tmp_path / "jobs.sub")
    assert main([str(tmp_path / "jobs.sub")]) == 2
    assert message in capsys.readouterr().err


# Preflight


def test_documents_archive_does_not_count_by_osdf(place, capsys):
    assert main(["imagenet.sub"]) == 0
    shown = capsys.readouterr().out
    code = (place / "imagenet.sh").stat().st_size
    assert f"100 jobs; the inputs of the largest together: {2_000_000 + code:,} bytes" in shown
    assert "not counted, it comes by a cache or a server: osdf:///nrp/osdf/ILSVRC2012/ILSVRC2012_img_train.tar" in shown


def test_documents_archive_is_too_much_for_htcondor_itself(place, capsys):
    sparse(place / "ILSVRC2012_img_train.tar", 137 * 10**9)
    assert main(["imagenet.sub", "data=ILSVRC2012_img_train.tar"]) == 1
    shown, said = capsys.readouterr()
    assert "too much: 100 jobs have more than the 5,000,000,000 bytes that a job may bring, and would be held" in shown
    assert "at least 28 parts" in shown
    assert "imagenet.sub: would not run: see above" in said


def test_parts_that_fit_pass_each_by_itself(place, capsys):
    for number, size in enumerate((LIMIT_BYTES - 3_000_000, 1000)):
        sparse(place / "parts" / f"part-{number}-of-2.tar", size)
    assert main(["shards.sub"]) == 0
    assert "2 jobs; the inputs of the largest together: 4,99" in capsys.readouterr().out
    sparse(place / "parts" / "part-0-of-2.tar", LIMIT_BYTES)
    assert main(["shards.sub"]) == 1
    assert "too much: 1 jobs have more than" in capsys.readouterr().out


def test_items_have_their_own_names(place):
    for number in range(2):
        sparse(place / "parts" / f"part-{number}-of-2.tar", 100 + number)
    jobs = list(jobs_of(read_submit_description(place / "shards.sub"), Path()))
    assert sorted(size for job in jobs for name, size in job.sizes.items() if "part-" in name) == [100, 101]
    assert [job.number for job in jobs] == [0, 1]


def test_folders_count_with_all_that_is_in_them(tmp_path):
    sparse(tmp_path / "pictures" / "one", 1000)
    sparse(tmp_path / "pictures" / "two", 10)
    (tmp_path / "run.sh").write_text("echo\n")
    (tmp_path / "jobs.sub").write_text(
        "executable = run.sh\ntransfer_executable = false\ntransfer_input_files = pictures, none\nqueue 2\n"
    )
    jobs = list(jobs_of(read_submit_description(tmp_path / "jobs.sub"), tmp_path))
    missing = str(tmp_path / "none")
    assert [(job.bytes, job.missing) for job in jobs] == [(1010, (missing,))] * 2
    text, fits = show_jobs(jobs, 2000)
    assert not fits
    assert f"missing: {missing}" in text


def test_each_job_may_have_a_folder_of_its_own(tmp_path):
    for number in range(3):
        sparse(tmp_path / f"job{number}" / "in", 10 * number)
    (tmp_path / "jobs.sub").write_text(
        "executable = /bin/true\ntransfer_executable = false\ninitialdir = job$(Process)\n"
        "transfer_input_files = in\ncount = 3\nqueue $(count)\n"
    )
    jobs = jobs_of(read_submit_description(tmp_path / "jobs.sub"), tmp_path)
    assert [job.bytes for job in jobs] == [0, 10, 20]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["jobs.sub", "data"], "data: expected NAME=VALUE"),
        (["jobs.sub"], "queue $(many): expected a number of jobs, found 'lots'"),
        (["empty.sub"], "expected jobs, found an empty queue"),
        (["jobs.sub", "--limit", "0"], "--limit: expected more than 0 GB, found 0"),
        (["jobs.sub", "--limit", "inf"], "--limit: expected more than 0 GB, found inf"),
        (["jobs.sub", "--limit", "much"], "invalid float value: 'much'"),
    ],
)
def test_mistakes_are_errors(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "jobs.sub").write_text("executable = /bin/true\nmany = lots\nqueue $(many)\n")
    (tmp_path / "empty.sub").write_text("executable = /bin/true\nqueue 0\n")
    assert status_of(main, *arguments) == 2
    assert message in capsys.readouterr().err


def test_number_of_parts_that_are_advised_fits():
    job = Job(0, {"all": 11 * 10**9}, (), ())
    text, _ = show_jobs([job], LIMIT_BYTES)
    assert int(re.search(r"at least (\d+) parts", text)[1]) == 3


def test_secrets_in_addresses_are_not_shown():
    text, fits = show_jobs([Job(0, {}, ("https://user:SECRET@host/train.tar?sig=SECRET",), ())], LIMIT_BYTES)
    assert fits
    assert "https://host/train.tar" in text
    assert "SECRET" not in text
