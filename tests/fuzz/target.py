"""What a target of the fuzzer is: a function of seed and number, so that any input can be made again."""

import random
from pathlib import Path
from typing import Protocol

__all__ = ["Find", "Target", "generator_for"]


class Find(Exception):
    """The code did what it must never do with an input."""


class Target(Protocol):
    """Something to be fuzzed.

    Attributes:
        name: how it is chosen.
        memory_bytes: what one input may take beside what there is at the start, or `None`.
    """

    name: str
    memory_bytes: int | None

    def run(self, generator: random.Random) -> str:
        """One input: a word for what became of it.

        Raises:
            Find: what must not be; so is every other exception.
        """

    def keep(self, generator: random.Random, path: Path) -> None:
        """Write the input that `run` would take to a file."""


def generator_for(seed: int, number: int) -> random.Random:
    """The random numbers of one input."""
    return random.Random(seed << 40 | number)
