"""Train ResNet-18 on CIFAR-10 with the flags of the lab: the trainer of `examples/imagenet` does the work.

    python3 lab2.py --device=cuda --num-of-workers=2 --epochs=5 --optimizer=sgd --batch-size=128 --dataset-path=data

A wrong flag is an error with exit status 2, a failed training one with status 1. `codes.py` runs C1 to C8.
"""

from __future__ import annotations

from collections.abc import Sequence

from lab.configuration import check_device, trace_path
from lab.experiments import Experiments
from lab.options import LabParser, options_of
from lab.runs import train
from lab.tables import epochs_table
from trainer.program import run_program
from trainer.signals import StopRequest

__all__ = ["main"]

PROGRAM = "lab2.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments)


def _run(arguments: Sequence[str], stop: StopRequest) -> None:
    options, _ = options_of(LabParser(PROGRAM, (__doc__ or "").partition("\n")[0]), arguments)
    check_device(options)
    if options.run_code_3:
        print(Experiments(options, stop=stop).workers())
        return
    table = epochs_table(
        f"{options.optimizer} on {options.device}, {options.num_of_workers} workers", train(options, stop)
    )
    if not options.print_epochs:
        del table.rows[:-1]
    if options.run_profiler:
        table.remarks.append(f"Trace: {trace_path(options).absolute()} (open it in chrome://tracing)")
    print(table)


if __name__ == "__main__":
    raise SystemExit(main())
