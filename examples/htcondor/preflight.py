"""Say before the jobs are held whether their inputs fit: all of a job's inputs together may have 5 GB.

    python3 preflight.py imagenet.sub data=osdf:///nrp/osdf/ILSVRC2012/ILSVRC2012_img_train.tar

Whatever follows the submit description are NAME=VALUE as for condor_submit. Exit status: 0 if all is well; 1 if there
is too much or something is missing. Addresses (osdf://, https://) do not count.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import osg  # noqa: F401
from osg.bindings import read_submit_description
from osg.inputs import LIMIT_BYTES, jobs_of, show_jobs
from trainer.errors import ConfigurationError, DataError
from trainer.program import run_program
from trainer.signals import StopRequest

__all__ = ["main"]

PROGRAM = "preflight.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments)


def _run(arguments: Sequence[str], stop: StopRequest) -> None:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("submit", type=Path, help="the submit description")
    parser.add_argument("values", nargs="*", metavar="NAME=VALUE", help="as for condor_submit")
    parser.add_argument(
        "--limit", type=float, default=LIMIT_BYTES / 1e9, metavar="GB", help="in 10^9 bytes; default: 5"
    )
    given = parser.parse_args(arguments)
    if not 0 < given.limit < math.inf:
        raise ConfigurationError(f"--limit: expected more than 0 GB, found {given.limit:g}")
    values = {}
    for text in given.values:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigurationError(f"{text}: expected NAME=VALUE")
        values[name.strip()] = value.strip()
    jobs = list(jobs_of(read_submit_description(given.submit, values), Path()))
    text, fits = show_jobs(jobs, int(given.limit * 1e9))
    print(text, flush=True)
    if not fits:
        raise DataError(f"{given.submit}: would not run: see above")


if __name__ == "__main__":
    raise SystemExit(main())
