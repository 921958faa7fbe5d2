"""What to look at before a long training, looked at: versions, GPU, data, disk, one batch, memory, loading.

    python checklist.py --data-path ./imagenet [flags of run.py]

One line a check. Exit status 0 when all passed, 1 when one failed; what this machine cannot answer is skipped.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
from config import TrainingConfig
from run import make_parser, read_arguments, worded
from trainer.config import TrainerConfig
from trainer.errors import TrainingError
from trainer.program import run_program
from trainer.signals import StopRequest

from ffx.errors import FfxError

__all__ = ["Checklist", "main"]

PROGRAM = "checklist.py"
_LEAST_TORCH = (2, 0)
# Weights, momentum, and the one before; of a ResNet-50 about 200 MB each.
_LEAST_FREE_GIB = 2.0
_GIB = 2**30
# Batches that each worker of a DataLoader loads ahead, and batches to measure with.
_LOADED_AHEAD, _LEAST_LOADED = 2, 8


class _Skip(Exception):
    """This machine cannot answer."""


@dataclass
class Checklist:
    """Runs the checks one by one.

    Attributes:
        config: what will be trained.
        trained: the trainer's configuration, as soon as the data are found.
        options: of the trainer, which win.
        batch_size: of the one-batch run.
        least_free_gib: that the disk of the checkpoints must have.
        least_speed: images a second that loading must reach; 0: as many as training takes.
        failed: names of checks that failed.
    """

    config: TrainingConfig
    options: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 32
    least_free_gib: float = _LEAST_FREE_GIB
    least_speed: float = 0.0
    trained: TrainerConfig | None = None
    failed: list[str] = field(default_factory=list)
    _training_speed: float = 0.0
    _gpu_bytes: int = 0

    def run(self) -> bool:
        """All checks, each with a line; returns whether none failed."""
        checks: dict[str, Callable[[], str]] = {
            "PyTorch 2.0 or newer": self.torch_version,
            "CUDA": self.cuda,
            "data": self.data,
            "disk space": self.disk_space,
            "one batch": self.one_batch,
            "GPU memory": self.gpu_memory,
            "loading speed": self.loading_speed,
        }
        for name, check in checks.items():
            try:
                mark, text = "ok", check()
            except _Skip as skip:
                mark, text = "skipped", str(skip)
            except (FfxError, OSError, RuntimeError) as error:
                mark, text = "FAILED", worded(" ".join(str(error).split()))
                self.failed.append(name)
            print(f"[{mark:^7}] {name}: {text}", flush=True)
        return not self.failed

    def torch_version(self) -> str:
        """torch is new enough for torch.compile."""
        import torch

        found = tuple(int("".join(filter(str.isdigit, part)) or 0) for part in torch.__version__.split(".")[:2])
        if found < _LEAST_TORCH:
            raise TrainingError(f"found {torch.__version__}: pip install --upgrade torch")
        return torch.__version__

    def cuda(self) -> str:
        """There is a GPU, unless none is wanted."""
        import torch

        if self.config.device == "cpu":
            raise _Skip("--device cpu")
        if not torch.cuda.is_available():
            raise TrainingError("torch finds no GPU: training would take months (--device cpu accepts that)")
        return ", ".join(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count()))

    def data(self) -> str:
        """Training and validation set are there, and have the same classes."""
        from trainer.data import count_classes, open_validation
        from trainer.distributed import Ranks

        self.trained = self.config.to_trainer_config(**self.options)
        device, dtype = self._device()
        with (
            closing(self._open(device, dtype)) as training,
            closing(open_validation(self.trained, Ranks(), device, dtype)) as validation,
        ):
            classes = count_classes(self.trained.data.classes, [training, validation])
            return f"{training.path}: {training.images:,} images, {validation.images:,} to validate, {classes} classes"

    def disk_space(self) -> str:
        """The disk of the checkpoints has room."""
        folder = Path(self.config.output.checkpoint_dir).expanduser().absolute()
        while not folder.exists():
            folder = folder.parent
        free = shutil.disk_usage(folder).free / _GIB
        if free < self.least_free_gib:
            raise TrainingError(f"{free:.1f} GiB free at {folder}, {self.least_free_gib:g} are needed for checkpoints")
        return f"{free:.1f} GiB free at {folder}"

    def one_batch(self) -> str:
        """A batch of 32 trains."""
        from test_single_batch import run_single_batch

        found = run_single_batch(self._small())
        self._training_speed, self._gpu_bytes = found.images[0] / found.seconds, found.gpu_bytes
        return f"loss {found.loss:.3f}, {found.seconds:.2f} s a step of {found.images[0]} images on {found.device}"

    def gpu_memory(self) -> str:
        """The whole batch fits: run in full size."""
        import torch
        from test_single_batch import run_single_batch

        trained = self._demand_data()
        if self._device()[0].type != "cuda":
            raise _Skip("there is no GPU in use")
        found = run_single_batch(trained, at_largest=True)
        whole = torch.cuda.get_device_properties(0).total_memory
        return f"{found.gpu_bytes / _GIB:.1f} of {whole / _GIB:.1f} GiB with batches of {found.images[0]}"

    def loading_speed(self) -> str:
        """Loading is as fast as training, or as `least_speed` says."""
        trained = self._demand_data()
        if trained.data.source == "synthetic":
            raise _Skip("made-up data need no loading")
        least = self.least_speed or self._training_speed
        if not least:
            raise _Skip("the batch above failed: --least-speed says what is needed")
        speed = self._measured_loading()
        if speed < least:
            raise TrainingError(
                f"{speed:,.0f} images/s, {least:,.0f} are needed: more --workers, a faster disk, or the data in a file "
                "(write_dataset.sh)"
            )
        return f"{speed:,.0f} images/s, {least:,.0f} are needed"

    def _measured_loading(self) -> float:
        small = self._small()
        size, side, workers = small.training.batch_size, small.resolution.max_res, small.data.num_workers
        if workers < 0:
            workers = os.cpu_count() or 1
        # What was loaded ahead, while the first batch was waited for, says nothing about speed.
        ahead = _LOADED_AHEAD * workers + 2
        images = 0
        with closing(self._open(*self._device(), small)) as source, closing(source.epoch(0, side, size)) as batches:
            for _ in islice(batches, ahead):
                pass
            start = time.perf_counter()
            for _, labels in islice(batches, max(_LEAST_LOADED, _LOADED_AHEAD * workers)):
                images += len(labels)
            seconds = time.perf_counter() - start
        if not images:
            raise _Skip(f"there are fewer than {ahead * size:,} images, too few to measure with")
        return images / seconds

    def _demand_data(self) -> TrainerConfig:
        if self.trained is None:
            raise _Skip("the data are not there")
        return self.trained

    def _small(self) -> TrainerConfig:
        """One step of `batch_size` images of the final size."""
        self._demand_data()
        size = {"training.batch_size": self.batch_size, "resolution.schedule": ""}
        return TrainerConfig.from_params({**self.trained.as_params(), **size})

    def _device(self) -> tuple[Any, Any]:
        from trainer.distributed import Ranks, choose_device
        from trainer.learner import choose_precision

        training = self._demand_data().training
        device = choose_device(training.device, Ranks())
        return device, choose_precision(training.precision, device)

    def _open(self, device: Any, dtype: Any, trained: TrainerConfig | None = None) -> Any:
        from trainer.data import open_training
        from trainer.distributed import Ranks

        return open_training(trained or self._demand_data(), Ranks(), device, dtype)


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments, worded)


def _run(arguments: list[str], stop: StopRequest) -> None:
    parser = make_parser(PROGRAM, (__doc__ or "").partition("\n")[0])
    parser.add_argument("--test-batch-size", type=int, default=32, help="images of the one-batch run (default: 32)")
    parser.add_argument(
        "--least-free-gib", type=float, default=_LEAST_FREE_GIB, help="disk space for checkpoints (default: 2)"
    )
    parser.add_argument(
        "--least-speed",
        type=float,
        default=0.0,
        help="images/s that loading needs (default: what training takes)",
    )
    config, options, given = read_arguments(arguments, parser)
    checklist = Checklist(config, options, given.test_batch_size, given.least_free_gib, given.least_speed)
    if not checklist.run():
        raise TrainingError(f"failed: {', '.join(checklist.failed)}")
    print("ready to train")


if __name__ == "__main__":
    raise SystemExit(main())
