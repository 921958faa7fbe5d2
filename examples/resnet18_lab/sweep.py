"""Lab 5: batches of 32 to 8192 images a GPU on 1, 2 and 4 GPUs, with DistributedDataParallel; then how that scales.

    python3 sweep.py --dataset-path=data
    python3 sweep.py --dataset-path=data --device=cpu --gpus=1,2 --batch-sizes=8,16 --epochs=1

Writes gpus1.out, gpus2.out and gpus4.out (a line an epoch) and q4.out: the fastest batch on the most GPUs, for more
epochs. On a CPU a rank is a process, joined by gloo. A batch that does not fit is a line that says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lab.configuration import check_device
from lab.options import LabParser, options_of, whole_number
from lab.scaling import draw_scaling, read_times, same_batch_table, scaling_of, scaling_table
from lab.sweeping import Sweep
from trainer.program import run_program
from trainer.signals import StopRequest

__all__ = ["main"]

PROGRAM = "sweep.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments)


def _numbers(text: str) -> list[int]:
    return sorted({whole_number(1)(part) for part in text.split(",")})


def _run(arguments: Sequence[str], stop: StopRequest) -> None:
    parser = LabParser(PROGRAM, (__doc__ or "").partition("\n")[0])
    parser.add_argument("--gpus", type=_numbers, default=[1, 2, 4], help="numbers of ranks; default: 1,2,4")
    sizes = [32, 128, 512, 2048, 8192]
    parser.add_argument(
        "--batch-sizes", type=_numbers, default=sizes, help="images a batch and GPU; default: 32,128,512,2048,8192"
    )
    parser.add_argument("--q4-epochs", type=whole_number(1), default=5, help="epochs of q4.out; default: 5")
    parser.add_argument("--out", default=".", help="folder for the .out files; default: this one")
    parser.set_defaults(epochs=2)
    options, found = options_of(parser, arguments)
    check_device(options)
    out = Path(found.out).expanduser()
    out.mkdir(parents=True, exist_ok=True)
    sweep = Sweep(options, out, stop)
    files = [path for gpus in found.gpus if (path := sweep.run(gpus, found.batch_sizes)) is not None]
    times = read_times(files) if files else {}
    sweep.run_best(times, found.gpus[-1], found.q4_epochs)
    scalings = scaling_of(times)
    if scalings:
        print(scaling_table(scalings))
        print(same_batch_table(times))
        picture = draw_scaling(scalings, out / "scaling.png")
        print(f"Picture: {picture}" if picture else "No picture: it needs matplotlib (pip install matplotlib)")


if __name__ == "__main__":
    raise SystemExit(main())
