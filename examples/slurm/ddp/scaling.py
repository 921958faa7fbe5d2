"""The table and the pictures of trainings on more and more GPUs; `reporting.scaling` has the figures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reporting.scaling import Scaling, hours_minutes_seconds, scaling_of
from reporting.tables import Table, new_axes, save_figure

from .measurements import NOT_RUN, Measurement

__all__ = ["csv_table", "draw_accuracy", "draw_speed_up", "figures_of", "shown_table"]

_COLUMNS = ("GPU", "Precision", "Optimizer", "Batch Size", "#N", "#GPUs", "LR", "WCT (s)", "WCT (h:m:s)")
_COLUMNS += ("Val Acc@1", "Val Acc@5", "Speed-up", "Strong Scaling Efficiency", "Weak Scaling Efficiency")
_EXPLANATION = (
    "Strong: the same data on N GPUs at the same batch a GPU: speed-up T(1) / T(N), efficiency T(1) / (T(N) x N).",
    "Weak: N times the data on N GPUs: efficiency T(1) / T(N, N times the data).",
)
# Times of different ones are not compared.
_MACHINE = ("gpu", "precision")
_DERIVED = "*: not measured, but N times the strong time; so it is strong scaling's by definition."


def figures_of(rows: Sequence[Measurement], weak: Sequence[Measurement] = ()) -> list[Scaling | None]:
    """Speed-up and efficiencies of each; `None` where it has not run, or one GPU of its kind has not at its batch.

    Args:
        rows: trainings on the same data.
        weak: trainings on N times the data on N GPUs.
    """
    found: list[Scaling | None] = []
    for row in rows:
        one_gpu = _seconds_of_one_gpu(row, rows)
        if row.seconds is None or one_gpu is None:
            found.append(None)
            continue
        weak_seconds = {one.gpus: one.seconds for one in _comparable(row, weak) if one.seconds}
        # One GPU at several rates: each row is its own measure.
        times = {1: one_gpu, row.gpus: row.seconds}
        found.append(scaling_of({row.batch_a_gpu: times}, {row.batch_a_gpu: weak_seconds})[-1])
    return found


def _comparable(row: Measurement, others: Sequence[Measurement]) -> list[Measurement]:
    """Those that have run at the row's batch a GPU, as far as is known on such GPUs and in its precision."""
    return [
        one for one in others if one.seconds and one.batch_a_gpu == row.batch_a_gpu and one.agrees_with(row, *_MACHINE)
    ]


def _seconds_of_one_gpu(row: Measurement, rows: Sequence[Measurement]) -> float | None:
    """T(1) for a row; `None`: there is none, or the row does not say of which kind it is and there are several."""
    ones = [one for one in _comparable(row, rows) if one.gpus == 1]
    ones = [one for one in ones if _machine(one) == _machine(row)] or ones
    if len(set(map(_machine, ones))) != 1:
        return None
    # Another optimizer takes nearly the same time, and is better than none.
    return ([one for one in ones if one.optimizer == row.optimizer] or ones)[0].seconds


def _machine(row: Measurement) -> tuple[str, str]:
    return row.gpu, row.precision


def shown_table(rows: Sequence[Measurement], figures: Sequence[Scaling | None]) -> Table:
    """The table for readers."""
    table = Table("Scaling", _COLUMNS, [_cells(*pair, star="*") for pair in zip(rows, figures, strict=True)])
    trainings = sorted({row.training for row in rows if row.training})
    table.remarks += [f"{trainings[0]}."] if trainings else []
    table.remarks += _EXPLANATION
    if any(one and one.gpus > 1 and not one.is_measured for one in figures):
        table.remarks.append(_DERIVED)
    if any(row.seconds is not None and one is None for row, one in zip(rows, figures, strict=True)):
        table.remarks.append(
            "No speed-up where one GPU has not trained with that batch a GPU, as such a GPU in that precision."
        )
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
        row.precision,
        row.optimizer,
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


def draw_speed_up(rows: Sequence[Measurement], figures: Sequence[Scaling | None], path: Path) -> Path | None:
    """Speed-up over GPUs with the efficiency at each point; `None` without matplotlib or without figures."""
    points = [one for one in figures if one]
    made = new_axes("Strong scaling at the same batch a GPU", "GPUs", "Speed-up") if points else None
    if made is None:
        return None
    figure, axes = made
    lines: dict[tuple[str, ...], list[Scaling]] = {}
    for row, one in zip(rows, figures, strict=True):
        if one:
            lines.setdefault((f"{one.batch_size} a GPU", *_machine(row)), []).append(one)
    for names, own in lines.items():
        label = ", ".join(filter(None, names if len({each[1:] for each in lines}) > 1 else names[:1]))
        axes.plot([one.gpus for one in own], [one.speed_up for one in own], marker="o", label=label)
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
    done = [row for row in rows if row.top_1 is not None]
    made = new_axes("Accuracy at larger batches", "Images a step of all GPUs", "Accuracy (%)") if done else None
    if made is None:
        return None
    figure, axes = made
    lines: dict[tuple[str, ...], list[Measurement]] = {}
    for row in sorted(done, key=lambda row: row.batch_size):
        lines.setdefault((*_machine(row), row.optimizer), []).append(row)
    for names, own in lines.items():
        of = "".join(f", {name}" for name in names if name) if len(lines) > 1 else ""
        axes.plot([row.batch_size for row in own], [row.top_1 for row in own], marker="o", label=f"top-1{of}")
        fives = [(row.batch_size, row.top_5) for row in own if row.top_5 is not None]
        axes.plot([batch for batch, _ in fives], [top_5 for _, top_5 in fives], marker="s", label=f"top-5{of}")
    _in_powers(axes, sorted({row.batch_size for row in done}))
    axes.legend(frameon=False)
    return save_figure(figure, path)


def _in_powers(axes: Any, places: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [str(place) for place in places])
    axes.minorticks_off()
