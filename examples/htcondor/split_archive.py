"""Split an archive of pictures into parts, so that each job brings one: split, write shards in jobs, ffx merge.

    python3 split_archive.py ILSVRC2012_img_train.tar --output parts --limit 4.5
    condor_submit shards.sub
    python3 -m ffx merge train.ffcv shards/*.ffcv

The merged file has the very bytes of one that a single machine writes of the whole archive.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import osg  # noqa: F401
from osg.shards import write_parts
from trainer.errors import ConfigurationError
from trainer.program import run_program
from trainer.signals import StopRequest

from ffx.writer import ImageArchive

__all__ = ["main"]

PROGRAM = "split_archive.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments)


def _run(arguments: Sequence[str], stop: StopRequest) -> None:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path, help="a tar archive of class folders or of class archives")
    parser.add_argument("--output", type=Path, default=Path("parts"), metavar="FOLDER", help="default: parts")
    parser.add_argument("--limit", type=float, default=4.5, metavar="GB", help="of a part, in 10^9 bytes; default: 4.5")
    given = parser.parse_args(arguments)
    if not 0 < given.limit < math.inf:
        raise ConfigurationError(f"--limit: expected more than 0 GB, found {given.limit:g}")
    for path in write_parts(ImageArchive(given.archive), given.output, int(given.limit * 1e9)):
        print(path, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
