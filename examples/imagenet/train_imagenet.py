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
from trainer.errors import ConfigurationError, Interrupted  # noqa: E402
from trainer.signals import StopRequest, stop_on_signals  # noqa: E402

from ffx.errors import FfxError  # noqa: E402

__all__ = ["main"]

PROGRAM = "train_imagenet.py"


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit status."""
    # From the first moment: importing torch takes seconds.
    with stop_on_signals() as stop:
        try:
            _run(sys.argv[1:] if arguments is None else arguments, stop)
        except Interrupted as interruption:
            print(f"{PROGRAM}: {interruption}", file=sys.stderr)
            return interruption.status
        except ConfigurationError as error:
            return _fail(error, 2)
        except (FfxError, OSError) as error:
            return _fail(error, 1)
    return 0


def _run(arguments: list[str], stop: StopRequest) -> None:
    description = (__doc__ or "").partition("\n")[0]
    given = read_command_line(arguments, PROGRAM, description, ROOT)
    name = given.config_files[-1].stem if given.config_files else given.config.model.arch
    # Not before the options are known to be right.
    from trainer.launch import launch

    launch(given.config, name, stop)


def _fail(error: Exception | str, status: int) -> int:
    for line in str(error).splitlines() or [type(error).__name__]:
        print(f"{PROGRAM}: error: {line}", file=sys.stderr)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
