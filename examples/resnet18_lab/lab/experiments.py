"""C1 to C8: what the lab asks to be trained and compared. Each gives a table, and most of them a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from trainer.errors import TrainingError
from trainer.signals import StopRequest

from .configuration import check_device, has_gpu, trace_path
from .options import OPTIMIZERS, LabOptions
from .runs import Run, train
from .tables import Table, draw_bars, epochs_table, times_of

__all__ = ["CODES", "Experiments"]

_TIMES = ("load (s)", "copy (s)", "compute (s)", "total (s)")
_WORKERS_STEP = 4
# Of C4, where C3 has not said which number is best.
_USUAL_BEST = 4


class Experiments:
    """The experiments of a session: what one of them has measured serves those behind it.

    Args:
        options: of all trainings; each experiment changes what it is about.
        out: folder for pictures; `None`: none are drawn.
        stop: asked by the trainings whether to stop.
    """

    def __init__(self, options: LabOptions, out: Path | None = None, stop: StopRequest | None = None) -> None:
        self.options = replace(options, run_code_3=False, run_profiler=False)
        self._out, self._stop = out, stop
        self._baseline: Run | None = None
        self.best_workers: int | None = None

    def _train(self, **changes: Any) -> Run:
        options = replace(self.options, **changes)
        check_device(options)
        return train(options, self._stop)

    def _compare(self, name: str, title: str, what: str, cases: Sequence[tuple[str, dict]]) -> tuple[Table, dict]:
        """Train each case, and put them beside each other. One whose loss is no number any more says so."""
        table = Table(f"{name}: {title}", (what, *_TIMES, "loss", "top-1"))
        runs: dict[str, Run] = {}
        for case, changes in cases:
            try:
                runs[case] = run = self._train(**changes)
            except TrainingError as error:
                table.rows.append([case, *["-"] * len(_TIMES), "no number", "-"])
                table.remarks.append(f"{case}: {error}")
                continue
            table.rows.append([case, *times_of(run), f"{run.last.loss:.3f}", f"{run.last.top_1:.2%}"])
        table.remarks.append("Times: mean of an epoch. Loss and top-1: of the last epoch, top-1 on the validation set.")
        if self._out is not None:
            picture = draw_bars(self._out / f"{name}.png", table.title, what, list(runs.items()))
            if picture is not None:
                table.remarks.append(f"Picture: {picture}")
        return table, runs

    def training(self) -> Table:
        """C1: train, and say what came of each epoch."""
        self._baseline = run = self._train()
        table = Table("C1: training", ("epoch", "steps", "loss", "top-1", "images/s"))
        for epoch in run.epochs:
            speed = f"{epoch.images_per_second:,.0f}"
            row = [str(epoch.number), str(epoch.steps), f"{epoch.loss:.3f}", f"{epoch.top_1:.2%}", speed]
            table.rows.append(row)
        return table

    def times(self) -> Table:
        """C2: where the time of each epoch goes."""
        if self._baseline is None:
            self.training()
        assert self._baseline is not None
        table = epochs_table("C2: times of load, copy and compute", self._baseline)
        table.remarks.append("total: all of an epoch's training; the three, and what lies between them.")
        if self._out is not None:
            path = draw_bars(self._out / "C2.png", table.title, "", [("mean of all epochs", self._baseline)])
            table.remarks.extend([f"Picture: {path}"] if path else [])
        return table

    def workers(self) -> Table:
        """C3: from no worker in steps of four to the most that are allowed."""
        counts = range(0, self.options.max_num_of_workers_for_code_3 + 1, _WORKERS_STEP)
        cases = [(str(count), {"num_of_workers": count}) for count in counts]
        table, runs = self._compare("C3", "workers that load", "workers", cases)
        if runs:
            best = min(runs, key=lambda case: runs[case].mean("total"))
            self.best_workers = int(best)
            table.remarks.insert(0, f"Fastest: {best} workers, {runs[best].mean('total'):.3f} s an epoch.")
        return table

    def one_against_best(self) -> Table:
        """C4: one worker against four, or against as many as C3 found best."""
        # Of one worker against none or itself there is nothing to learn.
        best = self.best_workers if (self.best_workers or 0) > 1 else _USUAL_BEST
        cases = [(str(count), {"num_of_workers": count}) for count in (1, best)]
        table, runs = self._compare("C4", f"one worker against {best}", "workers", cases)
        if len(runs) == len(cases):
            one, more = runs.values()
            gain = one.mean("total") / more.mean("total")
            table.remarks.insert(0, f"Speed-up of an epoch with {best} workers: {gain:.2f}")
        return table

    def devices(self) -> Table:
        """C5: GPU against CPU. Where there is no GPU, the CPU alone, and what would be trained on one."""
        gpu = has_gpu()
        devices = ("cuda", "cpu") if gpu else ("cpu",)
        cases = [(device, {"device": device}) for device in devices]
        table, runs = self._compare("C5", "GPU against CPU", "device", cases)
        if not gpu:
            epochs = self.options.epochs
            table.remarks.insert(
                0,
                f"There is no GPU on this machine. With one, the same {epochs} epoch{'s' if epochs > 1 else ''} would "
                "be trained on it with --device=cuda, and stand here as another row.",
            )
        elif len(runs) == len(cases):
            gain = runs["cpu"].mean("total") / runs["cuda"].mean("total")
            table.remarks.insert(0, f"Speed-up of an epoch by the GPU: {gain:.2f}")
        return table

    def optimizers(self) -> Table:
        """C6: the five optimizers, all with the same learning rate and weight decay."""
        cases = [(name, {"optimizer": name}) for name in OPTIMIZERS]
        return self._compare("C6", "optimizers", "optimizer", cases)[0]

    def no_batch_norm(self) -> Table:
        """C7: with batch norms and without."""
        cases = [("with", {"no_batch_norm": False}), ("without", {"no_batch_norm": True})]
        return self._compare("C7", "batch norms", "batch norms", cases)[0]

    def profiler(self) -> Table:
        """C8: a trace of some steps by torch's profiler."""
        run = self._train(run_profiler=True)
        table = epochs_table("C8: profiler", run)
        table.remarks.append(f"Trace: {trace_path(self.options).absolute()} (open it in chrome://tracing)")
        table.remarks.append("The first epoch's times contain the profiler's work.")
        return table


CODES: dict[str, Callable[[Experiments], Table]] = {
    "C1": Experiments.training,
    "C2": Experiments.times,
    "C3": Experiments.workers,
    "C4": Experiments.one_against_best,
    "C5": Experiments.devices,
    "C6": Experiments.optimizers,
    "C7": Experiments.no_batch_norm,
    "C8": Experiments.profiler,
}
