"""The three ways that data come to a job: parts that HTCondor transfers, HTTP in the job, archives that come whole."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import fetch_archive
import pytest
import split_archive
import unpack_archive
import write_shard
from osg.shards import ArchivePart, extent_of_part, parts_needed, write_parts
from osg.unpacking import class_tasks, zip_to_tar

from ffx.errors import ArchiveError
from ffx.writer import ImageArchive, TarArchive, merge_files
from tests.htcondor.conftest import PROGRAMS, ROOT, status_of
from tests.ilsvrc_archives import made_pictures, write_archives
from writer.write_imagenet import Options, write_file


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The archives of 4 classes of 6 pictures each, in ILSVRC2012's layout."""
    return write_archives(tmp_path_factory.mktemp("ilsvrc"), made_pictures(4, 6), made_pictures(4, 1, seed=9))


@pytest.fixture(scope="module")
def tree(made):
    """Class/name -> bytes, by tarfile."""
    found = {}
    with tarfile.open(made.train_tar) as outer:
        for member in outer:
            with tarfile.open(fileobj=outer.extractfile(member)) as inner:
                for picture in inner:
                    found[f"{member.name[:-4]}/{picture.name}"] = inner.extractfile(picture).read()
    return found


def files_below(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Parts that HTCondor may transfer


def written_whole(made, path):
    options = Options(
        dataset="imagenet",
        split="train",
        data_dir=made.folder,
        write_path=path,
        write_mode="proportion",
        max_resolution=40,
        num_workers=1,
        chunk_size=100,
        jpeg_quality=90,
        subset=-1,
        compress_probability=0.5,
    )
    write_file(options, ImageArchive(made.train_tar))
    return path.read_bytes()


def test_shards_of_parts_make_the_bytes_of_a_single_run(made, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert split_archive.main([str(made.train_tar), "--output", "parts", "--limit", "0.00003"]) == 0
    parts = [tmp_path / line for line in capsys.readouterr().out.split()]
    assert sorted(parts) == sorted((tmp_path / "parts").iterdir())
    assert len(parts) >= 3
    assert max(part.stat().st_size for part in parts) <= 30_000
    for part in parts:
        assert write_shard.main([str(part), "40", "0.5", "90", "--output", "shards", "--workers", "1"]) == 0
    shards = sorted((tmp_path / "shards").iterdir())
    assert len(shards) == len(parts)
    merge_files(tmp_path / "merged.ffcv", shards)
    assert (tmp_path / "merged.ffcv").read_bytes() == written_whole(made, tmp_path / "whole.ffcv")


def test_merging_is_a_command_of_an_environment_with_ffx():
    (command,) = [
        line for line in (PROGRAMS / "README.md").read_text().splitlines() if "merge" in line and ".ffcv" in line
    ]
    assert command == "python3 -m ffx merge train.ffcv shards/*.ffcv"
    done = subprocess.run([sys.executable, *command.split()[1:4], "--help"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, "usage: ffx merge" in done.stdout) == (0, True), done.stderr


def test_parts_hold_every_picture_once(made, tree, tmp_path):
    whole = ImageArchive(made.train_tar)
    parts = [ArchivePart(path) for path in write_parts(whole, tmp_path, 30_000)]
    assert {len(part) for part in parts} == {24}
    assert {tuple(part.classes) for part in parts} == {tuple(whole.classes)}
    found = {}
    for part in parts:
        own = range(*extent_of_part(part.number, part.parts, 24))
        found.update({index: part[index] for index in own})
        for index in set(range(24)) - set(own):
            with pytest.raises(ArchiveError, match=f"sample {index} is in another part"):
                part[index]
    assert [found[index] for index in range(24)] == [whole[index] for index in range(24)]
    assert sorted(content for content, _ in found.values()) == sorted(tree.values())


def test_number_of_parts_is_the_least_that_fits():
    import numpy as np

    sizes = np.full(10, 1024)
    each, rest = 1024 + 512, 512 + 512 + 10_240
    for count, limit in ((1, 10 * each + rest), (2, 10 * each + rest - 1), (2, 5 * each + rest), (5, 2 * each + rest)):
        assert parts_needed(sizes, 100, limit) == count
    with pytest.raises(ArchiveError, match="expected pictures of less than 2,000 bytes, found one with 1,024"):
        parts_needed(sizes, 100, 2000)


def test_archive_of_another_kind_is_no_part(made, tmp_path, capsys):
    assert write_shard.main([str(made.train_tar), "40", "0.5", "90"]) == 1
    assert "expected a part that split_archive.py made" in capsys.readouterr().err
    assert write_shard.main([str(tmp_path / "none.tar"), "40", "0.5", "90"]) == 1
    assert "none.tar" in capsys.readouterr().err


@pytest.mark.parametrize("about", [b"{", b"[]", b'{"part": 2, "parts": 2, "samples": 3, "classes": []}', b"{}"])
def test_part_whose_own_words_are_damaged_is_an_error(about, tmp_path):
    with tarfile.open(tmp_path / "part.tar", "w") as tar:
        member = tarfile.TarInfo("part.json")
        member.size = len(about)
        tar.addfile(member, io.BytesIO(about))
    with pytest.raises(ArchiveError, match=r"expected a part that split_archive\.py made"):
        ArchivePart(tmp_path / "part.tar")


def test_part_that_lost_a_picture_is_an_error(made, tmp_path):
    path = next(iter(write_parts(ImageArchive(made.train_tar), tmp_path, 30_000)))
    with tarfile.open(path) as old, tarfile.open(tmp_path / "short.tar", "w", format=tarfile.GNU_FORMAT) as new:
        for member in old.getmembers()[:-1]:
            new.addfile(member, old.extractfile(member))
    with pytest.raises(ArchiveError, match=r"expected \d+ pictures, found \d+"):
        ArchivePart(tmp_path / "short.tar")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["40", "2", "90"], "a share of 0 to 1"),
        (["0", "0.5", "90"], "expected a side and workers of at least 1"),
        (["40", "0.5", "101"], "a quality of 1 to 100"),
        (["40", "0.5"], "the following arguments are required: quality"),
    ],
)
def test_mistakes_in_shards_are_errors(arguments, message, tmp_path, capsys):
    assert status_of(write_shard.main, tmp_path / "part.tar", *arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("limit", ["0", "-1", "nan", "inf", "x"])
def test_limit_of_parts_is_a_size(limit, made, capsys):
    assert status_of(split_archive.main, made.train_tar, "--limit", limit) == 2
    assert "--limit" in capsys.readouterr().err


# Archives that HTCondor, or the job, fetched whole


def folder_archive(tree, path, above=""):
    with tarfile.open(path, "w") as tar:
        for name, content in tree.items():
            member = tarfile.TarInfo(above + name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_class_archives_become_class_folders(made, tree, tmp_path, capsys):
    (tmp_path / "train.tar").write_bytes(made.train_tar.read_bytes())
    assert unpack_archive.main([str(tmp_path / "train.tar"), "--output", str(tmp_path / "data")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'data' / 'train'}: 24 files\n"
    assert files_below(tmp_path / "data" / "train") == tree
    assert (tmp_path / "train.tar").exists()


@pytest.mark.parametrize("above", ["", "./", "ILSVRC2012_img_train/", "a/b/"])
def test_archive_of_class_folders_becomes_class_folders(above, tree, tmp_path):
    path = folder_archive(tree, tmp_path / "train.tar", above)
    arguments = [str(path), "--output", str(tmp_path / "data"), "--remove", "--threads", "2"]
    assert unpack_archive.main(arguments) == 0
    assert files_below(tmp_path / "data" / "train") == tree
    assert not path.exists()


@pytest.mark.parametrize("inner", ["folders", "archives"])
def test_zip_archive_is_unpacked_without_unzip(inner, made, tree, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with zipfile.ZipFile(tmp_path / "train.zip", "w", zipfile.ZIP_DEFLATED) as file:
        if inner == "folders":
            for name, content in tree.items():
                file.writestr(name, content)
        else:
            with tarfile.open(made.train_tar) as outer:
                for member in outer:
                    file.writestr(member.name, outer.extractfile(member).read())
    assert unpack_archive.main([str(tmp_path / "train.zip"), "--output", str(tmp_path / "data"), "--remove"]) == 0
    assert files_below(tmp_path / "data" / "train") == tree
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_zip_archive_becomes_a_tar_archive_of_the_same_files(tree, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as file:
        file.mkdir("n01440764")
        for name, content in tree.items():
            file.writestr(name, content)
    assert unpack_archive.main([str(tmp_path / "train.zip"), "--to-tar"]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'train.tar'}: 24 files\n"
    with tarfile.open(tmp_path / "train.tar") as tar:
        assert {member.name: tar.extractfile(member).read() for member in tar} == tree


@pytest.mark.parametrize("name", ["train.zip", "train.tar"])
@pytest.mark.parametrize("flags", [("--to-tar",), ("--remove", "--output", "data")])
def test_zip_archive_replaces_no_file(name, flags, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(name, "w") as file:
        file.writestr("n1/one.JPEG", b"content")
    if name == "train.zip":
        (tmp_path / "train.tar").write_bytes(b"theirs")
    before = files_below(tmp_path)
    assert unpack_archive.main([name, *flags]) == 1
    assert f"train.tar: expected no file where {name} shall become a tar archive" in capsys.readouterr().err
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("name", ["../outside", "/absolute", "n1/../../outside"])
def test_zip_archive_that_names_files_outside_is_refused(name, tmp_path):
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as file:
        file.writestr(name, b"content")
    with pytest.raises(ArchiveError, match="expected files below the archive's root, found"):
        zip_to_tar(tmp_path / "train.zip", tmp_path / "train.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["train.zip"]


def test_damaged_zip_archive_is_refused_and_leaves_nothing(tree, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "train.zip", "w") as file:
        for name, content in tree.items():
            file.writestr(name, content)
    content = bytearray((tmp_path / "train.zip").read_bytes())
    content[500] ^= 0xFF
    (tmp_path / "train.zip").write_bytes(content)
    assert unpack_archive.main([str(tmp_path / "train.zip"), "--output", str(tmp_path / "data")]) == 1
    assert "expected a whole zip archive without a password: Bad CRC-32" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["train.zip"]


def test_archive_without_classes_is_refused(made, tmp_path, capsys):
    with pytest.raises(ArchiveError, match="expected pictures in a folder for each class"):
        class_tasks(TarArchive(made.val_tar))
    folder_archive({"a/n1/one.JPEG": b"1", "b/n2/one.JPEG": b"2"}, tmp_path / "two.tar")
    with pytest.raises(ArchiveError, match="expected one folder with those of the classes, found 2"):
        class_tasks(TarArchive(tmp_path / "two.tar"))
    (tmp_path / "text.tar").write_text("no archive" * 100)
    assert unpack_archive.main([str(tmp_path / "text.tar")]) == 1
    assert "text.tar" in capsys.readouterr().err
    assert unpack_archive.main([str(tmp_path / "none.tar")]) == 1
    assert "none.tar" in capsys.readouterr().err
    assert unpack_archive.main([str(made.train_tar), "--threads", "0"]) == 2
    assert "--threads: expected at least 1, found 0" in capsys.readouterr().err


def test_file_that_is_no_zip_archive_becomes_no_tar_archive(made, capsys):
    assert unpack_archive.main([str(made.train_tar), "--to-tar"]) == 1
    assert "expected a whole zip archive" in capsys.readouterr().err


# HTTP inside the job


class Origin(ThreadingHTTPServer):
    """Serves one archive by ranges; each request takes the next fault of a list."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, content):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.faults, self.asked = content, [], []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/ILSVRC2012_img_train.tar"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        wanted = self.headers.get("Range", "")
        self.server.asked.append(wanted)
        fault = self.server.faults.pop(0) if self.server.faults else None
        if isinstance(fault, int):
            self.send_error(fault)
            return
        start, whole = int(wanted[6:-1] or 0), len(self.server.content)
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        self.end_headers()
        if fault == "damage":
            body = b"\0" + body[1:]
        self.wfile.write(body[: len(body) // 2] if fault in ("truncate", "stall") else body)
        if fault == "stall":
            self.wfile.flush()
            time.sleep(5)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def origin(made):
    server = Origin(made.train_tar.read_bytes())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def fetched(origin, folder, *flags):
    digest = hashlib.md5(origin.content).hexdigest()
    return fetch_archive.main([origin.url, "--md5", digest, "--output", str(folder), "--pause", "0", *flags])


def test_fetching_is_tried_again_and_goes_on_where_it_was(origin, tmp_path, capsys):
    origin.faults = ["truncate", 503, "stall"]
    assert fetched(origin, tmp_path, "--timeout", "0.3") == 0
    assert (tmp_path / "ILSVRC2012_img_train.tar").read_bytes() == origin.content
    half = len(origin.content) // 2
    # A stalled connection loses the megabyte that it was in.
    assert origin.asked == ["", *[f"bytes={half}-"] * 3]
    assert "with the MD5 sum asked for" in capsys.readouterr().out


def test_fetching_ends_after_six_tries_and_the_next_run_goes_on(origin, tmp_path, capsys):
    origin.faults = ["truncate", *[500] * 5]
    assert fetched(origin, tmp_path) == 1
    assert "500: Internal Server Error; what has arrived is kept in" in capsys.readouterr().err
    assert len(origin.asked) == 6
    assert fetched(origin, tmp_path) == 0
    assert origin.asked[-1] == f"bytes={len(origin.content) // 2}-"


def test_damaged_archive_is_an_error(origin, tmp_path, capsys):
    origin.faults = ["damage"]
    assert fetched(origin, tmp_path) == 1
    assert "found another one" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["ILSVRC2012_img_train.tar.wrong"]


def test_without_a_checksum_the_length_is_checked(origin, tmp_path, capsys):
    origin.faults = ["truncate"]
    assert fetch_archive.main([origin.url, "--output", str(tmp_path), "--pause", "0"]) == 0
    assert (tmp_path / "ILSVRC2012_img_train.tar").read_bytes() == origin.content
    assert "not checked" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["http://127.0.0.1/"], "expected the address of a file"),
        (["ftp://127.0.0.1/a.tar"], "begins with https:// or http://"),
        (["http://127.0.0.1/a.tar", "--timeout", "0"], "--timeout: expected more than 0 seconds, found 0"),
        (["http://127.0.0.1/a.tar", "--pause", "-1"], "--pause: expected at least 0 seconds, found -1"),
        (["http://127.0.0.1/a.tar", "--md5", "12"], "--md5: expected 32 hexadecimal digits, found '12'"),
    ],
)
def test_mistakes_in_addresses_are_errors(arguments, message, capsys):
    assert status_of(fetch_archive.main, *arguments) == 2
    assert message in capsys.readouterr().err
