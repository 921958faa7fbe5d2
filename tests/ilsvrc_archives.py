"""Archives in ILSVRC2012's layout, made of pictures in class folders: small ones for tests, larger ones for measuring.

    python -m tests.ilsvrc_archives --output /tmp/archives --classes 10 --pictures 20
    python -m tests.ilsvrc_archives --output /tmp/archives --images /data/imagenet-sample --repeats 4

The train archive holds one tar a class (`n01440764.tar`, in it `n01440764_10026.JPEG`), the val archive lies flat
(`ILSVRC2012_val_00000001.JPEG`), and `valprep.sh` sorts the latter into folders. They are GNU tar's format, as the real
ones; names do not come in sorted order.
"""

import argparse
import io
import tarfile
from pathlib import Path

import numpy as np

from tests.pictures import encode_jpeg, make_picture

__all__ = ["Archives", "add_member", "made_pictures", "write_archives"]

TRAIN, VAL, VALPREP = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "valprep.sh"


class Archives:
    """Where the three files lie; `train` and `val` are class -> names of its pictures in the order of the archive."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        self.train_tar, self.val_tar, self.valprep = (self.folder / name for name in (TRAIN, VAL, VALPREP))
        self.train: dict[str, list[str]] = {}
        self.val: dict[str, list[str]] = {}


def add_member(tar: tarfile.TarFile, name: str, data: bytes = b"", **attributes) -> None:
    """Add a file, or with `type=…` something else, always with the same header."""
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = len(data), 1_340_000_000, 0o644
    for key, value in attributes.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(data))


def made_pictures(classes: int, pictures: int, sides: tuple[int, int] = (30, 60), seed: int = 0) -> dict:
    """Class -> that many JPEGs, made by `tests.pictures`."""
    generator = np.random.default_rng(seed)
    found = {}
    for number in range(classes):
        shapes = generator.integers(sides[0], sides[1] + 1, size=(pictures, 2)).tolist()
        found[f"n{1440764 + 7 * number:08d}"] = [
            encode_jpeg(make_picture(*shape, seed=seed + 1000 * number + index)) for index, shape in enumerate(shapes)
        ]
    return found


def read_pictures(folder: Path) -> dict[str, list[bytes]]:
    """Class -> its pictures, from class folders anywhere below `folder`."""
    found: dict[str, list[bytes]] = {}
    for path in sorted(folder.rglob("*.JPEG")):
        found.setdefault(path.parent.name, []).append(path.read_bytes())
    return found


def write_archives(folder: Path, train: dict, val: dict, seed: int = 0) -> Archives:
    """Both archives and `valprep.sh` in `folder`, of class -> JPEGs."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    made, generator = Archives(folder), np.random.default_rng(seed)
    with tarfile.open(made.train_tar, "w", format=tarfile.GNU_FORMAT) as outer:
        for name, pictures in train.items():
            inner_file = io.BytesIO()
            made.train[name] = [f"{name}_{number}.JPEG" for number in generator.permutation(len(pictures)) * 3 + 7]
            with tarfile.open(fileobj=inner_file, mode="w", format=tarfile.GNU_FORMAT) as inner:
                for picture_name, data in zip(made.train[name], pictures, strict=True):
                    add_member(inner, picture_name, data)
            add_member(outer, f"{name}.tar", inner_file.getvalue())
    flat = [(name, data) for name, pictures in val.items() for data in pictures]
    order = generator.permutation(len(flat)).tolist()
    moves = []
    with tarfile.open(made.val_tar, "w", format=tarfile.GNU_FORMAT) as tar:
        for number, chosen in enumerate(order, 1):
            name, data = flat[chosen]
            picture_name = f"ILSVRC2012_val_{number:08d}.JPEG"
            made.val.setdefault(name, []).append(picture_name)
            add_member(tar, picture_name, data)
            moves.append(f"mv {picture_name} {name}/")
    lines = ["#!/bin/bash", "", *(f"mkdir -p {name}" for name in sorted(val)), "", *moves]
    made.valprep.write_text("\n".join(lines) + "\n")
    return made


def main() -> None:
    """Make archives as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for the three files")
    parser.add_argument("--images", type=Path, help="real JPEGs in class folders; without it they are made")
    parser.add_argument("--repeats", type=int, default=1, help="take each picture so many times")
    parser.add_argument("--classes", type=int, default=5, help="of made pictures")
    parser.add_argument("--pictures", type=int, default=8, help="made for a class")
    options = parser.parse_args()
    if options.images is not None:
        pictures = {name: own * options.repeats for name, own in read_pictures(options.images).items()}
    else:
        pictures = made_pictures(options.classes, options.pictures * options.repeats)
    made = write_archives(options.output, pictures, pictures)
    print(f"{made.train_tar}\n{made.val_tar}\n{made.valprep}")


if __name__ == "__main__":
    main()
