"""What the document on ImageNet on the OSG names, as it stands there, each with its line in that document.

The document has no commands; it names files, addresses, a class, a line of a submit description, and figures. Those
are held here against the submit description, the programs, and what these print.
"""

import re
import zipfile

import pytest
import torch

from tests.htcondor.conftest import PROGRAMS, SMALL
from tests.htcondor.document_log import write_document_log
from tests.lab.class_folders import write_classes

# Line: what stands there in the manner of code.
ARCHIVE = {71: "ILSVRC2012_img_train.tar"}
DATA_SET = {81: "CustomImageNetDataset"}
MODEL = {84: "imagenet_resnet50.pt"}
IMAGE = {88: 'SingularityImage = "osdf:///ospool/uc-shared/public/OSG-Staff/pytorch-2.1.1.sif"'}
DATA = {89: "osdf:///nrp/osdf/ILSVRC2012/ILSVRC2012_img_train.tar"}

# Lines 46 to 56.
TABLE = """
| Number of jobs that got held (no automated recovery)              | 18          |
| Number of jobs that failed due to wrong output                    | 3           |
| Total time spent computing for successful jobs                    | 318.6 hours |
| Total time spent transferring files for successful jobs           | 45.8 hours  |
| Total time wasted due to retried transfers (successful jobs)      | 302.2 hours |
| Total time wasted in compute due to preemption                    | 16 hours    |
| Total time wasted in file transfers for preempted jobs            | 0.8 hours   |
| Total time wasted in compute due to wrong outputs                 | 0.6 hours   |
| Total time wasted in file transfers for wrong outputs             | 2.2 hours   |
| Mean time successful jobs took from matching to completion        | 8.6 hours   |
| Median time successful jobs took from matching to completion      | 4.9 hours   |
"""
# Lines 33 to 37: the words, and what ours says to them. 685 hours are the table's 686.2, rounded to something; of those
# 318.6 are 46 %, of 685 they are 47 %.
OBSERVATIONS = {
    "It took one week to complete 100 ML training jobs, using 685 GPU hours": "100 jobs in 7.0 days, 686.2 GPU hours",
    "Approximately 80% of the jobs were successful": "79.0% of the jobs (79) were successful",
    "while 20% failed": "21.0% failed",
    "47% of the total wallclock time was spent on successful computing": "46.4% of the time was successful computing",
    "7% spent on file transfers, leading to a 14% file transfer overhead": "6.7% file transfers: an overhead of 14.4%",
    "44% of total time was wasted on retried file transfers": "44.0% retried file transfers",
    "preemption caused minimal waste": "2.4% preemption",
}


def only(named):
    (text,) = named.values()
    return text


@pytest.fixture
def submit():
    pytest.importorskip("htcondor2", reason="HTCondor's bindings read the description: pip install htcondor")
    from osg.bindings import read_submit_description

    return read_submit_description(PROGRAMS / "imagenet.sub")


def test_line_of_the_image_is_that_of_the_submit_description(submit):
    name, _, value = only(IMAGE).partition(" = ")
    assert submit.expand(f"MY.{name}") == value


def test_data_come_from_the_documents_address(submit):
    assert only(DATA) in submit.expand("transfer_input_files").split(", ")
    assert only(DATA).endswith(f"/{only(ARCHIVE)}")
    assert f"train {only(DATA)} " in submit.expand("arguments")


def test_a_hundred_jobs_train_for_five_epochs_and_log_each_step(submit):
    assert submit.getQArgs() == "100"
    arguments = submit.expand("arguments").strip('"').split()
    assert arguments[2:] == ["--epochs", "5", "--log-interval", "1", "--save-model"]
    assert submit.expand("request_gpus") == "1"
    assert submit.expand("transfer_output_files").split(", ")[0] == only(MODEL)


def test_documents_method_1_is_refused_before_the_jobs_are_held(tmp_path, monkeypatch, capsys):
    """Line 11: 5 GB a job; lines 69 to 73: 137 GB."""
    pytest.importorskip("htcondor2", reason="HTCondor's bindings read the description: pip install htcondor")
    import preflight

    for name in ("imagenet.sub", "imagenet.sh"):
        (tmp_path / name).write_bytes((PROGRAMS / name).read_bytes())
    for name, size in (("ffx.tar.gz", 10**6), (only(ARCHIVE), 137 * 10**9)):
        with open(tmp_path / name, "wb") as file:
            file.truncate(size)
    monkeypatch.chdir(tmp_path)
    assert preflight.main(["imagenet.sub", f"data={only(ARCHIVE)}"]) == 1
    assert "more than the 5,000,000,000 bytes that a job may bring" in capsys.readouterr().out
    # Method 3, by osdf://, is not limited, and method 2 is the job's own affair.
    assert preflight.main(["imagenet.sub"]) == 0
    address = f"https://origin.example.org/{only(ARCHIVE)}"
    assert preflight.main(["imagenet.sub", "fetch=job", f"data={address}"]) == 0


def test_training_of_the_document(tmp_path, monkeypatch, capsys):
    """Lines 69 to 84: the zip archive as tar, class folders, each step in a line, the model under its name."""
    import imagenet_resnet50
    import unpack_archive
    from osg import dataset

    pictures = write_classes(tmp_path / "pictures", side=40, train=2)
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(tmp_path / only(ARCHIVE).replace(".tar", ".zip"), "w") as file:
        for path in sorted((pictures / "train").rglob("*.png")):
            file.write(path, str(path.relative_to(pictures / "train")))
    assert unpack_archive.main([only(ARCHIVE).replace(".tar", ".zip"), "--to-tar"]) == 0
    assert unpack_archive.main([only(ARCHIVE), "--output", "data"]) == 0
    images = getattr(dataset, only(DATA_SET))("data/train")
    assert (len(images), images.classes) == (8, ["class_0", "class_1", "class_2", "class_3"])
    flags = ["--data", "data/train", *SMALL, "--epochs", "5", "--log-interval", "1", "--save-model"]
    assert imagenet_resnet50.main(flags) == 0
    shown = capsys.readouterr().out
    found = re.findall(r"^Epoch: \[(\d)\]\[(\d)/2\]", shown, re.MULTILINE)
    assert found == [(str(epoch), str(step)) for epoch in range(5) for step in (1, 2)]
    weights = torch.load(tmp_path / only(MODEL), weights_only=True)
    assert weights["fc.weight"].shape[0] == 4


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What the program says of an event log with the document's hours."""
    pytest.importorskip("htcondor2", reason="HTCondor's bindings read the logs: pip install htcondor")
    from osg.accounting import account_of, observations, table
    from osg.events import read_logs

    path = tmp_path_factory.mktemp("logs") / "log"
    write_document_log(path)
    jobs = [job for job in read_logs([path]) if job.process < 100]
    # The hundredth ends with the week.
    jobs[96].ended = jobs[0].submitted + 7 * 24 * 3600
    account = account_of(jobs)
    return f"{table(account)}\n{observations(account)}"


def rows_of(text):
    rows = re.findall(r"^\| (.+?) +\| ([\d.]+)(?: hours)? +\|$", text, re.MULTILINE)
    return {name: float(value) for name, value in rows}


def test_every_row_of_the_documents_table(said):
    expected, found = rows_of(TABLE), rows_of(said)
    assert len(expected) == 11
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("words", OBSERVATIONS, ids=lambda words: words[:20])
def test_every_key_observation(words, said):
    assert OBSERVATIONS[words] in said
