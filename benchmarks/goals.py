"""The table of goals, goal beside measured: how many times FFCV's images a second ffx loads.

With --images, `loader` measures first, all kinds at both sizes, and its rows are appended to --rows; without, the
table is made of the rows that are there: of each kind and size the newest with epochs of full length. A goal is met
when the median reaches it, and just so when the interval's lower end is below. The exit status is 1 when a goal is
missed or not measured.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import loader
from .files import KINDS
from .harness import table_line
from .rows import ROOT, read_rows

__all__ = ["GOALS", "ROWS", "Goal", "add_options", "fullest", "goal_lines", "goal_table", "newest", "peer_runs", "run"]

ROWS = ROOT / "benchmarks" / "results" / "loader.jsonl"
SIZES = (160, 224)


@dataclass(frozen=True)
class Goal:
    """What ffx should reach: `times` by size in pixels; `what` is the kind in words."""

    kind: str
    what: str
    times: Mapping[int, float]


# Times FFCV on the same pictures (for YUV: FFCV on raw pixels), one worker.
GOALS = (
    Goal("jpg500", "JPEG, 500 px, quality 90, FFCV's own file", {160: 2.5, 224: 2.6}),
    Goal("tiled500", "the same pictures as tiled JPEG", {160: 3.3, 224: 3.4}),
    Goal("mix400", "`400 0.10 90`: one in ten JPEG", {160: 6.0, 224: 6.0}),
    Goal("raw400", "raw, 400 px", {160: 7.0, 224: 8.0}),
    Goal("raw256", "raw, 256 px", {160: 6.5, 224: 6.0}),
    Goal("yuv400", "YUV 4:2:0, 400 px, beside FFCV's raw", {160: 8.0, 224: 7.0}),
)


def newest(
    rows: Sequence[Mapping[str, Any]], kind: str, size: int, samples: int = loader.SAMPLES
) -> dict[str, Mapping[str, Any]]:
    """Of the newest run of one worker with that kind, size and length of an epoch: each peer's row, by name."""
    chosen = [
        row
        for row in rows
        if row["benchmark"] == "loader"
        and (row["kind"]["name"], row["task"]["size"], row["task"]["workers"]) == (kind, size, 1)
        and row["task"]["samples"] == samples
    ]
    # Times are ISO 8601 in UTC: their texts are in order.
    latest = max((row["time"] for row in chosen), default=None)
    return {row["peer"]: row for row in chosen if row["time"] == latest}


def fullest(rows: Sequence[Mapping[str, Any]], kind: str, size: int) -> tuple[int, dict[str, Mapping[str, Any]]]:
    """The samples of an epoch and the rows, as of `newest`, where most peers were measured."""
    lengths = {row["task"]["samples"] for row in rows if row["benchmark"] == "loader"} or {loader.SAMPLES}
    runs = [(length, newest(rows, kind, size, length)) for length in sorted(lengths, reverse=True)]
    return max(runs, key=lambda run: len(run[1]))


def peer_runs(rows: Sequence[Mapping[str, Any]], kind: str) -> dict[int, tuple[int, dict[str, Mapping[str, Any]]]]:
    """By size, what `fullest` finds where it is more than ffx and FFCV."""
    found = {size: fullest(rows, kind, size) for size in SIZES}
    return {size: run for size, run in found.items() if len(run[1]) > 2}


def goal_lines(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[bool, list[str]]]:
    """Whether each goal is met, and its line of the table."""
    for goal in GOALS:
        for size in SIZES:
            found = newest(rows, goal.kind, size)
            ratio = found.get("ffx", {}).get("ratio")
            cells = [goal.what, str(size), f"{goal.times[size]:g}"]
            if not ratio or ratio["to"] != "ffcv":
                yield False, [*cells, "", "", "", "not measured"]
                continue
            met = ratio["median"] >= goal.times[size]
            verdict = "missed" if not met else "met" if ratio["low"] >= goal.times[size] else "met, just"
            rates = [f"{found[peer]['images_a_second']['median']:,.0f}" for peer in ("ffx", "ffcv")]
            measured = f"**{ratio['median']:.2f}** ({ratio['low']:.2f} to {ratio['high']:.2f})"
            yield met, [*cells, measured, *rates, verdict]


def goal_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table in Markdown."""
    columns = ("file", "px", "goal, x FFCV", "measured, x FFCV (95 %)", "ffx, images/s", "FFCV, images/s", "")
    rules = ("---", "---:", "---:", "---:", "---:", "---:", "---")
    lines = [table_line(columns), "|" + "|".join(rules) + "|"]
    lines += [table_line(cells) for _, cells in goal_lines(rows)]
    return "\n".join(lines) + "\n"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks goals`."""
    loader.add_options(parser, images_required=False)
    parser.set_defaults(peers=["ffx", "ffcv"], kinds=list(KINDS), sizes=list(SIZES))
    parser.add_argument("--rows", type=Path, default=ROWS, help="rows of `loader` (with --images: also appended to)")


def run(options: argparse.Namespace) -> int:
    """Measure if there are pictures; print the table; return the exit status."""
    if options.images is not None:
        options.out = options.out or options.rows
        loader.run(options)
        print()
    rows = read_rows(options.out or options.rows)
    print(goal_table(rows), end="")
    return 0 if all(met for met, _ in goal_lines(rows)) else 1
