"""Pictures and the README's table from the rows.

Reads every `*.jsonl` in --results, draws what there are rows for beside them, prints the table, and with --readme puts
it into that file between the lines `<!-- benchmarks:begin -->` and `<!-- benchmarks:end -->`.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from .goals import GOALS, SIZES, newest, peer_runs
from .harness import table_line
from .rows import ROOT, read_rows

__all__ = ["BEGIN", "END", "add_options", "read_results", "readme_table", "run", "with_table"]

BEGIN, END = "<!-- benchmarks:begin -->", "<!-- benchmarks:end -->"
RESULTS = ROOT / "benchmarks" / "results"
Rows = Sequence[Mapping[str, Any]]


def read_results(folder: Path) -> list[dict[str, Any]]:
    """All rows of a folder, file by file."""
    return [row for path in sorted(folder.glob("*.jsonl")) for row in read_rows(path)]


def _goal_lines(rows: Rows) -> Iterator[str]:
    yield table_line(("file", "px", "ffx, images/s", "FFCV, images/s", "ffx / FFCV (95 %)", "goal"))
    yield "|---|---:|---:|---:|---:|---:|"
    for goal in GOALS:
        for size in SIZES:
            found = newest(rows, goal.kind, size)
            if not {"ffx", "ffcv"} <= found.keys():
                continue
            ratio = found["ffx"]["ratio"]
            rates = [f"{found[peer]['images_a_second']['median']:,.0f}" for peer in ("ffx", "ffcv")]
            times = f"**{ratio['median']:.1f}** ({ratio['low']:.1f} to {ratio['high']:.1f})"
            yield table_line([goal.what, size, *rates, times, f"{goal.times[size]:g}"])


def _peer_lines(rows: Rows) -> Iterator[str]:
    """All peers on the JPEGs of 500 px, where more than ffx and FFCV were measured."""
    found = peer_runs(rows, "jpg500")
    if not found:
        return
    yield ""
    yield table_line(("the same JPEGs, images/s", *(f"{size} px, epochs of {run[0]:,}" for size, run in found.items())))
    yield "|---|" + "---:|" * len(found)
    for name in dict.fromkeys(name for _, peers in found.values() for name in peers):
        yield table_line([name, *(_rate(peers.get(name)) for _, peers in found.values())])


def _rate(row: Mapping[str, Any] | None) -> str:
    return "" if row is None else f"{row['images_a_second']['median']:,.0f}"


def _origin(rows: Rows) -> str:
    """Where the table's figures come from, in one sentence."""
    used = [row for goal in GOALS for size in SIZES for row in newest(rows, goal.kind, size).values()]
    used += [row for _, peers in peer_runs(rows, "jpg500").values() for row in peers.values()]
    row = max(used, key=lambda row: row["time"])
    commits = sorted({(row["commit"] or "unknown")[:9] for row in used})
    versions, machine = row["versions"], row["machine"]
    rounds = sorted({len(row["rounds"]) for row in used})
    return (
        f"{row['pictures']} pictures, FFCV {versions.get('ffcv', '?')}, "
        f"median of {' or '.join(map(str, rounds))} rounds, "
        f"{machine['cores']} cores of an {machine['processor']}, {row['time'][:10]}, commit {', '.join(commits)}."
    )


def readme_table(rows: Rows) -> str:
    """The README's table, with a line on its origin."""
    if not any(row["benchmark"] == "loader" for row in rows):
        raise SystemExit("benchmarks: there are no rows of `loader` to make the table of: run it with --out")
    return "\n".join([*_goal_lines(rows), *_peer_lines(rows), "", _origin(rows)]) + "\n"


def with_table(text: str, table: str) -> str:
    """`text` with `table` between its markers."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"benchmarks: expected the lines {BEGIN} and {END} in the file, found none")
    return f"{before}{BEGIN}\n{table}{END}{after}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks report`."""
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the rows; pictures go there, too")
    parser.add_argument("--readme", type=Path, help="file whose table is rewritten")
    parser.add_argument("--no-pictures", action="store_true", help="only the table")


def run(options: argparse.Namespace) -> int:
    """Write pictures and table; return the exit status."""
    rows = read_results(options.results)
    table = readme_table(rows)
    print(table, end="")
    if options.readme is not None:
        text = options.readme.read_text(encoding="utf-8")
        options.readme.write_text(with_table(text, table), encoding="utf-8")
    if not options.no_pictures:
        from .plots import draw_all

        for path in draw_all(rows, options.results):
            print(path)
    return 0
