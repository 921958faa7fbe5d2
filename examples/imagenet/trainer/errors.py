"""What the trainer raises on purpose; all of it derives from `ffx.errors.FfxError`."""

from ffx.errors import FfxError

__all__ = ["CheckpointError", "ConfigurationError", "DataError", "TrainingError"]


class ConfigurationError(FfxError, ValueError):
    """An option is unknown, has a bad value, or does not go with another one."""


class DataError(FfxError, ValueError):
    """A data set cannot be trained on: names the path, what was expected and what was found."""


class CheckpointError(FfxError, RuntimeError):
    """A checkpoint cannot be read, or belongs to another training."""


class TrainingError(FfxError, RuntimeError):
    """Training cannot go on, for instance because the loss is no number any more."""
