"""How far a loader has come, as something that can be kept in a checkpoint and gone on from.

A state is a few numbers: the seed, the epoch, and how many samples how many ranks took of it. Everything else (order,
crops, flips, all that ffx draws) follows from these, so it is made and read in constant time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import LoaderError
from ..traversal_order.base import Legs

__all__ = ["Progress", "Tracker", "pack_state", "unpack_state"]

_VERSION = 1
_MOST = 2**63 - 1
_MOST_RANKS = 2**20
_MOST_SEED = 2**127


@dataclass(frozen=True)
class Progress:
    """A place in a run.

    Attributes:
        epoch: counted from 0.
        legs: `(ranks, samples that each of them took)` of that epoch, one entry for each number of ranks in turn.
    """

    epoch: int
    legs: Legs = ()

    def after(self, ranks: int, samples: int) -> Progress:
        """The place where each of so many ranks has taken so many samples more."""
        legs = list(self.legs)
        if legs and legs[-1][0] == ranks:
            samples += legs.pop()[1]
        return Progress(self.epoch, (*legs, (ranks, samples)) if samples else tuple(legs))


class Tracker:
    """Where the newest iterator of a loader is."""

    def __init__(self, start: Progress, ranks: int = 1) -> None:
        self._start = start
        self._ranks = ranks
        self.progress = start

    def took(self, samples: int) -> None:
        """The consumer has got so many samples since the start."""
        self.progress = self._start.after(self._ranks, samples)

    def ended(self) -> None:
        """The epoch is over."""
        self.progress = Progress(self._start.epoch + 1)


def pack_state(progress: Progress, seed: int, about: Mapping[str, Any]) -> dict[str, Any]:
    """A state of plain numbers and texts, which JSON and `torch.load(weights_only=True)` take.

    Args:
        progress: where.
        seed: the loader's.
        about: what must be the same where it goes on.
    """
    legs = [[int(ranks), int(samples)] for ranks, samples in progress.legs]
    return {"version": _VERSION, "seed": int(seed), "epoch": int(progress.epoch), "legs": legs, **about}


def unpack_state(state: Mapping[str, Any], about: Mapping[str, Any]) -> tuple[Progress, int]:
    """Place and seed of a state.

    Raises:
        LoaderError: it is none, or of another file, other indices or another order.
    """
    if not isinstance(state, Mapping) or state.get("version") != _VERSION:
        found = state.get("version") if isinstance(state, Mapping) else f"{state!r:.80}"
        raise LoaderError(f"expected a loader's state of version {_VERSION}, found {found}")
    for name, value in about.items():
        if state.get(name) != value:
            raise LoaderError(
                f"expected a state of a loader with the same {name} ({value}), found {state.get(name)}: load it with "
                "the file, indices and order that it was made with"
            )
    try:
        legs = tuple((_whole(ranks, 1, _MOST_RANKS), _whole(samples, 0)) for ranks, samples in state["legs"])
        return Progress(_whole(state["epoch"], 0), legs), _whole(state["seed"], -_MOST_SEED, _MOST_SEED)
    except (KeyError, TypeError, ValueError) as error:
        raise LoaderError(f"expected a loader's state, found one that is damaged: {error!r}") from error


def _whole(value: Any, least: int, most: int = _MOST) -> int:
    # No text and no float: what was written was an int, and any other thing is damage.
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"expected a whole number from {least} to {most}, found {value!r:.80}")
    return value
