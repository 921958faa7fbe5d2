"""Tables as text, and the same figures as a picture where matplotlib is installed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .runs import Run

__all__ = ["Table", "draw_bars", "epochs_table", "new_axes", "save_figure", "times_of"]

TIMES = ("load", "copy", "compute")
_COLOURS = {"load": "#4477aa", "copy": "#ccbb44", "compute": "#ee6677"}


@dataclass
class Table:
    """A table in Markdown: a title, names of columns, rows of texts."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        cells = [list(self.columns), *[list(row) for row in self.rows]]
        widths = [max(len(row[place]) for row in cells) for place in range(len(self.columns))]
        padded = [[cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in cells]
        lines = ["| " + " | ".join(row) + " |" for row in padded]
        lines.insert(1, "|" + "|".join("-" * (width + 1) + ":" for width in widths) + "|")
        return "\n".join([f"## {self.title}", "", *lines, *([""] if self.remarks else []), *self.remarks, ""])


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


def new_axes(title: str, x_label: str, y_label: str) -> tuple[Any, Any] | None:
    """A figure and its axes; `None` without matplotlib, which is optional."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        return None
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3, axis="y")
    return figure, axes


def save_figure(figure: Any, path: Path) -> Path:
    """Write a picture; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=160)
    return path


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
