"""Unpack an archive of class folders, of class archives, or a zip archive of either, into data/train.

    python3 unpack_archive.py ILSVRC2012_img_train.tar --output data --remove

A zip archive becomes a tar archive first (`--to-tar` does that alone). With --remove the archive goes when all is
unpacked.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import osg  # noqa: F401
from osg.unpacking import unpack_training_archive, zip_to_tar
from trainer.errors import ConfigurationError
from trainer.program import run_program
from trainer.signals import StopRequest

__all__ = ["main"]

PROGRAM = "unpack_archive.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments)


def _run(arguments: Sequence[str], stop: StopRequest) -> None:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("archive", type=Path, help="a tar or zip archive")
    parser.add_argument("--output", type=Path, default=Path("data"), metavar="FOLDER", help="default: data")
    parser.add_argument("--threads", type=int, default=6, metavar="N", help="default: 6")
    parser.add_argument("--remove", action="store_true", help="the archive itself is not needed afterwards")
    parser.add_argument("--to-tar", action="store_true", help="only make a tar archive of a zip archive")
    given = parser.parse_args(arguments)
    if given.threads < 1:
        raise ConfigurationError(f"--threads: expected at least 1, found {given.threads}")
    if given.to_tar:
        tar = given.archive.with_suffix(".tar")
        print(f"{tar}: {zip_to_tar(given.archive, tar):,} files")
        return
    folder, files = unpack_training_archive(given.archive, given.output, given.threads, keep=not given.remove)
    print(f"{folder}: {files:,} files")


if __name__ == "__main__":
    raise SystemExit(main())
