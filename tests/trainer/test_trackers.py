"""Where a run's numbers go beside its log, and what the machine did meanwhile."""

import json
import sys
import types

import numpy as np
import pytest
import torch
from torchvision.transforms import functional as transforms
from trainer.data import open_plain_validation
from trainer.distributed import Ranks
from trainer.errors import ConfigurationError
from trainer.loop import Trainer
from trainer.trackers import CURVES, draw_curves

from ffx.errors import FfxWarning
from ffx.fields import IntField, RGBImageField
from ffx.writer import DatasetWriter
from tests.pictures import PictureDataset
from tests.trainer.batches import all_of


def train(config):
    with Trainer(config) as trainer:
        trainer.train()
        return trainer.run_folder


def fail(*_, **__):
    raise OSError("out of order")


def log_of(folder):
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def points_of(folder):
    """TensorBoard's scalars by name, each a list of (step, value)."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder / "tensorboard"))
    found.Reload()
    return {name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}


# What TensorBoard and protobuf warn of in themselves.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_tensorboard_gets_the_numbers_of_the_log(tiny):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    folder = train(tiny(**{"logging.tensorboard": "auto"}))
    lines, points = log_of(folder), points_of(folder)
    for name in ("top_1", "train_loss", "current_lr", "resolution"):
        assert points[name] == [(line["epoch"] + 1, pytest.approx(line[name])) for line in lines]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_resumed_run_goes_on_in_tensorboard(tiny):
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    options = {"logging.tensorboard": "on"}
    folder = train(tiny(**options, **{"training.max_steps": 5}))
    train(tiny(**options, **{"training.resume": str(folder)}))
    assert [step for step, _ in points_of(folder)["top_1"]] == [1, 2]


@pytest.fixture
def wandb(monkeypatch):
    """A package in Weights & Biases' place, and what it was told."""
    told = []

    class Run:
        def log(self, values, step):
            told.append(("log", step, values))

        def finish(self):
            told.append(("finish",))

    module = types.ModuleType("wandb")
    module.__spec__ = types.SimpleNamespace(name="wandb")
    module.init = lambda **options: (told.append(("init", options)), Run())[1]
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return types.SimpleNamespace(told=told, module=module, Run=Run)


def test_weights_and_biases_gets_the_numbers_where_it_is_set_up(tiny, wandb, monkeypatch):
    train(tiny(**{"logging.wandb": "auto"}))
    assert not wandb.told
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = train(tiny(**{"logging.wandb": "auto", "logging.wandb_project": "mine"}))
    (_, options), *logged, finish = wandb.told
    assert (options["project"], options["id"], options["config"]["lr.lr"]) == ("mine", folder.name, 0.05)
    assert [(step, values["top_1"]) for _, step, values in logged] == [
        (line["epoch"] + 1, line["top_1"]) for line in log_of(folder)
    ]
    assert finish == ("finish",)


def test_tracker_that_fails_ends_no_training(tiny, wandb):
    wandb.Run.log = fail
    with pytest.warns(FfxWarning, match="Weights & Biases gets no more numbers of this run: OSError"):
        folder = train(tiny(**{"logging.wandb": "on"}))
    assert len(log_of(folder)) == 2
    wandb.module.init = fail
    with pytest.warns(FfxWarning, match="Weights & Biases gets no numbers of this run"):
        train(tiny(**{"logging.wandb": "on"}))


@pytest.mark.parametrize("package", ["tensorboard", "wandb"])
def test_tracker_that_is_asked_for_and_not_installed_is_named(tiny, monkeypatch, package):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=f"logging.{package}=on needs the package {package}: pip install"):
        Trainer(tiny(**{f"logging.{package}": "on"}))


def test_curves_are_drawn_at_the_end(tiny):
    matplotlib = pytest.importorskip("matplotlib", reason="needs matplotlib")
    folder = train(tiny(**{"logging.curves": 1}))
    from matplotlib.image import imread

    picture = imread(folder / CURVES)
    assert picture.shape[0] > 400 and picture.std() > 0
    assert not (train(tiny()) / CURVES).exists()
    (folder / "empty").write_text("")
    assert draw_curves(folder / "empty", folder / "nothing.png") is None
    assert matplotlib.__name__ in sys.modules


def test_curves_that_cannot_be_drawn_are_warned_of(tiny, monkeypatch):
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.warns(FfxWarning, match=r"curves.png of this run is not drawn: OSError"):
        folder = train(tiny(**{"logging.curves": 1}))
    assert (folder / "final_weights.pt").exists()


def test_telemetry_that_fails_ends_alone(tiny, monkeypatch):
    monkeypatch.setattr("trainer.telemetry._resident_bytes", fail)
    # An hour: so it is the epoch's end that samples.
    with pytest.warns(FfxWarning, match="telemetry ends here: OSError") as caught:
        folder = train(tiny(**{"logging.telemetry": 3600}))
    assert len([one for one in caught if "telemetry" in str(one.message)]) == 1
    assert len(log_of(folder)) == 2


def test_telemetry_is_sampled_and_its_means_are_logged(tiny):
    folder = train(tiny(**{"logging.telemetry": 0.01}))
    samples = [json.loads(line) for line in (folder / "telemetry").read_text().splitlines()]
    assert len(samples) > 2
    assert all(sample["process_memory_mib"] > 10 and sample["process_cores"] >= 0 for sample in samples)
    for line in log_of(folder):
        assert 0 < line["process_cores"] < 65 and line["process_memory_mib"] > 10
    highest = max(sample["process_memory_mib"] for sample in samples)
    assert 0.9 * highest < max(line["process_memory_mib"] for line in log_of(folder)) <= highest
    assert "process_cores" not in log_of(train(tiny()))[0]


def write_validation(path, **arguments):
    fields = {"image": RGBImageField(**arguments), "label": IntField()}
    pictures = PictureDataset(9, classes=4, seed=2)
    DatasetWriter(path, fields, num_workers=1, progress=False).from_indexed_dataset(pictures)
    return pictures


def normalized(image):
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return (transforms.pil_to_tensor(image) / 255 - mean.view(3, 1, 1)) / std.view(3, 1, 1)


@pytest.mark.parametrize("write_mode", ["raw", "jpg"])
def test_plain_evaluation_is_done_by_ffx_and_by_pillow(tiny, tmp_path, write_mode):
    path = tmp_path / "val.ffcv"
    pictures = write_validation(path, write_mode=write_mode)
    config = tiny(**{"validation.plain_resolution": 64, "data.val_dataset": str(path), "data.num_workers": 0})
    sources = open_plain_validation(config, Ranks(), torch.device("cpu"), torch.float32)
    images, labels = all_of(sources["ffx"], 64)
    pillow_images, pillow_labels = all_of(sources["pillow"], 64)
    assert torch.equal(labels, pillow_labels) and pillow_images.shape == (9, 3, 64, 64)
    if write_mode == "raw":
        picture, label = pictures[0]
        image = transforms.to_pil_image(np.asarray(picture))
        expected = normalized(transforms.center_crop(transforms.resize(image, 73), 64))
        torch.testing.assert_close(pillow_images[0], expected, atol=1e-4, rtol=1e-4)
        assert int(pillow_labels[0]) == label
    # Another rule of resizing: near, not the same.
    assert (images - pillow_images).abs().mean() < 0.2
    last = log_of(train(config))[-1]
    assert {"plain_top_1", "plain_top_5", "pillow_top_1", "pillow_top_5"} <= last.keys()


def test_plain_evaluation_of_planar_yuv_is_ffxs_alone(tiny, tmp_path):
    path = tmp_path / "val.ffcv"
    write_validation(path, write_mode="raw", raw_format="yuv420")
    last = log_of(train(tiny(**{"validation.plain_resolution": 32, "data.val_dataset": str(path)})))[-1]
    assert "plain_top_1" in last and "pillow_top_1" not in last


def test_plain_evaluation_that_fails_costs_no_epoch(tiny, monkeypatch):
    def fail(*_):
        raise RuntimeError("a worker was killed")

    monkeypatch.setattr("trainer.plain_validation.open_plain_validation", fail)
    with pytest.warns(FfxWarning, match="plain_resolution=64 failed and is left out: .*a worker was killed"):
        folder = train(tiny(**{"validation.plain_resolution": 64}))
    assert len(log_of(folder)) == 2 and (folder / "final_weights.pt").exists()
