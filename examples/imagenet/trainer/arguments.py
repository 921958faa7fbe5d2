"""What the programs' command lines share: mistakes that are errors of the trainer, values by the trainer's checks."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn

from .errors import ConfigurationError
from .values import Check

__all__ = ["Parser", "value_of"]


class Parser(argparse.ArgumentParser):
    """Raises `ConfigurationError` where argparse would end the program.

    Attributes:
        called: what the program calls its options.
    """

    called = "options"

    def error(self, message: str) -> NoReturn:
        """See argparse."""
        raise ConfigurationError(f"{message} (--help lists all {self.called})")


def value_of(check: Check) -> Callable[[str], Any]:
    """A type for argparse: what a check makes of the text."""

    def parse(text: str) -> Any:
        try:
            return check.parse(text)
        except (ValueError, OverflowError) as error:
            raise argparse.ArgumentTypeError(f"expected {check.expected}, found {text!r}") from error

    return parse
