"""Unpack ILSVRC2012's archives into train/ and val/ with a folder for each class, by several threads.

    python writer/extract_ILSVRC_mp.py --train_tar ILSVRC2012_img_train.tar --val_tar ILSVRC2012_img_val.tar \\
        --valprep_script valprep.sh --output_dir /data/imagenet --num_threads 8 --check

A run that was ended goes on when it is started again: files that are there in their full size stay. The folders appear
under their names when everything is in them. Whatever is damaged is named, the rest is unpacked, and the exit status
is 1; after wrong options it is 2.

ffx itself needs no unpacked pictures: write_dataset.sh writes its files straight from the archives.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

# Where ffx is not installed, the one of this checkout is used.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from ffx.errors import FfxError
from ffx.writer import TarArchive
from writer.extraction import DamagedArchiveError, ExtractionError, train_tasks, unpack, val_tasks
from writer.ilsvrc import check_md5, validation_classes
from writer.messages import printable

__all__ = ["main"]

PROGRAM = "extract_ILSVRC_mp.py"
_INTERRUPTED = 130


def _read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--train_tar", type=Path, metavar="FILE", help="ILSVRC2012_img_train.tar")
    parser.add_argument("--val_tar", type=Path, metavar="FILE", help="ILSVRC2012_img_val.tar")
    parser.add_argument("--output_dir", type=Path, metavar="FOLDER", help="where train/ and val/ go; made if missing")
    parser.add_argument("--valprep_script", type=Path, metavar="FILE", help="valprep.sh, which is read and never run")
    parser.add_argument(
        "--devkit", type=Path, metavar="FILE", help="instead of it: ILSVRC2012_devkit_t12.tar.gz (needs scipy)"
    )
    parser.add_argument("--num_threads", type=int, default=4, metavar="N", help="threads (default: 4)")
    parser.add_argument("--run_type", choices=("train", "val", "all"), default="all", help="what to unpack (all)")
    parser.add_argument(
        "--check",
        action="store_true",
        help="hold the archives against ImageNet's MD5 sums first; without --output_dir nothing else is done",
    )
    options = parser.parse_args(arguments)
    problem = _problem(options)
    if problem:
        parser.exit(2, f"{PROGRAM}: error: {problem} (--help lists all options)\n")
    return options


def _problem(options: argparse.Namespace) -> str:
    """What is wrong with the options, or nothing."""
    splits = _splits(options)
    needed = {f"{split}_tar": f"--run_type {options.run_type}" for split in splits}
    if not options.check:
        needed["output_dir"] = "unpacking"
    for name, purpose in needed.items():
        if getattr(options, name) is None:
            return f"--{name} is missing, which {purpose} needs"
    if "val" in splits and options.output_dir and not (options.valprep_script or options.devkit):
        return "the validation pictures' classes are missing: --valprep_script valprep.sh, or --devkit"
    if options.num_threads < 1:
        return f"--num_threads: expected at least 1, found {options.num_threads}"
    for name in ("train_tar", "val_tar", "valprep_script", "devkit"):
        path = getattr(options, name)
        if path is not None and not path.is_file():
            return f"--{name}: there is no file {path}"
    return ""


def _splits(options: argparse.Namespace) -> tuple[str, ...]:
    return ("train", "val") if options.run_type == "all" else (options.run_type,)


def _run(options: argparse.Namespace) -> None:
    paths = {split: getattr(options, f"{split}_tar") for split in _splits(options)}
    if options.check:
        check_md5(paths)
        print("ImageNet's archives, whole:", *(printable(str(path)) for path in paths.values()))
    if options.output_dir is None:
        return
    archives = {split: TarArchive(path) for split, path in paths.items()}
    # Everything that can be wrong at once is looked at before anything is written.
    tasks = {}
    if "train" in archives:
        tasks["train"] = train_tasks(archives["train"])
    if "val" in archives:
        tasks["val"] = val_tasks(archives["val"], validation_classes(options.valprep_script, options.devkit))
    problems = []
    for split, own in tasks.items():
        try:
            files, before = unpack(split, archives[split], own, options.output_dir, options.num_threads)
        except ExtractionError as error:
            problems.append(str(error))
            # Damage in one archive leaves the other whole; a disk that is full does not.
            if isinstance(error, DamagedArchiveError):
                continue
            break
        there = f", {before:,} of them there before" if before else ""
        print(f"{printable(str(options.output_dir / split))}: {files:,} pictures{there}")
    if problems:
        raise ExtractionError("\n".join(problems))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    options = _read_options(arguments)
    try:
        _run(options)
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted; a rerun goes on", file=sys.stderr)
        return _INTERRUPTED
    except (FfxError, OSError) as error:
        for line in str(error).splitlines():
            print(f"{PROGRAM}: error: {printable(line)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
