"""The wrapper of a job, run as HTCondor runs it: in a scratch folder, with signals, started again where it stands.

The container image is not built here; its recipe is held against the checkout.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
import torch

from ffx.fields import IntField, RGBImageField
from ffx.writer import DatasetWriter
from tests.htcondor.conftest import PROGRAMS, ROOT, SMALL
from tests.pictures import make_picture
from tests.remote.server import HostileServer

MODEL = "imagenet_resnet50.pt"
# Whatever becomes of a job, HTCondor finds the output files that it was told of.
OUTPUTS = ["checkpoints", "imagenet.sh", MODEL]


@pytest.fixture
def scratch(tmp_path):
    """A job's scratch folder with its executable."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    shutil.copy(PROGRAMS / "imagenet.sh", folder)
    return folder


@pytest.fixture(scope="module")
def archive(pictures, tmp_path_factory):
    """The training pictures as a tar archive of class folders."""
    path = tmp_path_factory.mktemp("archive") / "ILSVRC2012_img_train.tar"
    with tarfile.open(path, "w") as tar:
        for picture in sorted((pictures / "train").rglob("*.png")):
            tar.add(picture, str(picture.relative_to(pictures / "train")))
    return path


def begin(scratch, *arguments, **environment):
    settings = {
        **os.environ,
        "_CONDOR_SCRATCH_DIR": str(scratch),
        "FFX_HOME": str(ROOT),
        "PYTHON": sys.executable,
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        **environment,
    }
    settings = {name: value for name, value in settings.items() if value is not None}
    return subprocess.Popen(
        ["bash", str(scratch / "imagenet.sh"), *map(str, arguments)],
        # HTCondor's own folder; the wrapper goes to the scratch folder by itself.
        cwd=scratch.parent if settings.get("_CONDOR_SCRATCH_DIR") else scratch,
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(scratch, *arguments, **environment):
    with begin(scratch, *arguments, **environment) as process:
        shown, said = process.communicate(timeout=300)
    return process.returncode, shown, said


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_job_brings_its_model_and_nothing_else(scratch, archive):
    shutil.copy(archive, scratch)
    # As the submit description has it: the address that HTCondor fetched.
    address = f"osdf:///nrp/osdf/ILSVRC2012/{archive.name}"
    status, shown, said = run(scratch, "train", address, *SMALL, "--save-model", "--log-interval", "1")
    assert status == 0, said
    assert "data/train: 24 files" in shown
    assert "Epoch: [1][6/6]" in shown
    assert names(scratch) == OUTPUTS
    assert not list((scratch / "checkpoints").iterdir())
    assert "fc.weight" in torch.load(scratch / MODEL, weights_only=True)


@pytest.mark.slow
def test_zip_archive_is_taken_as_well(scratch, pictures):
    with zipfile.ZipFile(scratch / "train.zip", "w") as file:
        for picture in sorted((pictures / "train").rglob("*.png")):
            file.write(picture, f"train/{picture.relative_to(pictures / 'train')}")
    status, _, said = run(scratch, "train", "train.zip", *SMALL, "--max-steps", "1", "--save-model")
    assert status == 0, said
    assert names(scratch) == OUTPUTS


@pytest.mark.slow
def test_job_fetches_its_archive_itself(scratch, archive):
    import hashlib
    import threading
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(archive.parent)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}/{archive.name}?token=1"
        digest = hashlib.md5(archive.read_bytes()).hexdigest()
        status, _, said = run(scratch, "train", address, *SMALL, "--max-steps", "1", "--save-model", DATA_MD5=digest)
        assert status == 0, said
        assert names(scratch) == OUTPUTS
        (scratch / MODEL).unlink()
        status, _, said = run(scratch, "train", address, *SMALL, "--max-steps", "1", DATA_MD5="0" * 32)
        assert status == 1
        assert "found another one" in said
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.slow
def test_file_is_read_by_ranges_where_it_lies(scratch, tmp_path):
    samples = [(make_picture(40, 40, seed=number), number % 4) for number in range(24)]
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    DatasetWriter(tmp_path / "train.ffcv", fields, num_workers=1, progress=False).from_indexed_dataset(samples)
    content = (tmp_path / "train.ffcv").read_bytes()
    with HostileServer({"train.ffcv": content}, {"train.ffcv": '"1"'}) as server:
        address = server.url("train.ffcv")
        status, _, said = run(scratch, "train", address, *SMALL, "--save-model", VAL_DATA=address)
        assert status == 0, said
        # The pictures, and not all of a file that is mostly empty pages.
        assert 24 * 40 * 40 * 3 <= server.bytes_asked < len(content)
    assert names(scratch) == OUTPUTS
    # One that HTCondor brought.
    shutil.copy(tmp_path / "train.ffcv", scratch)
    (scratch / MODEL).unlink()
    status, _, said = run(scratch, "train", "/home/me/train.ffcv", *SMALL, "--save-model", VAL_DATA="train.ffcv")
    assert status == 0, said


@pytest.fixture
def echo(tmp_path):
    """A Python that says what it was called with."""
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho "$*"\n')
    python.chmod(0o755)
    return str(python)


@pytest.mark.parametrize("name", ["train.ffcv", "train.beton", "train.ffx", "train.ffcv?X-Amz-Signature=S&x=a.tar"])
def test_file_at_an_address_is_known_by_its_name(name, scratch, echo):
    status, shown, said = run(scratch, "train", f"https://host/{name}", PYTHON=echo)
    assert status == 0, said
    (line,) = shown.splitlines()
    assert f"imagenet_resnet50.py --data https://host/{name} " in line


@pytest.mark.parametrize("folder", ["osdf:///lab/", "https://host/", "/home/me/", ""])
def test_files_that_htcondor_brought_are_read_there(folder, scratch, echo):
    for name in ("train.ffcv", "val.ffcv"):
        (scratch / name).touch()
    status, shown, said = run(scratch, "train", f"{folder}train.ffcv", VAL_DATA=f"{folder}val.ffcv", PYTHON=echo)
    assert status == 0, said
    assert "--data train.ffcv --val-data val.ffcv " in shown


def until_steps_come(process):
    lines = (line for line in process.stdout if line.startswith("Epoch: ["))
    # A step's line comes before there is anything to save: the second one says that the first step is over.
    if next(lines, None) and next(lines, None):
        return
    pytest.fail(process.stderr.read())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_evicted_job_ends_with_85_and_goes_on_elsewhere(number, scratch, archive, tmp_path):
    flags = (*SMALL, "--epochs", "40", "--save-model", "--log-interval", "1")
    shutil.copy(archive, scratch)
    with begin(scratch, "train", archive.name, *flags) as process:
        until_steps_come(process)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 85, said
    assert (scratch / MODEL).stat().st_size == 0
    (run_folder,) = (scratch / "checkpoints").iterdir()
    assert (run_folder / "checkpoint.pt").exists()
    # Another machine: of what the job made, HTCondor brings the checkpoints alone.
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(archive, other)
    shutil.copy(PROGRAMS / "imagenet.sh", other)
    shutil.move(scratch / "checkpoints", other)
    status, shown, said = run(other, "train", archive.name, *flags)
    assert status == 0, said
    assert "Epoch: [0][1/6]" not in shown
    assert names(other) == OUTPUTS
    assert (other / MODEL).stat().st_size > 0


@pytest.mark.slow
def test_job_asks_itself_for_a_checkpoint_and_goes_on_in_its_place(scratch, archive):
    # The wrapper counts whole minutes; this one is of a few seconds.
    wrapper = (scratch / "imagenet.sh").read_text()
    assert "$(($1 * 60))" in wrapper
    (scratch / "imagenet.sh").write_text(wrapper.replace("$(($1 * 60))", "$1"))
    shutil.copy(archive, scratch)
    flags = (*SMALL, "--epochs", "400", "--log-interval", "1")
    status, _, said = run(scratch, "train", archive.name, *flags, CHECKPOINT_MINUTES="12")
    assert status == 85, said
    # HTCondor starts it again in the same folder, where the data are unpacked already.
    assert {"checkpoints", "data", MODEL} <= set(names(scratch))
    assert archive.name not in names(scratch)


def test_signal_while_the_code_is_made_ready_asks_for_another_start(scratch, archive, tmp_path):
    # A Python that takes its time, in place of an installation.
    slow = tmp_path / "python"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    shutil.copy(archive, scratch)
    with begin(scratch, "train", archive.name, PYTHON=str(slow)) as process:
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)
    assert process.returncode == 85
    assert (scratch / archive.name).exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "data, flags, message",
    [
        ("none.tar", (), "none.tar"),
        ("damaged.tar", (), "damaged.tar"),
        ("train.ffcv", ("--val-data", "train.ffcv"), "train.ffcv"),
    ],
)
def test_failed_job_cleans_up(data, flags, message, scratch):
    (scratch / "damaged.tar").write_bytes(b"\1" * 2000)
    status, _, said = run(scratch, "train", data, *SMALL, *flags)
    assert status == 1
    assert message in said
    assert names(scratch) == OUTPUTS
    assert (scratch / MODEL).stat().st_size == 0
    assert not list((scratch / "checkpoints").iterdir())


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "expected train DATA or shard PART, found ''"),
        (("evaluate", "x"), "expected train DATA or shard PART, found 'evaluate'"),
        (("train",), "train: expected the data"),
        (("shard",), "shard: expected the data"),
    ],
)
def test_mistakes_in_arguments_are_errors(arguments, message, scratch):
    status, _, said = run(scratch, *arguments)
    assert (status, message in said) == (2, True), said


THEIRS = ["ILSVRC2012_img_train.tar", "cache", "checkpoints", "data", "ffx.tar.gz", "imagenet.sh", "other.zip"]


@pytest.fixture
def full(scratch):
    """The folder with somebody's files and folders, under the names that a job uses."""
    for name in THEIRS:
        path = scratch / name
        if "." not in name:
            path.mkdir()
            path = path / "file"
        elif path.exists():
            continue
        path.write_bytes(b"theirs")
    return scratch


@pytest.mark.parametrize("arguments", [("--help",), (), ("train",), ("shard",)])
@pytest.mark.parametrize("job", [True, False])
def test_wrong_command_line_removes_nothing(arguments, job, full):
    status, _, said = run(full, *arguments, **({} if job else {"_CONDOR_SCRATCH_DIR": None}))
    assert status == 2, said
    assert names(full) == THEIRS
    assert (full / "data" / "file").read_bytes() == b"theirs"


def test_outside_of_a_job_nothing_is_removed(full):
    python = full.parent / "python"
    python.write_text("#!/bin/sh\necho $*\nexit 1\n")
    python.chmod(0o755)
    for arguments in (("train", "ILSVRC2012_img_train.tar"), ("shard", "ILSVRC2012_img_train.tar")):
        status, shown, said = run(full, *arguments, _CONDOR_SCRATCH_DIR=None, PYTHON=str(python))
        assert status == 1, said
        assert "ILSVRC2012_img_train.tar" in shown
        assert "--remove" not in shown
        assert names(full) == THEIRS


@pytest.mark.slow
def test_wrong_flag_ends_with_2(scratch, archive):
    shutil.copy(archive, scratch)
    status, _, said = run(scratch, "train", archive.name, "--epoch", "5")
    assert status == 2
    assert "unrecognized arguments: --epoch 5" in said


@pytest.mark.slow
def test_code_comes_as_an_archive(scratch, archive):
    done = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "ffx", "writer", "examples", "pyproject.toml", "setup.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip("the code is packed from a clone")
    with tarfile.open(scratch / "ffx.tar.gz", "w:gz") as tar:
        for name in done.stdout.split():
            if (ROOT / name).exists():
                tar.add(ROOT / name, name)
    shutil.copy(archive, scratch)
    status, _, said = run(
        scratch, "train", archive.name, *SMALL, "--max-steps", "1", "--save-model", FFX_HOME=None, PYTHONPATH=None
    )
    assert status == 0, said
    assert names(scratch) == OUTPUTS


def test_what_the_image_lacks_is_installed_beside_its_own_packages(scratch, tmp_path):
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\n"
        'case "$*" in\n'
        '  *"import numba"*) exit 1 ;;\n'
        "  *numpy*) echo numpy==1.24.3 ;;\n"
        f'  *) echo "$PYTHONUSERBASE: $*" >> {tmp_path}/called; cat constraints.txt >> {tmp_path}/called; exit 1 ;;\n'
        "esac\n"
    )
    python.chmod(0o755)
    (tmp_path / "empty").mkdir()
    with tarfile.open(scratch / "ffx.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "empty", ".")
    status, _, said = run(scratch, "train", "none.tar", FFX_HOME=None, PYTHON=str(python))
    assert status == 1, said
    called = (tmp_path / "called").read_text().splitlines()
    pip = "-m pip install --quiet --user --constraint constraints.txt"
    assert called == [f"{scratch}/packages: {pip} {scratch}/code[remote]", "numpy==1.24.3"]
    assert names(scratch) == OUTPUTS


@pytest.mark.slow
def test_job_of_a_part_brings_its_shard(scratch, tmp_path):
    from osg.shards import write_parts

    from ffx.writer import ImageArchive
    from tests.ilsvrc_archives import made_pictures, write_archives

    made = write_archives(tmp_path / "ilsvrc", made_pictures(3, 4), made_pictures(3, 1))
    part = next(iter(write_parts(ImageArchive(made.train_tar), scratch, 25_000)))
    status, _, said = run(scratch, "shard", part.name, "40", "0.5", "90")
    assert status == 0, said
    assert names(scratch) == ["imagenet.sh", f"{part.stem}.ffcv"]
    (scratch / part.name).write_bytes(b"\1" * 2000)
    status, _, said = run(scratch, "shard", part.name, "40", "0.5", "90")
    assert status == 1


# The container image's recipe


@pytest.fixture(scope="module")
def recipe():
    """Sections of the definition file: name -> lines; "" is the header."""
    sections, name = {"": []}, ""
    for line in (PROGRAMS / "imagenet.def").read_text().splitlines():
        if line.startswith("%"):
            name = line[1:].split()[0]
            sections[name] = []
        elif line.strip() and not line.strip().startswith("#"):
            sections[name].append(line.strip())
    return sections


def test_recipe_has_the_sections_that_it_needs(recipe):
    assert set(recipe) == {"", "files", "post", "environment", "test"}
    header = dict(line.split(": ", 1) for line in recipe[""])
    assert header["Bootstrap"] == "docker"
    torch_version = re.fullmatch(r"pytorch/pytorch:([\d.]+)-cuda[\d.]+-cudnn\d+-runtime", header["From"])[1]
    least = re.search(r'"torch>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())[1]
    assert [int(part) for part in torch_version.split(".")] >= [int(part) for part in least.split(".")]


@pytest.mark.parametrize("section", ["post", "environment", "test"])
def test_recipes_sections_are_shell(section, recipe):
    done = subprocess.run(["sh", "-n"], input="\n".join(recipe[section]), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_recipe_installs_what_is_there(recipe):
    text = "\n".join(recipe["post"])
    extra = re.search(r"/opt/ffx\[(\w+)\]", text)[1]
    assert re.search(rf"^{extra} = \[", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert recipe["files"] == ["ffx.tar.gz /opt/ffx.tar.gz"]
    for path in re.findall(r"/opt/ffx/(\S+)", "\n".join(recipe["test"])):
        assert (ROOT / path).exists()
    settings = subprocess.run(
        ["sh", "-c", "\n".join([*recipe["environment"], "env"])],
        env={"_CONDOR_SCRATCH_DIR": "/scratch"},
        capture_output=True,
        text=True,
    ).stdout
    assert "FFX_HOME=/opt/ffx\n" in settings
    assert "FFX_CACHE_DIR=/scratch/ffx\n" in settings


def test_wrapper_and_recipe_agree_on_where_the_code_is():
    assert 'if [ -z "${FFX_HOME:-}" ]' in (PROGRAMS / "imagenet.sh").read_text()
    assert "git archive --format=tar.gz" in Path(PROGRAMS / "imagenet.def").read_text()
