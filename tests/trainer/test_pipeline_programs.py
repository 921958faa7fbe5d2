"""The programs around run.py: a single batch, the checklist, the downloads and the two tables."""

import dataclasses
import hashlib
import io
import json
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import checklist
import convergence_table
import download_imagenet_dataset as download
import downloads
import pytest
import speed_table
import test_single_batch as single_batch
from config import TrainingConfig
from convergence_table import Convergence, measured_from
from download_imagenet_dataset import ARCHIVES, IMAGENETTE, Archive, fetch, unpack_imagenette
from speed_table import Measured, rows_of
from trainer.config import TrainerConfig
from trainer.errors import ConfigurationError, DataError, TrainingError

from tests.pictures import write_image_folder

TINY_TEXT = (
    "--arch shufflenet_v2_x0_5 --batch-size 4 --image-size 32 --workers 0 --device cpu --no-compile --amp off "
    "--checkpoint-every 0"
)
TINY = TINY_TEXT.split()


@pytest.fixture
def place(picture_folder, tmp_path, monkeypatch):
    """The current folder, with an `imagenet/` of class folders."""
    (tmp_path / "imagenet").symlink_to(picture_folder)
    monkeypatch.chdir(tmp_path)
    return tmp_path


# A single batch


def test_single_batch_passes_on_real_pictures(place, capsys):
    assert single_batch.main(TINY) == 0
    shown = capsys.readouterr().out
    assert "images     (4, 3, 32, 32)" in shown
    assert "outputs    (4, 4)" in shown
    assert "single batch: passed" in shown


def test_single_batch_makes_up_data_where_there_are_none(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert single_batch.main(TINY) == 0
    shown = capsys.readouterr().out
    assert "./imagenet is not there: made-up data" in shown
    assert "outputs    (4, 1000)" in shown


def test_single_batch_without_the_data_that_were_named_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert single_batch.main([*TINY, "--data-path", "elsewhere"]) == 2
    assert "elsewhere: no such folder" in capsys.readouterr().err


def test_single_batch_whose_loss_is_no_number_fails(tmp_path):
    params = {
        "data.source": "synthetic",
        "model.arch": "shufflenet_v2_x0_5",
        "training.batch_size": 2,
        "training.device": "cpu",
        "resolution.min_res": 32,
        "resolution.max_res": 32,
    }
    import torch
    from torch import nn

    broken = TrainerConfig.from_params(params)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.CrossEntropyLoss, "forward", lambda self, outputs, labels: outputs.sum() * torch.nan)
        with pytest.raises(TrainingError, match="the single batch failed: the loss is nan"):
            single_batch.run_single_batch(broken)


# The checklist


def test_checklist_names_what_passed_and_what_could_not_be_looked_at(place, capsys):
    arguments = [*TINY, "--test-batch-size", "4", "--least-speed", "0.001"]
    assert checklist.main(arguments) == 0
    shown = capsys.readouterr().out
    for name in ("PyTorch 2.0 or newer", "data", "disk space", "one batch", "loading speed"):
        assert f"[  ok   ] {name}: " in shown
    assert "[skipped] CUDA: --device cpu" in shown
    assert "[skipped] GPU memory: there is no GPU in use" in shown
    assert "imagenet/train: 40 images, 12 to validate, 4 classes" in shown
    assert "ready to train" in shown


def test_checklist_fails_without_data_and_goes_through_the_rest(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert checklist.main(TINY) == 1
    shown, said = capsys.readouterr()
    assert "[FAILED ] data: --data-path ./imagenet: no such folder" in shown
    assert "[skipped] one batch: the data are not there" in shown
    assert "checklist.py: error: failed: data" in said


@pytest.mark.parametrize(
    "arguments, failed",
    [
        (["--least-free-gib", "1e9"], "disk space: .* GiB free at .*, 1e\\+09 are needed"),
        (["--least-speed", "1e12"], "loading speed: .* images/s, 1,000,000,000,000 are needed: more --workers"),
    ],
)
def test_checklist_fails_where_disk_or_loading_do_not_suffice(arguments, failed, place, capsys):
    assert checklist.main([*TINY, "--test-batch-size", "4", "--least-speed", "0.001", *arguments]) == 1
    import re

    assert re.search(rf"\[FAILED \] {failed}", capsys.readouterr().out)


def test_checklist_wants_a_gpu_unless_told_otherwise(capsys):
    import torch

    config = TrainingConfig()
    if torch.cuda.is_available():
        assert checklist.Checklist(config).cuda()
        return
    with pytest.raises(TrainingError, match="torch finds no GPU"):
        checklist.Checklist(config).cuda()


def test_checklist_wants_torch_2(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "__version__", "1.13.1+cu117")
    with pytest.raises(TrainingError, match=r"found 1\.13\.1\+cu117"):
        checklist.Checklist(TrainingConfig()).torch_version()


# Downloads


class Server(ThreadingHTTPServer):
    """A server of one file; `faults` are answered first, one a request."""

    def __init__(self, content):
        super().__init__(("localhost", 0), Handler)
        self.content, self.faults, self.ranges, self.knows_ranges = content, [], [], True
        self.headers_seen = []
        self.version, self.knows_conditions = {}, True

    @property
    def url(self):
        return f"http://localhost:{self.server_port}/file?token=secret"


class Handler(BaseHTTPRequestHandler):
    length = ""

    def do_GET(self):
        server, wanted = self.server, self.headers.get("Range")
        server.ranges.append(wanted)
        server.headers_seen.append(dict(self.headers))
        fault = server.faults.pop(0) if server.faults else None
        if isinstance(fault, int):
            self.send_error(fault)
            return
        if fault == "page":
            self.answer(200, b"<html>log in</html>", **{"Content-Type": "text/html"})
            return
        start = int(wanted[6:-1]) if wanted and server.knows_ranges else 0
        condition = self.headers.get("If-Range")
        if condition and server.knows_conditions and condition not in server.version.values():
            start = 0
        if start >= len(server.content):
            self.answer(416, b"", **{"Content-Range": f"bytes */{len(server.content)}"})
            return
        rest, status = server.content[start:], 206 if start else 200
        headers = {"Content-Range": f"bytes {start}-{len(server.content) - 1}/{len(server.content)}"} if start else {}
        self.answer(status, rest, len(rest) // 2 if fault == "cut" else None, **headers)

    def answer(self, status, body, sent=None, **headers):
        self.send_response(status)
        always = {"Content-Length": self.length or str(len(body)), **self.server.version}
        for name, value in {**always, **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body if sent is None else body[:sent])

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server():
    made = Server(bytes(range(256)) * 4000)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    made.server_close()
    thread.join()


def archive_of(content):
    return Archive("file.tar", hashlib.md5(content).hexdigest())


def get(server, folder):
    return fetch(archive_of(server.content), server.url, folder, wait_seconds=0)


def test_download_is_whole(server, tmp_path):
    assert get(server, tmp_path / "new").read_bytes() == server.content
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["file.tar"]
    # What is there is checked and not fetched again.
    get(server, tmp_path / "new")
    assert server.ranges == [None]


def test_download_goes_on_where_it_broke_off(server, tmp_path):
    half = len(server.content) // 2
    server.faults = ["cut", 503, 429, "cut"]
    assert get(server, tmp_path).read_bytes() == server.content
    after = half + half // 2
    assert server.ranges == [None, *[f"bytes={half}-"] * 3, f"bytes={after}-"]


def test_download_goes_on_in_another_process(server, tmp_path):
    (tmp_path / "file.tar.part").write_bytes(server.content[:1000])
    assert get(server, tmp_path).read_bytes() == server.content
    assert server.ranges == ["bytes=1000-"]


@pytest.mark.parametrize("knows_conditions", [True, False])
@pytest.mark.parametrize("name, old, new", [("ETag", '"1"', '"2"'), ("Last-Modified", "Monday", "Tuesday")])
def test_two_versions_are_not_glued_together(name, old, new, knows_conditions, server, tmp_path):
    archive = Archive("file.tar")
    server.version, server.knows_conditions = {name: old}, knows_conditions
    server.faults = ["cut", *[503] * 5]
    with pytest.raises(DataError, match="503"):
        fetch(archive, server.url, tmp_path, wait_seconds=0)
    assert server.headers_seen[-1]["If-Range"] == old
    server.version, server.content = {name: new}, bytes(reversed(server.content))
    assert fetch(archive, server.url, tmp_path, wait_seconds=0).read_bytes() == server.content
    assert [path.name for path in tmp_path.iterdir()] == ["file.tar"]


def test_page_instead_of_an_archive_leaves_what_has_arrived(server, tmp_path):
    server.version, server.faults = {"ETag": '"1"'}, ["cut", "page"]
    with pytest.raises(DataError, match="a page came"):
        get(server, tmp_path)
    assert get(server, tmp_path).read_bytes() == server.content
    assert server.ranges[-1] == f"bytes={len(server.content) // 2}-"


def test_same_version_goes_on(server, tmp_path):
    # A weak tag does not say that the bytes are the same.
    for number, (version, sent) in enumerate((({"ETag": '"1"'}, '"1"'), ({"ETag": 'W/"1"'}, None))):
        server.version, server.faults = version, ["cut"]
        assert get(server, tmp_path / str(number)).read_bytes() == server.content
        assert server.headers_seen[-1].get("If-Range") == sent
        assert server.ranges[-1] == f"bytes={len(server.content) // 2}-"


def test_download_begins_anew_where_the_server_knows_no_ranges(server, tmp_path):
    (tmp_path / "file.tar.part").write_bytes(server.content[:1000])
    server.knows_ranges = False
    assert get(server, tmp_path).read_bytes() == server.content


@pytest.mark.parametrize("extra", [b"", b"more"])
def test_download_that_is_whole_or_too_long_already(extra, server, tmp_path):
    (tmp_path / "file.tar.part").write_bytes(server.content + extra)
    assert get(server, tmp_path).read_bytes() == server.content


def test_other_content_is_kept_aside_with_an_error(server, tmp_path):
    with pytest.raises(DataError, match="expected the MD5 sum 0000, found another one"):
        fetch(Archive("file.tar", "0000"), server.url, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file.tar.wrong"]


@pytest.mark.parametrize(
    "faults, message",
    [
        ([403], "403.*: the server wants to know who you are: take an address that may be read"),
        ([404], "404: Not Found"),
        ([500] * 6, "500: Internal Server Error"),
        (["cut", *[500] * 5], "500: Internal Server Error; what has arrived is kept in .*file.tar.part"),
        (["page"], "a page came instead of an archive"),
    ],
)
def test_download_that_cannot_be_says_why_and_tells_no_secrets(faults, message, server, tmp_path):
    server.faults = faults
    with pytest.raises(DataError, match=message) as raised:
        get(server, tmp_path)
    assert "secret" not in str(raised.value)
    assert not server.faults


def test_advice_to_log_in_is_for_archives_that_need_an_account(server, tmp_path):
    server.faults = [403]
    archive = dataclasses.replace(archive_of(server.content), needs_account=True)
    with pytest.raises(DataError, match=r"403.*: the server wants to know who you are: log in at image-net\.org"):
        fetch(archive, server.url, tmp_path)


def test_disk_without_room_is_an_error_before_anything_comes(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1000}))
    with pytest.raises(DataError, match="the disk has no room"):
        get(server, tmp_path)


def test_account_is_shown_to_the_server(server, tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGENET_TOKEN", "me")
    monkeypatch.setenv("IMAGENET_COOKIE", "session=1")
    archive = dataclasses.replace(archive_of(server.content), needs_account=True)
    fetch(archive, server.url, tmp_path / "imagenet")
    assert server.headers_seen[0]["Authorization"] == "Bearer me"
    assert server.headers_seen[0]["Cookie"] == "session=1"
    # Nobody else is told.
    get(server, tmp_path / "other")
    monkeypatch.setattr(downloads, "_is_private", lambda url: url.startswith("https://"))
    fetch(archive, server.url, tmp_path / "unencrypted")
    assert not any({"Authorization", "Cookie"} & headers.keys() for headers in server.headers_seen[1:])
    assert [one.needs_account for one in (*ARCHIVES.values(), *IMAGENETTE.values())] == [True] * 2 + [False] * 3


@pytest.mark.parametrize(
    "url, private",
    [("https://x/y", True), ("http://x/y", False), ("http://localhost:80/", True), ("http://[::1]/", True)],
)
def test_secrets_go_over_connections_that_nobody_reads(url, private):
    assert downloads._is_private(url) == private


def test_length_that_is_no_number_is_tried_again_and_then_an_error(server, tmp_path, monkeypatch):
    monkeypatch.setattr(Handler, "length", "many")
    with pytest.raises(DataError, match="the server says that 'many' bytes are to come, which is no number"):
        get(server, tmp_path)


def test_file_that_is_there_is_checked_and_stays(tmp_path):
    path = tmp_path / "mine.tar"
    path.write_bytes(b"content")
    assert fetch(archive_of(b"content"), str(path), tmp_path / "elsewhere") == path
    with pytest.raises(DataError, match=r"expected file.tar with the MD5 sum"):
        fetch(archive_of(b"other"), str(path), tmp_path)
    with pytest.raises(DataError, match="no such file"):
        fetch(archive_of(b"other"), str(tmp_path / "none"), tmp_path)
    with pytest.raises(ConfigurationError, match="ftp://x: expected a file, or a link that begins with https://"):
        fetch(archive_of(b"other"), "ftp://x", tmp_path)


def test_checksums_are_those_of_imagenet_and_torchvision():
    from torchvision.datasets import Imagenette

    sums = ("1d675b47d978889d74fa0da5fadfb00e", "29b22e2961454d5413ddabcf34fc5622")
    assert (ARCHIVES["train"].md5, ARCHIVES["val"].md5) == sums
    assert {size: (one.url, one.md5) for size, one in IMAGENETTE.items()} == Imagenette._ARCHIVES


def made_imagenette(folder):
    write_image_folder(folder / "imagenette2-160" / "train", 2)
    write_image_folder(folder / "imagenette2-160" / "val", 1)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        tar.add(folder / "imagenette2-160", "imagenette2-160")
    return stream.getvalue()


def test_imagenette_is_fetched_and_laid_out(server, tmp_path, monkeypatch, capsys):
    server.content = made_imagenette(tmp_path / "made")
    monkeypatch.setitem(IMAGENETTE, "160px", archive_of(server.content))
    target = tmp_path / "imagenet"
    arguments = ["--imagenette", "160px", "--imagenette-from", server.url, "--output", str(target)]
    assert download.main(arguments) == 0
    assert len(list((target / "train").glob("*/*.JPEG"))) == 8
    assert len(list((target / "val").glob("*/*.JPEG"))) == 4
    assert not list(target.glob(".*"))
    assert download.main(arguments) == 1
    assert "train and val there already" in capsys.readouterr().err


def test_archive_that_is_none_is_an_error(tmp_path):
    (tmp_path / "a.tgz").write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match="expected one folder with train/ and val/ in it"):
        unpack_imagenette(tmp_path / "a.tgz", tmp_path / "out")


def test_imagenet_archives_are_fetched(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ARCHIVES, "val", archive_of(server.content))
    assert download.main(["--val", server.url, "--output", str(tmp_path)]) == 0
    assert "file.tar: whole, with ImageNet's checksum" in capsys.readouterr().out


def test_nothing_asked_for_says_what_one_needs(capsys):
    assert download.main([]) == 2
    assert "ImageNet needs an account" in capsys.readouterr().err
    assert download.main(["--imagenette", "huge"]) == 2


# Tables


@pytest.mark.slow
def test_speed_table_runs_what_this_machine_has(tmp_path, monkeypatch, capsys):
    # Compiling takes minutes on a busy processor, and is what other tests are for.
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    arguments = [
        *TINY,
        "--synthetic",
        "--epochs",
        "6",
        "--steps",
        "2",
        "--gpus=2",
        "--out",
        str(tmp_path / "rows.json"),
    ]
    assert speed_table.main(arguments) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())
    shown = capsys.readouterr().out
    assert "| + fp16 | not run here: fp16 needs a GPU | | |" in shown
    assert [row["name"] for row in rows][-1] == "2 CPU processes, bf16 + compile"
    assert all(row["images_per_second"] > 0 for row in rows if not row["note"])
    assert len([row for row in rows if row["note"]]) == 1


def test_speed_table_reports_a_row_that_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed_table, "rows_of", lambda *_: [speed_table.Row("fp32 baseline", ("--no-compile",))])
    assert speed_table.main([*TINY, "--data-path", str(tmp_path / "none"), "--steps", "2"]) == 1
    assert "fp32 baseline: failed: " in capsys.readouterr().out


def test_speed_table_says_of_an_epoch_of_one_step_that_it_has_no_time(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed_table, "rows_of", lambda *_: [speed_table.Row("fp32 baseline", ("--no-compile",))])
    monkeypatch.setattr(speed_table, "_run_once", lambda *_: (0.0, 0))
    assert speed_table.main([*TINY, "--synthetic", "--steps", "2"]) == 1
    assert "fp32 baseline: failed: an epoch has one step" in capsys.readouterr().out


def test_memory_is_looked_at_where_a_batch_has_most_pixels():
    schedule = {"resolution.schedule": "0,32,4;1,64,2;2,48,2", "training.epochs": 3, "training.device": "cpu"}
    made_up = {"data.source": "synthetic", "data.synthetic_images": 8, "model.arch": "shufflenet_v2_x0_5"}
    config = TrainerConfig.from_params({**schedule, **made_up, "validation.resolution": 32})
    assert single_batch.run_single_batch(config).images == (4, 3, 32, 32)
    assert single_batch.run_single_batch(config, at_largest=True).images == (2, 3, 64, 64)


def test_rows_for_gpus_say_what_is_missing():
    config = TrainingConfig(epochs=18)
    rows = {row.name: row for row in rows_of(config, [2, 8], has_gpu=True, gpu_count=2)}
    assert not rows["+ fp16"].missing
    assert not rows["2 GPUs, fp16 + compile"].missing
    assert rows["8 GPUs, fp16 + compile"].missing == "2 GPU(s) here"
    stages = rows["+ fp16 + compile + progressive resize"].stages
    assert stages == ((128, 512, 5), (160, 384, 5), (192, 320, 5), (224, 256, 3))


def test_speed_table_has_ratios_to_its_first_row():
    rows = [
        Measured("fp32", 200.0, 24 << 30),
        Measured("fp16", 360.0, 12 << 30),
        Measured("8", None, 0, "not run here"),
    ]
    lines = speed_table.table_of(rows).splitlines()[2:]
    assert lines[0] == "| fp32 | 200.0 | 1.00 | 24.0 GiB |"
    assert lines[1] == "| fp16 | 360.0 | 1.80 | 12.0 GiB |"
    assert lines[2] == "| 8 | not run here | | |"


def test_convergence_table_trains_with_each_scheduler(place, capsys):
    arguments = [*TINY, "--epochs", "2", "--max-steps", "4", "--target", "1", "--out", "rows.json"]
    assert convergence_table.main(arguments) == 0
    rows = json.loads(Path("rows.json").read_text())
    assert [row["scheduler"] for row in rows] == ["multistep", "cosine", "onecycle"]
    kinds = [json.loads((Path(row["run"]) / "params.json").read_text())["lr.lr_schedule_type"] for row in rows]
    assert kinds == ["multistep", "cosine", "onecycle"]
    assert capsys.readouterr().out.count("not in 1") == 3
    # Each goes on with its own run.
    again = [*arguments[:-2], "--out", "again.json", "--checkpoint-every", "1", "--resume", "auto"]
    assert convergence_table.main(again) == 0
    assert convergence_table.main(again) == 0
    assert [row["scheduler"] for row in json.loads(Path("again.json").read_text())] == [
        "multistep",
        "cosine",
        "onecycle",
    ]


def test_convergence_is_the_first_epoch_that_reaches_the_accuracy(tmp_path):
    accuracies = [0.2, 0.5, 0.77, 0.7, 0.78]
    lines = [{"epoch": n, "top_1": one, "relative_time": 60.0 * (n + 1)} for n, one in enumerate(accuracies)]
    (tmp_path / "log").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    found = measured_from(tmp_path, "cosine", 0.76)
    assert found == Convergence("cosine", 3, 180.0, 0.78, 5, str(tmp_path))
    never = measured_from(tmp_path, "onecycle", 0.8)
    table = convergence_table.table_of([found, never], 0.76).splitlines()
    assert table[2] == "| CosineAnnealingLR | 3 | 0.050 | 78.0% |"
    assert table[3] == "| OneCycleLR | not in 5 | 0.083 | 78.0% |"


def test_target_that_is_no_share_is_an_error(capsys):
    assert convergence_table.main([*TINY, "--synthetic", "--target", "76"]) == 2
    assert "--target: expected a share above 0 and up to 1, found 76" in capsys.readouterr().err
