"""Lab 5's trainings: each batch on each number of ranks, by the trainer's own DistributedDataParallel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from trainer.errors import DataError, TrainingError
from trainer.signals import StopRequest

from .configuration import configuration
from .options import LabOptions
from .runs import Epoch, run_trainer
from .scaling import Times, out_line

__all__ = ["Sweep"]


class Sweep:
    """Trainings on several numbers of ranks.

    Args:
        options: of all of them; `batch_size` is each one's own.
        out: folder for the .out files.
        stop: asked by the trainings whether to stop.
    """

    def __init__(self, options: LabOptions, out: Path, stop: StopRequest | None = None) -> None:
        self._options, self._out, self._stop = options, out, stop

    def run(self, gpus: int, batch_sizes: Sequence[int]) -> Path | None:
        """Train with each batch, and write `gpus<N>.out`; returns it if one of them could be trained with."""
        path = self._out / f"gpus{gpus}.out"
        path.write_text("", encoding="utf-8")
        trained = [self._write(path, gpus, size, self._options.epochs) for size in batch_sizes]
        return path if any(trained) else None

    def run_best(self, times: Times, gpus: int, epochs: int) -> Path | None:
        """Train with the fastest batch for more epochs, and write `q4.out`; `None` if there is none."""
        seconds = {size: by_gpus[gpus] for size, by_gpus in times.items() if gpus in by_gpus}
        if not seconds:
            return None
        path = self._out / "q4.out"
        path.write_text("", encoding="utf-8")
        self._write(path, gpus, min(seconds, key=lambda size: seconds[size]), epochs)
        return path

    def _write(self, path: Path, gpus: int, batch_size: int, epochs: int) -> bool:
        place = {"gpus": gpus, "batch_per_gpu": batch_size}
        try:
            lines = [out_line(**place, **_figures(epoch)) for epoch in self._train(gpus, batch_size, epochs)]
        except (DataError, TrainingError) as error:
            # Too few images, too little memory: what the lab wants to know as well.
            lines = [f"{out_line(**place)} not trained: {error}"]
        with open(path, "a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)
        print(*lines, sep="\n", flush=True)
        return "train_seconds=" in lines[0]

    def _train(self, gpus: int, batch_size: int, epochs: int) -> tuple[Epoch, ...]:
        options = replace(self._options, batch_size=batch_size, epochs=epochs)
        ranks = {"training.distributed": gpus > 1, "dist.world_size": gpus, "dist.port": 0}
        # Imported here, because it takes seconds.
        import torch

        try:
            return run_trainer(configuration(options, **ranks), options.print_epochs, self._stop).epochs
        except torch.cuda.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise TrainingError(f"the GPU's memory is too small: {error}") from error


def _figures(epoch: Epoch) -> dict[str, object]:
    return {
        "epoch": epoch.number,
        "train_seconds": f"{epoch.total:.4f}",
        "load_seconds": f"{epoch.load:.4f}",
        "copy_seconds": f"{epoch.copy:.4f}",
        "compute_seconds": f"{epoch.compute:.4f}",
        "steps": epoch.steps,
        "images_per_second": f"{epoch.images_per_second:.1f}",
        "loss": f"{epoch.loss:.4f}",
        "top_1": f"{epoch.top_1:.4f}",
    }
