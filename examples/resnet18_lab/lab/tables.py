"""Tables as text, and the same figures as a picture where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from reporting.tables import Table, new_axes, save_figure

from .runs import Run

__all__ = ["Table", "draw_bars", "epochs_table", "new_axes", "save_figure", "times_of"]

TIMES = ("load", "copy", "compute")
_COLOURS = {"load": "#4477aa", "copy": "#ccbb44", "compute": "#ee6677"}


def times_of(run: Run) -> list[str]:
    """Mean seconds an epoch of loading, copying, computing and altogether."""
    return [f"{run.mean(what):.3f}" for what in (*TIMES, "total")]


def epochs_table(title: str, run: Run) -> Table:
    """Times, loss and accuracy of each epoch, and the sums of the times."""
    table = Table(title, ("epoch", *(f"{name} (s)" for name in (*TIMES, "total")), "loss", "top-1"))
    for epoch in run.epochs:
        times = [f"{getattr(epoch, what):.3f}" for what in (*TIMES, "total")]
        table.rows.append([str(epoch.number), *times, f"{epoch.loss:.3f}", f"{epoch.top_1:.2%}"])
    table.rows.append(["all", *[f"{run.sum(what):.3f}" for what in (*TIMES, "total")], "", ""])
    return table


def draw_bars(path: Path, title: str, x_label: str, runs: Sequence[tuple[str, Run]]) -> Path | None:
    """A bar for each run: loading, copying and computing, mean seconds an epoch, on top of each other."""
    made = new_axes(title, x_label, "Seconds an epoch")
    if made is None or not runs:
        return None
    figure, axes = made
    names, bottoms = [name for name, _ in runs], [0.0] * len(runs)
    for what in TIMES:
        heights = [run.mean(what) for _, run in runs]
        axes.bar(names, heights, 0.6, bottom=bottoms, label=what, color=_COLOURS[what])
        bottoms = [bottom + height for bottom, height in zip(bottoms, heights, strict=True)]
    axes.legend(frameon=False)
    return save_figure(figure, path)
