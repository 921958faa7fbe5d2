"""Speed-up and efficiency, of strong and weak scaling, from the .out files of `sweep.py` or from given times.

python3 scaling.py gpus1.out gpus2.out gpus4.out --plot=scaling.png
python3 scaling.py --times=512:1=18.07,2=10.20 --times=8192:1=18.34,4=5.02
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from lab.scaling import (
    draw_scaling,
    read_times,
    same_batch_table,
    scaling_of,
    scaling_table,
    times_from_text,
)
from trainer.errors import ConfigurationError
from trainer.program import run_program
from trainer.signals import StopRequest

__all__ = ["main"]

PROGRAM = "scaling.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments)


def _run(arguments: Sequence[str], stop: StopRequest) -> None:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("files", nargs="*", type=Path, help=".out files of sweep.py")
    parser.add_argument("--times", action="append", default=[], help="seconds of an epoch: 512:1=18.07,2=10.20")
    parser.add_argument("--weak-times", action="append", default=[], help="the same, of N times the data on N GPUs")
    parser.add_argument("--plot", default="", help="write a picture of the speed-up here")
    found = parser.parse_args(arguments)
    times = read_times(found.files)
    for batch_size, by_gpus in times_from_text(found.times).items():
        times.setdefault(batch_size, {}).update(by_gpus)
    scalings = scaling_of(times, times_from_text(found.weak_times))
    if not scalings:
        raise ConfigurationError("expected times of one GPU and of several, in .out files or with --times, found none")
    print(scaling_table(scalings))
    same_batch = same_batch_table(times)
    if same_batch.rows:
        print(same_batch)
    if found.plot:
        picture = draw_scaling(scalings, Path(found.plot).expanduser())
        print(f"Picture: {picture}" if picture else "No picture: it needs matplotlib (pip install matplotlib)")


if __name__ == "__main__":
    raise SystemExit(main())
