"""A model's scores on the validation set: every image counts once, on any number of ranks."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass

import torch
from torch import nn

from .agreement import Agreement, StopAgreed
from .display import Display
from .distributed import is_lost_contact, sum_over_ranks
from .errors import TrainingError
from .learner import Learner
from .source import Source

__all__ = ["Scores", "validate"]


@dataclass(frozen=True)
class Scores:
    """What came of a validation: shares of the images whose label is the best guess, or among the best five.

    Where a moving average is evaluated, `raw_top_1` is what the weights themselves have; else `None`.
    """

    top_1: float
    top_5: float
    loss: float
    seconds: float
    raw_top_1: float | None = None


@torch.no_grad()
def validate(
    learner: Learner,
    source: Source,
    resolution: int,
    agreement: Agreement,
    display: Display,
    adds_mirror_image: bool = False,
) -> Scores:
    """Evaluate a model on images of a side in pixels; if asked for, with the outputs of their mirror images added.

    Where one rank fails, the others learn of it at the end, so that all of them are done with it.

    Raises:
        TrainingError: there are no images, or another rank failed.
        Exception: what this rank failed with.
        StopAgreed: all ranks were asked to stop.
    """
    start = time.perf_counter()
    learner.model.eval()
    agreement.begin()
    purpose = source.purpose
    # The sums of `_count`, right guesses of the raw weights, ranks that failed.
    sums = torch.zeros(6, dtype=torch.float64, device=purpose.device)
    # Batches that every rank has; one of them may have one more. After each of these the ranks compare notes.
    left = common = source.images // purpose.ranks.world // purpose.batch_size
    failure = None
    try:
        with (
            closing(source.epoch(0, resolution)) as batches,
            closing(display.batches(batches, source.images, "validation")) as shown,
        ):
            for number, (images, labels) in enumerate(shown):
                sums[:4] += _count(learner.outputs(images, adds_mirror_image), labels, 1 + adds_mirror_image)
                if learner.average:
                    raw = learner.outputs(images, adds_mirror_image, is_raw=True)
                    sums[4] += _count(raw, labels, 1 + adds_mirror_image)[0]
                if number < common:
                    left -= 1
                    _stop_if_agreed(agreement)
    except StopAgreed:
        raise
    except Exception as error:
        if purpose.ranks.world == 1 or is_lost_contact(error):
            raise
        failure = error
    if failure is not None:
        for _ in range(left):
            _stop_if_agreed(agreement)
        sums[5] = 1
    correct, among_five, loss, images_seen, raw_correct, failed = sum_over_ranks(sums).tolist()
    if failure is not None:
        raise failure
    if failed:
        raise TrainingError(f"{source.path}: another rank could not evaluate its share of the images")
    if not images_seen:
        raise TrainingError(f"{source.path}: there are no images to evaluate on")
    seconds = time.perf_counter() - start
    raw_top_1 = raw_correct / images_seen if learner.average else None
    return Scores(correct / images_seen, among_five / images_seen, loss / images_seen, seconds, raw_top_1)


def _stop_if_agreed(agreement: Agreement) -> None:
    if (decision := agreement.after_step()).stop:
        raise StopAgreed(decision.stop)


def _count(outputs: torch.Tensor, labels: torch.Tensor, views: int) -> torch.Tensor:
    """Sums over a batch: best guess right, label among the best five, loss, images; float64[4].

    `outputs` are sums over `views` of each image. With fewer than five classes the best five are all of them.
    """
    best = outputs.topk(min(5, outputs.shape[1]), dim=1).indices == labels[:, None]
    loss = nn.functional.cross_entropy(outputs / views, labels, reduction="sum")
    count = torch.full((), len(labels), dtype=torch.float64, device=outputs.device)
    return torch.stack([best[:, 0].sum().double(), best.sum().double(), loss.double(), count])
