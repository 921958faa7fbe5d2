"""Time, accuracy, speed-up and efficiency of trainings on more and more GPUs: a table and pictures.

    python scaling_report.py run_results/A100
    python scaling_report.py run_results/A100/logs/*.out --out report
    python scaling_report.py times.csv --format markdown

From logs of `main.py`, from folders with them (submissions there that have not run are TBD), and from CSV files with
the columns #GPUs, Batch Size and WCT (s), and as they are known GPU, #N, LR, Val Acc@1 and Val Acc@5.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:] = [*dict.fromkeys([str(HERE), *sys.path])]

from ddp.measurements import Measurement, combined, read_csv, read_folder, read_log  # noqa: E402
from ddp.scaling import csv_table, draw_accuracy, draw_speed_up, figures_of, shown_table  # noqa: E402
from trainer.arguments import Parser  # noqa: E402
from trainer.errors import DataError  # noqa: E402
from trainer.program import run_program  # noqa: E402
from trainer.signals import StopRequest  # noqa: E402

__all__ = ["main"]

PROGRAM = "scaling_report.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments)


def _run(arguments: Sequence[str], stop: StopRequest) -> None:
    parser = Parser(prog=PROGRAM, description=(__doc__ or "").partition("\n")[0], allow_abbrev=False)
    parser.add_argument("places", nargs="+", type=Path, metavar="PLACE", help="logs, folders of logs, .csv files")
    parser.add_argument(
        "--weak", nargs="+", type=Path, default=[], metavar="PLACE", help="the same, of N times the data on N GPUs"
    )
    parser.add_argument("--format", choices=("text", "markdown", "csv"), default="text", help="of what is printed")
    parser.add_argument(
        "--out", type=Path, help="folder for scaling.txt, scaling.md, scaling.csv, scaling.png and accuracy.png"
    )
    found = parser.parse_args(list(arguments))
    rows, weak = _read(found.places), _read(found.weak) if found.weak else []
    figures = figures_of(rows, weak)
    table, plain = shown_table(rows, figures), csv_table(rows, figures)
    texts = {"text": table.as_text(), "markdown": str(table), "csv": plain.as_csv()}
    print(texts[found.format], end="")
    if not found.out:
        return
    out = found.out.expanduser()
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in zip(("scaling.txt", "scaling.md", "scaling.csv"), texts.values(), strict=True):
        (out / name).write_text(text, encoding="utf-8")
        written.append(out / name)
    pictures = [draw_speed_up(rows, figures, out / "scaling.png"), draw_accuracy(rows, out / "accuracy.png")]
    # What is printed may be read by a program.
    for path in [*written, *filter(None, pictures)]:
        print(path, file=sys.stderr)
    if not all(pictures):
        print(f"{PROGRAM}: a picture is missing: it needs figures, and matplotlib", file=sys.stderr)


def _read(places: Sequence[Path]) -> list[Measurement]:
    """What was measured, or is planned, in these places; logs that say nothing are named and left out."""
    logs: list[Path] = []
    found: list[Measurement] = []
    for place in places:
        if place.suffix == ".csv":
            found += read_csv(place)
        elif place.is_dir():
            own_logs, planned = read_folder(place)
            logs += own_logs
            found += planned
        else:
            logs.append(place)
    for path in logs:
        try:
            found.append(read_log(path))
        except DataError as error:
            # A job that ended before its training began leaves such a log.
            print(f"{PROGRAM}: left out: {error}", file=sys.stderr)
    if not found:
        raise DataError(f"{', '.join(map(str, places))}: no training was found there")
    return combined(found)


if __name__ == "__main__":
    raise SystemExit(main())
