"""What programs print of names that others chose, such as those in an archive."""

from __future__ import annotations

__all__ = ["printable"]


def printable(text: str) -> str:
    """`text` with an escape for whatever a terminal would obey, or no encoding has (bytes that are no UTF-8)."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)
