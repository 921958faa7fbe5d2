"""The optimizers beside torch's and pytorch_optimizer's own, and what has weight decay."""

import sys

import pytest
import torch
import torchvision
from torch import nn
from trainer.config import OPTIMIZERS, RunConfig
from trainer.errors import ConfigurationError
from trainer.optimizers import make_optimizer, parameter_groups, set_rate

RATES = (0.1, 0.05, 0.2)


def small_network():
    torch.manual_seed(3)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5))


def trained(make):
    """The parameters of a small network after three steps of an optimizer."""
    model = small_network()
    optimizer = make(model)
    generator = torch.Generator().manual_seed(4)
    for rate in RATES:
        set_rate(optimizer, rate)
        optimizer.zero_grad()
        model(torch.randn(6, 3, 4, 4, generator=generator)).square().sum().backward()
        optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def ours(**options):
    return lambda model: make_optimizer(RunConfig(**options), model, RATES[0])


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torchs(nesterov):
    found = trained(ours(momentum=0.8, weight_decay=0.01, nesterov=nesterov, no_decay="nothing"))
    expected = trained(
        lambda model: torch.optim.SGD(model.parameters(), RATES[0], momentum=0.8, weight_decay=0.01, nesterov=nesterov)
    )
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "name, kind",
    [
        ("adamw", torch.optim.AdamW),
        ("adam", torch.optim.Adam),
        ("adagrad", torch.optim.Adagrad),
        ("adadelta", torch.optim.Adadelta),
    ],
)
def test_other_optimizers_are_torchs(name, kind):
    found = trained(ours(optimizer=name, weight_decay=5e-4, no_decay="nothing"))
    expected = trained(lambda model: kind(model.parameters(), RATES[0], weight_decay=5e-4))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("name", ["lars", "muon"])
def test_optimizers_of_another_package_train(name):
    pytest.importorskip("pytorch_optimizer", reason="needs pytorch_optimizer")
    before = torch.cat([parameter.detach().flatten() for parameter in small_network().parameters()])
    found = trained(ours(optimizer=name, weight_decay=0.01, nesterov=True))
    assert torch.isfinite(found).all() and not torch.equal(found, before)


def test_lars_scales_steps_by_the_ratio_of_norms():
    pytest.importorskip("pytorch_optimizer", reason="needs pytorch_optimizer")
    model = nn.Linear(3, 2, bias=False)
    optimizer = make_optimizer(RunConfig(optimizer="lars", momentum=0, weight_decay=0.5), model, 2.0)
    weights = model.weight.detach().clone()
    gradient = torch.arange(6.0).reshape(2, 3)
    model.weight.grad = gradient.clone()
    optimizer.step()
    # You et al., 2017, with the package's trust coefficient of 0.001.
    ratio = 0.001 * weights.norm() / (gradient.norm() + 0.5 * weights.norm())
    torch.testing.assert_close(model.weight.detach(), weights - 2.0 * ratio * (gradient + 0.5 * weights))


def test_muon_takes_matrices_and_leaves_the_rest_to_adamw_at_a_share_of_its_rate():
    pytest.importorskip("pytorch_optimizer", reason="needs pytorch_optimizer")
    model = small_network()
    optimizer = make_optimizer(RunConfig(optimizer="muon", weight_decay=0.1), model, 0.02)
    by_muon = [p for group in optimizer.param_groups if group["use_muon"] for p in group["params"]]
    assert [id(p) for p in by_muon] == [id(model[0].weight)]
    set_rate(optimizer, 0.04)
    assert {group["lr"] for group in optimizer.param_groups if not group["use_muon"]} == {0.04 * 0.015}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 6
    assert all(
        group["weight_decay"] == 0 for group in optimizer.param_groups for p in group["params"] if p is model[1].weight
    )


def test_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_optimizer", None)
    with pytest.raises(ConfigurationError, match="pip install pytorch_optimizer"):
        make_optimizer(RunConfig(optimizer="lars"), small_network(), 0.1)


@pytest.mark.parametrize("no_decay, free", [("nothing", []), ("norms", [2, 3]), ("norms_and_biases", [1, 2, 3, 5])])
def test_parameters_without_decay_are_those_asked_for(no_decay, free):
    model = small_network()
    parameters = list(model.parameters())
    groups = parameter_groups(model, 0.1, no_decay)
    assert [id(p) for p in groups[0]["params"]] == [id(parameters[number]) for number in free]
    assert len(groups[1]["params"]) == 6 - len(free)
    assert [group["weight_decay"] for group in groups] == [0.0, 0.1]


def test_muon_leaves_tokens_and_positions_of_a_transformer_to_adamw():
    pytest.importorskip("pytorch_optimizer", reason="needs pytorch_optimizer")
    model = torchvision.models.VisionTransformer(32, 16, 2, 2, 8, 16, num_classes=5)
    optimizer = make_optimizer(RunConfig(optimizer="muon"), model, 0.02)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    by_muon = {names[id(p)] for group in optimizer.param_groups if group["use_muon"] for p in group["params"]}
    layers = ("self_attention.in_proj_weight", "self_attention.out_proj.weight", "mlp.0.weight", "mlp.3.weight")
    blocks = {f"encoder.layers.encoder_layer_{block}.{layer}" for block in range(2) for layer in layers}
    assert by_muon == blocks | {"conv_proj.weight"}


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in ("sgd", "lars", "muon")])
def test_nesterovs_momentum_needs_momentum(name, tiny):
    with pytest.raises(ConfigurationError, match=f"training.nesterov=1 needs .* found training.optimizer={name}"):
        tiny(**{"training.optimizer": name, "training.nesterov": 1})
    with pytest.raises(ConfigurationError, match=r"training.momentum=0"):
        tiny(**{"training.momentum": 0, "training.nesterov": 1})
