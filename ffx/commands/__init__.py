"""The `ffx` command: what can be done with a file from a shell."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from . import fetch, merge, verify

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `ffx` with the given arguments (those of the process, if `None`); the exit status."""
    parser = argparse.ArgumentParser(prog="ffx", description="Tools for .beton files.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    verify.add_to(commands)
    fetch.add_to(commands)
    merge.add_to(commands)
    options = parser.parse_args(arguments)
    try:
        return options.run(options)
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        sys.stderr.close()
        return 1
