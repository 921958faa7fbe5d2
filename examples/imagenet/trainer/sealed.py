"""A checksum inside what `torch.save` makes: as the comment of the zip archive that it is.

`torch.load` looks at no checksum: of the bytes of a checkpoint, most can be changed and it loads other weights without
a word. With the comment the file is still an ordinary archive, for `torch.load` and for `unzip`.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from typing import Any

import torch

__all__ = ["NotAsWritten", "digest_of", "packed", "sealed", "unsealed"]

_LABEL = b"sha256 of all bytes before: "
_DIGEST_LENGTH = 64
_COMMENT_LENGTH = len(_LABEL) + _DIGEST_LENGTH
# The record at an archive's end, whose last two bytes say how long the comment behind it is.
_END, _END_LENGTH = b"PK\5\6", 22


class NotAsWritten(ValueError):
    """A file's bytes are not those that were written: its checksum is missing or another one."""


def packed(content: Any) -> bytearray:
    """What `torch.save` writes of `content`."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return bytearray(buffer.getbuffer())


def sealed(content: Any) -> bytearray:
    """What `torch.save` writes of `content`, with a checksum."""
    archive = packed(content)
    if archive[-_END_LENGTH:][: len(_END)] != _END or any(archive[-2:]):
        raise ValueError("expected torch.save to write a zip archive without a comment")
    archive[-2:] = _COMMENT_LENGTH.to_bytes(2, "little")
    archive += _LABEL
    return archive + hashlib.sha256(archive).hexdigest().encode()


def digest_of(archive: bytes) -> str:
    """The checksum that an archive carries."""
    return archive[-_DIGEST_LENGTH:].decode("ascii", "replace")


def unsealed(archive: bytes) -> Any:
    """The content of such an archive: tensors, numbers, texts and their containers; nothing in it is run.

    Raises:
        NotAsWritten: its checksum says so.
        ValueError: it was written so, and cannot be taken.
    """
    body, digest = archive[:-_DIGEST_LENGTH], digest_of(archive)
    if not body.endswith(_LABEL):
        raise NotAsWritten("it has no checksum at its end: it is not complete, or something else wrote it")
    if hashlib.sha256(body).hexdigest() != digest:
        raise NotAsWritten("it differs from its checksum: it was damaged after it was written")
    try:
        return torch.load(io.BytesIO(archive), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch's message advises to run what is in it.
        raise ValueError("it holds something else than tensors, numbers and texts, of which nothing was run") from error
