"""What learns: a network on its device with loss, optimizer and gradient scaler; a step of it, and its outputs."""

from __future__ import annotations

import inspect
import logging
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ffx.errors import FfxWarning

from .averaging import MovingAverage
from .compiled import CompiledModel
from .config import TrainerConfig
from .distributed import Ranks, seed_generators, share_buffers
from .errors import CheckpointError, ConfigurationError
from .fitting import demand_fitting_sizes
from .losses import begin_at_prior, make_loss
from .mixing import make_mix
from .model import has_new_last_layer, make_model
from .optimizers import make_optimizer, set_rate
from .stochastic_depth import apply_stochastic_depth

__all__ = ["Learner", "choose_precision"]

_LOG = logging.getLogger(__name__)
# Its name since torch 2.14; before, it was broadcast_buffers.
_SHARES_BUFFERS = "forward_sync_buffers"
if _SHARES_BUFFERS not in inspect.signature(DistributedDataParallel).parameters:
    _SHARES_BUFFERS = "broadcast_buffers"
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
        device, dtype: where it computes, and the dtype of its convolutions.
        model: the network on its device, not wrapped for several ranks.
        average: a moving average of it, or `None`.
        optimizer, scaler, loss: what a step uses.
        step_outputs: the outputs of the last step, `[batch, classes]`.
    """

    def __init__(
        self,
        config: TrainerConfig,
        classes: int,
        ranks: Ranks,
        device: torch.device,
        dtype: torch.dtype,
        say: Callable[[str], object] = _LOG.info,
    ) -> None:
        training, recipe = config.training, config.recipe
        self.device, self.dtype = device, dtype
        # The same weights on all ranks.
        seed_generators(training.seed)
        model = make_model(config.model, classes, training.use_blurpool)
        if recipe.loss == "bce" and has_new_last_layer(config.model, classes):
            begin_at_prior(model, classes)
        if recipe.stochastic_depth:
            apply_stochastic_depth(model, recipe.stochastic_depth)
        demand_fitting_sizes(model, config)
        self._memory_format = torch.channels_last if training.channels_last else torch.contiguous_format
        self.model = model.to(device, memory_format=self._memory_format)
        self.average = MovingAverage(self.model, recipe.ema) if recipe.ema else None
        # The wrapped model shares gradients. Validation uses the plain one: ranks may have more or fewer batches.
        self._wrapped: nn.Module = self.model
        if ranks.world > 1:
            # `share_buffers` gives the first rank's to the others where they matter; a step in training uses none.
            self._wrapped = DistributedDataParallel(
                self.model, device_ids=[device] if device.type == "cuda" else None, **{_SHARES_BUFFERS: False}
            )
        self._compiled = CompiledModel(self._wrapped, device, say) if training.compile else None
        self.optimizer = make_optimizer(training, self.model, config.lr.lr)
        self._grad_clip = training.grad_clip
        self.scaler = _make_scaler(enabled=dtype is torch.float16)
        self.loss = make_loss(config)
        self._mix = make_mix(recipe, classes)
        self.step_outputs: torch.Tensor | None = None
        if device.type == "cuda":
            torch.backends.cudnn.benchmark = True

    @property
    def rate(self) -> float:
        """The learning rate of the last step."""
        group = self.optimizer.param_groups[0]
        return group["lr"] / group.get("rate_share", 1.0)

    @property
    def is_compiled(self) -> bool:
        """Whether steps run a compiled network: `training.compile`, and it has not failed."""
        return self._compiled is not None and self._compiled.works

    @property
    def evaluated(self) -> nn.Module:
        """What is evaluated, and what a training ends with: the moving average, or else the model."""
        return self.average.network if self.average else self.model

    def train(self) -> None:
        """Steps come next."""
        self._wrapped.train()

    def step(self, images: torch.Tensor, labels: torch.Tensor, rate: float) -> torch.Tensor:
        """One step with a learning rate; returns this rank's mean loss."""
        set_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        if self._mix:
            images, labels = self._mix(images, labels)
        # Mixing gives up the layout.
        images = images.contiguous(memory_format=self._memory_format)

        def compute(model: nn.Module) -> torch.Tensor:
            with self._autocast():
                outputs = model(images)
                loss = self.loss(outputs, labels)
            self.step_outputs = outputs.detach()
            self.scaler.scale(loss).backward()
            return loss.detach()

        loss = self._compiled.run(compute, images.shape) if self._compiled else compute(self._wrapped)
        if self._grad_clip:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.model.parameters(), self._grad_clip)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.average:
            self.average.update()
        return loss

    def outputs(self, images: torch.Tensor, adds_mirror_image: bool = False, is_raw: bool = False) -> torch.Tensor:
        """The outputs of what is evaluated (raw: of the model itself), `float32[batch, classes]`.

        If asked for, the sums of those of the images and of their mirror images.
        """
        network = self.model if is_raw else self.evaluated
        with self._autocast():
            outputs = network(images)
            if adds_mirror_image:
                outputs = outputs + network(images.flip(3))
        return outputs.float()

    def _autocast(self) -> torch.autocast:
        enabled = self.dtype is not torch.float32
        return torch.autocast(self.device.type, dtype=self.dtype if enabled else None, enabled=enabled)

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
        if bool(scaler) != self.scaler.is_enabled():
            kinds = ("fp16", "another precision") if scaler else ("another precision", "fp16")
            warnings.warn(
                f"the checkpoint was trained in {kinds[0]} and is gone on with in {kinds[1]}: the weights will not be "
                "those of a training without a break (training.precision says which one to use)",
                FfxWarning,
                stacklevel=2,
            )
        try:
            self.model.load_state_dict(model)
            self.optimizer.load_state_dict(optimizer)
            if scaler:
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
