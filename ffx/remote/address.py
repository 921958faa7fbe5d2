"""Addresses: which paths are some, and what of one may be shown."""

from __future__ import annotations

import hashlib
import os
import re
from urllib.parse import urlsplit

__all__ = ["cache_name", "is_remote", "redacted", "without_secrets"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[A-Za-z][A-Za-z0-9+.-]*)*://")


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is an address: `scheme://…`."""
    return isinstance(path, str) and _SCHEME.match(path) is not None


def redacted(address: str) -> str:
    """An address without what may be a secret: the user's part and all behind the path."""
    before, separator, rest = address.partition("://")
    place = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = place.partition("/")
    return before + separator + host.rpartition("@")[2] + slash + path


def without_secrets(text: str, address: str) -> str:
    """Somebody else's text about an address, without the parts that `redacted` leaves out, together or alone."""
    text = text.replace(address, redacted(address))
    place, _, query = address.partition("://")[2].partition("?")
    user = place.partition("/")[0].rpartition("@")[0]
    for secret in (query, user, *user.split(":", 1)[1:]):
        if secret:
            text = text.replace(secret, "…")
    return text


def cache_name(address: str, size: int, etag: str, modified: str) -> str:
    """The folder of one version of a file: readable, and another one for each other version.

    What follows a `?` counts only where no ETag tells files apart: signed addresses change from hour to hour.
    """
    shown = redacted(address)
    parts = [shown, str(size), etag, modified, "" if etag else address]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", os.path.basename(urlsplit(shown).path))[-40:].lstrip(".")
    return f"{stem or 'file'}-{digest}"
