"""Curves for people: TensorBoard, Weights & Biases, and a picture at the end; each where its package is installed.

The run's `log` holds the same numbers, and is what everything else reads. So nothing here ends a training: what fails
is said once and left alone from then on.
"""

from __future__ import annotations

import importlib.util
import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from ffx.errors import FfxWarning

from .config import LoggingConfig
from .entries import read_entries
from .errors import ConfigurationError

__all__ = ["CURVES", "TENSORBOARD", "Trackers", "draw_curves", "open_trackers"]

TENSORBOARD = "tensorboard"
CURVES = "curves.png"
_WANDB_KEYS = ("WANDB_API_KEY", "WANDB_MODE")
# What stands in a line of the log and is no curve.
_NO_CURVES = {"epoch", "timestamp"}


class _Tracker(Protocol):
    def write(self, step: int, values: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class _TensorBoard:
    def __init__(self, folder: Path, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What was written behind the checkpoint that a run goes on from is no longer so.
        self._writer = SummaryWriter(str(folder / TENSORBOARD), purge_step=first_step + 1)

    def write(self, step: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, folder: Path, project: str, params: Mapping[str, Any]) -> None:
        import wandb

        # The run's own name, so that it goes on as one run there, too.
        self._run = wandb.init(
            project=project, id=folder.name, name=folder.name, dir=str(folder), config=dict(params), resume="allow"
        )

    def write(self, step: int, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class Trackers:
    """All that a run's numbers go to beside its log."""

    def __init__(self, trackers: Mapping[str, _Tracker]) -> None:
        self._trackers = dict(trackers)

    def write(self, entry: Mapping[str, Any]) -> None:
        """A line of the log."""
        step = int(entry.get("epoch", -1)) + 1
        values = {
            name: float(value)
            for name, value in entry.items()
            if name not in _NO_CURVES and isinstance(value, (int, float)) and not isinstance(value, bool)
        }
        self._each(lambda tracker: tracker.write(step, values))

    def close(self) -> None:
        """Write what is still to be written. Safe to call twice."""
        self._each(lambda tracker: tracker.close())
        self._trackers.clear()

    def _each(self, action: Callable[[_Tracker], object]) -> None:
        for name, tracker in list(self._trackers.items()):
            try:
                action(tracker)
            except Exception as error:
                del self._trackers[name]
                _warn(f"{name} gets no more numbers of this run: {error!r}")


def open_trackers(config: LoggingConfig, folder: Path, params: Mapping[str, Any], first_step: int) -> Trackers:
    """What `logging.tensorboard` and `logging.wandb` ask for.

    Args:
        folder: the run's.
        params: the run's options by their dotted names.
        first_step: epochs that are done already.

    Raises:
        ConfigurationError: what was asked for is not installed.
    """
    makers: dict[str, Callable[[], _Tracker]] = {}
    if _wanted("logging.tensorboard", config.tensorboard, "tensorboard", True):
        makers["TensorBoard"] = lambda: _TensorBoard(folder, first_step)
    # Without a key it would ask for one on the terminal.
    is_set_up = any(os.environ.get(key) for key in _WANDB_KEYS)
    if _wanted("logging.wandb", config.wandb, "wandb", is_set_up):
        makers["Weights & Biases"] = lambda: _WeightsAndBiases(folder, config.wandb_project, params)
    found: dict[str, _Tracker] = {}
    for name, make in makers.items():
        try:
            found[name] = make()
        except Exception as error:
            _warn(f"{name} gets no numbers of this run: {error!r}")
    return Trackers(found)


def _wanted(option: str, value: str, package: str, is_set_up: bool) -> bool:
    installed = importlib.util.find_spec(package) is not None
    if value == "on" and not installed:
        raise ConfigurationError(f"{option}=on needs the package {package}: pip install {package}")
    return value == "on" or (value == "auto" and installed and is_set_up)


def _warn(text: str) -> None:
    warnings.warn(f"{text}; its log has them all", FfxWarning, stacklevel=4)


def draw_curves(log: Path, out: Path) -> Path | None:
    """Draw loss, learning rate, resolution and accuracy of a run's log over its epochs.

    Returns:
        `out`; `None` where matplotlib is not installed, there is no epoch to draw, or, with a warning, drawing failed.
    """
    try:
        return _draw_log(log, out)
    except Exception as error:
        _warn(f"{out.name} of this run is not drawn: {error!r}")
        return None


def _draw_log(log: Path, out: Path) -> Path | None:
    if importlib.util.find_spec("matplotlib") is None:
        return None
    epochs = [entry for entry in read_entries(log.read_text(encoding="utf-8")) if "epoch" in entry]
    if not epochs:
        return None
    # Without pyplot: nothing process-wide is touched.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 2, sharex=True)
    _draw(panels[0, 0], epochs, "Loss", {"train_loss": "training", "val_loss": "validation"})
    _draw(panels[0, 1], epochs, "Accuracy (%)", {"top_1": "top-1", "top_5": "top-5"}, 100)
    _draw(panels[1, 0], epochs, "Learning rate at the epoch's end", {"current_lr": ""})
    _draw(panels[1, 1], epochs, "Side of the training images (pixels)", {"resolution": ""})
    for axes in panels[1]:
        axes.set_xlabel("Epochs")
    figure.savefig(out, dpi=120)
    return out


def _draw(axes: Any, epochs: Sequence[Mapping[str, Any]], title: str, curves: Mapping[str, str], scale: float = 1):
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
    for name, label in curves.items():
        points = [(line["epoch"] + 1, scale * line[name]) for line in epochs if name in line]
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", markersize=3, label=label)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.get_major_locator().set_params(integer=True)
    if any(curves.values()):
        axes.legend(frameon=False, fontsize=9)
