"""The table of accuracy and time over runs of the trainer, and its scatter plot.

    python examples/imagenet/report.py runs

`RUNS` are run folders, or folders that hold run folders. The columns are those of FFCV's table; below a run of one of
its configurations stands what FFCV reports for it. Writes `report.md`, `report.json`, `accuracy_time.png` and
`accuracy_time.svg`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:] = [*dict.fromkeys([str(HERE), *sys.path, str(HERE.parent.parent)])]

from trainer.recipes import PUBLISHED, Published, published_by_uuid  # noqa: E402

__all__ = ["Row", "draw_scatter", "find_runs", "main", "markdown_table", "read_run"]

REPORTED_BY = "reported by FFCV"
COLUMNS = ("Link to Config", "top_1", "top_5", "# Epochs", "Time (mins)", "Architecture", "Setup")
_NUMERIC = (False, True, True, True, True, False, False)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        config: name of the configuration.
        top_1, top_5: as shares.
        epochs: epochs done.
        minutes: training time with its validations.
        architecture: such as ResNet-18.
        setup: what it ran on.
        link: path or address that the name leads to, or empty.
        planned_epochs: what the run was to do.
        reported_by: empty for a run that was measured here.
    """

    config: str
    top_1: float
    top_5: float
    epochs: int
    minutes: float
    architecture: str
    setup: str
    link: str = ""
    planned_epochs: int = 0
    reported_by: str = ""

    @property
    def finished(self) -> bool:
        """Whether all epochs are done."""
        return self.epochs >= self.planned_epochs


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUNS", help="run folders, or folders of run folders")
    parser.add_argument("--out", type=Path, help="folder for the report (default: the folder that holds the runs)")
    parser.add_argument("--published", action="store_true", help="add all twelve results that FFCV reports")
    given = parser.parse_args(arguments)
    folders = find_runs(given.runs)
    rows = [row for row in map(_read_or_warn, folders) if row is not None]
    if not rows and not given.published:
        print(f"report.py: error: no run with results in {', '.join(map(str, given.runs))}", file=sys.stderr)
        return 1
    out = given.out or (folders[0].parent if folders else given.runs[0])
    out.mkdir(parents=True, exist_ok=True)
    write_report(rows, out, all_published=given.published)
    return 0


def write_report(rows: Sequence[Row], out: Path, all_published: bool = False) -> None:
    """Print the table and write the four files into `out`."""
    table = markdown_table(with_published(rows, all_published))
    print(table)
    (out / "report.md").write_text(table, encoding="utf-8")
    text = json.dumps([_as_json(row) for row in rows], indent=1)
    (out / "report.json").write_text(text + "\n", encoding="utf-8")
    pictures = draw_scatter(with_published(rows, all_published), out)
    for path in (out / "report.md", out / "report.json", *pictures):
        print(path)


# Reading runs


def find_runs(places: Iterable[Path]) -> list[Path]:
    """Run folders among `places` and inside them, oldest first."""
    found = {
        params.parent.resolve(): params.stat().st_mtime
        for place in places
        for params in [place / "params.json", *sorted(place.glob("**/params.json"))]
        if params.is_file()
    }
    return sorted(found, key=lambda folder: (found[folder], folder))


def _read_or_warn(folder: Path) -> Row | None:
    try:
        return read_run(folder)
    except (OSError, ValueError, KeyError, IndexError) as error:
        print(f"report.py: {folder} is left out: {type(error).__name__}: {error}", file=sys.stderr)
        return None


def read_run(folder: Path) -> Row:
    """The line of one run, from its last epoch's entry in `log`.

    Raises:
        OSError, ValueError, KeyError: the folder holds no run with results.
    """
    params = json.loads((folder / "params.json").read_text(encoding="utf-8"))
    lines = (folder / "log").read_text(encoding="utf-8").splitlines()
    entries = [json.loads(line) for line in lines if line]
    # A later evaluation alone has no epoch; without any epoch it is the result.
    last = ([entry for entry in entries if "epoch" in entry] or entries[-1:])[-1:]
    if not last:
        raise ValueError("its log has no entry yet")
    return Row(
        config=params.get("config") or folder.name,
        top_1=float(last[0]["top_1"]),
        top_5=float(last[0]["top_5"]),
        epochs=int(last[0].get("epoch", -1)) + 1,
        minutes=float(last[0]["relative_time"]) / 60,
        architecture=_architecture(params["model.arch"]),
        setup=params.get("setup", ""),
        link=str(folder),
        planned_epochs=0 if params.get("training.eval_only") else int(params["training.epochs"]),
    )


def _architecture(arch: str) -> str:
    """`resnet18` as ResNet-18, `wide_resnet50_2` as Wide ResNet-50-2; others as they are."""
    found = re.fullmatch(r"(wide_)?resnet(\d+)(?:_(\d+))?", arch)
    if not found:
        return arch
    wide, depth, factor = found.groups()
    return f"{'Wide ' if wide else ''}ResNet-{depth}{f'-{factor}' if factor else ''}"


def _from_published(published: Published) -> Row:
    return Row(
        config=published.uuid,
        top_1=published.top_1,
        top_5=published.top_5,
        epochs=published.epochs,
        minutes=published.minutes,
        architecture={"rn50": "ResNet-50", "rn18": "ResNet-18"}[published.arch],
        setup=published.setup,
        link=f"{published.arch}_configs/{published.uuid}.yaml",
        reported_by=REPORTED_BY,
    )


def with_published(rows: Sequence[Row], all_published: bool) -> list[Row]:
    """Each run, and below the last run of a configuration of FFCV's what FFCV reports of it."""
    result: list[Row] = []
    remaining = {row.uuid: row for row in PUBLISHED}
    for number, row in enumerate(rows):
        result.append(row)
        again = any(other.config == row.config for other in rows[number + 1 :])
        if row.config in remaining and not again:
            result.append(_from_published(remaining.pop(row.config)))
    return result + [_from_published(row) for row in remaining.values()] * all_published


# Writing


def markdown_table(rows: Sequence[Row]) -> str:
    """The table as Markdown, its columns aligned for reading as text."""
    cells = [COLUMNS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(COLUMNS))]
    lines = [" | ".join(map(_padded, line, widths, _NUMERIC)) for line in cells]
    rules = [
        "-" * (width + 1) + ":" if right else ":" + "-" * (width + 1)
        for width, right in zip(widths, _NUMERIC, strict=True)
    ]
    return "\n".join([f"| {lines[0]} |", f"|{'|'.join(rules)}|", *(f"| {line} |" for line in lines[1:])]) + "\n"


def _padded(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)


def _rule(width: int, right: bool) -> str:
    line = "-" * (width + 1)
    return f"{line}:" if right else f":{line}"


def _cells(row: Row) -> tuple[str, ...]:
    name = f"[{row.config}]({row.link})" if row.link else row.config
    setup = f"{row.setup}, {row.reported_by}" if row.reported_by else row.setup
    epochs = str(row.epochs) if row.reported_by or row.finished else f"{row.epochs} of {row.planned_epochs}"
    return (name, f"{row.top_1:.3f}", f"{row.top_5:.3f}", epochs, f"{row.minutes:.1f}", row.architecture, setup)


def _as_json(row: Row) -> dict[str, Any]:
    published = published_by_uuid(row.config)
    reported = None
    if published is not None:
        names = ("top_1", "top_5", "epochs", "minutes")
        reported = {name: getattr(published, name) for name in names} | {"setup": published.setup, "by": "FFCV"}
    content = {name: value for name, value in asdict(row).items() if name not in ("link", "reported_by")}
    return {**content, "run": row.link, "reported": reported}


# One colour an architecture, told apart by colour-blind readers too (Okabe and Ito).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def draw_scatter(rows: Sequence[Row], out: Path) -> list[Path]:
    """Draw accuracy over time as `accuracy_time.png` and `.svg` in `out`; returns their paths."""
    # Late and without pyplot: the table needs no matplotlib, and nothing process-wide is touched.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    series: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        series.setdefault((row.architecture, row.reported_by), []).append(row)
    colours = dict(zip(dict.fromkeys(row.architecture for row in rows), _COLOURS * len(rows), strict=False))
    for (architecture, reported_by), members in series.items():
        _draw_series(axes, members, architecture, reported_by, colours[architecture])
    axes.set_xlabel("Time (minutes)")
    axes.set_ylabel("Top-1 accuracy (%)")
    axes.set_title("Accuracy and training time", loc="left", fontweight="bold")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(0.12)
    axes.legend(frameon=False, loc="lower right")
    paths = [out / "accuracy_time.png", out / "accuracy_time.svg"]
    for path in paths:
        figure.savefig(path, dpi=160)
    return paths


def _draw_series(axes: Any, rows: Sequence[Row], architecture: str, reported_by: str, colour: str) -> None:
    rows = sorted(rows, key=lambda row: row.minutes)
    minutes, accuracy = [row.minutes for row in rows], [100 * row.top_1 for row in rows]
    axes.plot(
        minutes,
        accuracy,
        marker="o",
        markersize=7,
        linestyle=":" if reported_by else "none",
        color=colour,
        markerfacecolor="none" if reported_by else colour,
        label=f"{architecture} ({reported_by})" if reported_by else architecture,
    )
    for row, x, y in zip(rows, minutes, accuracy, strict=True):
        text = f"{row.epochs} epoch{'s' if row.epochs != 1 else ''}"
        axes.annotate(text, (x, y), xytext=(0, 8), textcoords="offset points", ha="center", fontsize=8, color=colour)


if __name__ == "__main__":
    raise SystemExit(main())
