"""Where the time of many jobs went, from HTCondor's event logs: the OSG benchmark's table and its observations.

    python3 job_statistics.py logs/imagenet.*.log --outputs 'results/imagenet_resnet50.{cluster}.{process}.pt'

With --outputs a job that ended well without a usable file counts as one with a wrong output; without, its exit status
decides.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from string import Formatter

import osg  # noqa: F401
from osg.accounting import account_of, observations, table
from osg.events import missing_outputs, read_logs
from trainer.errors import ConfigurationError
from trainer.program import run_program
from trainer.signals import StopRequest

__all__ = ["main"]

PROGRAM = "job_statistics.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments)


def _run(arguments: Sequence[str], stop: StopRequest) -> None:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="job event logs")
    parser.add_argument("--outputs", default="", metavar="PATTERN", help="where jobs' files came to")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="of each job (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    given = parser.parse_args(arguments)
    if given.gpus < 1:
        raise ConfigurationError(f"--gpus: expected at least 1, found {given.gpus}")
    if given.outputs:
        _check_pattern(given.outputs)
    account = account_of(read_logs(given.logs, missing_outputs(given.outputs) if given.outputs else None))
    print(f"{table(account)}\n\n{observations(account, given.gpus)}")
    if given.json:
        given.json.write_text(json.dumps(account.as_dict(), indent=1) + "\n")


def _check_pattern(pattern: str) -> None:
    try:
        names = {name for _, name, _, _ in Formatter().parse(pattern) if name is not None}
    except ValueError:
        names = set()
    if "process" not in names or names - {"cluster", "process"}:
        raise ConfigurationError(
            f"--outputs {pattern}: expected a path with {{process}} in it, and with no other braces but {{cluster}}"
        )


if __name__ == "__main__":
    raise SystemExit(main())
