"""The measured files: written once, refused kinds, folders of the same pictures."""

import time

import cv2
import numpy as np
import pytest

from benchmarks import files
from benchmarks.files import KINDS, Kind, NotWritten, Pictures


@pytest.fixture
def pictures(picture_folder):
    return Pictures(picture_folder / "val", limit=8)


def test_pictures_take_classes_in_turn(picture_folder):
    pictures = Pictures(picture_folder / "train", limit=6)
    assert [label for _, label in pictures.samples] == [0, 1, 2, 3, 0, 1]
    assert pictures[0][0].ndim == 3
    assert pictures.checksum() != Pictures(picture_folder / "train", limit=5).checksum()


def test_no_pictures_is_an_error(tmp_path):
    with pytest.raises(SystemExit, match="no pictures"):
        Pictures(tmp_path, limit=6)


@pytest.mark.long("measured files")
def test_a_file_is_written_once_for_each_version_of_its_writer(pictures, tmp_path, monkeypatch):
    path = files.written_file("ffx", KINDS["raw256"], pictures, tmp_path, workers=1)
    changed = path.stat().st_mtime_ns
    time.sleep(0.01)
    assert files.written_file("ffx", KINDS["raw256"], pictures, tmp_path, workers=1) == path
    assert path.stat().st_mtime_ns == changed
    monkeypatch.setattr(files, "_version", lambda system: "later")
    later = files.written_file("ffx", KINDS["raw256"], pictures, tmp_path, workers=1)
    assert later != path and later.exists() and not path.exists()


def test_a_file_may_hold_every_picture_several_times(pictures, tmp_path):
    from ffx.reader import Reader

    path = files.written_file("ffx", KINDS["raw256"], pictures, tmp_path, workers=1, repeats=3)
    reader = Reader(str(path))
    assert reader.num_samples == 24
    assert reader.metadata["f1"].tolist() == [label for _, label in pictures.samples] * 3


def test_kind_that_a_system_refuses_is_not_written(pictures, tmp_path):
    with pytest.raises(NotWritten, match="made-up mode"):
        files.written_file("ffx", Kind("made", "made-up mode", 100), pictures, tmp_path)
    assert not list(tmp_path.glob("*made*"))


def test_untiled_file_does_not_pass_for_a_tiled_one(pictures, tmp_path):
    plain = Kind("plain", "raw", 100, peer_kind="raw400", tiled=True)
    with pytest.raises(NotWritten, match="no tiles"):
        files.written_file("ffx", plain, pictures, tmp_path, workers=1)


@pytest.mark.long("measured files")
def test_restart_markers_are_found(make_picture, tmp_path):
    from ffx.fields import IntField, RGBImageField
    from ffx.writer import DatasetWriter

    for number, interval in enumerate((0, 2)):
        jpeg = cv2.imencode(".jpg", make_picture(60, 80), [cv2.IMWRITE_JPEG_RST_INTERVAL, interval])[1].tobytes()
        path = tmp_path / f"{number}.beton"
        fields = {"image": RGBImageField("jpg", pass_through=True), "label": IntField()}
        DatasetWriter(path, fields, num_workers=1, progress=False).from_indexed_dataset([(jpeg, 0)])
        if interval:
            assert files._has_restart_markers(path)


def test_kinds_that_ffcv_lacks_are_read_beside_one_that_it_has():
    for kind in KINDS.values():
        assert kind.for_peers.name in KINDS
        assert kind.own == (kind.name in ("tiled500", "yuv400"))


def test_folder_holds_the_pictures_as_jpegs(pictures, tmp_path):
    folder = files.jpeg_folder(Kind("small", "proportion", 50), pictures, tmp_path)
    assert folder == files.jpeg_folder(Kind("small", "proportion", 50), pictures, tmp_path)
    paths = sorted(folder.rglob("*.jpg"), key=lambda path: path.name)
    assert [int(path.parent.name) for path in paths] == [label for _, label in pictures.samples]
    for index, path in enumerate(paths):
        assert max(cv2.imread(str(path)).shape) == min(50, max(pictures[index][0].shape))


def test_folder_of_originals_links_to_exactly_these(pictures, tmp_path):
    folder = files.image_folder(pictures, tmp_path)
    paths = sorted(folder.rglob("*.*"), key=lambda path: path.name)
    assert [path.resolve() for path in paths] == [path.resolve() for path, _ in pictures.samples]


@pytest.mark.slow
def test_folder_has_the_very_bytes_that_ffcv_stores(pictures, tmp_path):
    pytest.importorskip("ffcv")
    from ffx.reader import Reader

    kind = KINDS["jpg500"]
    path = files.written_file("ffcv", kind, pictures, tmp_path, workers=1)
    reader, stored = Reader(str(path)), np.fromfile(path, np.uint8)
    sizes = dict(zip(reader.alloc_table["ptr"].tolist(), reader.alloc_table["size"].tolist(), strict=True))
    jpegs = sorted(files.jpeg_folder(kind, pictures, tmp_path).rglob("*.jpg"), key=lambda path: path.name)
    for start, jpeg in zip(reader.metadata["f0"]["data_ptr"].tolist(), jpegs, strict=True):
        assert stored[start : start + sizes[start]].tobytes() == jpeg.read_bytes()
