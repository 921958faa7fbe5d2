"""What is shown while a program runs: lines, and a progress bar in images. Only the first rank shows anything."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import torch
from tqdm import tqdm

from .source import Batch

__all__ = ["Display"]


class _Bar(tqdm):
    """A progress bar without tqdm's watching thread."""

    monitor_interval = 0


class Display:
    """The screen.

    Args:
        shown: whether this process is the one that shows.
        world: number of ranks.
        shows_loss: whether the loss stands beside the bar; reading it waits for the GPU.
        shows_bars: whether there are bars.
    """

    def __init__(self, shown: bool, world: int, shows_loss: bool, shows_bars: bool = True) -> None:
        self._shown, self._world, self._shows_loss, self._shows_bars = shown, world, shows_loss, shows_bars
        self._bar: _Bar | None = None

    def say(self, text: str) -> None:
        """Write a line."""
        if self._shown:
            tqdm.write(text)

    def batches(self, batches: Iterator[Batch], images: int, title: str, done: int = 0) -> Generator[Batch, None, None]:
        """The batches behind a bar with images a second and the time left; `images` of all ranks, some `done`."""
        bar = _Bar(
            total=images,
            initial=done,
            desc=title,
            unit=" images",
            disable=not (self._shown and self._shows_bars),
            leave=False,
            dynamic_ncols=True,
        )
        with bar as self._bar:
            for batch in batches:
                yield batch
                bar.update(min(len(batch[1]) * self._world, images - bar.n))

    def loss(self, loss: torch.Tensor, rate: float) -> None:
        """Show the newest loss and learning rate beside the bar, where that is wanted."""
        if self._shows_loss and self._shown and self._bar is not None:
            self._bar.set_postfix(loss=f"{loss.item():.3f}", lr=f"{rate:.4f}")
