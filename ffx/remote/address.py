"""Addresses: which paths are some, and what of one may be shown."""

from __future__ import annotations

import hashlib
import os
import re
from urllib.parse import urlsplit

__all__ = ["cache_name", "is_remote", "redacted", "without_secrets"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(?:::[A-Za-z][A-Za-z0-9+.-]*)*://")
# Between the parts of a chain; not within a host's number or a password.
_LINK = re.compile(f"::(?={_SCHEME.pattern})")


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is an address: `scheme://…`."""
    return isinstance(path, str) and _SCHEME.match(path) is not None


def redacted(address: str) -> str:
    """An address without what may be a secret: the user's part and all behind the path; of each part of a chain."""
    return "::".join(scheme + place for scheme, _, place, _ in _parts(address))


def without_secrets(text: str, address: str) -> str:
    """Somebody else's text about an address, without the parts that `redacted` leaves out, together or alone."""
    text = text.replace(address, redacted(address))
    for scheme, user, place, behind in _parts(address):
        text = text.replace(scheme + user + place + behind, scheme + place)
        for users in (user[:-1], user.partition("/")[0].rpartition("@")[0]):
            for secret in (behind[1:], users, *users.split(":", 1)[1:]):
                if secret:
                    text = text.replace(secret, "…")
    return text


def _parts(address: str) -> list[tuple[str, str, str, str]]:
    """Of each part of a chain (`zip://a::https://b`): scheme, user's part with its @, place, what is behind."""
    found = []
    for part in _LINK.split(address):
        scheme, rest = part[: part.find("://") + 3], part.partition("://")[2]
        if not rest:
            found.append((part, "", "", ""))
            continue
        # S3's keys may have a #.
        place = re.split("[?]" if scheme.lower() == "s3://" else "[?#]", rest, maxsplit=1)[0]
        user = ""
        # A password may have a slash in it, though it should not. Where there is no sign of one, an @ is the path's.
        if re.search("[:@]", place.partition("/")[0]):
            user = "".join(place.rpartition("@")[:2])
        found.append((scheme, user, place[len(user) :], rest[len(place) :]))
    return found


def cache_name(address: str, size: int, etag: str, modified: str) -> str:
    """The folder of one version of a file: readable, and another one for each other version.

    What follows a `?` counts only where no ETag tells files apart: signed addresses change from hour to hour.
    """
    shown = redacted(address)
    parts = [shown, str(size), etag, modified, "" if etag else address]
    # These may be a host and a path.
    parts += [user for _, user, _, _ in _parts(address) if "/" in user]
    digest = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:20]
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", os.path.basename(urlsplit(shown).path))[-40:].lstrip(".")
    return f"{stem or 'file'}-{digest}"
