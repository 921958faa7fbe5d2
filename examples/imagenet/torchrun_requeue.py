"""torchrun for batch systems: with exit status 85 where a signal ended the training, and SIGUSR1 passed on.

    python torchrun_requeue.py --nproc-per-node=8 train_imagenet.py --config-file ...

Takes torchrun's options. torchrun itself passes SIGTERM on to the trainer, which writes a checkpoint, but ends with
status 1, and SIGUSR1 kills it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from types import FrameType

HERE = str(Path(__file__).resolve().parent)
sys.path[:] = [*dict.fromkeys([HERE, *sys.path])]

from trainer.signals import STOP_SIGNALS, status_of  # noqa: E402

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run torchrun and return the exit status."""
    for number in STOP_SIGNALS:
        signal.signal(number, _end)
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    if hasattr(signal, "SIGUSR1"):
        # torchrun handles the other ones by itself, from when it has started the processes.
        signal.signal(signal.SIGUSR1, _pass_on)
    try:
        torchrun(arguments)
    except SignalException as error:
        return status_of(error.sigval)
    except ChildFailedError as error:
        statuses = {failure.exitcode for failure in error.failures.values()}
        stopped = sorted(statuses & {status_of(number) for number in STOP_SIGNALS})
        if stopped:
            return stopped[0]
        raise
    return 0


def _end(number: int, frame: FrameType | None) -> None:
    # No process was started yet.
    raise SystemExit(status_of(number))


def _pass_on(number: int, frame: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    raise SystemExit(main())
