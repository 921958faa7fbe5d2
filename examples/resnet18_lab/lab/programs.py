"""How the lab's programs end: an error is a line and a status, a signal the trainer's own status."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from trainer.errors import ConfigurationError, Interrupted
from trainer.signals import StopRequest, stop_on_signals

from ffx.errors import FfxError

__all__ = ["run_program"]


def run_program(name: str, run: Callable[[Sequence[str], StopRequest], None], arguments: Sequence[str] | None) -> int:
    """Run a program and return its exit status: 2 for wrong flags, 1 for other errors.

    Args:
        name: of the program, for messages.
        run: gets the arguments, and what it is asked to stop by.
        arguments: without the program's name; `None`: those of this process.
    """
    # From the first moment: importing torch takes seconds.
    with stop_on_signals() as stop:
        try:
            run(sys.argv[1:] if arguments is None else arguments, stop)
        except Interrupted as interruption:
            print(f"{name}: {interruption}", file=sys.stderr)
            return interruption.status
        except (FfxError, OSError) as error:
            for line in str(error).splitlines() or [type(error).__name__]:
                print(f"{name}: error: {line}", file=sys.stderr)
            return 2 if isinstance(error, ConfigurationError) else 1
    return 0
