"""`write_imagenet.py`: every option once, what is stored, and what happens when an option is wrong."""

import hashlib
import pickle
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torchvision
from PIL import Image

from ffx.reader import Reader
from tests.pictures import decode_jpeg, make_picture, peak_signal_to_noise
from writer import write_imagenet

ROOT = Path(__file__).resolve().parents[2]
RAW, JPEG = 1, 0


@pytest.fixture
def run(monkeypatch, tmp_path):
    """`run(**options)` runs the program in this process and returns the written file's path."""

    def run(*arguments, **options):
        options.setdefault("write_path", tmp_path / "out.ffcv")
        command = [f"--cfg.{name}={value}" for name, value in options.items() if value is not None]
        monkeypatch.setattr(sys, "argv", ["write_imagenet.py", *command, *map(str, arguments)])
        assert write_imagenet.main() == 0
        return options["write_path"]

    return run


@pytest.fixture
def fails(run, capsys):
    """`fails(**options)` expects exit status 2 and returns what was printed to standard error."""

    def fails(*arguments, **options):
        with pytest.raises(SystemExit) as leaving:
            run(*arguments, **options)
        assert leaving.value.code == 2
        return capsys.readouterr().err

    return fails


def stored(path):
    """Yield (mode, label, bytes) for each sample, by the metadata's offset and the allocation table's size."""
    reader = Reader(str(path))
    file = np.fromfile(path, np.uint8)
    sizes = dict(zip(reader.alloc_table["ptr"].tolist(), reader.alloc_table["size"].tolist(), strict=True))
    for image, label in zip(reader.metadata["f0"], reader.metadata["f1"], strict=True):
        pointer = int(image["data_ptr"])
        data = file[pointer : pointer + sizes[pointer]]
        shape = (int(image["height"]), int(image["width"]), 3)
        pixels = data.reshape(shape) if image["mode"] == RAW else decode_jpeg(data.tobytes())
        assert pixels.shape == shape
        yield int(image["mode"]), int(label.item() if label.dtype.names is None else label[0]), pixels


def expected(folder, max_resolution):
    """Yield (label, pixels) as ImageFolder orders them and OpenCV's INTER_AREA makes them smaller."""
    for path, label in torchvision.datasets.ImageFolder(str(folder)).samples:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        ratio = max_resolution / max(pixels.shape[:2])
        if ratio < 1:
            size = (int(pixels.shape[1] * ratio), int(pixels.shape[0] * ratio))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        yield label, pixels


def test_raw_samples_are_byte_exact(run, picture_folder):
    path = run(split="train", data_dir=picture_folder / "train", max_resolution=100, write_mode="raw", num_workers=2)
    samples = list(stored(path))
    assert len(samples) == 40
    for (mode, label, pixels), (true_label, true_pixels) in zip(
        samples, expected(picture_folder / "train", 100), strict=True
    ):
        assert (mode, label) == (RAW, true_label)
        assert np.array_equal(pixels, true_pixels)


@pytest.mark.parametrize("orientation", [None, "ignore", "apply"])
def test_orientation_is_the_field_s(run, picture_folder, orientation):
    path = run(
        split="val", data_dir=picture_folder / "val", max_resolution=80, write_mode="raw", num_workers=1,
        orientation=orientation,
    )  # fmt: skip
    assert Reader(str(path)).settings["fields"]["image"]["orientation"] == (orientation or "ignore")


@pytest.mark.parametrize("options", [{"write_mode": "yuv420"}, {"write_mode": "raw", "raw_format": "yuv420"}])
def test_planes_take_half_the_bytes(run, picture_folder, options):
    path = run(split="val", data_dir=picture_folder / "val", max_resolution=100, num_workers=1, **options)
    reader = Reader(str(path))
    images = reader.metadata["f0"]
    assert set(images["mode"].tolist()) == {2}
    pixels = images["width"].astype(int) * images["height"]
    assert 1.5 <= reader.alloc_table["size"].sum() / pixels.sum() < 1.53


def test_jpeg_samples_are_the_pictures(run, picture_folder):
    path = run(split="val", data_dir=picture_folder / "val", max_resolution=80, write_mode="jpg", num_workers=1)
    for (mode, label, pixels), (true_label, true_pixels) in zip(
        stored(path), expected(picture_folder / "val", 80), strict=True
    ):
        assert (mode, label) == (JPEG, true_label)
        assert peak_signal_to_noise(pixels, true_pixels) > 28


def test_quality_decides_size(run, picture_folder, tmp_path):
    options = {"split": "val", "data_dir": picture_folder / "val", "max_resolution": 80, "write_mode": "jpg"}
    sizes = []
    for quality in (40, 95):
        path = run(**options, num_workers=1, jpeg_quality=quality, write_path=tmp_path / f"{quality}.ffcv")
        sizes.append(int(Reader(str(path)).alloc_table["size"].sum()))
    assert sizes[0] < 0.7 * sizes[1]


@pytest.mark.parametrize(
    ("write_mode", "pass_through", "kept"), [("jpg", None, True), ("jpg", 0, False), ("proportion", None, False)]
)
def test_jpeg_that_needs_no_resizing_is_kept_in_jpeg_mode(run, picture_folder, write_mode, pass_through, kept):
    path = run(
        split="val",
        data_dir=picture_folder / "val",
        max_resolution=500,
        write_mode=write_mode,
        compress_probability=1.0,
        pass_through=pass_through,
        tiled=0,
        num_workers=1,
        jpeg_quality=60,
    )
    content = path.read_bytes()
    pictures = [source.read_bytes() for source in (picture_folder / "val").rglob("*.JPEG")]
    assert all((picture in content) is kept for picture in pictures)


@pytest.mark.parametrize("pass_through", [0, 1])
@pytest.mark.parametrize("tiled", [None, 0, 1])
def test_jpegs_are_in_tiles_unless_that_is_switched_off(run, picture_folder, pass_through, tiled):
    path = run(
        split="val",
        data_dir=picture_folder / "val",
        max_resolution=500,
        write_mode="jpg",
        pass_through=pass_through,
        tiled=tiled,
        num_workers=1,
    )
    # The segment that gives the restart interval.
    assert path.read_bytes().count(b"\xff\xdd\x00\x04") == (0 if tiled == 0 else 12)


@pytest.mark.parametrize(("probability", "modes"), [(0, {RAW}), (1.0, {JPEG})])
def test_proportion_of_all_or_none(run, picture_folder, probability, modes):
    path = run(
        split="val",
        data_dir=picture_folder / "val",
        max_resolution=80,
        write_mode="proportion",
        compress_probability=probability,
        num_workers=2,
        chunk_size=5,
    )
    assert {mode for mode, _, _ in stored(path)} == modes


def test_smart_is_raw_without_a_threshold_and_depends_on_size_with_one(run, picture_folder, tmp_path):
    options = {"split": "val", "data_dir": picture_folder / "val", "max_resolution": 500, "num_workers": 1}
    assert {mode for mode, _, _ in stored(run(**options))} == {RAW}
    threshold = 30_000
    for mode, _, pixels in stored(run(**options, smart_threshold=threshold, write_path=tmp_path / "smart.ffcv")):
        assert mode == (JPEG if pixels.nbytes > threshold else RAW)


def test_subset_takes_the_first(run, picture_folder):
    path = run(split="val", data_dir=picture_folder / "val", max_resolution=80, subset=5, num_workers=1)
    assert [label for _, label, _ in stored(path)] == [0, 0, 0, 1, 1]


def test_options_come_from_a_file_and_the_command_line_wins(run, picture_folder, tmp_path):
    config = tmp_path / "write.yaml"
    config.write_text(
        f"cfg: {{split: val, max_resolution: 64, num_workers: 1, subset: 3}}\ncfg.data_dir: {picture_folder / 'val'}\n"
    )
    path = run("--config-file", config, subset=2)
    shapes = [pixels.shape for _, _, pixels in stored(path)]
    assert len(shapes) == 2
    assert max(max(shape) for shape in shapes) == 64


def test_cifar(run, tmp_path, monkeypatch):
    """CIFAR-10's own files in small: torchvision checks them by their checksums, which are ours here."""
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    pictures = np.stack([make_picture(32, 32, seed=index) for index in range(6)])

    def dump(name, content):
        (folder / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((folder / name).read_bytes()).hexdigest()]

    batch = dump("data_batch_1", {"data": pictures.transpose(0, 3, 1, 2).reshape(6, -1), "labels": [3, 1, 4, 1, 5, 9]})
    names = dump("batches.meta", {"label_names": [f"name_{number}" for number in range(10)]})
    cifar = torchvision.datasets.CIFAR10
    monkeypatch.setattr(cifar, "train_list", [batch])
    monkeypatch.setattr(cifar, "test_list", [])
    monkeypatch.setattr(cifar, "meta", {"filename": names[0], "key": "label_names", "md5": names[1]})
    path = run(dataset="cifar", split="train", data_dir=tmp_path, max_resolution=32, write_mode="raw", num_workers=1)
    samples = list(stored(path))
    assert [label for _, label, _ in samples] == [3, 1, 4, 1, 5, 9]
    assert all(np.array_equal(pixels, pictures[index]) for index, (_, _, pixels) in enumerate(samples))


GOOD = {"split": "val", "max_resolution": 64}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"split": None}, "--cfg.split is missing"),
        ({"max_resolution": None}, "--cfg.max_resolution is missing"),
        ({"split": "test"}, "--cfg.split: expected One of"),
        ({"dataset": "mnist"}, "--cfg.dataset: expected One of"),
        ({"write_mode": "png"}, "--cfg.write_mode: expected One of"),
        ({"max_resolution": "big"}, "--cfg.max_resolution: expected a whole number"),
        ({"max_resolution": "0"}, "got '0'"),
        ({"jpeg_quality": "101"}, "between 1 and 100"),
        ({"jpeg_quality": "90.5"}, "a whole number"),
        ({"compress_probability": "1.5"}, "between 0 and 1"),
        ({"num_workers": "0"}, "--cfg.num_workers"),
        ({"chunk_size": "-1"}, "--cfg.chunk_size"),
        ({"write_mode": "proportion"}, "needs --cfg.compress_probability"),
        ({"max_resolutoin": "64"}, "unrecognized arguments: --cfg.max_resolutoin"),
        ({"max_res": "64"}, "unrecognized arguments: --cfg.max_res"),
        ({"data_dir": "/no/such/folder"}, "/no/such/folder is no folder"),
        ({"valprep_script": "valprep.sh"}, "--cfg.valprep_script goes with an archive"),
        ({"devkit": "devkit.tar.gz"}, "--cfg.devkit goes with an archive"),
        ({"data_dir": __file__, "valprep_script": "/no/such/file"}, "there is no file /no/such/file"),
        ({"shard": 3}, "--cfg.shard and --cfg.shards go together"),
        ({"shards": 3}, "--cfg.shard and --cfg.shards go together"),
        ({"shard": 3, "shards": 3}, "--cfg.shard: expected 0 to 2, since --cfg.shards=3"),
        ({"shard": -1, "shards": 3}, "--cfg.shard: expected"),
        ({"write_path": "/no/such/folder/out.ffcv"}, "there is no folder /no/such/folder"),
    ],
)
def test_wrong_option_is_named_and_exits_with_2(fails, picture_folder, wrong, message):
    assert message in fails(**{"data_dir": picture_folder / "val", **GOOD, **wrong})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("cfg: {spilt: val}", "unknown cfg.spilt"),
        ("subset: 3", "unknown subset"),
        ("- 1", "expected a mapping"),
        ("a: [", "cannot be read"),
        (None, "cannot be read"),
    ],
)
def test_wrong_config_file_is_named_and_exits_with_2(fails, tmp_path, content, message):
    path = tmp_path / "wrong.yaml"
    if content is not None:
        path.write_text(content)
    error = fails("--config-file", path, **GOOD)
    assert str(path) in error
    assert message in error


def test_damaged_picture_is_named_and_leaves_no_file(run, tmp_path, capsys):
    folder = tmp_path / "data" / "class"
    folder.mkdir(parents=True)
    (folder / "0.jpg").write_bytes(b"no picture")
    with pytest.raises(SystemExit) as leaving:
        run(split="val", data_dir=tmp_path / "data", max_resolution=64, num_workers=1)
    assert leaving.value.code == 1
    assert "sample 0" in capsys.readouterr().err
    assert not (tmp_path / "out.ffcv").exists()


def test_help_lists_every_option(run, capsys):
    with pytest.raises(SystemExit) as leaving:
        run("--help")
    assert leaving.value.code == 0
    printed = capsys.readouterr().out
    for path, param in write_imagenet.declare_options().entries.items():
        assert f"--{'.'.join(path)}\n" in printed
        assert " ".join(param.desc.split()) in " ".join(printed.split())
    assert printed.isascii()
    assert max(map(len, printed.splitlines())) <= 120


def test_writes_in_processes_after_opencv_has_started_its_threads(picture_folder, tmp_path):
    """Threads are not there in a forked process; whoever waits for them there waits for ever."""
    options = {"split": "val", "data_dir": picture_folder / "val", "max_resolution": 64, "write_mode": "raw"}
    arguments = [f"--cfg.{name}={value}" for name, value in options.items()]
    code = (
        "import sys, cv2, numpy as np\n"
        "cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.uint8), (9, 9), 2)\n"
        "from writer.write_imagenet import main\n"
        "main()\n"
    )
    command = [
        sys.executable,
        "-c",
        code,
        *arguments,
        "--cfg.num_workers=2",
        f"--cfg.write_path={tmp_path / 'out.ffcv'}",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
