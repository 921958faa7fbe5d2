"""Tables of the rows of `recipes`: means with 95 % confidence intervals, and the effects of a design."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

__all__ = ["Rows", "difference", "effect_cells", "effects", "mean_with_interval", "relative_speeds", "tables"]

# Student's t, two-sided 95 %, by degrees of freedom.
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
_NORMAL = 1.96

Rows = Sequence[Mapping[str, Any]]


def _student(freedom: float) -> float:
    """The quantile for so many degrees of freedom, rounded down to a whole number."""
    whole = max(1, math.floor(freedom))
    return _STUDENT[whole - 1] if whole <= len(_STUDENT) else _NORMAL + 2.4 / whole


def mean_with_interval(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and half of its 95 % confidence interval by Student's t (infinite for one value)."""
    mean, count = sum(values) / len(values), len(values)
    if count < 2:
        return mean, math.inf
    return mean, _student(count - 1) * math.sqrt(_variance(values) / count)


def _variance(values: Sequence[float]) -> float:
    mean = sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (len(values) - 1)


def difference(values: Sequence[float], others: Sequence[float]) -> tuple[float, float]:
    """The difference of the means, and half of its 95 % interval (Welch, 1947)."""
    delta = sum(values) / len(values) - sum(others) / len(others)
    if min(len(values), len(others)) < 2:
        return delta, math.inf
    parts = [_variance(values) / len(values), _variance(others) / len(others)]
    if not sum(parts):
        return delta, 0.0
    weights = [part**2 / (len(found) - 1) for part, found in zip(parts, (values, others), strict=True)]
    return delta, _student(sum(parts) ** 2 / sum(weights)) * math.sqrt(sum(parts))


def effects(rows: Rows, score: str = "top_1") -> dict[str, tuple[float, float]]:
    """Of a two-level design: each factor's effect on the score, and half of its 95 % interval.

    A factor's effect is the mean score with it less the mean without it. The error is that of trainings that differ by
    the seed alone; with one seed, Lenth's pseudo standard error of the effects themselves (1989).
    """
    factors = list(dict.fromkeys(factor for row in rows for factor in row["factors"]))
    found = {}
    for factor in factors:
        on = [row[score] for row in rows if factor in row["factors"]]
        off = [row[score] for row in rows if factor not in row["factors"]]
        found[factor] = sum(on) / len(on) - sum(off) / len(off)
    by_row: dict[tuple[str, ...], list[float]] = {}
    for row in rows:
        by_row.setdefault(tuple(row["factors"]), []).append(row[score])
    repeated = [values for values in by_row.values() if len(values) > 1]
    if repeated:
        freedom = sum(len(values) - 1 for values in repeated)
        variance = sum(_variance(values) * (len(values) - 1) for values in repeated) / freedom
        half = _student(freedom) * math.sqrt(4 * variance / len(rows))
    else:
        half = _lenth(list(found.values()))
    return {factor: (effect, half) for factor, effect in found.items()}


def effect_cells(rows: Rows) -> dict[str, str]:
    """What is known of each addition and recipe, as a table's cell: points of top-1 and where they come from.

    An addition has its effect in the design, a recipe its difference from the finalists' first one, each for every data
    set.
    """
    cells: dict[str, list[str]] = {}
    designs = [row for row in rows if row["study"] == "design"]
    for data in dict.fromkeys(row["data"] for row in designs):
        for factor, effect in effects([row for row in designs if row["data"] == data]).items():
            cells.setdefault(factor, []).append(f"{_percent(effect, True)} ({data}, design)")
    finalists = [row for row in rows if row["study"] == "finalists"]
    for data in dict.fromkeys(row["data"] for row in finalists):
        scores: dict[str, list[float]] = {}
        for row in finalists:
            if row["data"] == data:
                scores.setdefault(row["recipe"], []).append(row["top_1"])
        first = next(iter(scores.values()))
        for recipe, found in list(scores.items())[1:]:
            seeds = "one seed" if len(found) == 1 else f"{len(found)} seeds"
            cells.setdefault(recipe, []).append(f"{_percent(difference(found, first), True)} ({data}, {seeds})")
    return {name: "; ".join(texts) for name, texts in cells.items()}


def _lenth(values: Sequence[float]) -> float:
    first = 1.5 * median([abs(value) for value in values])
    kept = [abs(value) for value in values if abs(value) < 2.5 * first] or [0.0]
    return _student(len(values) / 3) * 1.5 * median(kept)


def relative_speeds(rows: Rows, first: str) -> dict[str, list[float]]:
    """Images a second of each recipe over the first one's in the same round (seed)."""
    speeds = {(row["recipe"], row["seed"]): row["images_per_second"] for row in rows}
    found: dict[str, list[float]] = {}
    for (recipe, seed), speed in speeds.items():
        if (first, seed) in speeds:
            found.setdefault(recipe, []).append(speed / speeds[first, seed])
    return found


def tables(rows: Rows) -> str:
    """All tables of the rows as Markdown; accuracies in per cent."""
    parts = []
    for study, data, epochs in sorted({(row["study"], row["data"], _epochs_of(row)) for row in rows}):
        chosen = [row for row in rows if (row["study"], row["data"], _epochs_of(row)) == (study, data, epochs)]
        length = f", {epochs} epoch{'s' if epochs > 1 else ''}" if epochs else ""
        title = f"**{study}, {data}{length}**"
        table = {"design": _design_table, "speed": _speed_table}.get(study, _recipe_table)
        parts.append(f"{title}\n\n{table(chosen)}")
    return "\n\n".join(parts)


def _epochs_of(row: Mapping[str, Any]) -> int:
    return 0 if row["study"] == "equal_time" else int(row["epochs"])


def _percent(value: tuple[float, float], sign: bool = False) -> str:
    mean, half = value
    shown = f"{100 * mean:+.2f}" if sign else f"{100 * mean:.2f}"
    return f"{shown} ± {100 * half:.2f}" if math.isfinite(half) else shown


def _design_table(rows: Rows) -> str:
    lines = ["| addition | effect on top-1 (points) | of the weights without the average |", "|---|--:|--:|"]
    raw = effects([{**row, "raw": row.get("raw_top_1", row["top_1"])} for row in rows], "raw")
    found = effects(rows)
    for factor in sorted(found, key=lambda name: -found[name][0]):
        lines.append(f"| {factor} | {_percent(found[factor], True)} | {_percent(raw[factor], True)} |")
    return "\n".join([*lines, "", f"{len(rows)} trainings."])


def _speed_table(rows: Rows) -> str:
    first = rows[0]["recipe"]
    lines = [f"| recipe | rounds | images a second, of {first}'s | lowest to highest |", "|---|--:|--:|--:|"]
    for recipe, found in relative_speeds(rows, first).items():
        lines.append(f"| {recipe} | {len(found)} | {median(found):.2f} | {min(found):.2f} to {max(found):.2f} |")
    return "\n".join(lines)


def _recipe_table(rows: Rows) -> str:
    recipes = list(dict.fromkeys(row["recipe"] for row in rows))
    first = [row["top_1"] for row in rows if row["recipe"] == recipes[0]]
    lines = [
        f"| recipe | epochs | seeds | top-1 % | against {recipes[0]} | plain, by ffx | plain, by Pillow | seconds |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for recipe in recipes:
        chosen = [row for row in rows if row["recipe"] == recipe]
        scores = [row["top_1"] for row in chosen]
        against = "" if recipe == recipes[0] else _percent(difference(scores, first), True)
        plain = [
            _percent(mean_with_interval([row[name] for row in chosen])) if all(name in row for row in chosen) else ""
            for name in ("plain_top_1", "pillow_top_1")
        ]
        epochs = "/".join(sorted({str(row["epochs"]) for row in chosen}))
        seconds = median(row["seconds"] for row in chosen)
        cells = [
            recipe,
            epochs,
            str(len(chosen)),
            _percent(mean_with_interval(scores)),
            against,
            *plain,
            f"{seconds:.0f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
