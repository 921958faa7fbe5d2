"""A moving average of a network's weights and buffers, which is evaluated in its place."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import torch
from torch import nn

__all__ = ["MovingAverage"]


class MovingAverage:
    """`average = d * average + (1 - d) * network` after each step, for weights and for batch statistics.

    The decay d rises from 0.1 to `decay` as (1 + steps) / (10 + steps), so that an average that is young, or of a short
    training, is not one of the random weights at the beginning.

    Not torch's `AveragedModel`: that one asks the device at each step whether it is the first one, and so waits for it.

    Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992; the rise is that of
    TensorFlow's `ExponentialMovingAverage`.

    Args:
        network: what is averaged, on its device; its parameters and buffers stay the same tensors.
        decay: from 0 to 1.

    Attributes:
        network: a copy with the averages, in evaluation mode.
        steps: that were averaged.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.steps = 0
        self._decay = decay
        tensors = [list(itertools.chain(one.parameters(), one.buffers())) for one in (self.network, network)]
        pairs = list(zip(*tensors, strict=True))
        # Counters of batches are taken over as they are.
        self._counters = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._averages, self._currents = zip(*[pair for pair in pairs if pair[0].is_floating_point()], strict=True)

    @torch.no_grad()
    def update(self) -> None:
        """A step was made."""
        decay = min(self._decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._averages, self._currents, 1 - decay)
        for average, current in self._counters:
            average.copy_(current)
        self.steps += 1

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers, for a checkpoint."""
        return {"steps": self.steps, "network": self.network.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over such a state; raises `KeyError` or `RuntimeError` where it is none, or another network's."""
        self.network.load_state_dict(state["network"])
        self.steps = int(state["steps"])
