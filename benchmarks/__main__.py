"""Choose the benchmark: `python -m benchmarks loader` or `python -m benchmarks parity`."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from . import loader, parity

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark that `arguments` (default: the command line's) name; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for module in (loader, parity):
        name = module.__name__.rpartition(".")[2]
        command = commands.add_parser(name, help=module.__doc__.splitlines()[0], description=module.__doc__)
        command.formatter_class = argparse.RawDescriptionHelpFormatter
        module.add_options(command)
        command.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    return options.run(options)


if __name__ == "__main__":
    raise SystemExit(main())
