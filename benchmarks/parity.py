"""Pixel differences, in grey levels, of each of ffx's paths to its reference over all pictures.

Each path gives centre crops of every sample, for every size and share of the shorter side; mean and maximum are over
all pixels of all pictures, and of the pictures' own means the largest.

raw         raw pixels: OpenCV's INTER_AREA on the same stored pixels; at most 1
jpeg        JPEG: OpenCV's full decode of the same bytes, then INTER_AREA
tiled       tiled JPEG: the same; OpenCV knows nothing of tiles
jpeg-fast   JPEG with fast upsampling of chroma: the same; what that choice costs
yuv         YUV 4:2:0: INTER_AREA on the RGB pixels that it was made of; what storing half the bytes costs
portable    all of these by the code for processors without vector instructions: by ffx's own; exactly equal
ffcv-…      raw and JPEG samples of FFCV's files: FFCV's own loader; `ffcv-stored` the two writers' raw samples, equal

The exit status is 1 when a limit is exceeded. What this version of ffx does not have is left out, and said so.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .files import KINDS, NotWritten, Pictures, ffx_file, written_file
from .harness import Contender, Round, Session, add_picture_options, left_out, measure
from .peers import PEERS

__all__ = ["WAYS", "Comparison", "Way", "add_options", "compare", "open_crops", "reference_crops", "run"]

JPEG_MODE, RAW_MODE = 0, 1
COLUMNS = ("path", "file", "px", "share", "samples", "mean", "largest mean", "maximum", "within the limits")
# Compiled for the least processor, without vector instructions.
_PORTABLE = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}


@dataclass(frozen=True)
class Way:
    """One way through ffx, its reference, and how far apart they may be.

    Attributes:
        kind: of the file.
        reference: "opencv" on the stored samples; a kind: on that file's samples; "ffx": ffx's other code; "ffcv".
        most, mean: limits in grey levels, of any pixel and of the mean.
        options: of the decoder.
        environment: of the process.
    """

    name: str
    kind: str
    reference: str
    most: float = float("inf")
    mean: float = float("inf")
    options: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)


WAYS = (
    Way("raw", "raw400", "opencv", most=1),
    Way("jpeg", "jpg500", "opencv", mean=0.25),
    Way("tiled", "tiled500", "opencv", mean=0.25),
    Way("jpeg-fast", "jpg500", "opencv", mean=1.5, options={"upsampling": "fast"}),
    Way("yuv", "yuv400", "raw400", mean=1.5),
    *(
        Way(f"portable-{name}", kind, "ffx", most=0, environment=_PORTABLE)
        for name, kind in (("raw", "raw400"), ("jpeg", "jpg500"), ("tiled", "tiled500"), ("yuv", "yuv400"))
    ),
    Way("ffcv-raw", "raw400", "ffcv", most=1),
    # FFCV decodes with the library's fast DCT, which alone is about one grey level off.
    Way("ffcv-jpeg", "jpg500", "ffcv", mean=1.5),
)


def open_crops(
    package: str, path: str, size: int, share: float, options: dict[str, Any], target: str
) -> Callable[[], Round]:
    """A round: store centre crops of every sample in `target`, `uint8[samples, size, size, 3]` (see `Contender`)."""
    decoders = importlib.import_module(f"{package}.fields.decoders")
    loader = importlib.import_module(f"{package}.loader")
    to_tensor = importlib.import_module(f"{package}.transforms").ToTensor
    try:
        decoder = decoders.CenterCropRGBImageDecoder((size, size), share, **options)
    except TypeError as error:
        reason = str(error)
        return lambda: {"refused": reason}

    def do_round() -> Round:
        batches = loader.Loader(
            path,
            batch_size=50,
            num_workers=1,
            order=loader.OrderOption.SEQUENTIAL,
            drop_last=False,
            pipelines={"image": [decoder, to_tensor()], "label": None},
        )
        np.save(target, np.concatenate([np.array(batch[0]) for batch in batches]))
        return {}

    return do_round


def _crops(package: str, path: Path, size: int, share: float, target: Path, way: Way) -> np.ndarray:
    """The crops of every sample by a loader in a process of its own.

    Raises:
        NotWritten: the decoder refuses its options.
    """
    arguments = {"package": package, "path": str(path.resolve()), "size": size, "share": share}
    arguments |= {"options": dict(way.options), "target": str(target)}
    contender = Contender(way.name, "benchmarks.parity:open_crops", arguments, environment=way.environment)
    (found,) = measure([contender], 0, 1)[way.name]
    if "refused" in found:
        raise NotWritten(f"its decoder says: {found['refused']}")
    return np.load(target, mmap_mode="r")


def _samples(path: Path) -> Iterator[tuple[int, np.ndarray]]:
    """Mode and pixels of every sample as a file stores them, decoded by OpenCV."""
    reader = importlib.import_module("ffx.reader").Reader(str(path))
    metadata = reader.metadata["f0"]
    sizes = dict(zip(reader.alloc_table["ptr"].tolist(), reader.alloc_table["size"].tolist(), strict=True))
    file = np.memmap(path, np.uint8, "r")
    for record in metadata:
        mode, width, height, start = (int(value) for value in record)
        data = file[start : start + sizes[start]]
        if mode == RAW_MODE:
            yield mode, data.reshape(height, width, 3)
        elif mode == JPEG_MODE:
            yield mode, cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        else:
            raise SystemExit(f"benchmarks: {path}: expected raw pixels or JPEG as a reference, found mode {mode}")


def reference_crops(path: Path, size: int, share: float) -> Iterator[np.ndarray]:
    """Centre crops of every sample of a file by OpenCV: `share` of the shorter side, INTER_AREA."""
    centre = importlib.import_module("ffx.fields.rgb_image").get_center_crop
    for _, pixels in _samples(path):
        top, left, height, width = centre(*pixels.shape[:2], None, share)
        part = pixels[top : top + height, left : left + width]
        yield cv2.resize(part, (size, size), interpolation=cv2.INTER_AREA)


@dataclass
class Comparison:
    """Differences in grey levels over pictures; `add` another pair."""

    samples: int = 0
    maximum: int = 0
    largest_mean: float = 0.0
    total: float = 0.0

    def add(self, one: np.ndarray, other: np.ndarray) -> None:
        """Compare two pictures of one shape."""
        if one.shape != other.shape:
            raise SystemExit(f"benchmarks: sample {self.samples}: {one.shape} beside {other.shape}")
        difference = np.abs(one.astype(np.int16) - other)
        self.samples += 1
        self.maximum = max(self.maximum, int(difference.max()))
        self.largest_mean = max(self.largest_mean, float(difference.mean()))
        self.total += float(difference.mean())

    @property
    def mean(self) -> float:
        """Mean over all pictures, each counting once."""
        return self.total / self.samples if self.samples else 0.0


def compare(crops: Iterator[np.ndarray] | np.ndarray, reference: Iterator[np.ndarray] | np.ndarray) -> Comparison:
    """Compare picture by picture."""
    found = Comparison()
    for one, other in zip(crops, reference, strict=True):
        found.add(one, other)
    return found


def compare_stored(ours: Path, theirs: Path) -> Comparison:
    """Compare the samples that are raw in both files."""
    found = Comparison()
    for (mode, one), (other_mode, other) in zip(_samples(ours), _samples(theirs), strict=True):
        if mode == other_mode == RAW_MODE:
            found.add(one, other)
    return found


def _compared(
    way: Way, pictures: Pictures, cache: Path, size: int, share: float, place: Path
) -> tuple[str, Comparison]:
    """Who wrote the file, and the comparison."""
    path, written_by = ffx_file(KINDS[way.kind], pictures, cache)
    crops = _crops("ffx", path, size, share, place / "crops.npy", way)
    plain = Way("reference", way.kind, "")
    if way.reference in ("ffx", "ffcv"):
        return written_by, compare(crops, _crops(way.reference, path, size, share, place / "reference.npy", plain))
    source = path if way.reference == "opencv" else ffx_file(KINDS[way.reference], pictures, cache)[0]
    return written_by, compare(crops, reference_crops(source, size, share))


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks parity`."""
    names = [way.name for way in WAYS]
    add_picture_options(parser, limit=1_000_000)
    parser.add_argument("--paths", nargs="+", choices=[*names, "ffcv-stored"], default=[*names, "ffcv-stored"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[160, 224], help="sides of the crops in pixels")
    parser.add_argument("--shares", nargs="+", type=float, default=[0.875, 0.4], help="of the shorter side")


class _Table:
    """Prints and stores comparisons, and remembers whether all were within their limits."""

    def __init__(self, options: argparse.Namespace, pictures: Pictures) -> None:
        self._session = Session("parity", options.out, COLUMNS, pictures=len(pictures))
        self.good = True

    def line(self, way: Way, written_by: str, size: int | None, share: float | None, found: Comparison) -> None:
        """One comparison."""
        within = found.maximum <= way.most and found.mean <= way.mean
        self.good &= within
        cells = [way.name, f"{way.kind} by {written_by}", size or "", share or "", found.samples]
        cells += [f"{found.mean:.4f}", f"{found.largest_mean:.4f}", found.maximum, "yes" if within else "NO"]
        row = {"path": way.name, "kind": way.kind, "written_by": written_by, "reference": way.reference, "size": size}
        row |= {"share": share, "samples": found.samples, "mean": found.mean, "largest_mean": found.largest_mean}
        self._session.line(cells, {**row, "maximum": found.maximum, "within": within})


def run(options: argparse.Namespace) -> int:
    """Compare every path; print a Markdown table, append rows to `options.out`, and return the exit status."""
    pictures = Pictures(options.images, options.limit)
    table = _Table(options, pictures)
    missing = PEERS["ffcv"].missing()
    for way in WAYS:
        if way.name not in options.paths:
            continue
        if way.reference == "ffcv" and missing:
            left_out(way.name, f"FFCV: {missing}")
            continue
        try:
            for size, share in ((size, share) for size in options.sizes for share in options.shares):
                with tempfile.TemporaryDirectory(prefix="benchmarks-") as place:
                    written_by, found = _compared(way, pictures, options.cache, size, share, Path(place))
                table.line(way, written_by, size, share, found)
        except NotWritten as error:
            left_out(way.name, str(error))
    if "ffcv-stored" in options.paths:
        _compare_writers(options, pictures, table, missing)
    return 0 if table.good else 1


def _compare_writers(options: argparse.Namespace, pictures: Pictures, table: _Table, missing: str) -> None:
    if missing:
        left_out("ffcv-stored", f"FFCV: {missing}")
        return
    for name in ("raw400", "mix400"):
        ours, theirs = (written_file(system, KINDS[name], pictures, options.cache) for system in ("ffx", "ffcv"))
        way = Way("ffcv-stored", name, "ffcv", most=0)
        table.line(way, "both", None, None, compare_stored(ours, theirs))
