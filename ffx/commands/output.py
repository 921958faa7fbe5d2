"""What a command says: a line or more of text, or a line of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["show"]


def show(text: object, about: Mapping[str, Any], as_json: bool) -> None:
    """Write `text` to the standard output, or `about` where JSON is asked for."""
    sys.stdout.write(f"{json.dumps(about) if as_json else text}\n")
