"""The data: where they lie, and batches of them.

Batches are the trainer's (`trainer.data`): from files of ffx or FFCV, from class folders, or made up.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import checkout  # noqa: F401
from trainer.errors import ConfigurationError

from ffx.remote import is_remote, list_files, redacted

if TYPE_CHECKING:
    from config import TrainingConfig
    from trainer.source import Source

__all__ = ["DataPlaces", "find_data", "open_training", "open_validation"]

_FILES = (".ffcv", ".beton", ".ffx")
_TRAINING, _VALIDATION = "train", "val"


@dataclass(frozen=True)
class DataPlaces:
    """Where training and validation set lie: two files, two files' addresses, or two folders of class folders."""

    train: Path | str
    val: Path | str


def find_data(path: str | Path) -> DataPlaces:
    """Training and validation set at `--data-path`.

    Args:
        path: a folder with one file `train*` and one `val*` (ending in .ffcv, .beton or .ffx), else with the folders
            `train/` and `val/`; or a file `train*`, which has its `val*` beside it. Or an address: `s3://bucket/folder`
            with two such files, or that of a file `train*`, which has a `val*` of the same rest beside it.

    Raises:
        ConfigurationError: they are not there, or there is a choice.
    """
    place = Path(path).expanduser()
    if is_remote(str(path)):
        return _find_remote(str(path))
    if place.is_file():
        return DataPlaces(place, _partner(place))
    if not place.is_dir():
        raise ConfigurationError(
            f"--data-path {path}: no such folder: expected one with train/ and val/, each with a folder of images for "
            "each class, or with files train*.ffcv and val*.ffcv (write_dataset.sh makes them)"
        )
    files = {split: _only_file(place, split) for split in (_TRAINING, _VALIDATION)}
    if all(files.values()):
        return DataPlaces(files[_TRAINING], files[_VALIDATION])
    folders = {split: place / split for split in (_TRAINING, _VALIDATION)}
    missing = [f"{split}/" for split, folder in folders.items() if not folder.is_dir()]
    if missing:
        found = ", ".join(sorted(child.name for child in place.iterdir())[:8]) or "nothing"
        raise ConfigurationError(
            f"--data-path {path}: {' and '.join(missing)} missing there: expected train/ and val/, each with a folder "
            f"of images for each class, or files train*.ffcv and val*.ffcv; found {found}"
        )
    return DataPlaces(folders[_TRAINING], folders[_VALIDATION])


def _only_file(folder: Path, split: str) -> Path | None:
    found = sorted(child for child in folder.glob(f"{split}*") if child.is_file() and child.suffix in _FILES)
    if len(found) > 1:
        names = ", ".join(child.name for child in found)
        raise ConfigurationError(f"--data-path {folder}: more than one {split} file ({names}): name the training file")
    return found[0] if found else None


def _find_remote(address: str) -> DataPlaces:
    folder, _, name = address.rpartition("/")
    if name.startswith(_TRAINING) and name.endswith(_FILES):
        return DataPlaces(address, f"{folder}/{_VALIDATION}{name.removeprefix(_TRAINING)}")
    if not address.lower().startswith("s3://"):
        shown = redacted(address)
        raise ConfigurationError(
            f"--data-path {shown}: expected the address of a file train*.ffcv, which has its val*.ffcv beside it (or "
            "s3://bucket/folder, where they are looked for)"
        )
    return DataPlaces(*(_only_object(address.rstrip("/"), split) for split in (_TRAINING, _VALIDATION)))


def _only_object(folder: str, split: str) -> str:
    found = [name for name in list_files(f"{folder}/{split}") if name.endswith(_FILES)]
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(name.rpartition("/")[2] for name in found)
        raise ConfigurationError(f"{folder}: more than one {split} file ({names}): --data-path ADDRESS names one")
    raise ConfigurationError(
        f"{folder}: no file {split}*.ffcv there: expected one train* and one val* (ending in {', '.join(_FILES)}; "
        "write_dataset.sh makes them)"
    )


def _partner(train: Path) -> Path:
    if train.name.startswith(_TRAINING):
        same_name = train.with_name(_VALIDATION + train.name.removeprefix(_TRAINING))
        found = same_name if same_name.is_file() else _only_file(train.parent, _VALIDATION)
        if found:
            return found
    raise ConfigurationError(
        f"--data-path {train}: expected a file named train*, with its val* beside it in {train.parent.absolute()}"
    )


def open_training(config: TrainingConfig) -> Source:
    """The training set for one process; `source.epoch(0, side, batch_size)` gives batches, `source.close()` ends."""
    return _open(config, training=True)


def open_validation(config: TrainingConfig) -> Source:
    """The validation set, likewise: every image once, in order."""
    return _open(config, training=False)


def _open(config: TrainingConfig, training: bool) -> Source:
    from trainer import data
    from trainer.distributed import Ranks, choose_device
    from trainer.learner import choose_precision

    options = config.to_trainer_config()
    device = choose_device(options.training.device, Ranks())
    open_one = data.open_training if training else data.open_validation
    return open_one(options, Ranks(), device, choose_precision(options.training.precision, device))
