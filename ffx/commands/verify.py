"""`ffx verify FILE …`: is every byte what its writer stored?"""

from __future__ import annotations

import argparse
import importlib
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ..errors import FormatError
from .output import show

if TYPE_CHECKING:
    from ..verifying import Report

__all__ = ["add_to"]

_DESCRIPTION = """
Opens each file, proves its tables right, and holds every sample against its checksum. A file that FFCV wrote has no
checksums; its JPEGs are decoded instead. Exit status: 0 if all is well, 1 if anything is not.
"""


def add_to(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser("verify", help="look at every sample of a file", description=_DESCRIPTION)
    parser.add_argument("files", nargs="+", metavar="FILE", help="a .beton or .ffcv file, or its address")
    parser.add_argument("--decode", action="store_true", help="decode every JPEG even where there are checksums")
    parser.add_argument("--workers", type=int, default=-1, metavar="N", help="threads (default: all usable cores)")
    parser.add_argument(
        "--custom-field",
        action="append",
        default=[],
        metavar="NAME=MODULE:CLASS",
        help="the class that reads the field NAME, where its type is not one of ffx's",
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON for each file instead of text")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Verify the files one by one; 0 if all are good."""
    fields = dict(map(_custom_field, options.custom_field))
    return max([_verify(path, options, fields) for path in options.files])


def _custom_field(text: str) -> tuple[str, Any]:
    name, _, place = text.partition("=")
    module, _, class_name = place.partition(":")
    try:
        return name, getattr(importlib.import_module(module), class_name)
    except (ImportError, AttributeError, ValueError) as error:
        raise SystemExit(f"ffx verify: --custom-field: expected NAME=MODULE:CLASS, found {text!r}: {error}") from error


def _verify(path: str, options: argparse.Namespace, fields: dict[str, Any]) -> int:
    # They bring torch along, for which nobody waits who asks for help.
    from tqdm import tqdm

    from ..verifying import verify_file

    try:
        with tqdm(desc=path, unit=" samples", disable=not sys.stderr.isatty(), leave=False) as bar:
            report = verify_file(
                path,
                decode=options.decode or None,
                workers=options.workers,
                custom_fields=fields,
                on_progress=bar.update,
            )
    except (FormatError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        text = reason if path in reason else f"{path}: {reason}"
        show(text, {"path": path, "ok": False, "error": text}, options.json)
        return 1
    show(_as_text(report), {"ok": report.ok, **asdict(report)}, options.json)
    return 0 if report.ok else 1


def _as_text(report: Report) -> str:
    looked = []
    if report.has_checksums:
        looked.append("all checksums compared")
    else:
        looked.append("no checksums in it")
    if report.decoded:
        looked.append(f"{report.decoded:,} JPEGs decoded")
    samples = len({bad.sample_id for bad in report.bad})
    outcome = f"{samples:,} bad" if samples else "all good"
    if not report.has_checksums and not report.decoded:
        outcome = "its tables are right, there is nothing else to look at"
    lines = [f"{report.path}: {report.samples:,} samples, {report.data_bytes:,} bytes, {', '.join(looked)}: {outcome}"]
    for bad in report.bad:
        field = f", field {bad.field!r}" if bad.field is not None else ""
        lines.append(f"  sample {bad.sample_id}{field}: {bad.size:,} bytes at offset {bad.offset:,}: {bad.reason}")
    return "\n".join(lines)
