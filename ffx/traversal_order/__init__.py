"""In which order samples are read: as they stand, at random, or at random among few pages."""

from .base import GlobalOrder, TraversalOrder
from .quasi_random import QuasiRandom
from .random import Random
from .sequential import Sequential

__all__ = ["GlobalOrder", "QuasiRandom", "Random", "Sequential", "TraversalOrder"]
