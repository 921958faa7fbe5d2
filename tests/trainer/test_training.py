import json
import math

import numpy as np
import pytest
import torch
from trainer import learner
from trainer.checkpoint import load_checkpoint
from trainer.compiled import COMPILED
from trainer.errors import CheckpointError, ConfigurationError, DataError, TrainingError
from trainer.launch import launch
from trainer.learner import choose_precision
from trainer.loop import Trainer
from trainer.schedule import epoch_learning_rates

from ffx.errors import FfxWarning
from ffx.fields import IntField, RGBImageField
from ffx.writer import DatasetWriter
from tests.pictures import PictureDataset

STEPS = 5


def train(config, **options):
    """Train in this process; returns the run's folder."""
    with Trainer(config, **options) as trainer:
        trainer.train()
        return trainer.run_folder


def log_of(folder):
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def weights_of(folder):
    return torch.load(folder / "final_weights.pt", weights_only=True)


def same_weights(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_tiny):
    """A run of two epochs."""
    return train(make_tiny(tmp_path_factory.mktemp("finished")), config_name="tiny")


def test_run_folder_holds_params_log_weights_and_checkpoints(finished):
    assert sorted(path.name for path in finished.iterdir()) == [
        "checkpoint.previous.pt",
        "checkpoint.pt",
        "final_weights.pt",
        "log",
        "params.json",
    ]
    params = json.loads((finished / "params.json").read_text())
    assert (params["lr.lr"], params["model.arch"], params["config"]) == (0.05, "shufflenet_v2_x0_5", "tiny")
    assert params["setup"].startswith("CPU (")


def test_log_has_a_line_for_each_epoch(finished):
    lines = log_of(finished)
    assert [line["epoch"] for line in lines] == [0, 1]
    wanted = {"top_1", "top_5", "val_time", "current_lr", "epoch", "train_loss", "timestamp", "relative_time"}
    for line in lines:
        assert wanted <= line.keys()
        assert 0 <= line["top_1"] <= 1
        assert line["top_5"] == 1  # of four classes, the best five are all
        assert line["images_per_second"] > 0
        assert (line["resolution"], line["steps"]) == (32, STEPS)
    assert lines[0]["relative_time"] < lines[1]["relative_time"]


def test_log_has_the_rate_of_the_last_step(finished, tiny):
    expected = [epoch_learning_rates(tiny().lr, [STEPS] * 2, epoch, STEPS)[-1] for epoch in (0, 1)]
    assert [line["current_lr"] for line in log_of(finished)] == pytest.approx(expected)


def test_same_seed_gives_the_same_weights_and_another_one_does_not(finished, tiny):
    assert same_weights(weights_of(finished), weights_of(train(tiny())))
    assert not same_weights(weights_of(finished), weights_of(train(tiny(**{"training.seed": 1}))))


def test_resumed_training_gives_bit_identical_weights(finished, tiny):
    half = train(tiny(**{"training.max_steps": STEPS}))
    assert load_checkpoint(half / "checkpoint.pt").epoch == 1
    assert not same_weights(weights_of(finished), weights_of(half))
    resumed = train(tiny(**{"training.resume": str(half)}))
    assert resumed == half
    assert same_weights(weights_of(finished), weights_of(resumed))
    lines, straight = log_of(resumed), log_of(finished)
    assert [line["epoch"] for line in lines] == [0, 1]
    assert lines[1]["relative_time"] > lines[0]["relative_time"]
    for name in ("train_loss", "top_1", "val_loss", "current_lr"):
        assert [line[name] for line in lines] == [line[name] for line in straight]


def test_epochs_after_the_checkpoint_leave_the_log_when_they_are_trained_again(tiny):
    folder = train(tiny())
    (folder / "checkpoint.previous.pt").replace(folder / "checkpoint.pt")
    with open(folder / "log", "a") as log:
        log.write('{"epoch": 1, "cut sh')
    train(tiny(**{"training.resume": str(folder / "checkpoint.pt")}))
    assert [line["epoch"] for line in log_of(folder)] == [0, 1]


def test_finished_training_is_not_trained_again(finished, tiny, capsys):
    before = weights_of(finished)
    train(tiny(**{"training.resume": str(finished)}))
    assert "all 2 epochs are done already" in capsys.readouterr().out
    assert same_weights(before, weights_of(finished))
    assert len(log_of(finished)) == 2


def test_resuming_with_other_classes_is_refused(finished, tiny, tmp_path):
    six = PictureDataset(20, classes=6)
    writer = DatasetWriter(tmp_path / "six.ffcv", {"image": RGBImageField(), "label": IntField()}, num_workers=1)
    writer.from_indexed_dataset(six)
    places = {"data.train_dataset": str(tmp_path / "six.ffcv"), "data.val_dataset": str(tmp_path / "six.ffcv")}
    with pytest.raises(CheckpointError, match="has 4 classes, these data have 6"):
        Trainer(tiny(**places, **{"training.resume": str(finished)}))


@pytest.mark.parametrize("every, epochs", [(0, []), (1, [1, 2, 3]), (2, [2, 3])])
def test_checkpoints_come_every_so_many_epochs_and_at_the_end(tiny, monkeypatch, every, epochs):
    written = []
    monkeypatch.setattr("trainer.loop.save_checkpoint", lambda folder, checkpoint: written.append(checkpoint.epoch))
    monkeypatch.setattr(Trainer, "_train_epoch", _no_training)
    train(tiny(**{"training.checkpoint_every": every, "training.epochs": 3}))
    assert written == epochs


def _no_training(self, begun):
    from trainer.epoch_result import EpochResult

    return EpochResult(1.0, STEPS, True, 1.0, 1.0)


def test_second_folder_holds_the_same_log_also_behind_a_break(tiny, tmp_path):
    def same(run, name):
        return (tmp_path / "logs" / run.name / name).read_text() == (run / name).read_text()

    half = train(tiny(**{"training.max_steps": STEPS, "logging.log_folder": str(tmp_path / "logs")}))
    assert same(half, "log")
    assert same(half, "params.json")
    (tmp_path / "logs" / half.name / "log").unlink()
    whole = train(tiny(**{"training.resume": str(half), "logging.log_folder": str(tmp_path / "logs")}))
    assert same(whole, "log")
    assert len(log_of(whole)) == 2


def test_log_level_0_evaluates_once_at_the_end(tiny):
    lines = log_of(train(tiny(**{"logging.log_level": 0})))
    assert [line["epoch"] for line in lines] == [1]


def test_log_level_2_shows_the_loss(tiny, capsys):
    train(tiny(**{"logging.log_level": 2, "training.epochs": 1}))
    assert "loss=" in capsys.readouterr().err
    train(tiny(**{"logging.log_level": 1, "training.epochs": 1}))
    assert "loss=" not in capsys.readouterr().err


def test_progress_bar_has_rate_and_time_left(tiny, capsys):
    train(tiny(**{"training.epochs": 1}))
    shown = capsys.readouterr().err
    assert "epoch 1/1 32 px" in shown
    assert "/20 [" in shown
    assert " images/s]" in shown


def test_max_steps_ends_training_in_the_middle_of_an_epoch(tiny):
    folder = train(tiny(**{"training.max_steps": STEPS + 2}))
    assert [line["steps"] for line in log_of(folder)] == [STEPS, 2]
    assert load_checkpoint(folder / "checkpoint.pt").epoch == 1
    assert (folder / "final_weights.pt").exists()


def test_eval_only_evaluates_given_weights(finished, tiny, tmp_path):
    config = tiny(
        **{"training.eval_only": 1, "model.weights": str(finished / "final_weights.pt"), "data.train_dataset": ""}
    )
    folder = launch(config)
    (line,) = log_of(folder)
    assert "epoch" not in line
    assert (line["top_1"], line["val_loss"]) == pytest.approx(
        (log_of(finished)[-1]["top_1"], log_of(finished)[-1]["val_loss"])
    )
    assert not (folder / "final_weights.pt").exists()


@pytest.mark.parametrize(
    "options, found", [({}, "none are given"), ({"training.resume": "auto"}, "training.resume=auto finds no run in")]
)
def test_evaluation_of_a_network_that_has_learnt_nothing_is_an_error(tiny, options, found):
    with pytest.raises(ConfigurationError, match=f"eval_only=1 needs weights to evaluate, and {found}"):
        launch(tiny(**{"training.eval_only": 1, **options}))


def test_resolution_follows_its_schedule(tiny, monkeypatch):
    sizes = []
    changes = {"resolution.max_res": 64, "resolution.start_ramp": 0, "resolution.end_ramp": 2, "training.epochs": 3}
    with Trainer(tiny(**changes, **{"validation.resolution": 40})) as trainer:
        trainer.model.register_forward_pre_hook(
            lambda model, inputs: sizes.append((model.training, tuple(inputs[0].shape[2:])))
        )
        trainer.train()
    training = [size for is_training, size in dict.fromkeys(sizes) if is_training]
    # Between 32 and 64 lies 48, which is 1.5 times 32: rounded to the even multiple.
    assert training == [(32, 32), (64, 64)]
    assert [size for is_training, size in sizes if is_training] == [(32, 32)] * STEPS + [(64, 64)] * 2 * STEPS
    assert {size for is_training, size in sizes if not is_training} == {(40, 40)}


def test_optimizer_gets_rate_momentum_and_decay(tiny):
    rates = []
    config = tiny(**{"training.momentum": 0.8, "training.weight_decay": 0.01, "training.epochs": 3})
    with Trainer(config) as trainer:
        groups = trainer.learner.optimizer.param_groups
        trainer.learner.optimizer.register_step_post_hook(lambda *_: rates.append([group["lr"] for group in groups]))
        trainer.train()
    assert type(trainer.learner.optimizer) is torch.optim.SGD
    assert [group["weight_decay"] for group in groups] == [0, 0.01]
    assert {group["momentum"] for group in groups} == {0.8}
    expected = np.concatenate([epoch_learning_rates(config.lr, [STEPS] * 3, epoch, STEPS) for epoch in range(3)])
    assert np.array(rates) == pytest.approx(np.stack([expected, expected], axis=1))


def test_gradients_are_clipped_to_a_norm(tiny):
    norms = []
    for clip in (0, 0.01):
        with Trainer(tiny(**{"training.grad_clip": clip})) as trainer:
            parameters = list(trainer.model.parameters())
            trainer.learner.optimizer.register_step_pre_hook(
                lambda *_, of=parameters: norms.append(torch.cat([p.grad.flatten() for p in of]).norm().item())
            )
            trainer.train_epoch(0)
    assert min(norms[:STEPS]) > 0.1
    assert norms[STEPS:] == pytest.approx([0.01] * STEPS, rel=1e-3)


@pytest.mark.parametrize("wanted", [True, False])
def test_memory_format_is_that_asked_for(tiny, wanted):
    seen = []
    with Trainer(tiny(**{"training.channels_last": wanted})) as trainer:
        trainer.model.register_forward_pre_hook(
            lambda _, inputs: seen.append(inputs[0].is_contiguous(memory_format=torch.channels_last))
        )
        trainer.train_epoch(0)
        weights = next(parameter for parameter in trainer.model.parameters() if parameter.ndim == 4)
    assert seen == [wanted] * STEPS
    assert weights.is_contiguous(memory_format=torch.channels_last) == wanted


def test_stages_change_images_and_batches_and_the_rate_follows(tiny):
    config = tiny(
        **{
            "resolution.schedule": "0,32,4;1,48,5;2,64",
            "training.batch_size": 10,
            "training.epochs": 3,
            "lr.lr_schedule_type": "onecycle",
        }
    )
    shapes, rates = [], []
    with Trainer(config) as trainer:
        trainer.model.register_forward_pre_hook(
            lambda model, inputs: shapes.append(tuple(inputs[0].shape)) if model.training else None
        )
        groups = trainer.learner.optimizer.param_groups
        trainer.learner.optimizer.register_step_post_hook(lambda *_: rates.append(groups[0]["lr"]))
        trainer.train()
    assert shapes == [(4, 3, 32, 32)] * 5 + [(5, 3, 48, 48)] * 4 + [(10, 3, 64, 64)] * 2
    expected = [epoch_learning_rates(config.lr, [5, 4, 2], epoch, steps) for epoch, steps in enumerate((5, 4, 2))]
    assert rates == pytest.approx(np.concatenate(expected).tolist())
    assert [(line["resolution"], line["batch_size"]) for line in log_of(trainer.run_folder)] == [
        (32, 4), (48, 5), (64, 10),
    ]  # fmt: skip


def test_stage_with_a_batch_that_the_data_do_not_fill_is_an_error(tiny):
    with pytest.raises(DataError, match=r"20 images make no batch of 21 .* a smaller batch in --resolution.schedule"):
        Trainer(tiny(**{"resolution.schedule": "0,32,4;1,32,21"}))


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_compiled_training_gives_the_same_weights_or_says_why_not(tiny, capsys, monkeypatch):
    """Here with a backend that needs no compiler; what torch's own one needs is on no machine for certain."""
    plain = weights_of(train(tiny()))
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: real(model, backend="aot_eager"))
    compiled = weights_of(train(tiny(**{"training.compile": 1})))
    assert capsys.readouterr().out.count(COMPILED) == 1
    assert plain.keys() == compiled.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning")
def test_training_goes_on_where_compiling_fails(tiny, monkeypatch):
    plain = weights_of(train(tiny()))

    def fail(graph, inputs):
        raise RuntimeError("no compiler was found")

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: real(model, backend=fail))
    failure = "torch.compile failed, so training goes on without it: .*no compiler"
    with pytest.warns(FfxWarning, match=failure), Trainer(tiny(**{"training.compile": 1})) as trainer:
        trainer.train()
    assert not trainer.learner.is_compiled
    assert same_weights(weights_of(trainer.run_folder), plain)


def test_training_goes_on_where_torch_cannot_compile_at_all(tiny, monkeypatch):
    def refuse(model):
        raise RuntimeError("Dynamo is not supported on this Python")

    monkeypatch.setattr(torch, "compile", refuse)
    with pytest.warns(FfxWarning, match="RuntimeError: Dynamo is not supported"):
        folder = train(tiny(**{"training.compile": 1}))
    assert same_weights(weights_of(folder), weights_of(train(tiny())))


def test_want_of_memory_is_no_failure_of_compiling(tiny, monkeypatch):
    def exhaust(model):
        def run(images):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")

        return run

    monkeypatch.setattr(torch, "compile", exhaust)
    with Trainer(tiny(**{"training.compile": 1})) as trainer, pytest.raises(torch.cuda.OutOfMemoryError):
        trainer.train()


def test_loss_is_smoothed_cross_entropy(tiny):
    outputs, labels = torch.tensor([[2.0, 0, 0, 0]]), torch.tensor([0])
    with Trainer(tiny(**{"training.label_smoothing": 0.2})) as trainer:
        found = trainer.learner.loss(outputs, labels).item()
    log_shares = outputs.log_softmax(1)[0].numpy()
    assert found == pytest.approx(-(0.85 * log_shares[0] + 0.05 * log_shares[1:].sum()))


def test_flip_at_validation_adds_the_outputs_of_the_mirror_image(tiny):
    images = torch.randn(2, 3, 32, 32)
    outputs = {}
    for flip in (0, 1):
        with Trainer(tiny(**{"validation.lr_tta": flip})) as trainer, torch.no_grad():
            trainer.model.eval()
            passes = []
            hook = trainer.model.register_forward_hook(lambda *_, of=passes: of.append(1))
            trainer.validate()
            hook.remove()
            # Nine images in batches of four.
            assert len(passes) == 3 * (1 + flip)
            outputs[flip] = trainer.learner.outputs(images, bool(flip))
            plain, mirrored = trainer.model(images), trainer.model(images.flip(3))
    assert torch.equal(outputs[0], plain)
    assert torch.equal(outputs[1], plain + mirrored)
    assert not torch.allclose(plain, mirrored)


@pytest.mark.parametrize("batch_size", [2, 4, 9, 64])
def test_validation_counts_every_image_once(tiny, batch_size):
    with Trainer(tiny(**{"validation.batch_size": batch_size, "data.classes": 9})) as trainer:
        batches = list(trainer.validation_source.epoch(0, 32))
        assert sum(len(labels) for _, labels in batches) == 9
        trainer.model.eval()
        scores = trainer.validate()
        with torch.no_grad():
            outputs = np.concatenate([trainer.learner.outputs(images, True).numpy() for images, _ in batches])
    labels = np.concatenate([labels.numpy() for _, labels in batches])
    ranked = np.argsort(-outputs, axis=1)
    assert scores.top_1 == pytest.approx(np.mean(ranked[:, 0] == labels))
    assert scores.top_5 == pytest.approx(np.mean((ranked[:, :5] == labels[:, None]).any(axis=1)))
    shares = np.exp(outputs / 2) / np.exp(outputs / 2).sum(axis=1, keepdims=True)
    assert scores.loss == pytest.approx(-np.log(shares[np.arange(9), labels]).mean(), rel=1e-4)


def test_loss_that_is_no_number_stops_the_training(tiny, monkeypatch):
    with Trainer(tiny()) as trainer:
        monkeypatch.setattr(trainer.learner, "loss", lambda outputs, labels: outputs.sum() * math.nan)
        with pytest.raises(TrainingError, match=r"epoch 1: the mean loss is nan: try a lower --lr.lr"):
            trainer.train()


def test_loss_that_is_no_number_takes_no_checkpoint_s_place(tiny, monkeypatch):
    """Also where checkpoints come by time, before the epoch's end."""
    with Trainer(tiny(**{"training.checkpoint_minutes": 1e-9})) as trainer:
        monkeypatch.setattr(trainer.learner, "loss", lambda outputs, labels: outputs.sum() * math.nan)
        with pytest.raises(TrainingError, match="the mean loss is nan"):
            trainer.train()
    assert not list(trainer.run_folder.glob("checkpoint*"))


def test_precision_follows_device_and_wish(tiny):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    assert [choose_precision("auto", device) for device in (cpu, gpu)] == [torch.float32, torch.float16]
    assert choose_precision("bf16", cpu) is torch.bfloat16
    with pytest.raises(ConfigurationError, match=r"precision=fp16 needs a GPU"):
        choose_precision("fp16", cpu)


def test_bf16_trains_on_a_processor(tiny):
    kinds = set()
    with Trainer(tiny(**{"training.precision": "bf16", "training.epochs": 1})) as trainer:
        trainer.model.conv1[0].register_forward_hook(lambda module, inputs, output: kinds.add(output.dtype))
        trainer.train()
    assert kinds == {torch.bfloat16}
    assert log_of(trainer.run_folder)[0]["train_loss"] < 10


def test_made_up_data_train_too(tiny):
    made = {"data.source": "synthetic", "data.synthetic_images": 12, "data.classes": 6, "training.epochs": 1}
    (line,) = log_of(train(tiny(**made, **{"training.use_blurpool": 1})))
    assert line["steps"] == 3


def test_folder_trains_too(tiny, picture_folder):
    places = {"data.train_dataset": str(picture_folder / "train"), "data.val_dataset": str(picture_folder / "val")}
    folder = train(tiny(**places, **{"data.num_workers": 0, "training.epochs": 1, "training.max_steps": 2}))
    assert log_of(folder)[0]["steps"] == 2


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_trains_in_half_precision_and_channels_last(tiny):
    seen = set()
    with Trainer(tiny(**{"training.device": "cuda", "training.epochs": 1})) as trainer:
        trainer.model.register_forward_pre_hook(
            lambda module, inputs: seen.add(
                (inputs[0].dtype, inputs[0].device.type, inputs[0].is_contiguous(memory_format=torch.channels_last))
            )
        )
        trainer.train()
    assert seen == {(torch.float16, "cuda", True)}
    assert log_of(trainer.run_folder)[0]["top_5"] == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_missing_gpu_is_named(tiny):
    with pytest.raises(ConfigurationError, match="torch finds no GPU"):
        Trainer(tiny(**{"training.device": "cuda"}))


def test_checkpoint_of_another_precision_is_taken_with_a_warning(tiny, monkeypatch):
    """As where a training on a CPU is evaluated on a GPU: there a gradient scaler is in use."""
    with Trainer(tiny()) as trainer:
        plain = trainer.learner.state_dicts()
        trainer.learner.load(**plain)
    assert plain["scaler"] == {}
    monkeypatch.setattr(learner, "_make_scaler", lambda enabled: torch.amp.GradScaler("cpu", enabled=True))
    with Trainer(tiny()) as trainer:
        scaled = trainer.learner.state_dicts()
        with pytest.warns(FfxWarning, match="trained in another precision and is gone on with in fp16"):
            trainer.learner.load(**plain)
    monkeypatch.undo()
    with Trainer(tiny()) as trainer, pytest.warns(FfxWarning, match="trained in fp16 and is gone on with in another"):
        trainer.learner.load(**scaled)
