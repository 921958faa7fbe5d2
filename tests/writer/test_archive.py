"""`TarArchive` and `ImageArchive`: what `tarfile` and `ImageFolder` see, and an error for what is not whole."""

import gzip
import io
import os
import pickle
import subprocess
import tarfile

import pytest
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import IMG_EXTENSIONS

from ffx.errors import ArchiveError, SampleError
from ffx.fields import IntField, RGBImageField
from ffx.reader import Reader
from ffx.writer import DatasetWriter, ImageArchive, JPEGFolder, TarArchive, archive
from tests.ilsvrc_archives import add_member, made_pictures, write_archives
from writer.ilsvrc import read_valprep

BLOCK = 512


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    return write_archives(tmp_path_factory.mktemp("tars"), made_pictures(4, 6), made_pictures(4, 3, seed=9))


@pytest.fixture(scope="module")
def unpacked(archives):
    """train/ and val/ by plain tar and the script's own lines."""
    folder = archives.folder / "unpacked"
    for split, tar in (("train", archives.train_tar), ("val", archives.val_tar)):
        (folder / split).mkdir(parents=True)
        subprocess.run(["tar", "-xf", tar], cwd=folder / split, check=True)
    for inner in sorted((folder / "train").glob("*.tar")):
        inner.with_suffix("").mkdir()
        subprocess.run(["tar", "-xf", inner, "-C", inner.with_suffix("")], check=True)
        inner.unlink()
    subprocess.run(["bash", archives.valprep], cwd=folder / "val", check=True)
    return folder


@pytest.fixture
def make_tar(tmp_path):
    """`make_tar(*(name, data, attributes), format=…)`: an archive with these members."""

    def make(*members, format=tarfile.GNU_FORMAT, name="made.tar"):
        with tarfile.open(tmp_path / name, "w", format=format) as tar:
            for member_name, data, attributes in members:
                add_member(tar, member_name, data, **attributes)
        return tmp_path / name

    return make


def opened(archives, split):
    if split == "train":
        return ImageArchive(archives.train_tar)
    return ImageArchive(archives.val_tar, read_valprep(archives.valprep))


@pytest.mark.parametrize("progress", [True, False])
def test_bar_of_the_headers_is_shown_when_asked_for(archives, capsys, progress):
    ImageArchive(archives.train_tar, progress=progress)
    said = capsys.readouterr().err
    assert ("headers of ILSVRC2012_img_train.tar: 100%" in said and " classes/s" in said) if progress else not said


@pytest.mark.parametrize("split", ["train", "val"])
def test_samples_are_those_of_the_unpacked_folder(archives, unpacked, split):
    folder, found = ImageFolder(str(unpacked / split)), opened(archives, split)
    assert (found.classes, found.class_to_idx) == (folder.classes, folder.class_to_idx)
    assert len(found) == len(folder.samples) == {"train": 24, "val": 12}[split]
    for index, (path, label) in enumerate(folder.samples):
        with open(path, "rb") as file:
            assert found[index] == (file.read(), label)
        assert found.samples[index][1] == label
        assert found.samples[index][0].endswith("/".join(path.split("/")[-2:]))


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(("workers", "method"), [(1, None), (2, "fork"), (2, "spawn")])
@pytest.mark.long("files from archives")
def test_written_file_is_that_of_the_folder(archives, unpacked, tmp_path, digest, split, workers, method):
    for name, dataset in (("folder", JPEGFolder(unpacked / split)), ("archive", opened(archives, split))):
        fields = {"image": RGBImageField("proportion", max_resolution=40, compress_probability=0.5)}
        writer = DatasetWriter(
            tmp_path / name, {**fields, "label": IntField()}, num_workers=workers, progress=False, start_method=method
        )
        writer.from_indexed_dataset(dataset, chunksize=5)
    assert digest(tmp_path / "archive") == digest(tmp_path / "folder")
    assert Reader(tmp_path / "archive").class_names == sorted(os.listdir(unpacked / split))


@pytest.mark.parametrize("root", ["", "train", "./deep/er/"])
def test_archive_of_class_folders(unpacked, tmp_path, root):
    inside = root.strip("./")
    subprocess.run(
        ["tar", "-cf", tmp_path / "folders.tar", f"--transform=s,^\\.,./{inside},", "."],
        cwd=unpacked / "train",
        check=True,
    )
    found = ImageArchive(tmp_path / "folders.tar", root=root)
    folder = JPEGFolder(unpacked / "train")
    assert found.classes == folder.classes
    assert [found[index] for index in range(len(found))] == [folder[index] for index in range(len(folder))]


def test_order_of_nested_folders_and_odd_names(tmp_path):
    names = [
        "b/x.jpg",
        "b/a/z.png",
        "b/a b/y.JPEG",
        "b/Z.jpg",
        "a/ü.jpg",
        "a/no picture.txt",
        "a.b/1.jpg",
        "a/10.jpg",
        "a/9.jpg",
    ]
    for number, name in enumerate(names):
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(bytes([number]))
    subprocess.run(["tar", "-cf", tmp_path / "odd.tar", "-C", tmp_path / "tree", "."], check=True)
    found, folder = ImageArchive(tmp_path / "odd.tar"), JPEGFolder(tmp_path / "tree")
    assert [found[index] for index in range(len(found))] == [folder[index] for index in range(len(folder))]


def test_pictures_are_known_by_torchvision_s_endings():
    assert archive._PICTURES == IMG_EXTENSIONS


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_are_tarfile_s(make_tar, format):
    long = "folder/" * 14 + "n" * 90
    longest = long if format == tarfile.USTAR_FORMAT else "folder/" * 40 + "n" * 150
    path = make_tar(
        ("./", b"", {"type": tarfile.DIRTYPE}), ("./empty", b"", {}), ("a/", b"", {"type": tarfile.DIRTYPE}),
        ("a/block", bytes(BLOCK), {}), ("a/more", b"x" * 700, {}), (longest, b"long", {}), ("behind", b"last", {}),
        format=format,
    )  # fmt: skip
    found = {each.name: each for each in TarArchive(path).members()}
    with tarfile.open(path) as tar:
        expected = {name: each for each in tar.getmembers() if (name := each.name.removeprefix("./")) != "."}
    assert list(found) == list(expected)
    content = path.read_bytes()
    for name, each in expected.items():
        assert (found[name].size, found[name].is_folder) == (each.size, each.isdir())
        if each.isfile():
            assert found[name].start == each.offset_data
            assert (
                TarArchive(path).read(found[name].start, found[name].size) == content[each.offset_data :][: each.size]
            )


def test_gnu_tar_writes_what_is_read(tmp_path):
    (tmp_path / "x").mkdir()
    for name in ("a", "ü" * 70, "z" * 180):
        (tmp_path / "x" / name).write_bytes(name.encode())
    for kind in ("gnu", "oldgnu", "posix", "ustar"):
        names = ["a"] if kind == "ustar" else sorted(os.listdir(tmp_path / "x"))
        subprocess.run(["tar", f"--format={kind}", "-cf", tmp_path / "x.tar", "-C", tmp_path / "x", *names], check=True)
        opened = TarArchive(tmp_path / "x.tar")
        assert [(each.name, opened.read(each.start, each.size).decode()) for each in opened.members()] == [
            (name, name) for name in names
        ]


HOSTILE = {
    "link": ("x.jpg", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}, "'x.jpg', a symbolic link"),
    "hard link": ("x.jpg", b"", {"type": tarfile.LNKTYPE, "linkname": "y"}, "'x.jpg', a hard link"),
    "device": ("x.jpg", b"", {"type": tarfile.CHRTYPE}, "'x.jpg', a device"),
    "pipe": ("x.jpg", b"", {"type": tarfile.FIFOTYPE}, "'x.jpg', a named pipe"),
    "sparse": ("x.jpg", b"", {"type": tarfile.GNUTYPE_SPARSE}, "a member of type b'S'"),
    "absolute": ("/etc/x.jpg", b"1", {}, "names that stay inside of the archive, found '/etc/x.jpg'"),
    "upwards": ("a/../../x.jpg", b"1", {}, "names that stay inside of the archive, found 'a/../../x.jpg'"),
    "upwards in the end": ("a/..", b"", {"type": tarfile.DIRTYPE}, "names that stay inside of the archive"),
}


@pytest.mark.parametrize("how", HOSTILE)
@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_hostile_member_is_refused(make_tar, how, format):
    *member, message = HOSTILE[how]
    path = make_tar(("n01/good.jpg", b"1", {}), tuple(member), format=format)
    with pytest.raises(ArchiveError, match=r"made\.tar") as caught:
        ImageArchive(path)
    assert message in str(caught.value)


def test_hostile_records_of_a_pax_header(make_tar):
    path = make_tar(
        ("a.jpg", b"1", {"pax_headers": {"path": "../../outside.jpg"}}), format=tarfile.PAX_FORMAT, name="p.tar"
    )
    with pytest.raises(ArchiveError, match=r"found '\.\./\.\./outside.jpg'"):
        TarArchive(path).members()
    good = make_tar(("a.jpg", b"1", {"pax_headers": {"comment": "x" * 50}}), format=tarfile.PAX_FORMAT)
    content = good.read_bytes()
    at = content.index(b" comment=")
    for wrong in (b"9" + content[at - 1 : at], b"00", b"xx"):
        good.write_bytes(content[: at - 2] + wrong + content[at:])
        with pytest.raises(ArchiveError, match="expected a header's record"):
            TarArchive(good).members()


@pytest.mark.parametrize("size", ["²", "9" * 5000, "-1", "1_0", ""])
def test_pax_size_that_is_no_number(make_tar, size):
    path = make_tar(("a.jpg", b"1", {"pax_headers": {"size": size}}), format=tarfile.PAX_FORMAT)
    with pytest.raises(ArchiveError, match="expected a number as size"):
        TarArchive(path).members()


def test_sparse_file_of_a_pax_archive_is_refused(tmp_path):
    """Its map stands before its bytes: read as a plain file it would be another one."""
    with open(tmp_path / "a.jpg", "wb") as file:
        file.truncate(1 << 20)
        file.write(b"1")
    for version in ("0.0", "0.1", "1.0"):
        command = ["tar", "--format=posix", "--sparse", f"--sparse-version={version}", "-cf", "x.tar", "a.jpg"]
        subprocess.run(command, cwd=tmp_path, check=True)
        with pytest.raises(ArchiveError, match="expected plain files, found a sparse one"):
            TarArchive(tmp_path / "x.tar").members()


def test_name_that_comes_twice(make_tar):
    with pytest.raises(ArchiveError, match=r"each name once, found n01/a\.jpg twice"):
        TarArchive(make_tar(("n01/a.jpg", b"1", {}), ("./n01//a.jpg", b"2", {}))).members()


def test_every_cut_is_noticed(archives, tmp_path):
    """At each block and within; a plain reader of tar takes an archive that ends behind a member for a whole one."""
    content = archives.val_tar.read_bytes()
    last = max(each.start + -(-each.size // BLOCK) * BLOCK for each in TarArchive(archives.val_tar).members())
    cut = tmp_path / "cut.tar"
    for stop in sorted(
        {0, 100, BLOCK, 3 * BLOCK, last - BLOCK, last - 1, last, last + 100, *range(0, last, 17 * BLOCK)}
    ):
        cut.write_bytes(content[:stop])
        with pytest.raises(ArchiveError, match=r"cut\.tar"):
            TarArchive(cut).members()
    cut.write_bytes(content[: last + BLOCK])
    assert len(TarArchive(cut).members()) == 12


def test_every_damaged_header_byte_is_noticed(make_tar):
    path = make_tar(("n01/a.jpg", b"1" * 600, {}), ("n01/b.jpg", b"2" * 600, {}))
    content = path.read_bytes()
    second = TarArchive(path).members()[1].start - BLOCK
    for position in range(second, second + BLOCK, 3):
        damaged = bytearray(content)
        damaged[position] ^= 0x41
        path.write_bytes(damaged)
        with pytest.raises(ArchiveError, match=f"at offset {second}"):
            TarArchive(path).members()


def test_damaged_inner_archive_is_named(archives, tmp_path):
    inner = TarArchive(archives.train_tar).members()[2]
    damaged = bytearray(archives.train_tar.read_bytes())
    damaged[inner.start + 20] ^= 1
    (tmp_path / "damaged.tar").write_bytes(damaged)
    with pytest.raises(ArchiveError, match=rf"damaged\.tar: {inner.name}: at offset 0: "):
        ImageArchive(tmp_path / "damaged.tar")


def test_compressed_archive_says_what_to_do(archives, tmp_path):
    for suffix, compress, advice in (
        ("gz", gzip.compress, "gunzip -k"),
        ("bz2", __import__("bz2").compress, "bunzip2 -k"),
        ("xz", __import__("lzma").compress, "unxz -k"),
        ("zst", lambda data: b"\x28\xb5\x2f\xfd" + data, "zstd -d"),
    ):
        path = tmp_path / f"train.tar.{suffix}"
        path.write_bytes(compress(archives.val_tar.read_bytes()))
        with pytest.raises(ArchiveError, match=f"decompress it first .{advice} {path}"):
            ImageArchive(path)
    (tmp_path / "text.tar").write_bytes(b"no archive at all " * 90)
    with pytest.raises(ArchiveError, match="expected the header of a tar archive, found something else"):
        ImageArchive(tmp_path / "text.tar")


def test_archive_of_another_kind(archives, make_tar):
    with pytest.raises(ArchiveError, match=r"need a table of their classes \(folders\)"):
        ImageArchive(archives.val_tar)
    with pytest.raises(ArchiveError, match="in pictures, found neither"):
        ImageArchive(make_tar(("n01/a.jpg", b"1", {})), root="pictures")
    with pytest.raises(ArchiveError, match="expected pictures of class n02, found none"):
        ImageArchive(make_tar(("n01/a.jpg", b"1", {}), ("n02/a.txt", b"1", {})))
    with pytest.raises(ArchiveError, match=r"without folders, found x/n01\.tar"):
        ImageArchive(make_tar(("x/n01.tar", b"", {})))
    with pytest.raises(ArchiveError, match=r"found none for b\.jpg"):
        ImageArchive(make_tar(("a.jpg", b"1", {}), ("b.jpg", b"1", {})), {"a.jpg": "n01"})
    with pytest.raises(ArchiveError, match=r"2 are not there, b\.jpg the first"):
        ImageArchive(make_tar(("a.jpg", b"1", {})), {"a.jpg": "n01", "c.jpg": "n02", "b.jpg": "n01"})


def test_archive_that_changes_is_noticed(archives, tmp_path):
    path = tmp_path / "val.tar"
    path.write_bytes(archives.val_tar.read_bytes())
    found = ImageArchive(path, read_valprep(archives.valprep))
    packed = pickle.dumps(found)
    assert pickle.loads(packed)[3] == found[3]
    os.truncate(path, 1000)
    with pytest.raises(ArchiveError, match="the end of the file"):
        found[len(found) - 1]
    other = pickle.loads(packed)
    for _ in range(2):
        with pytest.raises(ArchiveError, match="has changed since it was opened first"):
            other[0]


def test_picture_that_cannot_be_stored_is_named(tmp_path, make_tar):
    pictures = made_pictures(1, 2)
    name, (good, _) = pictures.popitem()
    path = make_tar((f"{name}/a.jpg", good, {}), (f"{name}/b.jpg", b"no picture", {}))
    writer = DatasetWriter(
        tmp_path / "out.ffcv", {"image": RGBImageField("raw"), "label": IntField()}, num_workers=1, progress=False
    )
    with pytest.raises(SampleError, match=rf"sample 1 \({path}: {name}/b\.jpg\)"):
        writer.from_indexed_dataset(ImageArchive(path))


def test_inner_archive_within_memory_is_like_tarfile_s(archives):
    outer = TarArchive(archives.train_tar)
    for member in outer.members():
        with tarfile.open(fileobj=io.BytesIO(outer.read(member.start, member.size))) as tar:
            assert [(each.name, each.size) for each in outer.members(member)] == [
                (each.name, each.size) for each in tar.getmembers()
            ]
