"""FFCV's module of `Squeeze`."""

from .squeeze import Squeeze

__all__ = ["Squeeze"]
