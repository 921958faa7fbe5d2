"""The table of speed and memory: fp32, then one optimization after the other, then several GPUs.

    python speed_table.py --data-path ./imagenet --steps 100          # or --synthetic: without loading
    python speed_table.py --synthetic --device cpu --gpus 2 --steps 5 --arch resnet18 --batch-size 8 --image-size 64

Each row trains so many steps, in a process of its own. What this machine cannot run stands there as "not run here" with
the reason. The first step of each row compiles and is not counted. Flags are those of run.py.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import checkout
from config import TrainingConfig
from run import make_parser, read_arguments, worded
from trainer.errors import ConfigurationError, TrainingError
from trainer.program import run_program, show_rows
from trainer.signals import StopRequest
from translation import progressive_schedule

__all__ = ["Measured", "Row", "main", "rows_of", "table_of"]

PROGRAM = "speed_table.py"
# `torch.cuda.max_memory_allocated` of the first rank, and the rate of all of them, as the last line of the output.
_MEASURE = """
import json, sys
import checkout
from run import read_arguments
from trainer.distributed import find_ranks
from trainer.loop import Trainer
import torch
config, options, given = read_arguments(sys.argv[1:])
trained = config.to_trainer_config(**options)
with Trainer(trained, find_ranks(trained)) as trainer:
    result = trainer.train_epoch(0)
    bytes_used = torch.cuda.max_memory_allocated() if trainer.device.type == "cuda" else 0
    if trainer.ranks.is_main:
        print(json.dumps([result.images_per_second, bytes_used]))
"""


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        name: what it is called.
        flags: of run.py, behind the user's.
        gpus: processes.
        stages: images and batches of each stage with its epochs: (side, batch, epochs).
        missing: why this machine does not run it; "" where it does.
    """

    name: str
    flags: tuple[str, ...]
    gpus: int = 1
    stages: tuple[tuple[int, int, int], ...] = ()
    missing: str = ""


@dataclass(frozen=True)
class Measured:
    """A row's result; `images_per_second` is `None` where it did not run."""

    name: str
    images_per_second: float | None
    gpu_bytes: int
    note: str = ""


def rows_of(config: TrainingConfig, gpus: Sequence[int], has_gpu: bool, gpu_count: int) -> list[Row]:
    """The rows for a configuration.

    Args:
        config: what is trained.
        gpus: numbers of GPUs for the last rows; on a CPU, of processes.
        has_gpu: whether training uses GPUs.
        gpu_count: how many there are.
    """
    no_gpu = "" if has_gpu else "fp16 needs a GPU"
    best = "fp16" if has_gpu else "bf16"
    full = ("--amp", best, "--compile")
    rows = [
        Row("fp32 baseline", ("--amp", "off", "--no-compile")),
        Row("+ fp16", ("--amp", "fp16", "--no-compile"), missing=no_gpu),
        Row("+ bf16", ("--amp", "bf16", "--no-compile")),
        Row(f"+ {best} + compile", full),
        Row(f"+ {best} + compile + progressive resize", full, stages=_stages(config)),
    ]
    for number in gpus:
        lacks = f"{gpu_count} GPU(s) here" if has_gpu and gpu_count < number else ""
        rows.append(
            Row(f"{number} {'GPUs' if has_gpu else 'CPU processes'}, {best} + compile", full, number, (), lacks)
        )
    return rows


def _stages(config: TrainingConfig) -> tuple[tuple[int, int, int], ...]:
    optimization = replace(config.optimization, progressive_resize=True)
    text = progressive_schedule(replace(config, optimization=optimization))
    stages = [[int(word) for word in part.split(",")] for part in text.split(";")]
    begun = [stage for stage in stages if stage[0] < config.epochs]
    ends = [stage[0] for stage in begun[1:]] + [config.epochs]
    return tuple(
        (stage[1], stage[2] if len(stage) > 2 else config.data.batch_size, end - stage[0])
        for stage, end in zip(begun, ends, strict=True)
    )


def _measure(row: Row, arguments: Sequence[str], steps: int) -> Measured:
    """Run a row; of several stages the mean over all epochs, as the time is that of all images."""
    if row.missing:
        return Measured(row.name, None, 0, f"not run here: {row.missing}")
    seconds_an_image, memory, epochs = 0.0, 0, 0
    for side, batch, length in row.stages or ((0, 0, 1),):
        flags = [*arguments, *row.flags]
        if side:
            flags += ["--image-size", str(side), "--batch-size", str(batch)]
        try:
            speed, used = _run_once(row, flags, steps)
            if not speed:
                raise TrainingError("an epoch has one step, and the first is not timed: a smaller batch gives more")
        except TrainingError as error:
            return Measured(row.name, None, 0, f"failed: {error}")
        seconds_an_image += length / speed
        memory, epochs = max(memory, used), epochs + length
    return Measured(row.name, epochs / seconds_an_image, memory)


def _run_once(row: Row, flags: Sequence[str], steps: int) -> tuple[float, int]:
    launcher = [sys.executable, "-c", _MEASURE]
    with tempfile.TemporaryDirectory() as folder:
        if row.gpus > 1:
            program = Path(folder) / "measure.py"
            program.write_text(_MEASURE)
            processes = f"--nproc-per-node={row.gpus}"
            launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", processes, str(program)]
        places = ["--checkpoint-dir", folder, "--log-dir", f"{folder}/logs"]
        own = ["--epochs", "1", "--max-steps", str(steps + 1), "--progressive-schedule", ""]
        path = os.pathsep.join([str(checkout.HERE), os.environ.get("PYTHONPATH", "")])
        command = [*launcher, *flags, *own, *places]
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    answers = [line for line in done.stdout.splitlines() if line.startswith("[")]
    if done.returncode or not answers:
        lines = [line for line in done.stderr.splitlines() if "Error" in line] or done.stderr.splitlines()[-1:]
        raise TrainingError(worded(" ".join(lines[-1:])[:300]) or f"exit status {done.returncode}")
    speed, used = json.loads(answers[-1])
    return speed, used


def table_of(measured: Sequence[Measured]) -> str:
    """The table as Markdown."""
    base = measured[0].images_per_second
    lines = ["| configuration | images/s | / fp32 | GPU memory |", "|---|---:|---:|---:|"]
    for row in measured:
        if row.images_per_second is None:
            lines.append(f"| {row.name} | {row.note} | | |")
            continue
        ratio = f"{row.images_per_second / base:.2f}" if base else ""
        memory = f"{row.gpu_bytes / 2**30:.1f} GiB" if row.gpu_bytes else ""
        lines.append(f"| {row.name} | {row.images_per_second:,.1f} | {ratio} | {memory} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments, worded)


def _run(arguments: list[str], stop: StopRequest) -> None:
    import torch

    parser = make_parser(PROGRAM, (__doc__ or "").partition("\n")[0])
    parser.add_argument("--steps", type=_steps, default=50, help="steps a row that are counted (default: 50)")
    parser.add_argument("--gpus", default="2,4", help="rows with so many GPUs or, on a CPU, processes (default: 2,4)")
    parser.add_argument("--out", default="", help="write the rows to this file as well, as JSON")
    config, _, given = read_arguments(arguments, parser)
    try:
        gpus = [int(number) for number in given.gpus.split(",") if number]
    except ValueError as error:
        raise ConfigurationError(f"--gpus: expected numbers such as 2,4, found {given.gpus!r}") from error
    has_gpu = config.device != "cpu" and torch.cuda.is_available()
    rows = rows_of(config, gpus, has_gpu, torch.cuda.device_count())
    passed_on = _without(arguments, ("--steps", "--gpus", "--out"))
    measured = []
    for row in rows:
        measured.append(_measure(row, passed_on, given.steps))
        print(f"{row.name}: {measured[-1].note or f'{measured[-1].images_per_second:,.1f} images/s'}", flush=True)
    show_rows(table_of(measured), measured, given.out)
    if any(row.note.startswith("failed") for row in measured):
        raise TrainingError("a row failed")


def _steps(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("expected at least 1")
    return int(text)


def _without(arguments: Sequence[str], flags: Sequence[str]) -> list[str]:
    """The arguments without some flags and their values."""
    kept, skips = [], False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if not skips and name not in flags:
            kept.append(argument)
        skips = not skips and name in flags and not equals
    return kept


if __name__ == "__main__":
    raise SystemExit(main())
