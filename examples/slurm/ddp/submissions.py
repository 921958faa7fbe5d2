"""Submissions to SLURM, one for each number of GPUs, from one template."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from trainer.arguments import Parser, value_of
from trainer.errors import ConfigurationError
from trainer.values import WholeNumber

__all__ = ["RATES", "Submission", "parser", "write_submissions"]

# Learning rates of the Kempner cluster's table, by GPUs with 256 images each.
RATES = {1: 0.1, 2: 0.1, 4: 0.1, 8: 0.1, 16: 1.6, 32: 3.2, 64: 6.4, 128: 6.4}
_BASE_RATE, _BASE_BATCH = 0.1, 256
# What one A100 took for 90 epochs, by that table; and how much more a job asks for, and at least.
_SECONDS_OF_ONE, _SPARE, _LEAST_HOURS = 129_686, 1.5, 2
_GIGABYTES_A_CPU = 8
_PLACE = re.compile("@([a-z_]+)@")


@dataclass(frozen=True)
class Submission:
    """One job.

    Attributes:
        gpus, nodes, tasks_a_node: a task a GPU.
        cpus_a_task, workers: processors of a task, and how many of its processes load.
        gigabytes_a_cpu: memory.
        batch_a_gpu, batch: images a step, of a GPU and of all.
        rate: learning rate.
        hours: limit.
    """

    gpus: int
    nodes: int
    tasks_a_node: int
    cpus_a_task: int
    workers: int
    gigabytes_a_cpu: int
    batch_a_gpu: int
    batch: int
    rate: float
    hours: int

    @classmethod
    def of(cls, gpus: int, batch_a_gpu: int, gpus_a_node: int, cpus_a_task: int, scales_rate: bool) -> Submission:
        """The job for so many GPUs.

        Raises:
            ConfigurationError: they fill no whole nodes, or nobody has said what their learning rate is.
        """
        if gpus > gpus_a_node and gpus % gpus_a_node:
            raise ConfigurationError(f"{gpus} GPUs fill no whole nodes of {gpus_a_node}: use a multiple, or fewer")
        batch = gpus * batch_a_gpu
        rate = _BASE_RATE * batch / _BASE_BATCH if scales_rate else RATES.get(gpus)
        if rate is None or (not scales_rate and batch_a_gpu != _BASE_BATCH):
            raise ConfigurationError(
                f"{gpus} GPUs with {batch_a_gpu} images each: the table has learning rates for "
                f"{', '.join(map(str, RATES))} GPUs with {_BASE_BATCH} each: --scale-lr makes one, {_BASE_RATE} x "
                f"batch / {_BASE_BATCH}"
            )
        return cls(
            gpus=gpus,
            nodes=max(1, gpus // gpus_a_node),
            tasks_a_node=min(gpus, gpus_a_node),
            cpus_a_task=cpus_a_task,
            workers=cpus_a_task,
            gigabytes_a_cpu=_GIGABYTES_A_CPU,
            batch_a_gpu=batch_a_gpu,
            batch=batch,
            rate=rate,
            hours=max(_LEAST_HOURS, math.ceil(_SPARE * _SECONDS_OF_ONE / gpus / 3600)),
        )


def write_submissions(submissions: Iterable[Submission], template: Path, out: Path) -> list[Path]:
    """Write `gpus_<number>.sh` for each into a folder, beside its folder `logs`; `@name@` in the template: a value."""
    text = template.read_text(encoding="utf-8")
    # SLURM writes a job's output nowhere when its folder is missing.
    (out / "logs").mkdir(parents=True, exist_ok=True)
    paths = []
    for one in submissions:
        values = {**asdict(one), "rate": f"{one.rate:g}", "number": f"{one.gpus:03}"}
        path = out / f"gpus_{values['number']}.sh"
        path.write_text(_PLACE.sub(lambda found, v=values: str(v[found[1]]), text), encoding="utf-8")
        path.chmod(0o755)
        paths.append(path)
    return paths


def parser(program: str, description: str) -> argparse.ArgumentParser:
    """The options of `submissions.py`."""
    made = Parser(prog=program, description=description, allow_abbrev=False)
    made.add_argument("--gpus", type=_numbers, help="numbers of GPUs; default: 1,2,4,8,16,32,64,128")
    made.add_argument("--out", default="", help="folder; default: run_results/A100, beside this program")
    made.add_argument("--batch-a-gpu", type=_number, default=256, help="images a step and GPU; default: 256")
    made.add_argument("--gpus-a-node", type=_number, default=4, help="default: 4")
    made.add_argument("--cpus-a-task", type=_number, default=16, help="processors a GPU; default: 16")
    made.add_argument("--scale-lr", action="store_true", help="learning rates of 0.1 x batch / 256, not the table's")
    return made


_number = value_of(WholeNumber(1))


def _numbers(text: str) -> list[int]:
    return sorted({_number(part) for part in text.split(",")})
