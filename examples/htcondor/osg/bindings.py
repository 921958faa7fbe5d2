"""HTCondor's own Python bindings, which read submit descriptions and event logs here."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

from trainer.errors import ConfigurationError

__all__ = ["htcondor", "read_submit_description"]


def htcondor() -> Any:
    """The module `htcondor2`; access points have it.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            # Files are read without any pool, so none need be configured.
            warnings.filterwarnings("ignore", "The environment variable CONDOR_CONFIG is unset")
            import htcondor2
    except ImportError as error:
        raise ConfigurationError(f"HTCondor's Python bindings are needed: pip install htcondor ({error})") from error
    return htcondor2


def read_submit_description(path: Path, values: dict[str, str] | None = None) -> Any:
    """A `Submit` of a file, with `NAME=VALUE` of condor_submit's command line put before it.

    Raises:
        ConfigurationError: it cannot be read, or is no submit description.
    """
    try:
        text = path.read_text()
        if not re.search(r"^\s*queue\b", text, re.MULTILINE | re.IGNORECASE):
            raise ValueError("it queues no jobs")
        # As condor_submit does: what its command line says is there first, and a line of the file wins over it unless
        # the file asks whether it is there.
        given = "".join(f"{name} = {value}\n" for name, value in (values or {}).items())
        return htcondor().Submit(given + text)
    except (OSError, ValueError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: expected a submit description: {error}") from error
