"""`ffx merge OUT SHARD …`: one file of several."""

from __future__ import annotations

import argparse
import sys

from ..errors import FfxError
from .output import show

__all__ = ["add_to"]

_DESCRIPTION = """
Writes one file with the samples of several. Shards of a data set (write_imagenet.py --cfg.shard=3 --cfg.shards=16)
may come in any order and must all be there; the file is then, byte by byte, the one that a single run would have
written. Other files of ffx follow each other as given. OUT appears complete or not at all. Exit status: 0 if all is
well, 1 if anything is not.
"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser("merge", help="make one file of several", description=_DESCRIPTION)
    parser.add_argument("target", metavar="OUT", help="the file to write")
    parser.add_argument("sources", nargs="+", metavar="SHARD", help="the files to merge, which stay")
    parser.add_argument("--json", action="store_true", help="a line of JSON instead of text")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Merge the files; 0 if that went well."""
    # They bring torch along, for which nobody waits who asks for help.
    from tqdm import tqdm

    from ..writer import merge_files

    try:
        with tqdm(desc=options.target, unit=" samples", disable=not sys.stderr.isatty(), leave=False) as bar:
            samples = merge_files(options.target, options.sources, bar.update)
    except (FfxError, OSError) as error:
        show(error, {"ok": False, "error": str(error)}, options.json)
        return 1
    about = {"ok": True, "file": options.target, "samples": samples, "shards": len(options.sources)}
    show(f"{options.target}: {samples:,} samples of {len(options.sources)} files", about, options.json)
    return 0
