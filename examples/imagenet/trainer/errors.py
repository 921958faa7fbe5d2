"""What the trainer raises on purpose; all of it derives from `ffx.errors.FfxError`."""

from ffx.errors import FfxError

__all__ = [
    "CheckpointError",
    "ConfigurationError",
    "DamagedCheckpointError",
    "DataError",
    "Interrupted",
    "TrainingError",
]


class ConfigurationError(FfxError, ValueError):
    """An option is unknown, has a bad value, or does not go with another one."""


class DataError(FfxError, ValueError):
    """A data set cannot be trained on: names the path, what was expected and what was found."""


class CheckpointError(FfxError, RuntimeError):
    """A checkpoint cannot be read, or belongs to another training."""


class DamagedCheckpointError(CheckpointError):
    """A checkpoint is not as it was written: the one before it is used, if there is one."""


class TrainingError(FfxError, RuntimeError):
    """Training cannot go on, for instance because the loss is no number any more."""


class Interrupted(FfxError):
    """A signal ended the training before it was done; its checkpoint says where to go on.

    Attributes:
        status: exit status of the program, 85 or, after Ctrl-C, 130.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
