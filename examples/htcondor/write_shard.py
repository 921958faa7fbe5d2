"""Write the shard of a part that `split_archive.py` made: what a job of shards.sub does.

    python3 write_shard.py part-3-of-32.tar 500 1.0 90

The three parameters are those of write_dataset.sh: longest side, share of JPEGs, their quality.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import osg  # noqa: F401
from osg.shards import ArchivePart
from trainer.errors import ConfigurationError
from trainer.program import run_program
from trainer.signals import StopRequest

from writer.write_imagenet import Options, write_file

__all__ = ["main"]

PROGRAM = "write_shard.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments)


def _run(arguments: Sequence[str], stop: StopRequest) -> None:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", type=Path, help="tar archive that split_archive.py made")
    parser.add_argument("max_side", type=int, help="longest side in pixels")
    parser.add_argument("share", type=float, help="of images that are stored as JPEG, 0 to 1")
    parser.add_argument("quality", type=int, help="of the JPEGs, 1 to 100")
    parser.add_argument("--output", type=Path, default=Path(), metavar="FOLDER", help="default: here")
    parser.add_argument("--workers", type=int, default=6, metavar="N", help="processes; default: 6")
    given = parser.parse_args(arguments)
    if given.max_side < 1 or not 0 <= given.share <= 1 or not 1 <= given.quality <= 100 or given.workers < 1:
        raise ConfigurationError("expected a side and workers of at least 1, a share of 0 to 1, a quality of 1 to 100")
    part = ArchivePart(given.part)
    given.output.mkdir(parents=True, exist_ok=True)
    path = given.output / f"shard-{part.number}-of-{part.parts}.ffcv"
    options = Options(
        dataset="imagenet",
        split="train",
        data_dir=given.part,
        write_path=path,
        write_mode="proportion",
        max_resolution=given.max_side,
        num_workers=given.workers,
        chunk_size=100,
        jpeg_quality=given.quality,
        subset=-1,
        compress_probability=given.share,
        shard=part.number,
        shards=part.parts,
    )
    print(f"{path}: {write_file(options, part):,} images")


if __name__ == "__main__":
    raise SystemExit(main())
