"""Train on ImageNet or any other set of images, with the options of FFCV's ImageNet example.

    python train_imagenet.py --config-file rn18_configs/<uuid>.yaml \\
        --data.train_dataset=/fast/train_400_0.10_90.ffcv --data.val_dataset=/fast/val_400_0.10_90.ffcv

A wrong option is an error with exit status 2, a failed training one with status 1. SIGTERM and SIGUSR1 end a training
with a checkpoint and status 85, Ctrl-C with a checkpoint and status 130. `--help` lists all options; docs/training.md
explains them.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# The trainer stands beside this file. ffx is used as it is installed, or else from this checkout.
sys.path[:] = [*dict.fromkeys([str(HERE), *sys.path, str(ROOT)])]

from trainer.command_line import read_command_line  # noqa: E402
from trainer.program import run_program  # noqa: E402
from trainer.signals import StopRequest  # noqa: E402

__all__ = ["main"]

PROGRAM = "train_imagenet.py"


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments)


def _run(arguments: list[str], stop: StopRequest) -> None:
    description = (__doc__ or "").partition("\n")[0]
    given = read_command_line(arguments, PROGRAM, description, ROOT)
    name = given.config_files[-1].stem if given.config_files else given.config.model.arch
    # Not before the options are known to be right.
    from trainer.launch import launch

    launch(given.config, name, stop)


if __name__ == "__main__":
    raise SystemExit(main())
