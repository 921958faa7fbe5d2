"""MixUp: blend each image, and its label, with its neighbour in the batch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from ..errors import PipelineError
from ..kernels.mixup import blend, weights
from ..pipeline.allocation_query import Allocation, AllocationQuery
from ..pipeline.operation import Operation
from ..pipeline.state import State
from ._checks import expect_array, expect_numbers, expect_tensor

__all__ = ["ImageMixup", "LabelMixup", "MixupToOneHot"]


def _check_alpha(operation: Operation, alpha: float) -> float:
    if not 0 < alpha < math.inf:
        raise PipelineError(f"{type(operation).__name__}: expected a finite alpha above 0, found {alpha!r}")
    return float(alpha)


class ImageMixup(Operation):
    """Blends each image with the one before it in the batch (Zhang et al.: arXiv 1710.09412). On arrays.

    The weights follow Beta(alpha, alpha) and depend on which samples stand in the batch, so `LabelMixup`
    with the same arguments draws the same ones. A fixed order of samples gives the same weights each
    epoch. Integers are rounded to the nearest.

    Args:
        alpha: of the beta distribution, above 0.
        same_lambda: one weight for the whole batch, not one an image.

    Raises:
        PipelineError: for tensors, for the bits of float16, or an alpha that is not above 0.
    """

    def __init__(self, alpha: float, same_lambda: bool) -> None:
        super().__init__()
        self.alpha = _check_alpha(self, alpha)
        self.same_lambda = bool(same_lambda)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        expect_array(self, previous_state)
        expect_numbers(self, previous_state)
        return previous_state, AllocationQuery(previous_state.shape, previous_state.dtype)

    def generate_code(self) -> Callable:
        alpha, same = self.alpha, self.same_lambda

        def mix(images, memory, indices):
            weight = weights(indices, alpha, same)
            for position in range(len(images)):
                blend(images[position], images[position - 1], weight[position], memory[position])
            return memory[: len(images)]

        mix.is_parallel = True
        mix.with_indices = True
        return mix


class LabelMixup(Operation):
    """Both labels and the weight of each image that `ImageMixup` with the same arguments makes. On arrays.

    The result is float32 `(batch, 3)`: the image's own label, its neighbour's, and the weight of its own.
    `MixupToOneHot` turns that into class probabilities.

    Args:
        alpha, same_lambda: as for `ImageMixup`.

    Raises:
        PipelineError: for tensors, for labels of more than one number, for an alpha that is not above 0.
    """

    def __init__(self, alpha: float, same_lambda: bool) -> None:
        super().__init__()
        self.alpha = _check_alpha(self, alpha)
        self.same_lambda = bool(same_lambda)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        expect_array(self, previous_state)
        if tuple(previous_state.shape) != (1,):
            raise PipelineError(f"LabelMixup expected one label a sample, of shape (1,), found {previous_state.shape}")
        dtype = np.dtype(np.float32)
        return replace(previous_state, shape=(3,), dtype=dtype), AllocationQuery((3,), dtype)

    def generate_code(self) -> Callable:
        alpha, same = self.alpha, self.same_lambda

        def mix(labels, memory, indices):
            weight = weights(indices, alpha, same)
            for position in range(len(labels)):
                memory[position, 0] = labels[position, 0]
                memory[position, 1] = labels[position - 1, 0]
                memory[position, 2] = weight[position]
            return memory[: len(labels)]

        mix.is_parallel = True
        mix.with_indices = True
        return mix


class MixupToOneHot(Operation):
    """Class probabilities `(batch, num_classes)` from what `LabelMixup` gives. Works on tensors.

    A sample that was mixed with one of its own class gets all of 1 there.

    Args:
        num_classes: number of classes.

    Raises:
        PipelineError: for arrays, or for anything but triples.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, Allocation | None]:
        expect_tensor(self, previous_state)
        if tuple(previous_state.shape) != (3,):
            raise PipelineError(
                f"MixupToOneHot expected (label, label, weight), found samples of shape {previous_state.shape}: "
                "put LabelMixup before ToTensor(), and no Squeeze between"
            )
        return replace(previous_state, shape=(self.num_classes,)), None

    def generate_code(self) -> Callable:
        num_classes = self.num_classes

        def to_one_hot(mixed, _):
            result = torch.zeros((len(mixed), num_classes), dtype=mixed.dtype, device=mixed.device)
            labels, weight = mixed[:, :2].long(), mixed[:, 2:]
            return result.scatter_add_(1, labels, torch.cat([weight, 1 - weight], dim=1))

        return to_one_hot
