"""What a store of remote files has to do: tell which version it has, and give ranges of that version alone."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import RemoteError
from .address import redacted, without_secrets
from .options import RemoteOptions

__all__ = ["Store", "TemporaryProblem", "Version", "check_content_range"]

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)$")


class TemporaryProblem(Exception):
    """A request failed in a way that another try may mend."""


@dataclass(frozen=True)
class Version:
    """Which version of a file it is.

    Attributes:
        size: bytes.
        etag: the store's name of the version; empty where it gives none.
        modified: time of change, as the store writes it; may be empty.
    """

    size: int
    etag: str
    modified: str

    def check(self, address: str, found: Version) -> None:
        """Refuse another version, as far as the store tells.

        Raises:
            RemoteError: it is another one.
        """
        for what in ("size", "etag", "modified"):
            mine, other = getattr(self, what), getattr(found, what)
            if mine != other and mine != "" and other != "":
                raise RemoteError(
                    f"{address}: expected the version that was opened, with {what} {mine}, found {other}: it was "
                    "changed while it was read; make a new loader for it",
                    changed=True,
                )


class Store(ABC):
    """A file behind an address. Its methods may be called by several threads, but not in a forked process.

    Args:
        address: with all credentials in it.
        options: how to ask.

    Attributes:
        shown: the address as messages may name it.
    """

    def __init__(self, address: str, options: RemoteOptions) -> None:
        self.address = address
        self.options = options
        self.shown = redacted(address)

    @abstractmethod
    def version(self) -> Version:
        """Which version stands there now.

        Raises:
            RemoteError, TemporaryProblem: it cannot be told.
        """

    @abstractmethod
    def stream(self, start: int, stop: int, version: Version) -> Iterator[bytes]:
        """The bytes from `start` to `stop - 1` of a version, in pieces; may end early, or give too many.

        Raises:
            RemoteError, TemporaryProblem: they cannot be had; `RemoteError` with `changed`: another version is there.
        """

    def names(self) -> list[str]:
        """The addresses of all files that begin with this one's, up to their next `/`.

        Raises:
            RemoteError, TemporaryProblem: they cannot be told.
        """
        raise self.refused("files there cannot be listed, those of s3:// can", "give the file's whole address")

    def refused(self, reason: object, hint: str = "") -> RemoteError:
        """An error that another try would not mend."""
        return RemoteError(f"{self.shown}: cannot be read: {self.hidden(str(reason))}{hint and ': '}{hint}")

    def hidden(self, text: str) -> str:
        """A text of somebody else's without the address's secrets."""
        return without_secrets(text, self.address)

    def check_options(self, known: set[str]) -> None:
        """Refuse storage options that would be ignored."""
        unknown = sorted(set(self.options.storage_options) - known)
        if unknown:
            raise self.refused(f"storage_options: expected some of {', '.join(sorted(known))}, found {unknown}")


def check_content_range(header: str, start: int, stop: int, store: Store, version: Version) -> None:
    """Refuse an answer to another question than was asked.

    Raises:
        TemporaryProblem: it has other bytes than were asked for.
        RemoteError: the file has another length now.
    """
    found = _CONTENT_RANGE.match(header.strip())
    if found is None:
        raise TemporaryProblem(f"expected a Content-Range of bytes {start}-{stop - 1}, found {header!r}")
    first, last, size = map(int, found.groups())
    version.check(store.shown, Version(size, "", ""))
    if (first, last) != (start, stop - 1):
        raise TemporaryProblem(f"expected bytes {start}-{stop - 1}, found bytes {first}-{last}")
