"""Runs plans over files: the loader, its threads, its memory, its hand-over to a device."""

from .loader import Loader, OrderOption

__all__ = ["Loader", "OrderOption"]
