"""One batch forward and backward: does this machine train this network on these data?

    python test_single_batch.py                               # on ./imagenet where it is there, else on made-up data
    python test_single_batch.py --batch-size 32 --amp bf16    # all flags of run.py

Exit status 0 when shapes, loss, gradients and weights are as they should be, 1 when something is not.
"""

from __future__ import annotations

import math
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import checkout  # noqa: F401
from config import TrainingConfig
from run import make_parser, read_arguments, worded
from trainer.config import TrainerConfig
from trainer.errors import TrainingError
from trainer.program import run_program
from trainer.signals import StopRequest

__all__ = ["SingleBatch", "main", "run_single_batch"]

PROGRAM = "test_single_batch.py"


@dataclass(frozen=True)
class SingleBatch:
    """What came of it.

    Attributes:
        images: shape of the batch.
        outputs: shape of what the network makes of it.
        loss: before the step, mean over the batch.
        parameters: of the network.
        seconds: of a step behind the first one.
        gpu_bytes: the most that a GPU's memory held; 0 on a CPU.
        device: where.
    """

    images: tuple[int, ...]
    outputs: tuple[int, ...]
    loss: float
    parameters: int
    seconds: float
    gpu_bytes: int
    device: str


def run_single_batch(options: TrainerConfig, steps: int = 2, at_largest: bool = False) -> SingleBatch:
    """Train on one batch of the first epoch's images, or of the epoch that has most pixels in a batch.

    Args:
        options: the trainer's configuration; for one process.
        steps: the first of them may compile; the time is that of the others.
        at_largest: take the epoch with most pixels in a batch, which needs most memory.

    Raises:
        TrainingError: loss or gradients are no numbers, shapes are wrong, or no weight changed.
    """
    import torch
    from trainer.data import count_classes, open_training
    from trainer.distributed import Ranks, choose_device
    from trainer.learner import Learner, choose_precision
    from trainer.schedule import sizes_of_epoch

    ranks = Ranks()
    device = choose_device(options.training.device, ranks)
    dtype = choose_precision(options.training.precision, device)
    epochs = range(options.training.epochs if at_largest else 1)
    all_sizes = [sizes_of_epoch(options.resolution, options.training, epoch) for epoch in epochs]
    sizes = max(all_sizes, key=lambda sizes: sizes.side**2 * sizes.batch_size)
    with closing(open_training(options, ranks, device, dtype)) as source:
        with closing(source.epoch(0, sizes.side, sizes.batch_size)) as batches:
            images, labels = next(batches)
        classes = count_classes(options.data.classes, [source])
    learner = Learner(options, classes, ranks, device, dtype, print)
    before = [parameter.detach().clone() for parameter in learner.model.parameters()]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    learner.train()
    losses, seconds = [], 0.0
    for _ in range(max(steps, 2)):
        start = time.perf_counter()
        losses.append(learner.step(images, labels, options.lr.lr).item())
        seconds = time.perf_counter() - start
    with torch.no_grad():
        outputs = tuple(learner.outputs(images).shape)
    gpu_bytes = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    _demand(tuple(images.shape) == (sizes.batch_size, 3, sizes.side, sizes.side), f"images have shape {images.shape}")
    _demand(outputs == (sizes.batch_size, classes), f"outputs have shape {outputs}, for {classes} classes")
    _demand(math.isfinite(losses[0]), f"the loss is {losses[0]}: try --amp off or a lower --lr")
    gradients = [parameter.grad for parameter in learner.model.parameters() if parameter.grad is not None]
    # With a gradient scaler a step may overflow: it skips that step, and that is no mistake.
    finite = learner.scaler.is_enabled() or all(bool(gradient.isfinite().all()) for gradient in gradients)
    _demand(bool(gradients) and finite, "gradients are missing or no numbers: try --amp off")
    changed = any(not torch.equal(old, new) for old, new in zip(before, learner.model.parameters(), strict=True))
    _demand(changed or learner.scaler.is_enabled() or not options.lr.lr, "no weight changed")
    parameters = sum(parameter.numel() for parameter in before)
    return SingleBatch(tuple(images.shape), outputs, losses[0], parameters, seconds, gpu_bytes, str(device))


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise TrainingError(f"the single batch failed: {otherwise}")


def with_data_or_without(config: TrainingConfig, given: dict[str, object]) -> TrainingConfig:
    """The configuration on made-up data, where nobody named data and the default folder is not there."""
    if not {"--data-path", "--s3-bucket"} & given.keys() and not Path(config.data.path).exists():
        print(f"{config.data.path} is not there: made-up data")
        config.data.synthetic = True
    return config


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments, worded)


def _run(arguments: list[str], stop: StopRequest) -> None:
    parser = make_parser(PROGRAM, (__doc__ or "").partition("\n")[0])
    config, options, given = read_arguments(arguments, parser)
    found = run_single_batch(with_data_or_without(config, vars(given)).to_trainer_config(**options))
    print(f"images     {found.images}")
    print(f"outputs    {found.outputs}")
    print(f"parameters {found.parameters:,}")
    print(f"loss       {found.loss:.4f}")
    print(f"a step     {found.seconds:.3f} s on {found.device}")
    if found.gpu_bytes:
        print(f"GPU memory {found.gpu_bytes / 2**30:.2f} GiB")
    print("single batch: passed")


if __name__ == "__main__":
    raise SystemExit(main())
