"""A table as text, and axes of a picture where matplotlib is installed."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["Table", "new_axes", "save_figure"]


@dataclass
class Table:
    """A title, names of columns, rows of texts, remarks below; as a string it is Markdown."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = ["| " + " | ".join(row) + " |" for row in self._padded()]
        lines.insert(1, "|" + "|".join("-" * (width + 1) + ":" for width in self._widths()) + "|")
        return "\n".join([f"## {self.title}", "", *lines, *([""] if self.remarks else []), *self.remarks, ""])

    def as_text(self) -> str:
        """For a terminal: columns with two spaces between them."""
        lines = ["  ".join(row) for row in self._padded()]
        lines.insert(1, "  ".join("-" * width for width in self._widths()))
        return "\n".join([self.title, "", *lines, *([""] if self.remarks else []), *self.remarks, ""])

    def as_csv(self) -> str:
        """The columns' names and the rows, without title and remarks."""
        written = io.StringIO()
        csv.writer(written, lineterminator="\n").writerows([self.columns, *self.rows])
        return written.getvalue()

    def _widths(self) -> list[int]:
        return [max(map(len, cells)) for cells in zip(self.columns, *self.rows, strict=True)]

    def _padded(self) -> list[list[str]]:
        widths = self._widths()
        return [
            [cell.rjust(width) for cell, width in zip(row, widths, strict=True)] for row in [self.columns, *self.rows]
        ]


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
