"""Run the lab's experiments C1 to C8, all or some of them, with the flags of `lab2.py`.

    python3 codes.py C1 C2 C6 --dataset-path=data --device=cpu

Tables are printed and, with --out, written into that folder as `<code>.md`, most of them with a picture where
matplotlib is installed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lab.experiments import CODES, Experiments
from lab.options import LabParser, options_of
from trainer.program import run_program
from trainer.signals import StopRequest

__all__ = ["main"]

PROGRAM = "codes.py"
_CODES_HELP = (
    "C1 training, C2 times, C3 workers, C4 one worker against the best number, C5 GPU against CPU, C6 optimizers, "
    "C7 without batch norms, C8 the profiler's trace; none: all"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments)


def _run(arguments: Sequence[str], stop: StopRequest) -> None:
    parser = LabParser(PROGRAM, (__doc__ or "").partition("\n")[0])
    parser.add_argument("codes", nargs="*", metavar="CODE", help=_CODES_HELP)
    parser.add_argument("--out", default="", help="folder for tables and pictures; default: none are written")
    options, found = options_of(parser, arguments)
    unknown = [code for code in found.codes if code not in CODES]
    if unknown:
        parser.error(f"unknown code {unknown[0]}: expected {', '.join(CODES)}")
    out = Path(found.out).expanduser() if found.out else None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    experiments = Experiments(options, out, stop)
    for code in found.codes or CODES:
        table = str(CODES[code](experiments))
        print(table, flush=True)
        if out is not None:
            (out / f"{code}.md").write_text(table, encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
