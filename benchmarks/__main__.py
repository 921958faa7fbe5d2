"""Choose the benchmark: `python -m benchmarks loader`, `python -m benchmarks goals`, and so on."""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

__all__ = ["COMMANDS", "main"]

# Each is a module with a docstring, `add_options(parser)` and `run(options)`, which returns an exit status.
COMMANDS = (
    "loader",
    "goals",
    "decode",
    "resize",
    "scaling",
    "startup",
    "memory",
    "verification",
    "writer",
    "archives",
    "pool",
    "remote",
    "at_scale",
    "feeding",
    "timetable",
    "device_crop",
    "trace",
    "parity",
    "recipes",
    "report",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that `arguments` (default: the command line's) name; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in COMMANDS:
        module = importlib.import_module(f"{__package__}.{name}")
        text = module.__doc__ or ""
        command = commands.add_parser(name, help=text.splitlines()[0], description=text)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        module.add_options(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    return options.run(options)


if __name__ == "__main__":
    raise SystemExit(main())
