"""Parts of a file kept in a device's memory: uploaded once, shared by all loaders of the process."""

from __future__ import annotations

import os
from collections.abc import Iterable
from weakref import WeakValueDictionary

import torch

from ..errors import LoaderError
from ..memory_managers.base import open_again
from ..pipeline.operation import FileRange
from ..reader import Reader
from ..remote.fetcher import present

__all__ = ["CHUNK_BYTES", "free_bytes", "resident_data"]

# Two chunks of page-locked memory: one is read into while the other goes to the device.
CHUNK_BYTES = 64 << 20

_uploaded: WeakValueDictionary[tuple, torch.Tensor] = WeakValueDictionary()


def free_bytes(device: torch.device) -> int:
    """What can be allocated on a device: what is free, and what torch keeps without using it."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def resident_data(reader: Reader, ranges: Iterable[FileRange]) -> dict[FileRange, torch.Tensor]:
    """The bytes of each range, `uint8[stop - start]` on its device.

    Args:
        reader: the file.
        ranges: may name one twice.

    Raises:
        LoaderError: they do not fit (then nothing is uploaded), or the file cannot be read to their end.
    """
    wanted = dict.fromkeys(ranges)
    path = reader.file_name
    version = (os.path.realpath(path), *reader.index.identity, *reader.index.digest)
    found = {one: _uploaded.get((version, one)) for one in wanted}
    _check_room(path, [one for one, data in found.items() if data is None])
    for one in wanted:
        if found[one] is None:
            found[one] = _uploaded[version, one] = _upload(reader, one)
    return found


def _check_room(path: str, missing: list[FileRange]) -> None:
    for device in dict.fromkeys(one.device for one in missing):
        needed = sum(one.stop - one.start for one in missing if one.device == device)
        free = free_bytes(device)
        if needed > free:
            raise LoaderError(
                f"{path}: expected {needed / 2**30:,.2f} GiB of free memory on {device} for the file's images, found "
                f"{free / 2**30:,.2f} GiB: leave out resident=True (crops are sent batch by batch then), or write a "
                "smaller file (YUV 4:2:0, or a smaller max_resolution)"
            )


def _upload(reader: Reader, wanted: FileRange) -> torch.Tensor:
    path = reader.file_name
    size, on_gpu = wanted.stop - wanted.start, wanted.device.type == "cuda"
    try:
        data = torch.empty(size, dtype=torch.uint8, device=wanted.device)
    except torch.cuda.OutOfMemoryError as error:
        raise LoaderError(
            f"{path}: expected {size:,} bytes in one piece on {wanted.device}: {error}: leave out resident=True"
        ) from error
    chunk_bytes = max(min(CHUNK_BYTES, size), 1)
    chunks = [torch.empty(chunk_bytes, dtype=torch.uint8, pin_memory=on_gpu) for _ in range(2)]
    copied: list[torch.cuda.Event | None] = [None, None]
    stream = torch.cuda.current_stream(wanted.device) if on_gpu else None
    with open_again(reader) as file:
        for number, start in enumerate(range(0, size, chunk_bytes)):
            turn = number % 2
            if copied[turn] is not None:
                copied[turn].synchronize()
            part = chunks[turn][: min(chunk_bytes, size - start)]
            first = wanted.start + start
            with present(reader.remote, first, first + len(part)):
                _read(file.fileno(), memoryview(part.numpy()), first, path)
            data[start : start + len(part)].copy_(part, non_blocking=True)
            copied[turn] = None if stream is None else stream.record_event()
    if stream is not None:
        # Other streams read it, and the chunks are let go of.
        stream.record_event().synchronize()
    return data


def _read(file: int, target: memoryview, start: int, path: str) -> None:
    done = 0
    while done < len(target):
        count = os.preadv(file, [target[done:]], start + done)
        if count == 0:
            raise LoaderError(
                f"{path}: expected {len(target)} bytes at {start}, found the file's end after {done}: it was shortened "
                "while it was read"
            )
        done += count
