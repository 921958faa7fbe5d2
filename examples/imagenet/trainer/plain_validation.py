"""The evaluation that comes on top at a training's end: as most papers do it, by ffx's decoding and by Pillow's."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from contextlib import closing

from ffx.errors import FfxWarning

from .agreement import Agreement, StopAgreed
from .config import TrainerConfig
from .data import open_plain_validation
from .display import Display
from .distributed import Ranks
from .learner import Learner
from .validation import validate

__all__ = ["or_nothing", "validate_plainly"]


def validate_plainly(
    config: TrainerConfig, ranks: Ranks, learner: Learner, agreement: Agreement, display: Display
) -> dict[str, float]:
    """Evaluate a model once more: `validation.plain_resolution`, and no mirror images.

    Returns:
        `plain_top_1`, `plain_top_5` of images that ffx decoded, `pillow_top_1`, `pillow_top_5` of Pillow's, those
        of them that the data allow; and `plain_val_time`, the seconds of all of it.

    Raises:
        StopAgreed: all ranks were asked to stop.
    """
    side, start = config.validation.plain_resolution, time.perf_counter()
    found: dict[str, float] = {}
    if not side:
        return found
    sources = open_plain_validation(config, ranks, learner.device, learner.dtype)
    for name, source in sources.items():
        with closing(source):
            scores = validate(learner, source, side, agreement, display)
        prefix = {"ffx": "plain"}.get(name, name)
        found |= {f"{prefix}_top_1": scores.top_1, f"{prefix}_top_5": scores.top_5}
        display.say(f"{side} px, no mirror images, decoded by {name}: top-1 {scores.top_1:.2%}")
    return found and {**found, "plain_val_time": time.perf_counter() - start}


def or_nothing(evaluate: Callable[[], dict[str, float]], side: int) -> dict[str, float]:
    """What an evaluation at a side gives, or nothing with a warning: none that comes on top may cost an epoch."""
    try:
        return evaluate()
    except StopAgreed:
        raise
    except Exception as error:
        warnings.warn(
            f"the evaluation at validation.plain_resolution={side} failed and is left out: {error!r}",
            FfxWarning,
            stacklevel=2,
        )
        return {}
