"""What every program around the trainer does alike: exit statuses, messages, and stopping on signals."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ffx.errors import FfxError

from .errors import ConfigurationError, Interrupted
from .signals import StopRequest, stop_on_signals

__all__ = ["run_program", "show_rows"]


def run_program(
    name: str,
    run: Callable[[list[str], StopRequest], None],
    arguments: Sequence[str] | None,
    worded: Callable[[str], str] = str,
) -> int:
    """Run a program and return its exit status.

    Args:
        name: of the program, for its messages.
        run: what it does; gets its arguments, and what it is asked to stop by.
        arguments: without the program's name; `None`: those of this process.
        worded: rewords messages, for a program whose options have other names than the trainer's.

    Returns:
        0; 2 behind a wrong option, 1 behind another error, 85 or 130 behind a signal.
    """
    # From the first moment: importing torch takes seconds.
    with stop_on_signals() as stop:
        try:
            run(list(sys.argv[1:] if arguments is None else arguments), stop)
        except Interrupted as interruption:
            print(f"{name}: {worded(str(interruption))}", file=sys.stderr)
            return interruption.status
        except (FfxError, OSError) as error:
            for line in worded(str(error)).splitlines() or [type(error).__name__]:
                print(f"{name}: error: {line}", file=sys.stderr)
            return 2 if isinstance(error, ConfigurationError) else 1
    return 0


def show_rows(table: str, rows: Sequence[Any], out: str) -> None:
    """Print a table and, where `out` names a file, write its rows (dataclasses) there as JSON."""
    print(f"\n{table}")
    if out:
        Path(out).write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
