"""The one harness: contenders in processes of their own that take turns, and what is made of their rounds.

A contender is anything that can do the same work again and again: a loader an epoch, a kernel a pass over
pictures, a writer a file. One round of each contender follows the other, forwards and backwards in turn, so
that a slow minute of the machine hits all of them. The first rounds warm up and are not counted. A figure is
the median over the rounds with its 95 % bootstrap interval; ratios are formed round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from .rows import ROOT, append_row, describe_run, median_with_interval

__all__ = [
    "SKIPPED",
    "Contender",
    "Figures",
    "Round",
    "Session",
    "add_common_options",
    "add_picture_options",
    "chosen_cores",
    "images_a_second",
    "interval_cells",
    "left_out",
    "measure",
    "summarise",
    "table_line",
    "usable_cores",
]

# Exit status of a benchmark that lacks something and measured nothing (as automake has it).
SKIPPED = 77

Round = dict[str, Any]
Figures = Mapping[str, Callable[[Round], float]]

# A contender's own pools of threads would measure something else than what was asked for.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Contender:
    """What is measured, and how its process is started.

    Attributes:
        name: in rows and tables, unique among those that take turns.
        function: "module:function"; called with `arguments` it prepares the work and returns a function that
            does one round of it and returns its figures.
        cores: the process is pinned to these; empty: to none.
        environment: added to the process's.
        empty_folders: environment variables that name a new, empty folder in each process.
        fresh: each round gets a process of its own.
        one_thread: libraries must not start pools of threads.
    """

    name: str
    function: str
    arguments: Mapping[str, Any]
    cores: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    empty_folders: tuple[str, ...] = ()
    fresh: bool = False
    one_thread: bool = True


class _Process:
    """A running `worker`. Closing it twice is safe."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        self._folders = ExitStack()
        empty = {
            name: self._folders.enter_context(tempfile.TemporaryDirectory(prefix="benchmarks-"))
            for name in contender.empty_folders
        }
        request = {name: getattr(contender, name) for name in ("function", "arguments", "cores")}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", json.dumps(request)],
            cwd=ROOT,
            env={**os.environ, **(_ONE_THREAD if contender.one_thread else {}), **contender.environment, **empty},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            self._answer()
        except BaseException:
            self.close()
            raise

    def _answer(self) -> Round:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            raise SystemExit(f"benchmarks: {self.contender.name} ended with status {status}; its error stands above")
        return json.loads(line)

    def round(self) -> Round:
        """Do one round; what the contender's function returned."""
        assert self._process.stdin is not None
        self._process.stdin.write("round\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """End the process."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:  # FFCV's threads do not always end by themselves
            self._process.kill()
            self._process.wait()
        self._folders.close()

    def __enter__(self) -> _Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _FreshProcess:
    """Does each round in a new process."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender

    def round(self) -> Round:
        """Start a process, do one round in it, end it."""
        with _Process(self.contender) as process:
            return process.round()

    def close(self) -> None:
        """Nothing is left to close."""


def measure(contenders: Iterable[Contender], warm_up: int, rounds: int) -> dict[str, list[Round]]:
    """Do `warm_up` and then `rounds` rounds of every contender, taking turns; return the counted rounds by name.

    Raises:
        SystemExit: a contender ended; the message names it.
    """
    running: list[_Process | _FreshProcess] = []
    try:
        for contender in contenders:
            running.append((_FreshProcess if contender.fresh else _Process)(contender))
        found: dict[str, list[Round]] = {process.contender.name: [] for process in running}
        for number in range(-warm_up, rounds):
            # Every second round goes backwards: nobody always runs after the same neighbour.
            for process in running if number % 2 == 0 else reversed(running):
                result = process.round()
                if number >= 0:
                    found[process.contender.name].append(result)
    finally:
        for process in running:
            process.close()
    return found


def images_a_second(round_: Round) -> float:
    """The lower of images by wall-clock second and by CPU second."""
    return round_["images"] / max(round_["wall"], round_["cpu"])


def summarise(
    rounds: Mapping[str, Sequence[Round]], figures: Figures, reference: str | None = None
) -> dict[str, dict[str, Any]]:
    """What a row says of each contender: its figures, its rounds, and the ratio of the first figure.

    Args:
        rounds: by contender.
        figures: name -> how it is read off a round.
        reference: contender whose first figure every other one's is divided by, round by round.
    """
    first = next(iter(figures.values()))
    summary: dict[str, dict[str, Any]] = {}
    for name, own in rounds.items():
        summary[name] = {
            figure: median_with_interval([value(round_) for round_ in own]) for figure, value in figures.items()
        }
        summary[name]["rounds"] = list(own)
        if reference in rounds:
            ratios = [first(mine) / first(other) for mine, other in zip(own, rounds[reference], strict=True)]
            summary[name]["ratio"] = {"to": reference, **median_with_interval(ratios)}
    return summary


def usable_cores() -> list[int]:
    """Numbers of the cores that this process may use; empty where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def chosen_cores(options: argparse.Namespace, count: int) -> tuple[int, ...]:
    """The cores to pin to: those of `--cores`, else the last `count` usable ones."""
    # Not the first core: that one serves most interrupts.
    return tuple(options.cores or usable_cores()[-count:])


def add_picture_options(parser: argparse.ArgumentParser, limit: int, required: bool = True) -> None:
    """Declare which pictures are read, and where the files made of them and the rows go."""
    parser.add_argument(
        "--images", type=Path, required=required, help="folder with pictures, below it or in class folders"
    )
    parser.add_argument("--out", type=Path, help="file that rows are appended to, one JSON object a line")
    parser.add_argument("--cache", type=Path, default=Path("runs/benchmarks"), help="folder for the files to read")
    parser.add_argument("--limit", type=int, default=limit, help="pictures that are used")


def add_common_options(
    parser: argparse.ArgumentParser, limit: int = 1000, rounds: int = 7, images_required: bool = True
) -> None:
    """Declare the options that every measurement has."""
    add_picture_options(parser, limit, images_required)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--warm-up", type=int, default=1, help="rounds that are not counted")
    parser.add_argument("--cores", nargs="+", type=int, help="pin to these (default: as many of the last as needed)")


def table_line(cells: Iterable[Any]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"


class Session:
    """One run of one benchmark: prints a Markdown table line by line, and appends a row for each line."""

    def __init__(self, benchmark: str, out: Path | None, columns: Sequence[str], **description: Any) -> None:
        self._out = out
        self._description = {"benchmark": benchmark, **description, **describe_run()}
        print(table_line(columns))
        print(table_line("---" for _ in columns), flush=True)

    def line(self, cells: Iterable[Any], row: Mapping[str, Any]) -> None:
        """Print `cells` and append `row` with everything that belongs to this run."""
        print(table_line(cells), flush=True)
        append_row(self._out, {**self._description, **row})


def left_out(what: str, reason: str) -> None:
    """Say what is not measured, and why."""
    print(f"left out: {what} ({reason})", file=sys.stderr, flush=True)


def interval_cells(figure: Mapping[str, float] | None, digits: int = 0) -> tuple[str, str]:
    """Median and interval of a figure as two cells, empty where there is none."""
    if figure is None:
        return "", ""
    median, low, high = (f"{figure[name]:,.{digits}f}" for name in ("median", "low", "high"))
    return median, f"{low} to {high}"
