"""Runs plans over files: the loader, its threads, its memory, its hand-over to a device."""

from .damage import Culprit
from .loader import Loader, OrderOption

__all__ = ["Culprit", "Loader", "OrderOption"]
