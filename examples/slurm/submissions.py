"""Write the submissions for 1 to 128 GPUs, `run_results/A100/gpus_001.sh` to `gpus_128.sh`, from `template.sbatch`.

    python submissions.py
    python submissions.py --out run_results/H100 --gpus-a-node 8 --gpus 8,16 --scale-lr

As on the Kempner cluster: 256 images and 16 processors a GPU, 4 GPUs a node, and the learning rates of its table.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:] = [*dict.fromkeys([str(HERE), *sys.path])]

from ddp.submissions import RATES, Submission, write_submissions  # noqa: E402
from ddp.submissions import parser as make_parser  # noqa: E402
from trainer.program import run_program  # noqa: E402
from trainer.signals import StopRequest  # noqa: E402

__all__ = ["main"]

PROGRAM = "submissions.py"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments)


def _run(arguments: Sequence[str], stop: StopRequest) -> None:
    found = make_parser(PROGRAM, (__doc__ or "").partition("\n")[0]).parse_args(list(arguments))
    submissions = [
        Submission.of(gpus, found.batch_a_gpu, found.gpus_a_node, found.cpus_a_task, found.scale_lr)
        for gpus in found.gpus or RATES
    ]
    out = Path(found.out).expanduser() if found.out else HERE / "run_results" / "A100"
    for path in write_submissions(submissions, HERE / "template.sbatch", out):
        print(path)


if __name__ == "__main__":
    raise SystemExit(main())
