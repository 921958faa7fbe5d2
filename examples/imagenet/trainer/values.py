"""What an option accepts: text, YAML scalars and Python values in, one typed value out.

Each check has `expected`, words for messages and `--help`, and `parse(value)`, which raises `ValueError`.
Text is accepted everywhere, because command lines hold nothing else and YAML reads `5e-5` as text.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any, Protocol

__all__ = [
    "Architecture",
    "Check",
    "Choice",
    "Milestones",
    "RealNumber",
    "Stage",
    "Stages",
    "Switch",
    "TcpAddress",
    "Text",
    "WholeNumber",
    "stages_of",
]

_TCP = re.compile(r"tcp://(\[[0-9a-fA-F:.]+\]|[\w.-]+):(\d{1,5})")
# The last three are of this trainer's own (`networks`).
_USUAL_NETWORKS = ("resnet18", "resnet50", "scratch_resnet50", "cifar_resnet18", "cifar_resnet18_no_norm")
_SWITCH = {"1": True, "0": False, "true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}


class Check(Protocol):
    """The interface of all of them."""

    @property
    def expected(self) -> str:
        """What is accepted, in words that go on after 'expected '."""

    def parse(self, value: Any) -> Any:
        """The typed value; raises `ValueError`."""


@dataclass(frozen=True)
class WholeNumber:
    """An integer from `minimum` to `maximum`; 4.7 is refused, not cut."""

    minimum: int
    maximum: int | None = None

    @property
    def expected(self) -> str:
        """See `Check`."""
        if self.maximum is None:
            return f"a whole number of at least {self.minimum}"
        return f"a whole number from {self.minimum} to {self.maximum}"

    def parse(self, value: Any) -> int:
        """See `Check`."""
        if isinstance(value, bool):
            raise ValueError(value)
        number = int(value)
        if isinstance(value, float) and number != value:
            raise ValueError(value)
        if number < self.minimum or (self.maximum is not None and number > self.maximum):
            raise ValueError(value)
        return number


@dataclass(frozen=True)
class RealNumber:
    """A finite number from `minimum` to `maximum`."""

    minimum: float
    maximum: float = math.inf

    @property
    def expected(self) -> str:
        """See `Check`."""
        if math.isinf(self.maximum):
            return f"a number of at least {self.minimum:g}"
        return f"a number from {self.minimum:g} to {self.maximum:g}"

    def parse(self, value: Any) -> float:
        """See `Check`."""
        if isinstance(value, bool):
            raise ValueError(value)
        number = float(value)
        if not math.isfinite(number) or not self.minimum <= number <= self.maximum:
            raise ValueError(value)
        return number


@dataclass(frozen=True)
class Switch:
    """1 or 0, also written true or false."""

    expected: str = "1 or 0 (also true or false)"

    def parse(self, value: Any) -> bool:
        """See `Check`."""
        text = str(value).strip().lower()
        if text not in _SWITCH:
            raise ValueError(value)
        return _SWITCH[text]


@dataclass(frozen=True)
class TcpAddress:
    """Where to listen, `tcp://HOST:PORT`, or nothing."""

    expected: str = "tcp://HOST:PORT, or nothing"

    def parse(self, value: Any) -> str:
        """See `Check`."""
        text = str(value)
        found = _TCP.fullmatch(text)
        if text and (found is None or not 0 < int(found[2]) < 2**16):
            raise ValueError(value)
        return text


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def expected(self) -> str:
        """See `Check`."""
        return self.words[0] if len(self.words) == 1 else f"{', '.join(self.words[:-1])} or {self.words[-1]}"

    def parse(self, value: Any) -> str:
        """See `Check`."""
        if isinstance(value, bool):
            # YAML's reading of on and off.
            value = "on" if value else "off"
        if value not in self.words:
            raise ValueError(value)
        return str(value)


@dataclass(frozen=True)
class Text:
    """Any text; a number is taken as its text (YAML reads a port without quotes as a number)."""

    expected: str = "a text"

    def parse(self, value: Any) -> str:
        """See `Check`."""
        if isinstance(value, (dict, list, bool)) or value is None:
            raise ValueError(value)
        return str(value)


@dataclass(frozen=True)
class Architecture:
    """A classification network of `torchvision.models`, by its lower-case name."""

    expected: str = "a classification network of torchvision.models, such as resnet18 or resnet50"

    def parse(self, value: Any) -> str:
        """See `Check`."""
        if value in _USUAL_NETWORKS:
            return str(value)
        # Late, because importing torchvision takes seconds.
        from torchvision import models

        if value not in models.list_models(module=models):
            raise ValueError(value)
        return str(value)


@dataclass(frozen=True)
class Milestones:
    """Epochs in rising order, with commas between them."""

    expected: str = "epochs in rising order, such as 30,60,80"

    def parse(self, value: Any) -> str:
        """See `Check`."""
        parts = value if isinstance(value, (list, tuple)) else str(value).split(",")
        epochs = [WholeNumber(1).parse(part) for part in parts]
        if epochs != sorted(set(epochs)):
            raise ValueError(value)
        return ",".join(map(str, epochs))


@dataclass(frozen=True)
class Stage:
    """From an epoch on, images have this side (pixels) and batches this many images a rank; 0: as everywhere else."""

    epoch: int
    side: int
    batch_size: int = 0


def stages_of(text: str) -> tuple[Stage, ...]:
    """The stages that `Stages` accepts as text; none of an empty one."""
    return tuple(Stage(*map(int, part.split(","))) for part in text.split(";") if part)


@dataclass(frozen=True)
class Stages:
    """`epoch,side,batch` with semicolons between them; the batch may be left out."""

    expected: str = "'epoch,side,batch;...' in rising epochs from 0 (without ',batch': training.batch_size), or nothing"

    def parse(self, value: Any) -> str:
        """See `Check`."""
        stages = []
        for part in (part for part in str(value).split(";") if part.strip()):
            words = part.split(",")
            if len(words) not in (2, 3):
                raise ValueError(value)
            numbers = [WholeNumber(least).parse(word) for word, least in zip(words, (0, 1, 1), strict=False)]
            stages.append(numbers)
        epochs = [stage[0] for stage in stages]
        if epochs != sorted(set(epochs)) or epochs[:1] not in ([], [0]):
            raise ValueError(value)
        return ";".join(",".join(map(str, stage)) for stage in stages)
