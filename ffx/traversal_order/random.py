"""A new permutation of all samples each epoch."""

from __future__ import annotations

import numpy as np

from .base import GlobalOrder

__all__ = ["Random"]


class Random(GlobalOrder):
    """A uniformly random order, a function of seed and epoch.

    NumPy's Philox generator, seeded with `SeedSequence([seed, epoch])`, draws it, so it is the same on
    every machine.
    """

    def global_order(self, epoch: int) -> np.ndarray:
        """The permuted indices, for all ranks together."""
        return epoch_generator(self.seed, epoch).permutation(self.indices)


def epoch_generator(seed: int, epoch: int) -> np.random.Generator:
    """The generator that orders of one seed and epoch draw from."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed & (2**63 - 1), epoch])))
