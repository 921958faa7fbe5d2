"""What training from an object store asks for on 8, 64 and 1,024 GPUs: projections from measured rows.

Measured here are a core's images a second and the bytes of an image (`loader.jsonl`), and requests and processor time
of fetching (`remote.jsonl`). What a GPU takes, what a store gives and what it costs are others' figures, named with
their sources. Nothing of it was run at this scale: every figure of the tables is projected.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import goals
from .harness import table_line
from .rows import ROOT, read_rows

__all__ = ["BEGIN", "DOCUMENT", "END", "Scale", "add_options", "document_part", "project", "run"]

RESULTS = ROOT / "benchmarks" / "results"
DOCUMENT = ROOT / "docs" / "at-scale.md"
BEGIN, END = "<!-- at_scale:begin -->\n", "<!-- at_scale:end -->"

GPUS = (8, 64, 1024)
KINDS = ("jpg500", "mix400")
SIZE, IMAGES, BATCH = 160, 1_281_167, 256
PAGE_BYTES = 8 << 20
# A node as large clouds have them.
NODE_GPUS, NODE_CORES, NODE_BYTES_A_SECOND = 8, 96, 100e9 / 8
# Reported by FFCV: ResNet-50 at 160 px on one A100.
GPU_IMAGES_A_SECOND = 3518
# Reported by AWS, of S3: for each partitioned prefix; and its price in dollars (Standard, N. Virginia).
PREFIX_REQUESTS_A_SECOND, DOLLARS_A_REQUEST = 5500, 0.0004 / 1000


@dataclass(frozen=True)
class Scale:
    """What one number of GPUs asks for.

    Attributes:
        shares: name -> how much of a limit is used; above 1 it cannot be.
    """

    gpus: int
    images: float
    bytes: float
    pages: float
    requests: float
    decode_cores: float
    fetch_cores: float
    epoch_seconds: float
    epoch_dollars: float
    steps: float
    rank_pages: float
    shares: dict[str, float]

    @property
    def first_limit(self) -> str:
        """The limit that is nearest, or passed by most."""
        return max(self.shares, key=lambda name: self.shares[name])


def project(loader: dict[str, Any], remote: dict[str, Any], local: dict[str, Any], gpus: int) -> Scale:
    """Project from a row of `loader` and two of `remote`: from nginx by pages, and the file itself."""
    image_bytes = _image_bytes(remote)
    images = gpus * GPU_IMAGES_A_SECOND
    bytes_a_second, nodes = images * image_bytes, gpus / NODE_GPUS
    requests = bytes_a_second * remote["requests"] / remote["bytes"]
    cpu = remote["cpu_seconds_first"]["median"] - local["cpu_seconds_first"]["median"]
    decode, fetch = images / loader["images_a_second"]["median"], bytes_a_second * max(cpu, 0.0) / remote["bytes"]
    epoch_seconds = IMAGES / images
    rank_pages = IMAGES * image_bytes / PAGE_BYTES / gpus
    return Scale(
        gpus=gpus,
        images=images,
        bytes=bytes_a_second,
        pages=bytes_a_second / PAGE_BYTES,
        requests=requests,
        decode_cores=decode,
        fetch_cores=fetch,
        epoch_seconds=epoch_seconds,
        epoch_dollars=requests * epoch_seconds * DOLLARS_A_REQUEST,
        steps=IMAGES / gpus / BATCH,
        rank_pages=rank_pages,
        shares={
            "cores": (decode + fetch) / (nodes * NODE_CORES),
            "network": bytes_a_second / (nodes * NODE_BYTES_A_SECOND),
            "requests": requests / PREFIX_REQUESTS_A_SECOND,
        },
    )


def _image_bytes(remote: Mapping[str, Any]) -> float:
    """Of what was fetched. Not the file's by its pictures: pages of a small file are not full."""
    return remote["bytes"] / remote["samples"]


def _rows(kind: str, results: Path) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]] | None:
    own = [
        row
        for row in read_rows(results / "remote.jsonl")
        if (row["kind"], row["order"], row["size"]) == (kind, "quasi_random", SIZE)
    ]
    newest = {row["from"]: row for row in sorted(own, key=lambda row: row["time"])}
    if not {"local", "nginx"} <= newest.keys():
        return None
    # Cores that decode and cores that fetch are added up: they have to be those of one machine.
    rows = [row for row in read_rows(results / "loader.jsonl") if row["machine"] == newest["nginx"]["machine"]]
    loader = goals.newest(rows, kind, SIZE).get("ffx")
    return None if loader is None else (dict(loader), newest["nginx"], newest["local"])


def _lines(kind: str, scales: Sequence[Scale]) -> Iterator[str]:
    yield table_line([f"`{kind}`, projected", *(f"{one.gpus:,} GPUs" for one in scales)])
    yield table_line(["---", *["---:"] * len(scales)])
    cells = {
        "images a second": [f"{one.images:,.0f}" for one in scales],
        "GB a second": [f"{one.bytes / 1e9:,.1f}" for one in scales],
        "pages of 8 MiB a second": [f"{one.pages:,.0f}" for one in scales],
        "requests a second": [f"{one.requests:,.0f}" for one in scales],
        "cores that decode, a node": [f"{one.decode_cores * NODE_GPUS / one.gpus:.1f}" for one in scales],
        "cores that fetch and check, a node": [f"{one.fetch_cores * NODE_GPUS / one.gpus:.1f}" for one in scales],
        "an epoch, seconds": [f"{one.epoch_seconds:,.1f}" for one in scales],
        f"steps an epoch, {BATCH} images a GPU": [f"{one.steps:,.0f}" for one in scales],
        "requests of an epoch, $": [f"{one.epoch_dollars:.4f}" for one in scales],
        "pages of a rank": [f"{one.rank_pages:,.0f}" for one in scales],
        "share of the cores": [f"{one.shares['cores']:.0%}" for one in scales],
        "share of the network": [f"{one.shares['network']:.0%}" for one in scales],
        "share of a prefix's requests": [f"{one.shares['requests']:.0%}" for one in scales],
        "limit that comes first": [one.first_limit for one in scales],
    }
    for name, texts in cells.items():
        yield table_line([name, *texts])


def document_part(results: Path = RESULTS) -> str:
    """The tables as the document has them.

    Raises:
        SystemExit: a row that they are made of was not measured.
    """
    parts = []
    for kind in KINDS:
        rows = _rows(kind, results)
        if rows is None:
            raise SystemExit(f"benchmarks: at_scale: no rows of {kind} in `loader` and `remote` (quasi_random, nginx)")
        loader, remote, local = rows
        image_kb = _image_bytes(remote) / 1000
        measured = (
            f"Measured: {loader['images_a_second']['median']:,.0f} images a second and core at {SIZE} px, "
            f"{image_kb:,.1f} kB an image, {remote['requests']} requests "
            f"for {remote['bytes'] / 1e6:,.1f} MB, {remote['cpu_seconds_first']['median']:.2f} s of a processor for "
            f"{remote['samples']:,} images by HTTP and {local['cpu_seconds_first']['median']:.2f} s from the disk "
            f"({loader['machine']['processor']}, {loader['machine']['cores']} cores)."
        )
        parts.append("\n".join([*_lines(kind, [project(*rows, gpus) for gpus in GPUS]), "", measured]))
    return "\n\n".join(parts) + "\n"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `python -m benchmarks at_scale`."""
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the measured rows")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/at-scale.md")


def run(options: argparse.Namespace) -> int:
    """Print the tables; with `--write`, put them into the document."""
    part = document_part(options.results)
    print(part, end="")
    if options.write:
        before, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(before + BEGIN + part + END + rest.partition(END)[2])
    return 0
