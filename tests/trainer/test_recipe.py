"""What each option of section `recipe` does, against NumPy and torchvision."""

import itertools
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import models
from torchvision.transforms import v2
from trainer.checkpoint import load_checkpoint
from trainer.config import TrainerConfig
from trainer.data import open_training
from trainer.distributed import Ranks, seed_step
from trainer.errors import CheckpointError, ConfigurationError
from trainer.launch import launch
from trainer.learner import Learner
from trainer.loop import Trainer
from trainer.losses import BinaryCrossEntropy
from trainer.stochastic_depth import apply_stochastic_depth

from ffx.fields import IntField, RGBImageField
from tests.pictures import PictureDataset
from tests.trainer.conftest import write_pictures

CPU = torch.device("cpu")
STEPS = 5


def weights_of(folder):
    return torch.load(folder / "final_weights.pt", weights_only=True)


def log_of(folder):
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def train(config, **options):
    with Trainer(config, **options) as trainer:
        trainer.train()
        return trainer.run_folder


# The moving average


def test_average_of_weights_and_batch_statistics_is_evaluated_and_kept(tiny, monkeypatch):
    states = []
    step = Learner.step

    def noting(self, *arguments):
        loss = step(self, *arguments)
        states.append({name: value.double().numpy().copy() for name, value in self.model.state_dict().items()})
        return loss

    monkeypatch.setattr(Learner, "step", noting)
    with Trainer(tiny(**{"recipe.ema": 0.5})) as trainer:
        expected = {name: value.double().numpy().copy() for name, value in trainer.model.state_dict().items()}
        trainer.train()
    # Steps enough to reach the decay that is asked for.
    assert len(states) == 2 * STEPS
    for number, state in enumerate(states):
        decay = min(0.5, (1 + number) / (10 + number))
        expected = {name: decay * expected[name] + (1 - decay) * state[name] for name in state}
    found, last = weights_of(trainer.run_folder), states[-1]
    for name, value in found.items():
        if name.endswith("num_batches_tracked"):
            assert value == last[name]
        else:
            np.testing.assert_allclose(value.numpy(), expected[name], rtol=1e-4, atol=1e-6)
    assert not np.allclose(found["fc.weight"].numpy(), last["fc.weight"], rtol=1e-3)
    checkpoint = load_checkpoint(trainer.run_folder / "checkpoint.pt")
    assert torch.equal(checkpoint.model["fc.weight"].double(), torch.from_numpy(last["fc.weight"]))
    assert torch.equal(checkpoint.average["network"]["fc.weight"], found["fc.weight"])


def test_log_has_the_scores_of_the_average_and_of_the_weights_themselves(tiny, tmp_path):
    # A long memory, so that the two differ.
    folder = train(tiny(**{"recipe.ema": 0.999, "lr.lr": 0.5, "data.classes": 9}))
    torch.save(load_checkpoint(folder / "checkpoint.pt").model, tmp_path / "raw.pt")
    scores = []
    for weights in (folder / "final_weights.pt", tmp_path / "raw.pt"):
        with Trainer(tiny(**{"training.eval_only": 1, "model.weights": str(weights), "data.classes": 9})) as trainer:
            scores.append(trainer.evaluate())
    line = log_of(folder)[-1]
    assert (line["top_1"], line["val_loss"]) == (scores[0].top_1, scores[0].loss)
    assert line["raw_top_1"] == scores[1].top_1
    assert scores[0].loss != scores[1].loss
    assert scores[0].raw_top_1 is None


def test_checkpoint_without_an_average_is_refused_where_one_is_asked_for(tiny):
    with Trainer(tiny()) as trainer:
        states = trainer.learner.state_dicts()
    assert states["average"] == {}
    with Trainer(tiny(**{"recipe.ema": 0.9})) as trainer, pytest.raises(CheckpointError, match="does not fit"):
        trainer.learner.load(**states)


# The loss


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_binary_cross_entropy_asks_for_each_class_that_is_in_the_image(tiny, smoothing):
    outputs = torch.tensor([[2.0, -1.0, 0.5, 0.0], [0.0, 3.0, -2.0, 1.0]])
    with Trainer(tiny(**{"recipe.loss": "bce", "training.label_smoothing": smoothing})) as trainer:
        loss = trainer.learner.loss
    mixed = torch.tensor([[0.7, 0.3, 0.0, 0.0], [0.1, 0.9, 0.0, 0.0]])
    share = 1 / (1 + np.exp(-outputs.double().numpy()))
    for targets, yes in ((torch.tensor([0, 1]), np.eye(4)[[0, 1]]), (mixed, np.array([[1, 1, 0, 0], [0, 1, 0, 0]]))):
        answer = yes * (1 - smoothing) + smoothing / 4
        expected = -(answer * np.log(share) + (1 - answer) * np.log(1 - share)).sum() / 2
        assert loss(outputs, targets).item() == pytest.approx(expected)


def test_new_network_for_binary_cross_entropy_begins_at_one_yes_among_its_classes(tiny, tmp_path):
    with Trainer(tiny(**{"recipe.loss": "bce", "data.classes": 50})) as trainer:
        bias = trainer.model.fc.bias.detach()
        torch.save(trainer.model.state_dict() | {"fc.bias": torch.arange(50.0)}, tmp_path / "weights.pt")
    torch.testing.assert_close(bias.sigmoid(), torch.full((50,), 1 / 50))
    given = {"recipe.loss": "bce", "data.classes": 50, "model.weights": str(tmp_path / "weights.pt")}
    with Trainer(tiny(**given)) as trainer:
        assert torch.equal(trainer.model.fc.bias.detach(), torch.arange(50.0))
    with Trainer(tiny(**given, **{"model.new_last_layer": 1})) as trainer:
        torch.testing.assert_close(trainer.model.fc.bias.detach(), bias)
    with Trainer(tiny(**{"data.classes": 50})) as trainer:
        assert trainer.model.fc.bias.detach().unique().numel() > 1


def test_binary_cross_entropy_of_half_precision_is_computed_in_float32():
    outputs = torch.randn(4, 1000, dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = BinaryCrossEntropy()(outputs, torch.arange(4))
    loss.backward()
    assert loss.dtype is torch.float32
    assert outputs.grad.isfinite().all()


# Mixing


def mixed_steps(config, count=STEPS):
    """What a step's network and loss are given, beside what the source gave: `(images, labels, mixed, shares)`."""
    with Trainer(config) as trainer:
        seen, learner = [], trainer.learner
        loss = learner.loss
        trainer.model.register_forward_pre_hook(lambda module, inputs: seen.append([inputs[0].clone()]))
        learner.loss = lambda outputs, targets: (seen[-1].append(targets), loss(outputs, targets))[1]
        for step, (images, labels) in enumerate(itertools.islice(trainer.training_source.epoch(0, 32), count)):
            seed_step(CPU, config.training.seed, 0, 0, step)
            images, labels = images.clone(), labels.clone()
            learner.step(images, labels, 0.01)
            seen[-1] = (images, labels, *seen[-1])
        return seen


def one_hot(labels, classes=4):
    return torch.from_numpy(np.eye(classes, dtype=np.float32)[labels.numpy()])


def check_mixup(images, labels, mixed, shares):
    """Returns the share of the image itself."""
    own = ((mixed - images.roll(1, 0)) * (images - images.roll(1, 0))).sum() / (
        images - images.roll(1, 0)
    ).square().sum()
    torch.testing.assert_close(mixed, own * images + (1 - own) * images.roll(1, 0), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(shares, own * one_hot(labels) + (1 - own) * one_hot(labels.roll(1)), atol=1e-4, rtol=0)
    return float(own)


def is_from(mixed, images):
    return (mixed == images).all(1)


def check_cutmix(images, labels, mixed, shares):
    """Returns the share of the image itself."""
    kept, pasted = is_from(mixed, images), is_from(mixed, images.roll(1, 0))
    assert (kept | pasted).all()
    rows, columns = np.nonzero((~kept).any(0).numpy())
    inside = np.zeros((32, 32), bool)
    if len(rows):
        inside[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    assert pasted[:, torch.from_numpy(inside)].all()
    own = 1 - inside.mean()
    torch.testing.assert_close(shares, own * one_hot(labels) + (1 - own) * one_hot(labels.roll(1)), atol=1e-4, rtol=0)
    return own


@pytest.mark.parametrize("loss", ["ce", "bce"])
def test_mixup_adds_the_image_before_with_its_share(tiny, loss):
    found = [check_mixup(*one) for one in mixed_steps(tiny(**{"recipe.mixup": 1.0, "recipe.loss": loss}))]
    assert len(set(found)) == STEPS
    assert all(0 <= own <= 1 for own in found)


def test_cutmix_pastes_a_rectangle_of_the_image_before(tiny):
    found = [check_cutmix(*one) for one in mixed_steps(tiny(**{"recipe.cutmix": 1.0}))]
    assert len(set(found)) > 2


def test_of_mixup_and_cutmix_one_is_drawn_for_each_step(tiny):
    steps = [mixed_steps(tiny(**{"recipe.mixup": 1, "recipe.cutmix": 1, "training.seed": seed})) for seed in range(3)]
    kinds = []
    for one in itertools.chain(*steps):
        images, _, mixed, _ = one
        is_cut = bool((is_from(mixed, images) | is_from(mixed, images.roll(1, 0))).all())
        (check_cutmix if is_cut else check_mixup)(*one)
        kinds.append(is_cut)
    assert 1 < sum(kinds) < len(kinds) - 1


def test_mixed_images_lie_in_channels_last_memory_and_the_source_s_stay_as_they_are(tiny):
    for images, _, mixed, _ in mixed_steps(tiny(**{"recipe.mixup": 1.0})):
        assert mixed.is_contiguous(memory_format=torch.channels_last)
        assert not torch.equal(images, mixed)


def test_mixes_depend_on_seed_epoch_rank_and_step_alone(tiny):
    with Trainer(tiny(**{"recipe.mixup": 1.0, "recipe.cutmix": 1.0})) as trainer:
        images, labels = next(iter(trainer.training_source.epoch(0, 32)))

        def mix(*key):
            seed_step(CPU, *key)
            return trainer.learner._mix(images, labels)[1]

        first = mix(0, 0, 0, 0)
        torch.rand(7)
        assert torch.equal(mix(0, 0, 0, 0), first)
        for key in ((1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)):
            assert not torch.equal(mix(*key), first)


def test_mixing_with_label_smoothing_and_half_precision_trains(tiny):
    for loss in ("ce", "bce"):
        options = {"recipe.mixup": 0.2, "recipe.cutmix": 1, "recipe.loss": loss, "training.precision": "bf16"}
        (line,) = log_of(train(tiny(**options, **{"training.epochs": 1})))
        assert line["train_loss"] < 10


@pytest.mark.long("ranks")
def test_two_ranks_with_every_recipe_train_the_same_model_again(tiny):
    options = {"training.distributed": 1, "dist.world_size": 2, "dist.port": 0, "training.batch_size": 2}
    recipe = {"recipe.ema": 0.9, "recipe.mixup": 1, "recipe.cutmix": 1, "recipe.randaugment": 9, "recipe.loss": "bce"}
    network = {"model.arch": "resnet18", "recipe.stochastic_depth": 0.5, "recipe.alternating_flip": 1}
    folders = [launch(tiny(**options, **recipe, **network, **{"training.epochs": 1}), "two") for _ in range(2)]
    one, other = (weights_of(folder) for folder in folders)
    assert all(torch.equal(one[name], other[name]) for name in other)
    # Both ranks evaluated the average that the first one saved, batch statistics and all.
    line = log_of(folders[0])[-1]
    weights = {"model.arch": "resnet18", "model.weights": str(folders[0] / "final_weights.pt")}
    with Trainer(tiny(**weights, **{"training.eval_only": 1})) as trainer:
        scores = trainer.validate()
    assert line["top_1"] == scores.top_1
    assert line["val_loss"] == pytest.approx(scores.loss, rel=1e-5)


# Stochastic depth


def last_norms(model):
    return [block[-1] for block in ([m for n, m in b.named_children() if n[:2] == "bn"] for b in blocks_of(model))]


def blocks_of(model):
    return [block for stage in (model.layer1, model.layer2, model.layer3, model.layer4) for block in stage]


@pytest.mark.parametrize("arch, blocks", [("resnet18", 8), ("resnet50", 16)])
def test_residual_blocks_are_left_out_the_more_often_the_later_they_come(tiny, arch, blocks):
    with Trainer(tiny(**{"model.arch": arch, "recipe.stochastic_depth": 0.4})) as trainer:
        norms = last_norms(trainer.model)
    assert len(norms) == blocks
    torch.manual_seed(1)
    for number, norm in enumerate(norms, 1):
        channels, probability = norm.num_features, 0.4 * number / blocks
        inputs = torch.randn(1000, channels, 1, 1)
        found = norm.train()(inputs)[..., 0, 0].detach()
        whole = (inputs - inputs.mean(0)) / (inputs.var(0, unbiased=False) + norm.eps).sqrt()
        is_left_out = (found == 0).all(1)
        torch.testing.assert_close(found[~is_left_out], whole[~is_left_out, :, 0, 0] / (1 - probability))
        assert abs(is_left_out.sum() - 1000 * probability) <= 5 * np.sqrt(1000 * probability * (1 - probability))
        norm.eval()
        assert not (norm(inputs)[..., 0, 0] == 0).all(1).any()


def test_block_that_is_always_left_out_passes_its_input_on():
    model = models.resnet18(num_classes=4)
    names = list(model.state_dict())
    apply_stochastic_depth(model, 1.0)
    assert list(model.state_dict()) == names
    images = torch.rand(2, 512, 2, 2)
    torch.testing.assert_close(model.layer4[1].train()(images), images)


def test_stochastic_depth_changes_no_evaluation():
    torch.manual_seed(0)
    plain = models.resnet18(num_classes=4).eval()
    model = models.resnet18(num_classes=4).eval()
    apply_stochastic_depth(model, 0.5)
    model.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(model(images), plain(images))


def test_stochastic_depth_needs_residual_blocks(tiny):
    with pytest.raises(ConfigurationError, match=r"recipe.stochastic_depth=0.1 needs residual blocks.*ShuffleNetV2"):
        Trainer(tiny(**{"recipe.stochastic_depth": 0.1}))
    with pytest.raises(ConfigurationError, match="Sequential has none"):
        apply_stochastic_depth(nn.Sequential(nn.BatchNorm2d(3)), 0.1)


# Sources


@pytest.fixture(scope="module")
def told_apart(tmp_path_factory):
    """Twelve pictures, each of a class of its own, as a file and as a folder: labels say which is which."""
    folder = tmp_path_factory.mktemp("told_apart")
    images = [np.array(image) for image, _ in PictureDataset(12, seed=8)]
    for number, image in enumerate(images):
        (folder / "images" / f"{number:02}").mkdir(parents=True)
        Image.fromarray(image).save(folder / "images" / f"{number:02}" / "image.png")
    samples = list(zip(images, range(12)))
    fields = {"image": RGBImageField(write_mode="raw"), "label": IntField()}
    return {"file": write_pictures(folder / "images.ffcv", samples, fields), "folder": folder / "images"}


def by_label(tiny, path, epoch, **options):
    """The images of an epoch as the network would get them, by their labels."""
    config: TrainerConfig = tiny(**{"data.train_dataset": str(path), "training.batch_size": 3, **options})
    source = open_training(config, Ranks(), CPU, torch.float32)
    found = {}
    for images, labels in source.epoch(epoch, 32):
        found.update(zip(labels.tolist(), images.clone()))
    source.close()
    assert len(found) == 12
    return [found[number] for number in range(12)]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_alternating_flip_mirrors_each_image_in_every_second_epoch(tiny, told_apart, kind):
    sides = []
    for epoch in range(4):
        plain = by_label(tiny, told_apart[kind], epoch, **{"training.flip": 0})
        found = by_label(tiny, told_apart[kind], epoch, **{"recipe.alternating_flip": 1})
        is_mirrored = np.array([not torch.equal(one, other) for one, other in zip(found, plain)])
        for one, other, mirrored in zip(found, plain, is_mirrored):
            # A grey level, where the mirrored crop is resized in another order.
            assert (one - (other.flip(2) if mirrored else other)).abs().max() <= 1.01 / 57
        sides.append(is_mirrored)
    assert 0 < sides[0].sum() < 12
    for one, next_one in itertools.pairwise(sides):
        np.testing.assert_array_equal(one, ~next_one)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_images_are_augmented_by_seed_epoch_and_image(tiny, told_apart, kind):
    augment = {"recipe.randaugment": 9}
    first = by_label(tiny, told_apart[kind], 1, **augment)
    again = by_label(tiny, told_apart[kind], 1, **augment, **{"training.batch_size": 4, "data.num_workers": 2})
    assert all(torch.equal(one, other) for one, other in zip(first, again))
    assert all(image.is_contiguous(memory_format=torch.channels_last) for image in (first[0][None],))
    for epoch, options in ((1, {}), (2, augment), (1, {**augment, "training.seed": 1})):
        other = by_label(tiny, told_apart[kind], epoch, **options)
        assert sum(torch.equal(one, two) for one, two in zip(first, other)) <= 3


def test_image_of_a_folder_is_what_torchvision_makes_of_the_plain_one(tiny, told_apart, monkeypatch):
    """Both operations drawn behind crop and flip: with those that change nothing, nothing changes."""
    monkeypatch.setattr(v2.RandAugment, "_get_random_item", lambda self, space: ("Identity", space["Identity"]))
    augmented = by_label(tiny, told_apart["folder"], 0, **{"recipe.randaugment": 9, "data.num_workers": 0})
    plain = by_label(tiny, told_apart["folder"], 0, **{"data.num_workers": 0})
    assert all(torch.equal(one, other) for one, other in zip(augmented, plain))
