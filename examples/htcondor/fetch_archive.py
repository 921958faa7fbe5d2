"""Fetch an archive over HTTP inside a job: tried again with pauses, continued by ranges, checked.

    python3 fetch_archive.py https://origin.example.org/ILSVRC2012_img_train.tar --md5 1d675b47d978889d74fa0da5fadfb00e

Six tries, then an error with exit status 1; what has arrived stays, and the next run goes on there. Without --md5 the
length that the server tells is all that is checked.
"""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

import osg  # noqa: F401
from downloads import Archive, fetch
from trainer.errors import ConfigurationError
from trainer.program import run_program
from trainer.signals import StopRequest

__all__ = ["main"]

PROGRAM = "fetch_archive.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments)


def _run(arguments: Sequence[str], stop: StopRequest) -> None:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="address of the archive, https:// or http://")
    parser.add_argument("--md5", default="", help="its MD5 sum")
    parser.add_argument("--output", type=Path, default=Path(), metavar="FOLDER", help="where it goes (default: here)")
    parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS", help="of each wait (default: 60)")
    parser.add_argument("--pause", type=float, default=1, metavar="SECONDS", help="before the second try (default: 1)")
    given = parser.parse_args(arguments)
    name = os.path.basename(urlsplit(given.url).path)
    if not name:
        raise ConfigurationError(f"{given.url}: expected the address of a file")
    if not 0 < given.timeout < math.inf:
        raise ConfigurationError(f"--timeout: expected more than 0 seconds, found {given.timeout:g}")
    if not 0 <= given.pause < math.inf:
        raise ConfigurationError(f"--pause: expected at least 0 seconds, found {given.pause:g}")
    if given.md5 and not re.fullmatch("[0-9a-fA-F]{32}", given.md5):
        raise ConfigurationError(f"--md5: expected 32 hexadecimal digits, found {given.md5!r}")
    path = fetch(Archive(name, given.md5.lower()), given.url, given.output, given.pause, given.timeout)
    print(f"{path}: {path.stat().st_size:,} bytes, {'with the MD5 sum asked for' if given.md5 else 'not checked'}")


if __name__ == "__main__":
    raise SystemExit(main())
