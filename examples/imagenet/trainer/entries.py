"""The entries of a run's log, a JSON object a line; needs neither torch nor ffx."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

__all__ = ["read_entries"]


def read_entries(text: str) -> list[dict[str, Any]]:
    """The entries of a log; lines that a crash cut short are left out."""
    entries = []
    for line in text.splitlines():
        with suppress(ValueError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                entries.append(entry)
    return entries
