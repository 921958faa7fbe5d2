"""Each flag of the lab: how it is read, and what it means to the trainer."""

import numpy as np
import pytest
import torch
from lab.configuration import check_device, configuration, find_data
from lab.options import LabOptions, LabParser, options_of
from trainer.errors import ConfigurationError, DataError
from trainer.model import make_model
from trainer.optimizers import make_optimizer
from trainer.schedule import epoch_learning_rates


def read(*arguments):
    return options_of(LabParser("lab2.py", ""), arguments)[0]


def configured(tiny_data, *arguments):
    return configuration(read(f"--dataset-path={tiny_data}", *arguments))


def test_defaults_are_the_documents():
    assert read() == LabOptions(
        device="cuda",
        num_of_workers=2,
        dataset_path="data",
        optimizer="sgd",
        epochs=5,
        batch_size=128,
        print_epochs=True,
        download_data=False,
        run_code_3=False,
        run_profiler=False,
        no_batch_norm=False,
        max_num_of_workers_for_code_3=8,
        trace_file_name="trace",
    )


@pytest.mark.parametrize(
    "short, long, text, value",
    [
        ("-c", "--device", "cpu", "cpu"),
        ("-w", "--num-of-workers", "7", 7),
        ("-d", "--dataset-path", "~/there", "~/there"),
        ("-o", "--optimizer", "adam", "adam"),
        ("-e", "--epochs", "9", 9),
        ("-b", "--batch-size", "64", 64),
        ("-pe", "--print-epochs", "false", False),
        ("-dd", "--download-data", "true", True),
        ("-rc3", "--run-code-3", "true", True),
        ("-p", "--run-profiler", "true", True),
        ("-nbn", "--no-batch-norm", "true", True),
        ("-mnw", "--max-num-of-workers-for-code-3", "12", 12),
        ("-tfn", "--trace-file-name", "other", "other"),
    ],
)
def test_every_flag_is_read_by_both_names(short, long, text, value):
    name = long.strip("-").replace("-", "_")
    for arguments in ([short, text], [long, text], [f"{long}={text}"]):
        assert getattr(read(*arguments), name) == value


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--device=tpu"], "invalid choice: 'tpu'"),
        (["--optimizer=sgdd"], "invalid choice: 'sgdd'"),
        (["--epochs=0"], "expected a whole number of at least 1, found '0'"),
        (["--batch-size=4.5"], "expected a whole number of at least 1, found '4.5'"),
        (["--num-of-workers=-1"], "expected a whole number of at least 0, found '-1'"),
        (["--print-epochs=1"], "expected true or false, found '1'"),
        (["--no-batch-norm=True"], "expected true or false, found 'True'"),
        (["--epoch=3"], "unrecognized arguments: --epoch=3"),
        (["--trace-file-name="], "--trace-file-name: expected the name of a file"),
        (["--run-code-3=true", "--run-profiler=true"], "exclude each other"),
    ],
)
def test_wrong_flags_are_errors(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        read(*arguments)


@pytest.mark.parametrize(
    "name, kind, expected",
    [
        ("sgd", torch.optim.SGD, {"momentum": 0.9, "nesterov": False}),
        ("sgd-nesterov", torch.optim.SGD, {"momentum": 0.9, "nesterov": True}),
        ("adagrad", torch.optim.Adagrad, {}),
        ("adadelta", torch.optim.Adadelta, {}),
        ("adam", torch.optim.Adam, {}),
    ],
)
def test_optimizer_has_the_labs_rate_and_decays_everything(name, kind, expected, tiny_data):
    config = configured(tiny_data, f"--optimizer={name}")
    model = make_model(config.model, 10, False)
    optimizer = make_optimizer(config.training, model, config.lr.lr)
    assert type(optimizer) is kind
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays == {id(parameter): 5e-4 for parameter in model.parameters()}
    for group in optimizer.param_groups:
        assert {**group, "lr": 0.1, **expected} == group


@pytest.mark.parametrize("epochs", [1, 5])
def test_rate_is_constant(epochs, tiny_data):
    config = configured(tiny_data, f"--epochs={epochs}")
    rates = [epoch_learning_rates(config.lr, [7] * epochs, epoch, 7) for epoch in range(epochs)]
    assert config.training.epochs == epochs
    assert np.array_equal(rates, np.full((epochs, 7), 0.1))


def test_network_has_11173962_parameters_and_without_batch_norms_9600_less(tiny_data):
    counts, norms = [], []
    for words in ("false", "true"):
        model = make_model(configured(tiny_data, f"--no-batch-norm={words}").model, 10, False)
        counts.append(sum(parameter.numel() for parameter in model.parameters()))
        norms.append(sum(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules()))
    assert counts == [11_173_962, 11_164_362]
    assert norms == [20, 0]


def test_network_without_batch_norms_bears_the_labs_rate(tiny_data):
    config = configured(tiny_data, "--no-batch-norm=true")
    torch.manual_seed(0)
    model = make_model(config.model, 10, False)
    optimizer = make_optimizer(config.training, model, config.lr.lr)
    losses = []
    # With He's weights the second of these losses is 5, and of photographs the sixth is no number any more.
    for _ in range(8):
        images, labels = torch.randn(8, 3, 16, 16), torch.randint(10, (8,))
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert max(losses) < 3


def test_recipe_is_the_labs(tiny_data):
    config = configured(tiny_data, "--batch-size=2048", "--num-of-workers=3", "--device=cpu")
    assert (config.data.augmentation, config.data.num_workers) == ("cifar", 3)
    assert (config.resolution.min_res, config.resolution.max_res, config.validation.resolution) == (32, 32, 32)
    assert (config.training.batch_size, config.validation.batch_size) == (2048, 512)
    assert (config.training.label_smoothing, config.validation.lr_tta) == (0, False)
    assert (config.training.device, config.training.precision) == ("cpu", "fp32")


@pytest.mark.parametrize(
    "places, source, names",
    [
        (["cifar-10-batches-py/"], "cifar10", ["", ""]),
        (["train/", "val/"], "folder", ["train", "val"]),
        (["train/", "test/"], "folder", ["train", "test"]),
        (["train.beton", "val.beton"], "ffx", ["train.beton", "val.beton"]),
        (["train.ffcv", "test.ffcv"], "ffx", ["train.ffcv", "test.ffcv"]),
    ],
)
def test_data_sets_are_found_also_behind_a_quoted_tilde(places, source, names, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for place in places:
        path = tmp_path / "set" / place
        path.mkdir(parents=True) if place.endswith("/") else path.parent.mkdir(exist_ok=True) or path.touch()
    found = find_data("~/set")
    assert found["data.source"] == source
    assert [found["data.train_dataset"], found["data.val_dataset"]] == [str(tmp_path / "set" / name) for name in names]


def test_missing_data_are_named_and_can_be_fetched(tmp_path):
    with pytest.raises(DataError, match=r"found no such folder: --download-data=true fetches CIFAR-10"):
        find_data(str(tmp_path / "none"))
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match="found none of these"):
        find_data(str(tmp_path))
    config = configuration(read(f"--dataset-path={tmp_path}", "--download-data=true"))
    assert (config.data.source, config.data.download) == ("cifar10", True)


@pytest.mark.parametrize("name, path", [("trace", "trace.json"), ("a/b.json", "a/b.json"), ("v1.2", "v1.2.json")])
def test_trace_gets_its_name(name, path, tiny_data):
    assert configured(tiny_data).logging.profile == ""
    traced = configured(tiny_data, "--run-profiler=true", f"--trace-file-name={name}")
    assert traced.logging.profile == path


def test_gpu_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigurationError, match=r"torch finds no GPU on this machine: use --device=cpu"):
        check_device(read())
    check_device(read("--device=cpu"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    check_device(read())
