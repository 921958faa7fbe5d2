"""MixUp: blends of neighbouring samples (Zhang et al.: arXiv 1710.09412)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from numba import njit

from ..errors import PipelineError
from ..kernels.memory import KERNEL_OPTIONS
from ..kernels.rng import uniform
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import Operation
from ..pipeline.state import State
from ._checks import need_array, need_image, need_tensor

__all__ = ["ImageMixup", "LabelMixup", "MixupToOneHot"]


@njit(**KERNEL_OPTIONS)
def _batch_key(indices):
    """A 64-bit number for a batch's content (FNV-1a over its samples' indices).

    Images and labels come to it separately and must draw the same numbers.
    """
    key = np.uint64(0xCBF29CE484222325)
    for position in range(indices.shape[0]):
        key = (key ^ np.uint64(indices[position])) * np.uint64(0x100000001B3)
    return key


@njit(**KERNEL_OPTIONS)
def _normal(key, sample, draw):
    """A standard normal number from two uniform ones (Box and Muller)."""
    radius = math.sqrt(-2.0 * math.log(1.0 - uniform(key, sample, 0, draw)))
    return radius * math.cos(2.0 * math.pi * uniform(key, sample, 0, draw + 1))


@njit(**KERNEL_OPTIONS)
def _log_gamma_variate(shape, key, sample, draw):
    """The logarithm of a gamma variate (Marsaglia, Tsang: ACM TOMS 26, 2000), and the next draw.

    For a shape below 1 a variate of shape + 1 times a uniform number to the power 1 / shape; as a
    logarithm, since for small shapes the variate itself may be smaller than any float64.
    """
    boost = 0.0
    if shape < 1.0:
        boost = math.log(1.0 - uniform(key, sample, 0, draw)) / shape
        draw += 1
        shape += 1.0
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        x = _normal(key, sample, draw)
        u = 1.0 - uniform(key, sample, 0, draw + 2)
        draw += 3
        v = 1.0 + c * x
        if v > 0.0:
            v = v * v * v
            if math.log(u) < 0.5 * x * x + d - d * v + d * math.log(v):
                return math.log(d * v) + boost, draw


@njit(**KERNEL_OPTIONS)
def beta_variate(alpha, key, sample):
    """A number from the distribution Beta(alpha, alpha), a function of key and sample."""
    one, draw = _log_gamma_variate(alpha, key, sample, 0)
    other, draw = _log_gamma_variate(alpha, key, sample, draw)
    return 1.0 / (1.0 + math.exp(min(max(other - one, -700.0), 700.0)))


@njit(**KERNEL_OPTIONS)
def mixing_weights(alpha, same_lambda, indices):
    """The weight of each sample of a batch, `float64[batch]`; its neighbour's is the rest."""
    weights = np.empty(indices.shape[0], dtype=np.float64)
    key = _batch_key(indices)
    for position in range(indices.shape[0]):
        weights[position] = beta_variate(alpha, key, 0 if same_lambda else position)
    return weights


class _Mixup(Operation):
    """Blends each sample with the one before it in the batch.

    Args:
        alpha: parameter of the distribution Beta(alpha, alpha) of the weights.
        same_lambda: one weight for the whole batch, or one for each sample.
    """

    def __init__(self, alpha: float, same_lambda: bool) -> None:
        super().__init__()
        self.alpha = float(alpha)
        self.same_lambda = bool(same_lambda)
        if not self.alpha > 0:
            raise PipelineError(f"{type(self).__name__}: expected alpha above 0, found {alpha}")


class ImageMixup(_Mixup):
    """MixUp of images; the labels need `LabelMixup` with the same arguments."""

    def generate_code(self) -> Callable:
        alpha, same_lambda = self.alpha, self.same_lambda

        def mix(images, memory, indices):
            weights = mixing_weights(alpha, same_lambda, indices)
            for position in range(images.shape[0]):
                weight = weights[position]
                memory[position] = (weight * images[position] + (1 - weight) * images[position - 1]).astype(images.dtype)
            return memory[: images.shape[0]]

        mix.is_parallel = True
        mix.with_indices = True
        return mix

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        need_image(self, previous_state)
        return previous_state, AllocationQuery(previous_state.shape, previous_state.dtype)


class LabelMixup(_Mixup):
    """MixUp of labels: `float32[batch, 3]` of the label, its neighbour's, and its weight."""

    def generate_code(self) -> Callable:
        alpha, same_lambda = self.alpha, self.same_lambda

        def mix(labels, memory, indices):
            weights = mixing_weights(alpha, same_lambda, indices)
            for position in range(labels.shape[0]):
                memory[position, 0] = labels[position, 0]
                memory[position, 1] = labels[position - 1, 0]
                memory[position, 2] = weights[position]
            return memory[: labels.shape[0]]

        mix.is_parallel = True
        mix.with_indices = True
        return mix

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        need_array(self, previous_state)
        state = replace(previous_state, shape=(3,), dtype=np.dtype("f4"))
        return state, AllocationQuery((3,), np.dtype("f4"))


class MixupToOneHot(Operation):
    """The result of `LabelMixup` (as a tensor) as weights of classes, `float32[batch, num_classes]`.

    Args:
        num_classes: number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = int(num_classes)

    def generate_code(self) -> Callable:
        def one_hot(mixed, _):
            weights = mixed.new_zeros(mixed.shape[0], self.num_classes)
            # Added, not set: both labels may be the same.
            weights.scatter_add_(1, mixed[:, 0:1].long(), mixed[:, 2:3])
            weights.scatter_add_(1, mixed[:, 1:2].long(), 1 - mixed[:, 2:3])
            return weights

        return one_hot

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        need_tensor(self, previous_state)
        if not isinstance(previous_state.dtype, torch.dtype) or tuple(previous_state.shape) != (3,):
            raise PipelineError("MixupToOneHot: expected what LabelMixup makes, after ToTensor()")
        return replace(previous_state, shape=(self.num_classes,)), None
