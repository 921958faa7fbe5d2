"""The lab's tests: it is imported as its programs import it, with the trainer beside it."""

import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.pictures import make_picture

ROOT = Path(__file__).resolve().parents[2]
LAB = ROOT / "examples" / "resnet18_lab"
for folder in (LAB, ROOT / "examples" / "imagenet"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))

# Of these images' side, the network needs a sixteenth of the time.
SIDE = 8


def write_classes(folder, side=SIDE, train=2, val=1):
    """Class folders train/ and val/ with so many pictures in each of four classes."""
    for split, count in (("train", train), ("val", val)):
        for number in range(4 * count):
            path = folder / split / f"class_{number % 4}" / f"{number:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(make_picture(side, side, seed=1000 * len(split) + number)).save(path)
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """8 training and 4 validation pictures of 8 px."""
    return write_classes(tmp_path_factory.mktemp("lab"))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Torch computes in one thread: on a busy machine several wait for each other at every tiny layer."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)


@pytest.fixture
def tiny(tiny_data, tmp_path, monkeypatch):
    """Flags of a training of two steps, in an empty folder."""
    from lab import configuration

    monkeypatch.setattr(configuration, "SIDE", SIDE)
    monkeypatch.chdir(tmp_path)
    return ["--device=cpu", f"--dataset-path={tiny_data}", "--batch-size=4", "--epochs=1", "--num-of-workers=0"]
