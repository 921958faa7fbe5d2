"""`torch.compile` that may fail: a training goes on without it, on all ranks, and nothing of the failure is left."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ffx.errors import FfxWarning

from .distributed import maximum_over_ranks

__all__ = ["COMPILED", "CompiledModel"]

_LONGEST_REASON = 400
COMPILED = "Model compiled successfully!"
# What is no matter of compiling, and would come without it as well.
_NOT_OURS = (torch.cuda.OutOfMemoryError, MemoryError)


class CompiledModel:
    """A network that is compiled when it is first used with images of a size, since only then it is known to work.

    Its first pass over such images is a trial that changes nothing and that the ranks make each for itself: a rank that
    failed in the middle of exchanging gradients would leave the others waiting. Where one of them failed, none goes on
    with the compiled network.

    Args:
        plain: the network; wrapped, where there are several ranks.
        device: its device.
        say: told once that it works.
    """

    def __init__(self, plain: nn.Module, device: torch.device, say: Callable[[str], object]) -> None:
        self._plain, self._device, self._say = plain, device, say
        self._compiled: nn.Module | None = None
        self._has_failed = False
        self._proven: set[torch.Size] = set()

    @property
    def works(self) -> bool:
        """Whether it has been compiled, and has not failed since."""
        return bool(self._proven) and not self._has_failed

    def run(self, compute: Callable[[nn.Module], torch.Tensor], shape: torch.Size) -> torch.Tensor:
        """`compute(network)`, which makes the gradients as well, on images of a shape.

        Raises:
            Whatever `compute` raises on the plain network, and want of memory.
        """
        if not self._has_failed and shape not in self._proven:
            self._try(compute, shape)
        return compute(self._plain if self._has_failed or self._compiled is None else self._compiled)

    def _try(self, compute: Callable[[nn.Module], torch.Tensor], shape: torch.Size) -> None:
        reason = ""
        with self._unchanged():
            try:
                if self._compiled is None:
                    self._compiled = torch.compile(self._plain)
                compute(self._compiled)
            except _NOT_OURS:
                raise
            except Exception as error:
                reason = f"{type(error).__name__}: {' '.join(str(error).split())[:_LONGEST_REASON]}"
        failed = torch.tensor([float(bool(reason))], device=self._device)
        if maximum_over_ranks(failed).item():
            self._has_failed, self._compiled = True, None
            warnings.warn(
                "training.compile=1: torch.compile failed, so training goes on without it: "
                f"{reason or 'it did on another rank'}",
                FfxWarning,
                stacklevel=4,
            )
            return
        if not self._proven:
            self._say(COMPILED)
        self._proven.add(shape)

    @contextmanager
    def _unchanged(self) -> Iterator[None]:
        """Undo what a pass changes: gradients, statistics of batch norms, generators; nothing goes to other ranks."""
        buffers = [buffer.clone() for buffer in self._plain.buffers()]
        on_gpu = self._device.type == "cuda"
        generator = torch.get_rng_state()
        generator_of_gpu = torch.cuda.get_rng_state(self._device) if on_gpu else None
        alone = self._plain.no_sync() if isinstance(self._plain, DistributedDataParallel) else nullcontext()
        try:
            with alone:
                yield
        finally:
            with torch.no_grad():
                for buffer, before in zip(self._plain.buffers(), buffers, strict=True):
                    buffer.copy_(before)
            torch.set_rng_state(generator)
            if generator_of_gpu is not None:
                torch.cuda.set_rng_state(generator_of_gpu, self._device)
            self._plain.zero_grad(set_to_none=True)
