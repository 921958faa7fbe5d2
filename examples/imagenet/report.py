"""The table of accuracy and time over runs of the trainer, and its scatter plot.

    python examples/imagenet/report.py runs

`RUNS` are run folders, or folders that hold run folders. The columns are those of FFCV's table; below a run of one of
its configurations stands what FFCV reports for it. Writes `report.md`, `report.json`, the scatter plot
`accuracy_time.png` and `.svg`, and each run's way there, `accuracy_epochs.png` and `.svg`.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path[:] = [*dict.fromkeys([str(HERE), *sys.path, str(ROOT)])]

from trainer.entries import read_entries  # noqa: E402
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
        link: file that says what was run.
        run: the run's folder, or empty.
        planned_epochs: what the run was to do.
        reported_by: empty for a run that was measured here.
        history: top-1 after each epoch that was evaluated, as (epochs done, share).
    """

    config: str
    top_1: float
    top_5: float
    epochs: int
    minutes: float
    architecture: str
    setup: str
    link: Path
    run: str = ""
    planned_epochs: int = 0
    reported_by: str = ""
    history: tuple[tuple[int, float], ...] = ()

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
    shown = with_published(rows, all_published)
    table = markdown_table(shown, out)
    print(table)
    (out / "report.md").write_text(table, encoding="utf-8")
    text = json.dumps([_as_json(row) for row in rows], indent=1)
    (out / "report.json").write_text(text + "\n", encoding="utf-8")
    pictures = draw_scatter(shown, out) + draw_epochs(rows, out)
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
    entries = read_entries((folder / "log").read_text(encoding="utf-8"))
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
        link=_config_file(params.get("config", "")) or folder / "params.json",
        run=str(folder),
        history=tuple((int(entry["epoch"]) + 1, float(entry["top_1"])) for entry in entries if "epoch" in entry),
        planned_epochs=0 if params.get("training.eval_only") else int(params["training.epochs"]),
    )


def _config_file(name: str) -> Path | None:
    """The file of a configuration that the repository ships."""
    return next((path for path in ROOT.glob("rn*_configs/*.yaml") if path.stem == name), None)


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
        link=ROOT / f"{published.arch}_configs" / f"{published.uuid}.yaml",
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


def markdown_table(rows: Sequence[Row], out: Path) -> str:
    """The table as Markdown for a file in `out`, its columns aligned for reading as text."""
    cells = [COLUMNS, *(_cells(row, out) for row in rows)]
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


def _cells(row: Row, out: Path) -> tuple[str, ...]:
    name = f"[{row.config}]({os.path.relpath(row.link, out)})"
    setup = f"{row.setup}, {row.reported_by}" if row.reported_by else row.setup
    epochs = str(row.epochs) if row.reported_by or row.finished else f"{row.epochs} of {row.planned_epochs}"
    return (name, f"{row.top_1:.3f}", f"{row.top_5:.3f}", epochs, f"{row.minutes:.1f}", row.architecture, setup)


def _as_json(row: Row) -> dict[str, Any]:
    published = published_by_uuid(row.config)
    reported = None
    if published is not None:
        names = ("top_1", "top_5", "epochs", "minutes")
        reported = {name: getattr(published, name) for name in names} | {"setup": published.setup, "by": "FFCV"}
    content = {name: value for name, value in asdict(row).items() if name not in ("link", "reported_by", "history")}
    return {**content, "reported": reported}


# One colour an architecture, told apart by colour-blind readers too (Okabe and Ito); one shape a set-up.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_SHAPES = ("o", "s", "^", "D", "v", "P")
_LEAST_SPAN = 2.0  # per cent: a difference of a tenth should not fill the picture


def _new_figure() -> tuple[Any, Any]:
    # Late and without pyplot: the table needs no matplotlib, and nothing process-wide is touched.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure: Any, out: Path, name: str) -> list[Path]:
    paths = [out / f"{name}.png", out / f"{name}.svg"]
    for path in paths:
        figure.savefig(path, dpi=160)
    return paths


def draw_scatter(rows: Sequence[Row], out: Path) -> list[Path]:
    """Draw accuracy over time as `accuracy_time.png` and `.svg` in `out`; returns their paths."""
    figure, axes = _new_figure()
    for members, colour, shape in _series(rows):
        _draw_series(axes, members, colour, shape)
    _choose_scales(axes, [row.minutes for row in rows], [100 * row.top_1 for row in rows])
    _dress_axes(axes, "Accuracy and training time", "numbers: epochs", "Time (minutes)")
    return _save(figure, out, "accuracy_time")


def draw_epochs(rows: Sequence[Row], out: Path) -> list[Path]:
    """Draw each run's accuracy over its epochs as `accuracy_epochs.png` and `.svg`; nothing when no run has two."""
    runs = [row for row in rows if len(row.history) > 1]
    if not runs:
        return []
    figure, axes = _new_figure()
    for row, colour, shape in zip(runs, cycle(_COLOURS), cycle(_SHAPES), strict=False):
        epochs, shares = zip(*row.history, strict=True)
        label = f"{row.architecture}, {row.config[:24]}: {row.top_1:.1%} after {row.minutes:.1f} minutes"
        axes.plot(epochs, [100 * share for share in shares], marker=shape, markersize=4, color=colour, label=label)
    axes.margins(0.05)
    axes.xaxis.get_major_locator().set_params(integer=True)
    _dress_axes(axes, "Accuracy by epoch", "", "Epochs")
    return _save(figure, out, "accuracy_epochs")


def _series(rows: Sequence[Row]) -> Iterator[tuple[list[Row], str, str]]:
    """Rows that belong together with their colour and shape."""
    colours = dict(zip(dict.fromkeys(row.architecture for row in rows), cycle(_COLOURS), strict=False))
    shapes = dict(zip(dict.fromkeys(row.setup for row in rows), cycle(_SHAPES), strict=False))
    series: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        series.setdefault((row.architecture, row.setup, row.reported_by), []).append(row)
    for (architecture, setup, _), members in sorted(series.items()):
        yield sorted(members, key=lambda row: row.minutes), colours[architecture], shapes[setup]


def _draw_series(axes: Any, rows: Sequence[Row], colour: str, shape: str) -> None:
    """One series, each point with its number of epochs: measured ones filled, reported ones open and joined."""
    reported_by = rows[0].reported_by
    axes.plot(
        [row.minutes for row in rows],
        [100 * row.top_1 for row in rows],
        marker=shape,
        markersize=7,
        linestyle=":" if reported_by else "none",
        color=colour,
        markerfacecolor="white" if reported_by else colour,
        label=f"{rows[0].architecture}, {rows[0].setup}" + (f" ({reported_by})" if reported_by else ""),
    )
    place = {"xytext": (6, -10), "ha": "left"} if reported_by else {"xytext": (-8, -4), "ha": "right"}
    for row in rows:
        point = (row.minutes, 100 * row.top_1)
        axes.annotate(str(row.epochs), point, textcoords="offset points", fontsize=8, color=colour, **place)


def _choose_scales(axes: Any, minutes: Sequence[float], accuracy: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    axes.margins(0.1)
    if min(minutes) > 0 and max(minutes) > 4 * min(minutes):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    if max(accuracy) - min(accuracy) < _LEAST_SPAN:
        middle = (max(accuracy) + min(accuracy)) / 2
        axes.set_ylim(middle - _LEAST_SPAN, middle + _LEAST_SPAN)


def _dress_axes(axes: Any, title: str, remark: str, x_label: str) -> None:
    axes.set_xlabel(x_label)
    axes.set_ylabel("Top-1 accuracy (%)")
    axes.set_title(title, loc="left", fontweight="bold", pad=12)
    axes.set_title(remark, loc="right", fontsize=9, color="#555555", pad=12)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.figure.legend(frameon=False, loc="outside lower center", ncols=2, fontsize=9)


if __name__ == "__main__":
    raise SystemExit(main())
