"""RandAugment on batches: each image gets operations of its own, images that get the same one get it together.

Which ones depends on seed, epoch and image alone, as all that the loader draws. Every image becomes what torchvision's
`v2.RandAugment` makes of it when it draws the same; a batch takes some fifty calls, however many images it has.

Source: Cubuk et al., "RandAugment: Practical Automated Data Augmentation with a Reduced Search Space", 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ffx.errors import PipelineError
from ffx.pipeline import Operation, State

__all__ = ["OPERATIONS", "RANDAUGMENT_BINS", "RANDAUGMENT_OPERATIONS", "RandAugment"]

RANDAUGMENT_OPERATIONS = 2  # one after the other, for each image
RANDAUGMENT_BINS = 31  # magnitudes from 0 to 30


def _strength(most: float, magnitude: int, least: float = 0.0) -> float:
    return float(torch.linspace(least, most, RANDAUGMENT_BINS)[magnitude])


def _move(images: torch.Tensor, translate: tuple[int, int] = (0, 0), shear: tuple[float, float] = (0.0, 0.0)):
    from torchvision.transforms.v2 import functional

    # Shearing leaves the upper left corner where it is.
    center = [0.0, 0.0] if any(shear) else None
    return functional.affine(images, 0.0, list(translate), 1.0, list(shear), center=center)


def _colour(name: str, images: torch.Tensor, strength: float) -> torch.Tensor:
    from torchvision.transforms.v2 import functional

    return getattr(functional, f"adjust_{name}")(images, 1.0 + strength)


def _simple(name: str, images: torch.Tensor, *arguments: float) -> torch.Tensor:
    from torchvision.transforms.v2 import functional

    return getattr(functional, name)(images, *arguments)


def _angle(slope: float) -> float:
    return math.degrees(math.atan(slope))


@dataclass(frozen=True)
class _Kind:
    """One of the operations: `apply(images, magnitude, sign)`; without a sign it has one direction only."""

    name: str
    apply: Callable[[torch.Tensor, int, int], torch.Tensor]
    has_sign: bool = False


OPERATIONS = (
    _Kind("Identity", lambda images, _, sign: images),
    _Kind("ShearX", lambda i, m, sign: _move(i, shear=(_angle(sign * _strength(0.3, m)), 0.0)), True),
    _Kind("ShearY", lambda i, m, sign: _move(i, shear=(0.0, _angle(sign * _strength(0.3, m)))), True),
    _Kind("TranslateX", lambda i, m, sign: _move(i, (int(sign * _strength(150 / 331 * i.shape[3], m)), 0)), True),
    _Kind("TranslateY", lambda i, m, sign: _move(i, (0, int(sign * _strength(150 / 331 * i.shape[2], m)))), True),
    _Kind("Rotate", lambda i, m, sign: _simple("rotate", i, sign * _strength(30.0, m)), True),
    _Kind("Brightness", lambda i, m, sign: _colour("brightness", i, sign * _strength(0.9, m)), True),
    _Kind("Color", lambda i, m, sign: _colour("saturation", i, sign * _strength(0.9, m)), True),
    _Kind("Contrast", lambda i, m, sign: _colour("contrast", i, sign * _strength(0.9, m)), True),
    _Kind("Sharpness", lambda i, m, sign: _colour("sharpness", i, sign * _strength(0.9, m)), True),
    _Kind("Posterize", lambda i, m, _: _simple("posterize", i, 8 - round(m / ((RANDAUGMENT_BINS - 1) / 4)))),
    _Kind("Solarize", lambda i, m, _: _simple("solarize", i, 255 * _strength(0.0, m, least=1.0))),
    _Kind("AutoContrast", lambda i, *_: _simple("autocontrast", i)),
    _Kind("Equalize", lambda i, *_: _simple("equalize", i)),
)


class RandAugment(Operation):
    """Two operations of one magnitude on each image of a batch, drawn from the image's own stream.

    Works on uint8 tensors of images whose channels come first, on any device, and keeps their memory layout.

    Args:
        magnitude: from 1 to 30.
    """

    per_sample = True

    def __init__(self, magnitude: int) -> None:
        super().__init__()
        self.magnitude = magnitude

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, None]:
        shape = previous_state.shape or ()
        if previous_state.jit_mode or previous_state.dtype is not torch.uint8 or len(shape) != 3 or shape[0] != 3:
            raise PipelineError(
                f"RandAugment expected uint8 tensors of shape (3, height, width), found {previous_state.dtype} of "
                f"shape {shape}: put it behind ToTorchImage() and before NormalizeImage"
            )
        return previous_state, None

    def generate_code(self) -> Callable:
        def augment(images: torch.Tensor, _, streams: np.ndarray) -> torch.Tensor:
            images = images.clone()
            kinds, signs = _draw(streams)
            for number in range(RANDAUGMENT_OPERATIONS):
                self._augment(images, kinds[:, number], signs[:, number])
            return images

        augment.with_random = True  # type: ignore[attr-defined]
        return augment

    def _augment(self, images: torch.Tensor, kinds: np.ndarray, signs: np.ndarray) -> None:
        """One operation on each image, in place."""
        for index, kind in enumerate(OPERATIONS):
            for sign in (1, -1) if kind.has_sign else (1,):
                chosen = np.flatnonzero((kinds == index) & (signs == sign if kind.has_sign else True))
                if index and len(chosen):
                    rows = torch.from_numpy(chosen).to(images.device, non_blocking=True)
                    images[rows] = kind.apply(images[rows], self.magnitude, sign)


def _draw(streams: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Each image's operations, as indices, and with which sign each of them is done: `[images, operations]`."""
    count = RANDAUGMENT_OPERATIONS
    words = np.array([np.random.SeedSequence(stream.tolist()).generate_state(2 * count) for stream in streams])
    kinds = words[:, :count].astype(np.uint64) * np.uint64(len(OPERATIONS)) >> np.uint64(32)
    return kinds, np.where(words[:, count:] >> 31, -1, 1)
