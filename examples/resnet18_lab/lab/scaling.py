"""The lab's tables and picture of scaling (`reporting.scaling` has the figures), and the files behind them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

from reporting.scaling import Scaling, Times, scaling_of
from reporting.tables import Table, new_axes, save_figure
from trainer.errors import ConfigurationError, DataError

__all__ = [
    "Scaling",
    "Times",
    "draw_scaling",
    "out_line",
    "read_times",
    "same_batch_table",
    "scaling_of",
    "scaling_table",
    "times_from_text",
]


def scaling_table(scalings: Iterable[Scaling]) -> Table:
    """The figures in one table, each under its own name."""
    table = Table(
        "Scaling at the same batch a GPU",
        (
            "batch a GPU",
            "GPUs",
            "epoch (s)",
            "strong: speed-up",
            "strong: efficiency",
            "weak: epoch (s)",
            "weak: efficiency",
            "weak: scaled speed-up",
        ),
    )
    for one in scalings:
        figures = (one.speed_up, one.efficiency)
        weak = f"{one.weak_seconds:.2f}{'' if one.is_measured else '*'}"
        row = [str(one.batch_size), str(one.gpus), f"{one.seconds:.2f}", *[f"{figure:.3f}" for figure in figures]]
        table.rows.append([*row, weak, f"{one.weak_efficiency:.3f}", f"{one.scaled_speed_up:.3f}"])
    table.remarks.append("Strong: the same data on N GPUs. Weak: N times the data. *: N times the strong epoch.")
    return table


def same_batch_table(times: Times) -> Table:
    """Strong scaling in its strict sense: the same steps, shared by more GPUs, so the batch of all GPUs is the same."""
    by_total: dict[int, dict[int, float]] = defaultdict(dict)
    for batch_size, by_gpus in times.items():
        for gpus, seconds in by_gpus.items():
            by_total[batch_size * gpus][gpus] = seconds
    table = Table(
        "Strong scaling at the same batch of all GPUs together",
        ("batch of all", "GPUs", "batch a GPU", "epoch (s)", "speed-up", "efficiency"),
    )
    for total, by_gpus in sorted(by_total.items()):
        if 1 not in by_gpus or len(by_gpus) < 2:
            continue
        for gpus, seconds in sorted(by_gpus.items()):
            speed_up = by_gpus[1] / seconds
            row = [str(total), str(gpus), str(total // gpus), f"{seconds:.2f}", f"{speed_up:.3f}"]
            table.rows.append([*row, f"{speed_up / gpus:.3f}"])
    return table


def draw_scaling(scalings: Iterable[Scaling], path: Path) -> Path | None:
    """Speed-up over GPUs, a line for each batch; `None` without matplotlib."""
    made = new_axes("Strong scaling at the same batch a GPU", "GPUs", "Speed-up")
    if made is None:
        return None
    figure, axes = made
    lines: dict[int, list[Scaling]] = defaultdict(list)
    for one in scalings:
        lines[one.batch_size].append(one)
    for batch_size, points in lines.items():
        axes.plot([p.gpus for p in points], [p.speed_up for p in points], marker="o", label=f"{batch_size} a GPU")
    gpus = sorted({point.gpus for points in lines.values() for point in points})
    axes.plot(gpus, gpus, linestyle="--", color="#888888", label="ideal")
    axes.set_xticks(gpus)
    axes.legend(frameon=False)
    return save_figure(figure, path)


# What `sweep.py` writes and this reads


def out_line(**values: object) -> str:
    """A line of an .out file: `name=value` with spaces between them."""
    return " ".join(f"{name}={value}" for name, value in values.items())


def read_times(paths: Iterable[Path]) -> Times:
    """Seconds of the last epoch of each batch and number of GPUs in .out files.

    Raises:
        DataError: a file has no such lines.
    """
    times: Times = defaultdict(dict)
    for path in paths:
        lines = [dict(re.findall(r"(\w+)=(\S+)", line)) for line in path.read_text(encoding="utf-8").splitlines()]
        timed = [line for line in lines if {"gpus", "batch_per_gpu", "train_seconds"} <= line.keys()]
        if not timed:
            raise DataError(f"{path}: expected lines with gpus=, batch_per_gpu= and train_seconds=, found none")
        for line in timed:
            times[int(line["batch_per_gpu"])][int(line["gpus"])] = float(line["train_seconds"])
    return dict(times)


def times_from_text(texts: Iterable[str]) -> Times:
    """Times such as `512:1=18.07,2=10.20`: batch a GPU, and seconds of an epoch by GPUs.

    Raises:
        ConfigurationError: they are written otherwise.
    """
    times: Mapping[int, dict[int, float]] = defaultdict(dict)
    for text in texts:
        batch_size, _, pairs = text.partition(":")
        try:
            for pair in pairs.split(","):
                gpus, seconds = pair.split("=")
                if int(gpus) < 1 or not 0 < float(seconds) < float("inf"):
                    raise ValueError(pair)
                times[int(batch_size)][int(gpus)] = float(seconds)
        except ValueError as error:
            raise ConfigurationError(
                f"expected a batch a GPU and seconds by GPUs, such as 512:1=18.07,2=10.20, found {text!r}"
            ) from error
    return dict(times)
