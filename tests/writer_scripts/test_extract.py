"""`extract_ILSVRC_mp.py` beside a plain loop over `tar` (`extract_ILSVRC.sh`): the same tree, or a fault named."""

import errno
import hashlib
import importlib
import io
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pytest

from ffx.errors import ArchiveError
from ffx.writer import TarArchive
from tests.ilsvrc_archives import add_member, made_pictures, write_archives
from writer import extract_ILSVRC_mp, extraction
from writer.ilsvrc import read_devkit, read_valprep

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    return write_archives(tmp_path_factory.mktemp("tars"), made_pictures(5, 7), made_pictures(5, 3, seed=9))


@pytest.fixture(scope="module")
def tree(archives):
    """What tar itself and the script's lines make of them: relative path -> bytes."""
    folder = archives.folder / "plain"
    done = subprocess.run(
        [ROOT / "writer" / "extract_ILSVRC.sh", archives.folder, folder], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = files_below(folder)
    # The loop itself is held against what the archives were made of.
    expected = {f"train/{name}/{each}" for name, own in archives.train.items() for each in own}
    expected |= {f"val/{name}/{each}" for name, own in archives.val.items() for each in own}
    assert found.keys() == expected
    return found


def files_below(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def arguments(archives, output, **changed):
    options = {
        "train_tar": archives.train_tar,
        "val_tar": archives.val_tar,
        "output_dir": output,
        "valprep_script": archives.valprep,
        **changed,
    }
    return [text for name, value in options.items() if value is not None for text in (f"--{name}", str(value))]


@pytest.fixture
def extract(archives, tmp_path, capsys):
    """`extract(status, **options)` runs the program in this process; what it printed, both streams."""

    def run(status=0, *flags, **options):
        assert extract_ILSVRC_mp.main([*arguments(archives, tmp_path / "out", **options), *flags]) == status
        printed = capsys.readouterr()
        return printed.out + printed.err

    return run


@pytest.mark.parametrize("threads", [1, 3])
def test_tree_is_that_of_plain_tar(extract, tree, tmp_path, threads):
    printed = extract(num_threads=threads)
    assert files_below(tmp_path / "out") == tree
    assert "train: 35 pictures\n" in printed and "val: 15 pictures\n" in printed
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["train", "val"]
    assert "there before" in extract()
    assert files_below(tmp_path / "out") == tree


@pytest.mark.parametrize("split", ["train", "val"])
def test_one_of_them(extract, tree, tmp_path, split):
    others = {"train": ("val_tar", "valprep_script"), "val": ("train_tar",)}[split]
    extract(run_type=split, **dict.fromkeys(others))
    assert files_below(tmp_path / "out") == {name: data for name, data in tree.items() if name.startswith(split)}


def test_launcher_and_program_run_anywhere(archives, tree, tmp_path):
    for number, script in enumerate(("writer/extract_ILSVRC_mp.py", "scripts/extract_ILSVRC_mp.py")):
        output = tmp_path / str(number)
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        command = [sys.executable, ROOT / script, *arguments(archives, output)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert files_below(output) == tree
        # A bar with rate and time left.
        assert re.search(r"train: 100%.*<.*B/s", done.stderr)


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 7))])
@pytest.mark.long("kills")
def test_killed_at_any_moment_it_goes_on(archives, tree, tmp_path, seed):
    """SIGKILL behind a drawn number of written files, three times; then a run to the end."""
    output = tmp_path / "out"
    kill = (
        "import os, signal, sys\n"
        "from writer import extract_ILSVRC_mp\n"
        "left, real = [int(sys.argv.pop(1))], os.{call}\n"
        "def counted(*given, **named):\n"
        "    left[0] -= 1\n"
        "    if left[0] < 0: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return real(*given, **named)\n"
        "os.{call} = counted\n"
        "extract_ILSVRC_mp.main()\n"
    )
    generator = np.random.default_rng(seed)
    for call in ("write", "replace", "close"):
        number = str(int(generator.integers(1, 15)))
        command = [sys.executable, "-c", kill.replace("{call}", call), number, *arguments(archives, output)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        there = files_below(output)
        for name, data in there.items():
            if not name.endswith((".part", ".boot")):
                assert tree[name.replace(".train.part", "train").replace(".val.part", "val")] == data
        # A folder has its name only with everything in it.
        if (output / "train").exists():
            assert {name for name in tree if name.startswith("train/")} <= there.keys()
    done = subprocess.run(
        [sys.executable, "writer/extract_ILSVRC_mp.py", *arguments(archives, output)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "there before" in done.stdout
    assert files_below(output) == tree


def test_partial_and_missing_files_are_mended(extract, tree, tmp_path):
    extract()
    names = sorted(tree)
    (tmp_path / "out" / names[0]).write_bytes(tree[names[0]][:100])
    (tmp_path / "out" / names[1]).unlink()
    (tmp_path / "out" / names[2]).unlink()
    (tmp_path / "out" / names[2]).symlink_to("/dev/null")
    (tmp_path / "out" / "train" / "notes.txt").write_text("mine")
    assert "35 pictures, 32 of them there before" in extract()
    assert files_below(tmp_path / "out") == {**tree, "train/notes.txt": b"mine"}


@pytest.mark.parametrize("boot", ["started anew", "the same", None])
def test_after_a_power_cut_bytes_are_compared(extract, tree, tmp_path, monkeypatch, boot):
    """A file can have its length and none of its bytes then; before it, and where all is whole, sizes say enough."""
    monkeypatch.setattr(extraction, "_BOOT", tmp_path / "boot_id")
    (tmp_path / "boot_id").write_text("the same\n")
    extract()
    out = tmp_path / "out"
    assert not list(out.glob(".*"))
    (out / "train").rename(out / ".train.part")
    (out / ".train.boot").write_text("the same")
    name = min(tree)
    emptied = bytes(len(tree[name]))
    (out / name.replace("train", ".train.part")).write_bytes(emptied)
    if boot is None:
        (tmp_path / "boot_id").unlink()
    else:
        (tmp_path / "boot_id").write_text(boot)
    extract(run_type="train")
    assert files_below(out) == {**tree, name: emptied if boot == "the same" else tree[name]}


def test_what_a_killed_run_has_written_is_on_the_disk_before_the_folder_has_its_name(extract, tmp_path, monkeypatch):
    extract(run_type="train")
    out, real, done = tmp_path / "out", os.sync, []
    (out / "train").rename(out / ".train.part")
    (out / ".train.boot").write_text(extraction._boot())
    monkeypatch.setattr(extraction.os, "sync", lambda: (real(), done.append((out / "train").exists())))
    assert "35 of them there before" in extract(run_type="train")
    assert done == [False]


def test_in_a_folder_with_its_name_each_file_is_flushed_before_it_has_its_own(extract, tree, tmp_path, monkeypatch):
    """Who made train/ by hand: its name says that sizes are enough, so no power cut may leave a file of zeros."""
    (tmp_path / "out" / "train").mkdir(parents=True)
    order = []
    for call in ("fsync", "replace"):
        real = getattr(os, call)
        monkeypatch.setattr(
            extraction.os, call, lambda *given, real=real, call=call: (order.append(call), real(*given))
        )
    extract(run_type="train", num_threads=1)
    assert order == ["fsync", "replace"] * 35
    assert files_below(tmp_path / "out") == {name: data for name, data in tree.items() if name.startswith("train")}


def test_second_run_at_the_same_time_is_refused(extract, tree, tmp_path):
    (tmp_path / "out" / ".train.part").mkdir(parents=True)
    with extraction._alone(tmp_path / "out" / ".train.part"):
        assert ".train.part: another run unpacks to it" in extract(1)
    extract()
    assert files_below(tmp_path / "out") == tree


def with_damage(archives, tmp_path, split, damage):
    path = getattr(archives, f"{split}_tar")
    content = bytearray(path.read_bytes())
    damaged = tmp_path / path.name
    damaged.write_bytes(damage(content, TarArchive(path).members()))
    return damaged


def test_damaged_inner_archives_are_named_and_the_rest_is_unpacked(extract, archives, tree, tmp_path):
    def damage(content, members):
        content[members[1].start + 5] ^= 1
        # Behind the first picture of this one, so that the damage shows late.
        first = TarArchive(archives.train_tar).members(members[3])[1]
        content[first.start - 512 + 130] ^= 1
        return content

    damaged = with_damage(archives, tmp_path, "train", damage)
    printed = extract(1, train_tar=damaged, run_type="train")
    names = [member.name for member in TarArchive(archives.train_tar).members()]
    assert f"{damaged}: {names[1]}: at offset 0" in printed and f"{damaged}: {names[3]}: at offset" in printed
    assert sum(name in printed for name in names) == 2
    assert "a rerun goes on from there" in printed
    assert not (tmp_path / "out" / "train").exists()
    whole = {name for name in tree if name.startswith("train") and f"{name.split('/')[1]}.tar" not in names[1:4:2]}
    there = {f"train/{name}" for name in files_below(tmp_path / "out" / ".train.part")}
    assert whole <= there
    # With the archive fetched anew, the same command ends well.
    extract(run_type="train")
    assert files_below(tmp_path / "out") == {name: data for name, data in tree.items() if name.startswith("train")}


def test_damage_in_one_archive_leaves_the_other_whole(extract, archives, tree, tmp_path):
    def damage(content, members):
        content[members[1].start + 5] ^= 1
        return content

    printed = extract(1, train_tar=with_damage(archives, tmp_path, "train", damage))
    assert "a rerun goes on from there" in printed and "val: 15 pictures\n" in printed
    found = files_below(tmp_path / "out" / "val")
    assert found == {name[4:]: data for name, data in tree.items() if name.startswith("val/")}


def class_archives(path, **classes):
    """An archive of one archive a class, of class -> (name, bytes) of its files."""
    with tarfile.open(path, "w") as outer:
        for name, files in classes.items():
            inner = io.BytesIO()
            with tarfile.open(fileobj=inner, mode="w", format=tarfile.GNU_FORMAT) as tar:
                for file in files:
                    add_member(tar, *file)
            add_member(outer, f"{name}.tar", inner.getvalue())
    return path


def test_longest_names_are_unpacked(extract, tmp_path):
    longest = "x" * 250 + ".JPEG"
    extract(train_tar=class_archives(tmp_path / "long.tar", n01=[(longest, b"1"), ("b.JPEG", b"2")]), run_type="train")
    assert files_below(tmp_path / "out" / "train") == {f"n01/{longest}": b"1", "n01/b.JPEG": b"2"}


@pytest.mark.parametrize("files", [[("x" * 256, b"1")], [("a", b"1"), ("a/b.JPEG", b"2")]])
def test_names_that_the_disk_cannot_have_are_named_and_the_rest_is_unpacked(extract, tmp_path, files):
    others = {f"n{number:02d}": [("a.JPEG", b"1")] for number in range(2, 40)}
    hostile = class_archives(tmp_path / "odd.tar", n01=files, **others)
    printed = extract(1, train_tar=hostile, run_type="train", num_threads=1)
    assert f"{hostile}: n01.tar: " in printed and printed.count(".tar: n") == 1
    there = files_below(tmp_path / "out" / ".train.part").keys()
    assert {f"{name}/a.JPEG" for name in others} <= there


def test_name_of_an_unfinished_file_is_refused(extract, tmp_path):
    """The next file would be written over it, and nobody would know."""
    files = [(".1536.part", b"one"), ("a.JPEG", b"two")]
    printed = extract(1, train_tar=class_archives(tmp_path / "odd.tar", n01=files), run_type="train")
    assert "n01.tar: expected names other than those of unfinished files, found .1536.part" in printed


def test_terminal_does_not_obey_an_archive(extract, tmp_path):
    with tarfile.open(tmp_path / "hostile.tar", "w") as tar:
        add_member(tar, "\x1b]0;owned\x07x.txt", b"1")
    printed = extract(1, train_tar=tmp_path / "hostile.tar", run_type="train")
    assert "\x1b" not in printed and r"found \x1b]0;owned\x07x.txt" in printed


def test_output_folder_whose_name_is_no_utf_8(archives, tmp_path):
    output = os.fsdecode(os.fsencode(tmp_path) + b"/o\xff")
    command = [sys.executable, "writer/extract_ILSVRC_mp.py", *arguments(archives, output)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONUTF8": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert r"o\udcff/val: 15 pictures" in done.stdout


@pytest.mark.parametrize("split", ["train", "val"])
def test_archive_that_was_cut_off_writes_nothing(extract, archives, tmp_path, split):
    damaged = with_damage(archives, tmp_path, split, lambda content, members: content[: members[-1].start + 30])
    printed = extract(1, **{f"{split}_tar": damaged})
    assert str(damaged) in printed and "cut off" in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "attributes"),
    [
        ("../outside.JPEG", {}),
        ("/tmp/outside.JPEG", {}),
        ("x.JPEG", {"type": tarfile.SYMTYPE, "linkname": "/etc"}),
        ("x.JPEG", {"type": tarfile.LNKTYPE, "linkname": "../y"}),
        ("x.JPEG", {"type": tarfile.BLKTYPE}),
    ],
)
def test_hostile_inner_archive_writes_nothing_of_its_class(extract, tmp_path, name, attributes):
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as tar:
        add_member(tar, "good.JPEG", b"1")
        add_member(tar, name, b"" if attributes else b"evil", **attributes)
    hostile = tmp_path / "hostile.tar"
    with tarfile.open(hostile, "w") as tar:
        add_member(tar, "n01.tar", inner.getvalue())
    printed = extract(1, train_tar=hostile, run_type="train")
    assert f"{hostile}: n01.tar: at offset" in printed and repr(name) in printed
    assert {path.name for path in tmp_path.rglob("*")} == {"hostile.tar", "out", ".train.part", ".train.boot", "n01"}


@pytest.mark.parametrize("name", ["../n01.tar", "x/n01.tar", "readme.txt", ".tar", "..tar", "...tar"])
def test_hostile_outer_archive_writes_nothing(extract, tmp_path, name):
    with tarfile.open(tmp_path / "hostile.tar", "w") as tar:
        add_member(tar, name, b"")
    printed = extract(1, train_tar=tmp_path / "hostile.tar", run_type="train")
    assert name in printed
    assert not (tmp_path / "out").exists()


def test_disk_without_room_is_said_first(extract, monkeypatch, tmp_path):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(extraction.shutil, "disk_usage", lambda _: usage)
    assert "expected room for" in extract(1)
    assert files_below(tmp_path / "out").keys() == {".train.boot"}


def test_what_is_there_needs_no_room(extract, monkeypatch, tree, tmp_path):
    extract()
    usage = type("Usage", (), {"free": 100_000})
    monkeypatch.setattr(extraction.shutil, "disk_usage", lambda _: usage)
    extract()
    assert files_below(tmp_path / "out") == tree


def test_disk_that_gets_full_ends_the_run(extract, monkeypatch, tree, tmp_path):
    real, left = os.write, [12]

    def write(descriptor, data):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(extraction.os, "write", write)
        printed = extract(1, num_threads=2)
    assert "No space left on device" in printed and ".tar: n0" in printed
    extract()
    assert {name: data for name, data in files_below(tmp_path / "out").items() if ".part" not in name} == tree


def test_interruption(archives, tmp_path):
    """Ctrl-C ends it soon, with the status of an interrupted program."""
    code = (
        "import os, time\nfrom writer import extract_ILSVRC_mp\nreal = os.replace\n"
        "def slow(*given):\n    time.sleep(0.3)\n    print('going', flush=True)\n    return real(*given)\n"
        "os.replace = slow\nraise SystemExit(extract_ILSVRC_mp.main())\n"
    )
    command = [sys.executable, "-c", code, *arguments(archives, tmp_path / "out", num_threads=2)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "going\n"
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; a rerun goes on" in error
    # 50 files of 0.3 s would take longer, were they all waited for.
    assert time.monotonic() - start < 6 or not (tmp_path / "out" / "train").exists()


def test_checksums(extract, archives, tree, monkeypatch, tmp_path):
    sums = {
        split: hashlib.md5(getattr(archives, f"{split}_tar").read_bytes()).hexdigest() for split in ("train", "val")
    }
    assert "expected ILSVRC2012_img_train.tar with the MD5 sum 1d675b47d978889d74fa0da5fadfb00e" in extract(
        1, "--check"
    )
    assert not (tmp_path / "out").exists()
    monkeypatch.syspath_prepend(ROOT / "examples" / "imagenet")
    fetching = importlib.import_module("download_imagenet_dataset")
    assert fetching.ARCHIVES["val"].md5 == "29b22e2961454d5413ddabcf34fc5622"
    known = {split: fetching.Archive(fetching.ARCHIVES[split].name, sums[split]) for split in sums}
    monkeypatch.setattr(fetching, "ARCHIVES", known)
    assert "archives, whole" in extract(0, "--check", output_dir=None, valprep_script=None)
    assert not (tmp_path / "out").exists()
    extract(0, "--check")
    assert files_below(tmp_path / "out") == tree
    damaged = with_damage(archives, tmp_path, "val", lambda content, members: content[:-1] + b"\1")
    assert sums["val"] in extract(1, "--check", val_tar=damaged)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_tar": None}, "--train_tar is missing, which --run_type all needs"),
        ({"val_tar": None}, "--val_tar is missing"),
        ({"output_dir": None}, "--output_dir is missing, which unpacking needs"),
        ({"valprep_script": None}, "--valprep_script valprep.sh, or --devkit"),
        ({"valprep_script": "nowhere.sh"}, "--valprep_script: there is no file nowhere.sh"),
        ({"train_tar": "nowhere.tar"}, "--train_tar: there is no file nowhere.tar"),
        ({"num_threads": 0}, "--num_threads: expected at least 1, found 0"),
        ({"num_threads": "x"}, "--num_threads"),
        ({"run_type": "test"}, "--run_type"),
        ({"trian_tar": "x"}, "--trian_tar"),
    ],
)
def test_wrong_options(archives, tmp_path, capsys, options, message):
    with pytest.raises(SystemExit) as leaving:
        extract_ILSVRC_mp.main(arguments(archives, tmp_path / "out", **options))
    assert leaving.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_devkit_says_the_same_as_the_script(extract, archives, tree, tmp_path):
    scipy_io = pytest.importorskip("scipy.io")
    classes = read_valprep(archives.valprep)
    # Numbers in another order than the names, and an inner node of the tree, which has no pictures.
    numbered = [*sorted(set(classes.values()), reverse=True), "n00000001"]
    synsets = np.array(
        [(number, name, "words", "gloss", 0) for number, name in enumerate(numbered, 1)],
        dtype=[("ILSVRC2012_ID", object), ("WNID", object), ("words", object), ("gloss", object), ("n", object)],
    ).reshape(-1, 1)
    scipy_io.savemat(tmp_path / "meta.mat", {"synsets": synsets})
    truth = "".join(f"{numbered.index(classes[name]) + 1}\n" for name in sorted(classes))
    devkit = tmp_path / "ILSVRC2012_devkit_t12.tar.gz"
    with tarfile.open(devkit, "w:gz") as tar:
        add_member(tar, "ILSVRC2012_devkit_t12/data/meta.mat", (tmp_path / "meta.mat").read_bytes())
        add_member(tar, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", truth.encode())
    assert read_devkit(devkit) == classes
    extract(valprep_script=None, devkit=devkit)
    assert files_below(tmp_path / "out") == tree
    synsets["WNID"][0] = "../outside"
    scipy_io.savemat(tmp_path / "meta.mat", {"synsets": synsets})
    with tarfile.open(tmp_path / "hostile.tar.gz", "w:gz") as tar:
        add_member(tar, "data/meta.mat", (tmp_path / "meta.mat").read_bytes())
        add_member(tar, "data/ILSVRC2012_validation_ground_truth.txt", truth.encode())
    with pytest.raises(ArchiveError, match=r"expected a class such as n01440764, found '\.\./outside'"):
        read_devkit(tmp_path / "hostile.tar.gz")
    with pytest.raises(ArchiveError, match=r"expected ILSVRC2012_devkit_t12\.tar\.gz with"):
        read_devkit(archives.val_tar)
    (tmp_path / "text").write_text("no archive")
    with pytest.raises(ArchiveError, match=r"text: expected ILSVRC2012_devkit_t12"):
        read_devkit(tmp_path / "text")


def test_devkit_without_scipy(monkeypatch, archives):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ArchiveError, match="pip install scipy"):
        read_devkit(archives.val_tar)


GOOD = (
    "#!/bin/bash\n\nmkdir -p n01\nmkdir -p n02 n03/\n  # words\nmv a.JPEG n01/\r\nmv b.JPEG n02\nmv ./c.JPEG ./n03/\n"
)


def test_lines_of_the_script(tmp_path):
    (tmp_path / "valprep.sh").write_text(GOOD)
    assert read_valprep(tmp_path / "valprep.sh") == {"a.JPEG": "n01", "b.JPEG": "n02", "c.JPEG": "n03"}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("rm -rf /", "'mkdir -p FOLDER' or 'mv PICTURE FOLDER/'"),
        ("mv d.JPEG n01/; touch owned", "'mkdir -p FOLDER'"),
        ("mv $(touch owned) n01/", "'mkdir -p FOLDER'"),
        ("mv d.JPEG ../n01/", "'mkdir -p FOLDER'"),
        ("mv ../d.JPEG n01/", "'mkdir -p FOLDER'"),
        ("mv -f n01", "'mkdir -p FOLDER'"),
        ("mv d.JPEG", "'mkdir -p FOLDER'"),
        ("mkdir -p ..", "'mkdir -p FOLDER'"),
        ("mkdir -p /etc", "'mkdir -p FOLDER'"),
        ("mkdir n05", "'mkdir -p FOLDER'"),
        ("mv d.JPEG n04/", "a folder that a line before made"),
        ("mv a.JPEG n02/", "a picture once"),
    ],
)
def test_bad_line_of_the_script_is_named(extract, tmp_path, line, expected):
    script = tmp_path / "valprep.sh"
    script.write_text(GOOD + line + "\n")
    printed = extract(1, valprep_script=script)
    assert f"{script}: line 9: expected {expected}" in printed and f"found {line!r}" in printed
    assert {path.name for path in tmp_path.iterdir()} == {"valprep.sh"}
    script.write_text("# nothing\n")
    assert "expected lines such as" in extract(1, valprep_script=script)


def test_slow_way_takes_the_folders_of_its_arguments(archives, tree, tmp_path):
    """And no others of these names, to which CDPATH would lead; whatever they are called."""
    (tmp_path / "elsewhere" / "-tars").mkdir(parents=True)
    (tmp_path / "here" / "-tars").mkdir(parents=True)
    for path in (archives.train_tar, archives.val_tar, archives.valprep):
        (tmp_path / "here" / "-tars" / path.name).symlink_to(path)
    for tars, out in (("-tars", "-out"), ("./-tars", "out")):
        done = subprocess.run(
            [ROOT / "writer" / "extract_ILSVRC.sh", tars, out],
            cwd=tmp_path / "here",
            env={**os.environ, "CDPATH": f".:{tmp_path / 'elsewhere'}"},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert files_below(tmp_path / "here" / out) == tree


def test_slow_way_refuses_what_it_cannot_do(archives, tree, tmp_path):
    script = ROOT / "scripts" / "extract_ILSVRC.sh"
    for given, message in (
        ([tmp_path], "has no ILSVRC2012_img_train.tar"),
        ([tmp_path / "nowhere"], "there is no folder"),
        ([archives.folder, archives.folder / "plain"], "is there already"),
        (["a", "b", "c"], "found 3 arguments"),
    ):
        done = subprocess.run([script, *given], capture_output=True, text=True)
        assert done.returncode == 2 and message in done.stderr
    assert subprocess.run([script, "--help"], capture_output=True, text=True).stdout.startswith("usage")
    assert files_below(archives.folder / "plain") == tree
