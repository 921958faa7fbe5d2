"""The table and the pictures of trainings on more and more GPUs; `reporting.scaling` has the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reporting.scaling import Scaling, hours_minutes_seconds, scaling_of
from reporting.tables import Table, new_axes, save_figure

from .measurements import NOT_RUN, Measurement

__all__ = ["csv_table", "draw_accuracy", "draw_speed_up", "figures_of", "shown_table"]

_COLUMNS = ("GPU", "Batch Size", "#N", "#GPUs", "LR", "WCT (s)", "WCT (h:m:s)", "Val Acc@1", "Val Acc@5", "Speed-up")
_COLUMNS += ("Strong Scaling Efficiency", "Weak Scaling Efficiency")
_EXPLANATION = (
    "Strong: the same data on N GPUs at the same batch a GPU: speed-up T(1) / T(N), efficiency T(1) / (T(N) x N).",
    "Weak: N times the data on N GPUs: efficiency T(1) / T(N, N times the data).",
)
_DERIVED = "*: not measured, but N times the strong time; so it is strong scaling's by definition."


def figures_of(rows: Sequence[Measurement], weak: Sequence[Measurement] = ()) -> list[Scaling | None]:
    """Speed-up and efficiencies of each; `None` where it has not run, or one GPU has not at its batch a GPU.

    Args:
        rows: trainings on the same data.
        weak: trainings on N times the data on N GPUs.
    """
    found: list[Scaling | None] = []
    for row in rows:
        ones = [one.seconds for one in rows if one.gpus == 1 and one.batch_a_gpu == row.batch_a_gpu and one.seconds]
        if row.seconds is None or not ones:
            found.append(None)
            continue
        weak_seconds = {one.gpus: one.seconds for one in weak if one.batch_a_gpu == row.batch_a_gpu and one.seconds}
        # One GPU at several rates: each row is its own measure.
        times = {1: ones[0], row.gpus: row.seconds}
        found.append(scaling_of({row.batch_a_gpu: times}, {row.batch_a_gpu: weak_seconds})[-1])
    return found


def shown_table(rows: Sequence[Measurement], figures: Sequence[Scaling | None]) -> Table:
    """The table for readers."""
    table = Table("Scaling", _COLUMNS, [_cells(*pair, star="*") for pair in zip(rows, figures, strict=True)])
    trainings = sorted({row.training for row in rows if row.training})
    table.remarks += [f"{trainings[0]}."] if trainings else []
    table.remarks += _EXPLANATION
    if any(one and one.gpus > 1 and not one.is_measured for one in figures):
        table.remarks.append(_DERIVED)
    if any(row.seconds is not None and one is None for row, one in zip(rows, figures, strict=True)):
        table.remarks.append("No speed-up where one GPU has not trained with that batch a GPU.")
    repeated = [f"{row.gpus} GPUs: {row.runs}" for row in rows if row.runs > 1]
    if repeated:
        table.remarks.append(f"Medians of several runs ({', '.join(repeated)}).")
    return table


def csv_table(rows: Sequence[Measurement], figures: Sequence[Scaling | None]) -> Table:
    """The same in plain numbers, a table that `read_csv` reads; a weak efficiency stands there if it was measured."""
    return Table("", _COLUMNS, [_cells(*pair, star="") for pair in zip(rows, figures, strict=True)])


def _cells(row: Measurement, figures: Scaling | None, star: str) -> list[str]:
    sign = "%" if star else ""

    def percent(share: float) -> str:
        return f"{100 * share:.2f}{sign}"

    strong = [f"{figures.speed_up:.2f}", percent(figures.efficiency)] if figures else [NOT_RUN, NOT_RUN]
    is_known = figures is not None and (figures.is_measured or figures.gpus == 1)
    weak = percent(figures.weak_efficiency) + ("" if is_known else star) if figures and (is_known or star) else NOT_RUN
    return [
        row.gpu,
        str(row.batch_size),
        str(row.nodes or ""),
        str(row.gpus),
        "" if row.rate is None else f"{row.rate:g}",
        NOT_RUN if row.seconds is None else f"{row.seconds:.1f}".removesuffix(".0"),
        NOT_RUN if row.seconds is None else hours_minutes_seconds(row.seconds),
        NOT_RUN if row.top_1 is None else f"{row.top_1:.3f}",
        NOT_RUN if row.top_5 is None else f"{row.top_5:.3f}",
        *strong,
        weak,
    ]


def draw_speed_up(figures: Sequence[Scaling | None], path: Path) -> Path | None:
    """Speed-up over GPUs with the efficiency at each point; `None` without matplotlib or without figures."""
    points = [one for one in figures if one]
    made = new_axes("Strong scaling at the same batch a GPU", "GPUs", "Speed-up") if points else None
    if made is None:
        return None
    figure, axes = made
    for batch in sorted({one.batch_size for one in points}):
        own = [one for one in points if one.batch_size == batch]
        axes.plot([one.gpus for one in own], [one.speed_up for one in own], marker="o", label=f"{batch} a GPU")
    for one in points:
        axes.annotate(
            f"{one.efficiency:.1%}",
            (one.gpus, one.speed_up),
            textcoords="offset points",
            xytext=(8, -12),
            fontsize=8,
        )
    gpus = sorted({one.gpus for one in points})
    axes.plot(gpus, gpus, linestyle="--", color="#888888", label="ideal")
    _in_powers(axes, gpus)
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(frameon=False)
    return save_figure(figure, path)


def draw_accuracy(rows: Sequence[Measurement], path: Path) -> Path | None:
    """Accuracy over the batch of all GPUs; `None` without matplotlib or without accuracies."""
    points = sorted((row.batch_size, row.top_1, row.top_5) for row in rows if row.top_1 is not None)
    made = new_axes("Accuracy at larger batches", "Images a step of all GPUs", "Accuracy (%)") if points else None
    if made is None:
        return None
    figure, axes = made
    axes.plot([point[0] for point in points], [point[1] for point in points], marker="o", label="top-1")
    fives = [(batch, top_5) for batch, _, top_5 in points if top_5 is not None]
    axes.plot([batch for batch, _ in fives], [top_5 for _, top_5 in fives], marker="s", label="top-5")
    _in_powers(axes, sorted({point[0] for point in points}))
    axes.legend(frameon=False)
    return save_figure(figure, path)


def _in_powers(axes: Any, places: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [str(place) for place in places])
    axes.minorticks_off()
