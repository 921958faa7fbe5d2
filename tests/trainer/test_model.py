import pytest
import torch
from torch import nn
from torchvision import models
from trainer.config import ModelConfig, TrainerConfig
from trainer.errors import ConfigurationError
from trainer.fitting import demand_fitting_sizes
from trainer.model import BlurPoolConv2d, make_model
from trainer.networks import last_norms
from trainer.optimizers import parameter_groups


def test_network_has_the_asked_number_of_outputs():
    model = make_model(ModelConfig("shufflenet_v2_x0_5"), 7, use_blurpool=False)
    assert type(model) is models.ShuffleNetV2
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)


def test_resnet18_for_imagenet_is_torchvisions():
    with torch.device("meta"):
        model = make_model(ModelConfig("resnet18"), 1000, use_blurpool=False)
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_689_512


def test_no_batch_norm_is_decayed_not_even_inside_downsample():
    with torch.device("meta"):
        model = models.resnet50()
    free, decayed = parameter_groups(model, 1e-4)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {id(p) for p in free["params"]} == {id(p) for norm in norms for p in norm.parameters()}
    assert id(model.layer1[0].downsample[1].weight) in {id(p) for p in free["params"]}
    assert (free["weight_decay"], decayed["weight_decay"]) == (0.0, 1e-4)
    assert len(free["params"]) + len(decayed["params"]) == len(list(model.parameters()))
    assert {p.ndim for p in decayed["params"]} == {4, 2, 1}  # convolutions, last layer, its bias


def test_blurpool_stands_before_convolutions_with_a_stride():
    model = make_model(ModelConfig("resnet18"), 10, use_blurpool=True)
    blurred = {name for name, module in model.named_modules() if isinstance(module, BlurPoolConv2d)}
    # Not before the first convolution, which has three input channels.
    assert blurred == {f"layer{n}.0.{part}" for n in (2, 3, 4) for part in ("conv1", "downsample.0")}


def test_blur_is_the_binomial_filter_of_each_channel():
    conv = nn.Conv2d(16, 16, 1, stride=2, bias=False)
    nn.init.dirac_(conv.weight)
    image = torch.zeros(1, 16, 5, 5)
    image[0, 3, 2, 2] = 16
    blurred = BlurPoolConv2d(conv)(image)[0]
    # Every second pixel of the impulse's answer 1 2 1 / 2 4 2 / 1 2 1: its centre alone.
    expected = torch.zeros(16, 3, 3)
    expected[3, 1, 1] = 4
    assert torch.equal(blurred, expected)


@pytest.mark.parametrize("size", [1, 2, 7, 8])
@pytest.mark.parametrize(
    "conv",
    [
        lambda: nn.Conv2d(16, 24, 1, stride=2, bias=False),
        lambda: nn.Conv2d(16, 24, 1, stride=(2, 3), groups=4),
        lambda: nn.Conv2d(16, 24, 1, stride=2, padding=1),
        lambda: nn.Conv2d(16, 24, 3, stride=2, padding=1, bias=False),
    ],
    ids=["1x1", "1x1 in groups", "1x1 with padding", "3x3"],
)
def test_blur_and_convolution_are_one_after_the_other_also_where_the_blur_takes_the_stride(conv, size):
    blurred = BlurPoolConv2d(conv()).double()
    images = torch.randn(3, 16, size, size + 1, dtype=torch.float64, requires_grad=True)
    found = blurred(images)
    weights = torch.randn_like(found)
    row = torch.tensor([1.0, 2, 1], dtype=torch.float64) / 4
    blur = torch.outer(row, row).expand(16, 1, 3, 3)
    expected = blurred.conv(nn.functional.conv2d(images, blur, padding=1, groups=16))
    torch.testing.assert_close(found, expected)
    sources = [images, *blurred.parameters()]
    one, other = (torch.autograd.grad((result * weights).sum(), sources) for result in (found, expected))
    for gradient, expected_gradient in zip(one, other):
        torch.testing.assert_close(gradient, expected_gradient)
    assert list(blurred.state_dict()) == ["blur_filter", *(f"conv.{name}" for name in blurred.conv.state_dict())]


def test_weights_file_is_loaded_also_when_it_was_saved_by_several_ranks(tmp_path):
    original = make_model(ModelConfig("shufflenet_v2_x0_5"), 4, use_blurpool=False)
    weights = original.state_dict()
    for prefix in ("", "module."):
        torch.save({prefix + name: value for name, value in weights.items()}, tmp_path / "weights.pt")
        config = ModelConfig("shufflenet_v2_x0_5", weights=str(tmp_path / "weights.pt"))
        loaded = make_model(config, 4, use_blurpool=False).state_dict()
        assert all(torch.equal(loaded[name], value) for name, value in weights.items())


def test_weights_file_of_another_network_is_refused(tmp_path):
    torch.save(make_model(ModelConfig("shufflenet_v2_x0_5"), 4, False).state_dict(), tmp_path / "weights.pt")
    with pytest.raises(ConfigurationError, match="expected the state dict of this network"):
        make_model(ModelConfig("shufflenet_v2_x0_5", weights=str(tmp_path / "weights.pt")), 5, False)
    with pytest.raises(ConfigurationError, match="No such file"):
        make_model(ModelConfig("shufflenet_v2_x0_5", weights=str(tmp_path / "none.pt")), 5, False)


def test_weights_come_with_a_new_last_layer_where_one_is_asked_for(tmp_path):
    torch.manual_seed(1)
    pretrained = models.resnet50(weights=None).state_dict()
    path = str(tmp_path / "resnet50.pth")
    torch.save(pretrained, path)
    for classes in (1000, 7):
        config = ModelConfig("resnet50", weights=path, new_last_layer=True)
        found = make_model(config, classes, use_blurpool=False).state_dict()
        assert found["fc.weight"].shape == (classes, 2048)
        assert classes != 1000 or not torch.equal(found["fc.weight"], pretrained["fc.weight"])
        others = [name for name in pretrained if not name.startswith("fc.")]
        assert all(torch.equal(found[name], pretrained[name]) for name in others)
    with pytest.raises(ConfigurationError, match="expected the state dict of this network"):
        make_model(ModelConfig("resnet50", weights=path), 7, use_blurpool=False)


class _Code:
    """A pickle that would run something."""

    def __reduce__(self):
        return print, ("run",)


def test_weights_file_cannot_run_code(tmp_path, capsys):
    torch.save(_Code(), tmp_path / "weights.pt")
    with pytest.raises(ConfigurationError):
        make_model(ModelConfig("shufflenet_v2_x0_5", weights=str(tmp_path / "weights.pt")), 5, False)
    assert "run" not in capsys.readouterr().out.split()


@pytest.mark.parametrize("classes", [1000, 4])
def test_pretrained_starts_from_imagenet_weights_with_a_last_layer_that_fits(classes, monkeypatch):
    asked = []
    get_model = models.get_model

    def without_download(arch, weights=None, **arguments):
        asked.append(weights)
        return get_model(arch, weights=None, **arguments)

    monkeypatch.setattr(models, "get_model", without_download)
    model = make_model(ModelConfig("shufflenet_v2_x0_5", pretrained=True), classes, use_blurpool=False)
    assert asked == [models.ShuffleNet_V2_X0_5_Weights.IMAGENET1K_V1]
    assert model.fc.out_features == classes


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_residual_blocks_can_begin_as_the_identity(arch):
    torch.manual_seed(0)
    plain = models.get_model(arch, weights=None, num_classes=10, zero_init_residual=True)
    torch.manual_seed(0)
    found = make_model(ModelConfig(arch, zero_init=True), 10, use_blurpool=False)
    assert all(torch.equal(one, other) for one, other in zip(found.parameters(), plain.parameters(), strict=True))


def test_identity_needs_residual_blocks():
    with pytest.raises(ConfigurationError, match="networks with batch norms: shufflenet_v2_x0_5 has no"):
        make_model(ModelConfig("shufflenet_v2_x0_5", zero_init=True), 10, use_blurpool=False)


def test_resnet50_written_out_is_torchvisions():
    torch.manual_seed(0)
    theirs = models.resnet50(num_classes=1000).eval()
    mine = make_model(ModelConfig("scratch_resnet50", zero_init=True), 1000, use_blurpool=False).eval()
    assert sum(parameter.numel() for parameter in mine.parameters()) == 25_557_032
    assert [norm.weight.abs().max().item() for norm in last_norms(mine)] == [0.0] * 16
    images = torch.randn(2, 3, 64, 64)
    mine.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(mine(images), theirs(images))


def test_convolutions_of_own_networks_begin_with_kaimings_variance_by_outputs():
    model = make_model(ModelConfig("scratch_resnet50"), 10, use_blurpool=False)
    for conv in (module for module in model.modules() if isinstance(module, nn.Conv2d)):
        fan = conv.out_channels * conv.kernel_size[0] * conv.kernel_size[1]
        assert conv.weight.std().item() == pytest.approx((2 / fan) ** 0.5, rel=0.05)


def test_resnet18_for_cifar_is_torchvisions_with_another_stem():
    model = make_model(ModelConfig("cifar_resnet18"), 10, use_blurpool=False).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_173_962
    theirs = models.resnet18(num_classes=10).eval()
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, 1, 1, bias=False), nn.Identity()
    theirs.load_state_dict(model.state_dict())
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(model(images), theirs(images))


def test_resnet18_for_cifar_without_batch_norms_has_none():
    model = make_model(ModelConfig("cifar_resnet18_no_norm"), 10, use_blurpool=False)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert sum(parameter.numel() for parameter in model.parameters()) == 11_173_962 - 9600
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_own_networks_have_no_pretrained_weights():
    with pytest.raises(ConfigurationError, match="there are no weights for cifar_resnet18"):
        make_model(ModelConfig("cifar_resnet18", pretrained=True), 10, use_blurpool=False)


def sizes(arch, side, batch_size=2, **options):
    made_up = {"data.source": "synthetic", "model.arch": arch, "training.batch_size": batch_size}
    sides = dict.fromkeys(("resolution.min_res", "resolution.max_res", "validation.resolution"), side)
    return TrainerConfig.from_params({**made_up, **sides, "validation.plain_resolution": 0, **options})


@pytest.mark.parametrize(
    "arch, side, batch_size, message",
    [
        (
            "vit_b_32",
            64,
            2,
            "arch=vit_b_32 does not take batches of 2 images of 64 x 64 pixels in training: Wrong",
        ),
        ("inception_v3", 64, 2, "inception_v3 does not take .* 64 x 64 pixels in training: "),
        (
            "resnet18",
            32,
            1,
            "does not take batches of 1 images of 32 x 32 .* in training: Expected more than 1 value",
        ),
    ],
)
def test_sizes_that_a_network_does_not_take_are_named_before_it_is_trained(arch, side, batch_size, message):
    config = sizes(arch, side, batch_size)
    model = make_model(config.model, 5, use_blurpool=False)
    with pytest.raises(ConfigurationError, match=message):
        demand_fitting_sizes(model, config)
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}


def test_sizes_of_later_epochs_and_of_validation_are_tried_too():
    later = sizes("vit_b_32", 224, **{"resolution.schedule": "0,224,2;3,192,2", "training.epochs": 4})
    model = make_model(later.model, 5, use_blurpool=False)
    with pytest.raises(ConfigurationError, match="192 x 192 pixels in training"):
        demand_fitting_sizes(model, later)
    demand_fitting_sizes(model, sizes("vit_b_32", 224))
    with pytest.raises(ConfigurationError, match="256 x 256 pixels in validation"):
        demand_fitting_sizes(model, sizes("vit_b_32", 224, **{"validation.resolution": 256}))
    demand_fitting_sizes(model, sizes("vit_b_32", 64, **{"training.eval_only": 1, "validation.resolution": 224}))


@pytest.mark.parametrize("arch", ["googlenet", "inception_v3"])
def test_inceptions_have_the_outputs_of_their_last_layer_alone(arch):
    with torch.device("meta"):
        model = make_model(ModelConfig(arch), 5, use_blurpool=False).train()
        assert model(torch.zeros(2, 3, 128, 128)).shape == (2, 5)
