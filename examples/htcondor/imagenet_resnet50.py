"""Train a ResNet-50 on class folders or a file, as the OSG's benchmark does: the trainer beside this does the work.

    python3 imagenet_resnet50.py --data data/train --epochs 5 --save-model

A training that was stopped goes on from the checkpoints in its folder, by the same command. SIGTERM and SIGUSR1 write
one and end with status 85, HTCondor's `checkpoint_exit_code`; a wrong flag ends with 2, a failed training with 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import osg  # noqa: F401
from osg.options import MODEL, configuration, read_options
from trainer.durable import write_durably
from trainer.program import run_program
from trainer.signals import StopRequest

__all__ = ["main"]

PROGRAM = "imagenet_resnet50.py"
_WEIGHTS = "final_weights.pt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments)


def _run(arguments: Sequence[str], stop: StopRequest) -> None:
    options = read_options(PROGRAM, (__doc__ or "").partition("\n")[0], arguments)
    config = configuration(options)
    # Late, because importing torch takes seconds.
    from trainer.launch import launch

    folder = launch(config, PROGRAM.removesuffix(".py"), stop)
    if options.save_model:
        write_durably(Path(MODEL), (folder / _WEIGHTS).read_bytes())
        print(f"{MODEL}: the weights of {folder.name}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
