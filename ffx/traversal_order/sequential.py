"""Samples as they stand in the file (or in the loader's `indices`)."""

from __future__ import annotations

import numpy as np

from .base import GlobalOrder

__all__ = ["Sequential"]


class Sequential(GlobalOrder):
    """The loader's indices, unchanged."""

    def global_order(self, epoch: int) -> np.ndarray:
        """The indices themselves."""
        return self.indices
