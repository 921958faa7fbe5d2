"""What is known of ILSVRC2012's archives: their checksums, and the class of each validation picture.

The classes come from `valprep.sh`, a list of `mkdir -p` and `mv` lines that is read here and never run, or from the
development kit's archive.
"""

from __future__ import annotations

import io
import re
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffx.errors import ArchiveError

__all__ = ["ROOT", "check_md5", "read_devkit", "read_valprep", "validation_classes"]

ROOT = Path(__file__).resolve().parent.parent
_NAME = r"(?![-.])[\w.-]+"
_MKDIR = re.compile(rf"mkdir -p((?: +{_NAME}/?)+)")
_MV = re.compile(rf"mv +(?:\./)?({_NAME}) +(?:\./)?({_NAME})/?")


def read_valprep(path: Path) -> dict[str, str]:
    """Each picture's class, as the script's `mv PICTURE CLASS/` lines say.

    Raises:
        ArchiveError: a line is none of these, or names a picture twice or a folder that was not made.
        OSError: it cannot be read.
    """
    folders: set[str] = set()
    classes: dict[str, str] = {}
    for number, line in enumerate(Path(path).read_text(errors="replace").splitlines(), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        made, moved = _MKDIR.fullmatch(line), _MV.fullmatch(line)
        if made:
            folders.update(name.rstrip("/") for name in made[1].split())
            continue
        expected = "'mkdir -p FOLDER' or 'mv PICTURE FOLDER/'"
        if moved:
            expected = "a folder that a line before made" if moved[2] not in folders else "a picture once"
        if not moved or moved[2] not in folders or moved[1] in classes:
            raise ArchiveError(f"{path}: line {number}: expected {expected}, found {line[:80]!r}")
        classes[moved[1]] = moved[2]
    if not classes:
        raise ArchiveError(f"{path}: expected lines such as 'mv ILSVRC2012_val_00000001.JPEG n01751748/', found none")
    return classes


def read_devkit(path: Path) -> dict[str, str]:
    """Each picture's class, as ILSVRC2012_devkit_t12.tar.gz says.

    Raises:
        ArchiveError: it is no such archive, or scipy, which reads one of its files, is not there.
        OSError: it cannot be read.
    """
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ArchiveError(
            f"{path}: reading the development kit needs scipy (pip install scipy); valprep.sh says the same"
        ) from error
    try:
        with tarfile.open(path) as tar:
            names = {Path(name).name: name for name in tar.getnames()}
            truth = _content(tar, names["ILSVRC2012_validation_ground_truth.txt"]).decode("ascii").split()
            synsets = loadmat(io.BytesIO(_content(tar, names["meta.mat"])), squeeze_me=True)["synsets"]
        by_number = {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in synsets.reshape(-1)}
        for name in by_number.values():
            # Folders are named after them.
            if not re.fullmatch(_NAME, name):
                raise ValueError(f"expected a class such as n01440764, found {name!r}")
        return {f"ILSVRC2012_val_{at:08d}.JPEG": by_number[int(number)] for at, number in enumerate(truth, 1)}
    except (tarfile.TarError, EOFError, KeyError, ValueError, TypeError) as error:
        raise ArchiveError(
            f"{path}: expected ILSVRC2012_devkit_t12.tar.gz with data/meta.mat and "
            f"data/ILSVRC2012_validation_ground_truth.txt: {type(error).__name__}: {error}"
        ) from error


def _content(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()


def validation_classes(valprep_script: Path | None, devkit: Path | None) -> dict[str, str]:
    """Each picture's class, from whichever of the two is given (the script, if both are)."""
    if valprep_script is not None:
        return read_valprep(valprep_script)
    assert devkit is not None
    return read_devkit(devkit)


def check_md5(archives: Mapping[str, Path]) -> None:
    """Hold archives against ImageNet's MD5 sums: `train` and `val`. Shows a bar for each.

    Raises:
        FfxError: one is not there or differs.
    """
    folder = str(ROOT / "examples" / "imagenet")
    if folder not in sys.path:
        sys.path.append(folder)
    # What fetches them knows their sums.
    import download_imagenet_dataset as fetching

    known: Mapping[str, Any] = fetching.ARCHIVES
    for split, path in archives.items():
        fetching.fetch(known[split], str(path), path.parent)
