"""The table of epochs to an accuracy by scheduler: the same training with each of them.

    python convergence_table.py --target 0.76 --epochs 90 --data-path ./imagenet [flags of run.py]

Flags are those of run.py; --scheduler says which (default: all three). Each scheduler's run stays in a folder of its
own in --checkpoint-dir, so that --resume auto goes on with the right one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import checkout  # noqa: F401
from run import make_parser, read_arguments, worded
from trainer.entries import read_entries
from trainer.errors import ConfigurationError
from trainer.program import run_program, show_rows
from trainer.signals import StopRequest

__all__ = ["Convergence", "main", "measured_from", "table_of"]

PROGRAM = "convergence_table.py"
_SCHEDULERS = {"multistep": "MultiStepLR", "cosine": "CosineAnnealingLR", "onecycle": "OneCycleLR"}


@dataclass(frozen=True)
class Convergence:
    """How soon a run reached the accuracy.

    Attributes:
        scheduler: which.
        epochs: trained when it was reached first; `None`: never.
        seconds: until then, or to the end.
        best: the highest accuracy of all epochs.
        trained: epochs of the run.
        run: its folder.
    """

    scheduler: str
    epochs: int | None
    seconds: float
    best: float
    trained: int
    run: str


def measured_from(folder: Path, scheduler: str, target: float) -> Convergence:
    """What a run's log says."""
    epochs = [entry for entry in read_entries((folder / "log").read_text(encoding="utf-8")) if "epoch" in entry]
    reached = next((line for line in epochs if line["top_1"] >= target), None)
    last = reached or epochs[-1]
    best = max(line["top_1"] for line in epochs)
    number = reached["epoch"] + 1 if reached else None
    return Convergence(scheduler, number, last["relative_time"], best, epochs[-1]["epoch"] + 1, str(folder))


def table_of(measured: Sequence[Convergence], target: float) -> str:
    """The table as Markdown."""
    lines = [f"| scheduler | epochs to {target:.1%} | hours | best top-1 |", "|---|---:|---:|---:|"]
    for row in measured:
        epochs = str(row.epochs) if row.epochs is not None else f"not in {row.trained}"
        lines.append(f"| {_SCHEDULERS[row.scheduler]} | {epochs} | {row.seconds / 3600:.3f} | {row.best:.1%} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments, worded)


def _run(arguments: list[str], stop: StopRequest) -> None:
    parser = make_parser(PROGRAM, (__doc__ or "").partition("\n")[0])
    parser.add_argument("--target", type=float, default=0.76, help="the top-1 accuracy, a share (default: 0.76)")
    parser.add_argument("--out", default="", help="write the rows to this file as well, as JSON")
    config, options, given = read_arguments(arguments, parser)
    if not 0 < given.target <= 1:
        raise ConfigurationError(f"--target: expected a share above 0 and up to 1, found {given.target:g}")
    from train import Trainer

    folder = Path(config.output.checkpoint_dir)
    chosen = [config.scheduler.name] if hasattr(given, "--scheduler") else list(_SCHEDULERS)
    measured = []
    for scheduler in chosen:
        config.scheduler.name = scheduler
        config.output.checkpoint_dir = str(folder / scheduler)
        print(f"scheduler {scheduler}", flush=True)
        measured.append(measured_from(Trainer(config, options, stop).train(), scheduler, given.target))
    show_rows(table_of(measured, given.target), measured, given.out)


if __name__ == "__main__":
    raise SystemExit(main())
