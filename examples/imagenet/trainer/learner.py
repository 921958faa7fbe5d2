"""What learns: a network on its device with loss, optimizer and gradient scaler; a step of it, and its outputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from .averaging import MovingAverage
from .config import TrainerConfig
from .distributed import Ranks, seed_generators, share_buffers
from .errors import CheckpointError, ConfigurationError
from .losses import begin_at_prior, make_loss
from .mixing import make_mix
from .model import make_model, parameter_groups
from .stochastic_depth import apply_stochastic_depth

__all__ = ["Learner", "choose_precision"]

_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}


def choose_precision(wanted: str, device: torch.device) -> torch.dtype:
    """The dtype that convolutions compute in.

    Raises:
        ConfigurationError: fp16 on a CPU.
    """
    if wanted == "auto":
        wanted = "fp16" if device.type == "cuda" else "fp32"
    if wanted == "fp16" and device.type == "cpu":
        raise ConfigurationError("training.precision=fp16 needs a GPU, and there is none: use bf16 or fp32")
    return _DTYPES[wanted]


class Learner:
    """A network and all that changes with it.

    Attributes:
        model: the network on its device, not wrapped for several ranks.
        average: a moving average of it, or `None`.
        optimizer, scaler, loss: what a step uses.
    """

    def __init__(
        self, config: TrainerConfig, classes: int, ranks: Ranks, device: torch.device, dtype: torch.dtype
    ) -> None:
        training, recipe = config.training, config.recipe
        self._device, self._dtype = device, dtype
        self._adds_mirror_image = config.validation.lr_tta
        # The same weights on all ranks.
        seed_generators(training.seed)
        model = make_model(config.model, classes, training.use_blurpool)
        if recipe.loss == "bce" and not config.model.pretrained and not config.model.weights:
            begin_at_prior(model, classes)
        if recipe.stochastic_depth:
            apply_stochastic_depth(model, recipe.stochastic_depth)
        self.model = model.to(device, memory_format=torch.channels_last)
        self.average = MovingAverage(self.model, recipe.ema) if recipe.ema else None
        # The wrapped model shares gradients. Validation uses the plain one: ranks may have more or fewer batches.
        self._wrapped: nn.Module = self.model
        if ranks.world > 1:
            self._wrapped = DistributedDataParallel(self.model, device_ids=[device] if device.type == "cuda" else None)
        groups = parameter_groups(self.model, training.weight_decay)
        self.optimizer = torch.optim.SGD(groups, lr=config.lr.lr, momentum=training.momentum)
        self.scaler = _make_scaler(enabled=dtype is torch.float16)
        self.loss = make_loss(config)
        self._mix = make_mix(recipe, classes)
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        return self.optimizer.param_groups[0]["lr"]

    @property
    def evaluated(self) -> nn.Module:
        """What is evaluated, and what a training ends with: the moving average, or else the model."""
        return self.average.network if self.average else self.model

    def train(self) -> None:
        """Steps come next."""
        self._wrapped.train()

    def step(self, images: torch.Tensor, labels: torch.Tensor, rate: float) -> torch.Tensor:
        """One step with a learning rate; returns this rank's mean loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        if self._mix:
            images, labels = self._mix(images, labels)
        with self._autocast():
            loss = self.loss(self._wrapped(images), labels)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update()
        return loss.detach()

    def outputs(self, images: torch.Tensor, is_raw: bool = False) -> torch.Tensor:
        """The outputs of what is evaluated (raw: of the model itself), float32; with `validation.lr_tta` those of the
        images and of their mirror images added."""
        network = self.model if is_raw else self.evaluated
        with self._autocast():
            outputs = network(images)
            if self._adds_mirror_image:
                outputs = outputs + network(images.flip(3))
        return outputs.float()

    @property
    def views(self) -> int:
        """Outputs that `outputs` adds for each image."""
        return 2 if self._adds_mirror_image else 1

    def _autocast(self) -> torch.autocast:
        enabled = self._dtype is not torch.float32
        return torch.autocast(self._device.type, dtype=self._dtype if enabled else None, enabled=enabled)

    def share_buffers(self) -> None:
        """Give all ranks the first one's buffers. All of them call this together."""
        share_buffers(self.model)
        if self.average:
            share_buffers(self.average.network)

    def state_dicts(self) -> dict[str, dict[str, Any]]:
        """The state dicts of model, optimizer, scaler and average (empty without one), by these names."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average.state_dict() if self.average else {},
        }

    def load(
        self, model: dict[str, Any], optimizer: dict[str, Any], scaler: dict[str, Any], average: dict[str, Any]
    ) -> None:
        """Take over such state dicts.

        Raises:
            CheckpointError: they are another network's.
        """
        try:
            self.model.load_state_dict(model)
            self.optimizer.load_state_dict(optimizer)
            self.scaler.load_state_dict(scaler)
            if self.average:
                self.average.load_state_dict(average)
        except (RuntimeError, KeyError, ValueError) as error:
            raise CheckpointError(f"the checkpoint does not fit the network of this configuration: {error}") from error


def _make_scaler(enabled: bool) -> torch.amp.GradScaler:
    # Its name since torch 2.3; before, it was torch.cuda.amp's.
    if hasattr(torch.amp, "GradScaler"):
        return torch.amp.GradScaler("cuda", enabled=enabled)
    return torch.cuda.amp.GradScaler(enabled=enabled)
