"""Train on ImageNet with the options of PyTorch's ImageNet example, one process a GPU, started by SLURM.

    srun --ntasks=8 --gpus-per-task=1 python main.py -a resnet50 -b 2048 --epochs 90 DATA

Rank, local rank, number of ranks and the first node come from SLURM; outside of it there is one rank. Nothing is
started here. Exit statuses and signals are the trainer's: a wrong option 2, a failed training 1, SIGTERM and SIGUSR1 a
checkpoint and 85, Ctrl-C one and 130. `--resume auto` goes on behind any of them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

# Under SLURM, too, where a copy of the job's script runs elsewhere.
HERE = str(Path(__file__).resolve().parent)
sys.path[:] = [*dict.fromkeys([HERE, *sys.path])]

from ddp.configuration import configuration, worded, world_size  # noqa: E402
from ddp.options import PROGRAM, options_of  # noqa: E402
from ddp.results import Heading, total_of_run  # noqa: E402
from trainer.program import run_program  # noqa: E402
from trainer.signals import StopRequest  # noqa: E402

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments, worded)


def _run(arguments: Sequence[str], stop: StopRequest) -> None:
    data, options, further = options_of(arguments, (__doc__ or "").partition("\n")[0])
    world = world_size()
    config = configuration(data, options, further, world)
    # Not before the options are known to be right: it takes seconds.
    from trainer.distributed import Ranks, find_ranks
    from trainer.launch import launch

    is_main = (find_ranks(config) or Ranks()).is_main
    if is_main:
        print(Heading.of(config, world), flush=True)
    folder = launch(config, f"main.py {config.model.arch}", stop)
    if is_main and not options.evaluate:
        total = total_of_run(folder)
        if total is not None:
            print(total, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
