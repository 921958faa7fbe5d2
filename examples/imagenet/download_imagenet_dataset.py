"""Fetch ImageNet's archives and check them, or a small part of ImageNet to try things out.

    python download_imagenet_dataset.py --imagenette 160px --output ./imagenet
    python download_imagenet_dataset.py --train URL_OR_FILE --val URL_OR_FILE --output /data/archives

ILSVRC2012 may not be passed on: everybody needs an account of their own at https://image-net.org/download-images, where
the links of ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar stand once one is logged in and has accepted the terms.
Such links, links of a mirror of one's institution, or files that are already there are what --train and --val take.
With --train and --val, and over https alone, IMAGENET_COOKIE and IMAGENET_TOKEN in the environment are sent as the
session's cookie and as a bearer token.

Imagenette (ten classes, about 9,500 training images) is free; its pictures are unpacked into train/ and val/.

A download that breaks off goes on where it was, also when the program is started again. Archives that do not have
ImageNet's checksums are an error.
"""

from __future__ import annotations

import argparse
import shutil
import tarfile
from pathlib import Path

import checkout  # noqa: F401
from downloads import Archive, fetch, md5_of
from trainer.arguments import Parser
from trainer.errors import ConfigurationError, DataError
from trainer.program import run_program

__all__ = ["ARCHIVES", "IMAGENETTE", "Archive", "fetch", "main", "md5_of", "unpack_imagenette"]

PROGRAM = "download_imagenet_dataset.py"

# The MD5 sums are ImageNet's and torchvision's.
ARCHIVES = {
    "train": Archive("ILSVRC2012_img_train.tar", "1d675b47d978889d74fa0da5fadfb00e", needs_account=True),
    "val": Archive("ILSVRC2012_img_val.tar", "29b22e2961454d5413ddabcf34fc5622", needs_account=True),
}
_PLACE = "https://s3.amazonaws.com/fast-ai-imageclas"
IMAGENETTE = {
    "160px": Archive("imagenette2-160.tgz", "e793b78cc4c9e9a4ccc0c1155377a412", f"{_PLACE}/imagenette2-160.tgz"),
    "320px": Archive("imagenette2-320.tgz", "3df6f0d01a2c9592104656642f5e78a3", f"{_PLACE}/imagenette2-320.tgz"),
    "full": Archive("imagenette2.tgz", "fe2fc210e6bb7c5664d602c3cd71e612", f"{_PLACE}/imagenette2.tgz"),
}


def unpack_imagenette(archive: Path, folder: Path) -> None:
    """Its class folders as `folder/train` and `folder/val`.

    Raises:
        DataError: they are there already, or the archive cannot be read.
    """
    there = [name for name in ("train", "val") if (folder / name).exists()]
    if there:
        raise DataError(f"{folder}: {' and '.join(there)} there already: name another --output")
    space = folder / f".{archive.stem}.unpacking"
    shutil.rmtree(space, ignore_errors=True)
    try:
        with tarfile.open(archive) as tar:
            # Refuses names that lead out of the folder.
            tar.extractall(space, filter="data")
        (root,) = (child for child in space.iterdir() if child.is_dir())
        for split in ("train", "val"):
            (root / split).replace(folder / split)
    except (tarfile.TarError, EOFError, ValueError, FileNotFoundError) as error:
        raise DataError(f"{archive}: expected one folder with train/ and val/ in it: {error}") from error
    finally:
        shutil.rmtree(space, ignore_errors=True)


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, lambda given, stop: _run(given), arguments)


def _run(arguments: list[str]) -> None:
    parser = Parser(prog=PROGRAM, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", default="./imagenet", metavar="FOLDER", help="where all goes (default: ./imagenet)")
    parser.add_argument("--train", metavar="URL_OR_FILE", help=f"of {ARCHIVES['train'].name} (138 GB)")
    parser.add_argument("--val", metavar="URL_OR_FILE", help=f"of {ARCHIVES['val'].name} (6.3 GB)")
    parser.add_argument("--imagenette", choices=sorted(IMAGENETTE), help="fetch and unpack Imagenette of this size")
    parser.add_argument("--imagenette-from", metavar="URL_OR_FILE", help="its archive from another place")
    given = parser.parse_args(arguments)
    wanted = {split: source for split in ARCHIVES if (source := getattr(given, split))}
    if not wanted and not given.imagenette:
        raise ConfigurationError(
            "say what to fetch: ImageNet needs an account (https://image-net.org/download-images): with it, --train "
            "and --val take the links that stand there, or files that you have; --imagenette 160px needs none"
        )
    folder = Path(given.output).expanduser()
    for split, source in wanted.items():
        print(f"{fetch(ARCHIVES[split], source, folder)}: whole, with ImageNet's checksum")
    if wanted:
        print("next: unpack it into train/ and val/ with a folder for each class")
    if given.imagenette:
        archive = IMAGENETTE[given.imagenette]
        path = fetch(archive, given.imagenette_from or archive.url, folder)
        unpack_imagenette(path, folder)
        print(f"{folder}: train/ and val/ are there: python run.py --data-path {folder}")


if __name__ == "__main__":
    raise SystemExit(main())
