"""`torch.compile` that may fail: a training goes on without it, and nothing of the failed step is left."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import nn

from ffx.errors import FfxWarning

__all__ = ["COMPILED", "CompiledModel"]

_LONGEST_REASON = 400
COMPILED = "Model compiled successfully!"


class CompiledModel:
    """A network that is compiled when it is first used with images of a size, since only then it is known to work.

    Args:
        plain: the network.
        device: its device.
        say: told once that it works.
    """

    def __init__(self, plain: nn.Module, device: torch.device, say: Callable[[str], object]) -> None:
        self._plain, self._device, self._say = plain, device, say
        self._compiled: nn.Module | None = torch.compile(plain)
        self._proven: set[torch.Size] = set()

    @property
    def works(self) -> bool:
        """Whether it has been compiled, and has not failed since."""
        return self._compiled is not None and bool(self._proven)

    def run(self, compute: Callable[[nn.Module], torch.Tensor], shape: torch.Size) -> torch.Tensor:
        """`compute(network)`, which makes the gradients as well, on images of a shape."""
        if self._compiled is None:
            return compute(self._plain)
        if shape in self._proven:
            return compute(self._compiled)
        state = self._state()
        try:
            result = compute(self._compiled)
        except Exception as error:
            self._compiled = None
            self._restore(*state)
            reason = " ".join(str(error).split())[:_LONGEST_REASON]
            warnings.warn(
                f"training.compile=1: torch.compile failed, so training goes on without it: "
                f"{type(error).__name__}: {reason}",
                FfxWarning,
                stacklevel=2,
            )
            return compute(self._plain)
        if not self._proven:
            self._say(COMPILED)
        self._proven.add(shape)
        return result

    def _state(self) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """What a step changes beside gradients: statistics of batch norms, and generators."""
        generators = [torch.get_rng_state()]
        if self._device.type == "cuda":
            generators.append(torch.cuda.get_rng_state(self._device))
        return [buffer.clone() for buffer in self._plain.buffers()], generators

    def _restore(self, buffers: list[torch.Tensor], generators: list[torch.Tensor]) -> None:
        for buffer, before in zip(self._plain.buffers(), buffers, strict=True):
            buffer.copy_(before)
        torch.set_rng_state(generators[0])
        if len(generators) > 1:
            torch.cuda.set_rng_state(generators[1], self._device)
        self._plain.zero_grad(set_to_none=True)
