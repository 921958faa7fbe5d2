"""`ffx fetch ADDRESS …`: bring remote files into the cache before they are needed."""

from __future__ import annotations

import argparse
import sys

from ..errors import FfxError
from .output import show

__all__ = ["add_to"]

_DESCRIPTION = """
Fetches files behind addresses (https://, s3://, whatever fsspec knows) into the cache that loaders use, and holds every
sample against its checksum on the way. What is there already is not fetched again, so a broken run can be gone on with.
Exit status: 0 if all is there, 1 if not.
"""
_PART_BYTES = 64 << 20


def add_to(commands: argparse._SubParsersAction) -> None:
    """Declare the command."""
    parser = commands.add_parser("fetch", help="bring remote files into the cache", description=_DESCRIPTION)
    parser.add_argument("addresses", nargs="+", metavar="ADDRESS")
    parser.add_argument("--cache-dir", metavar="FOLDER", help="default: FFX_REMOTE_CACHE, or ~/.cache/ffx/remote")
    parser.add_argument("--cache-gb", type=float, metavar="N", help="limit of all that is kept, in 10^9 bytes")
    parser.add_argument("--requests", type=int, default=16, metavar="N", help="how many at once (default: 16)")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each file instead of text")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Fetch the files one by one; 0 if all are there."""
    return max([_fetch(address, options) for address in options.addresses])


def _fetch(address: str, options: argparse.Namespace) -> int:
    # They bring torch along, for which nobody waits who asks for help.
    from ..reader import Reader
    from ..remote import RemoteOptions, is_remote

    try:
        if not is_remote(address):
            raise FfxError(f"{address}: expected an address (scheme://…), found a local path")
        limit = None if options.cache_gb is None else int(options.cache_gb * 10**9)
        chosen = RemoteOptions(cache_dir=options.cache_dir, cache_bytes=limit, requests=options.requests)
        fetched = _fetch_all(Reader(address, remote=chosen))
    except (FfxError, OSError) as error:
        show(error, {"ok": False, "error": str(error)}, options.json)
        return 1
    text = f"{fetched['address']}: {fetched['bytes']:,} bytes in {fetched['path']}, {fetched['fetched']:,} fetched now"
    show(text, {"ok": True, **fetched}, options.json)
    return 0


def _fetch_all(reader) -> dict:
    from tqdm import tqdm

    from ..remote.fetcher import present

    remote, index = reader.remote, reader.index
    limit = remote.options.cache_bytes
    if limit is not None and limit < index.file_bytes:
        raise FfxError(f"{remote.address}: expected --cache-gb above its {index.file_bytes:,} bytes, found {limit:,}")
    with tqdm(
        desc=remote.address, total=index.file_bytes, unit="B", unit_scale=True, disable=not sys.stderr.isatty()
    ) as bar:
        for start in range(index.data_start, index.data_end, _PART_BYTES):
            stop = min(start + _PART_BYTES, index.data_end)
            with present(remote, start, stop):
                bar.update(stop - start)
    return {
        "address": remote.address,
        "path": str(remote.path),
        "bytes": index.file_bytes,
        "fetched": remote.fetched.bytes,
        "requests": remote.fetched.requests,
    }
