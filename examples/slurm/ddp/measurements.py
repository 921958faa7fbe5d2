"""What trainings on some numbers of GPUs took and reached: from logs of `main.py`, CSV files, submissions not run."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from trainer.errors import ConfigurationError, DataError

from .results import Heading, Total

__all__ = ["COLUMNS", "NOT_RUN", "Measurement", "combined", "read_csv", "read_folder", "read_log", "read_submission"]

NOT_RUN = "TBD"
# As the Kempner cluster's table has them; the first three have to be there in a CSV file.
COLUMNS = ("#GPUs", "Batch Size", "WCT (s)", "GPU", "#N", "LR", "Val Acc@1", "Val Acc@5", "Precision", "Optimizer")
_NEEDED = COLUMNS[:3]
_KIND = ("gpu", "precision", "optimizer")
_Key = tuple[int, int, float, str, str, str]
# What a report has beside them, and makes anew from them.
_MADE = ("WCT (h:m:s)", "Speed-up", "Scaling Efficiency", "Strong Scaling Efficiency", "Weak Scaling Efficiency")

_SCORES = re.compile(r" \* Acc@1 ([\d.]+) Acc@5 ([\d.]+)$")
_SETUP = re.compile(r"\S+: [\d,]+ parameters, \d+ classes, (\w+) on (?:\d+ x )?(.+)$")
_SUBMISSION = {
    "nodes": re.compile(r"^#SBATCH --nodes=(\d+)$", re.MULTILINE),
    "tasks": re.compile(r"^#SBATCH --ntasks-per-node=(\d+)$", re.MULTILINE),
    "batch": re.compile(r" -b (\d+) "),
    "rate": re.compile(r" --lr ([\d.e+-]+) "),
}


@dataclass(frozen=True)
class Measurement:
    """A training, done or not.

    Attributes:
        gpus, nodes: how many; 0 nodes: not known.
        batch_size: images a step of all GPUs.
        rate: learning rate; `None`: not known.
        seconds: of the whole training; `None`: it has not been done.
        top_1, top_5: behind the last epoch, in per cent; `None`: not known.
        gpu: what the GPUs are; empty: not known.
        precision: of convolutions, such as float32; empty: not known.
        optimizer: with the schedule of its rate; empty: not known.
        training: what was trained, for how long; empty: not known.
        runs: that this is the median of.
    """

    gpus: int
    batch_size: int
    seconds: float | None = None
    nodes: int = 0
    rate: float | None = None
    top_1: float | None = None
    top_5: float | None = None
    gpu: str = ""
    precision: str = ""
    optimizer: str = ""
    training: str = ""
    runs: int = 1

    @property
    def batch_a_gpu(self) -> int:
        """Images a step and GPU."""
        return self.batch_size // self.gpus

    def agrees_with(self, other: Measurement, *names: str) -> bool:
        """Whether these attributes are equal, where both are known."""
        pairs = [(getattr(self, name), getattr(other, name)) for name in names]
        return all(not own or not others or own == others for own, others in pairs)


def read_log(path: Path) -> Measurement:
    """What a job printed, however often it was requeued.

    Raises:
        DataError: there is no line of `main.py` that says what is trained, or there are different ones.
    """
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    headings = {heading for heading in map(Heading.find, lines) if heading}
    if len(headings) != 1:
        raise DataError(
            f"{path}: expected the log of one training of main.py, found "
            f"{' and '.join(sorted(map(str, headings))) or 'no line main.py: NETWORK, ...'}"
        )
    (heading,) = headings
    totals = [total for total in map(Total.find, lines) if total and total.is_complete]
    scores = [found for found in map(_SCORES.match, lines) if found]
    setups = [found.groups() for found in map(_SETUP.match, lines) if found]
    precision, gpu = setups[-1] if setups else ("", "")
    started = Measurement(
        gpus=heading.ranks,
        batch_size=heading.batch_size,
        nodes=heading.nodes,
        rate=heading.rate,
        gpu=gpu,
        precision=precision,
        optimizer=", ".join(filter(None, (heading.optimizer, heading.schedule))),
        training=f"{heading.arch}, {heading.epochs} epochs",
    )
    if not totals:
        return started
    top_1, top_5 = map(float, scores[-1].groups()) if scores else (None, None)
    return replace(started, seconds=totals[-1].seconds, top_1=top_1, top_5=top_5)


def read_submission(path: Path) -> Measurement:
    """What a submission of `submissions.py` would train.

    Raises:
        DataError: it is none of these.
    """
    text = path.read_text(encoding="utf-8")
    found = {name: pattern.search(text) for name, pattern in _SUBMISSION.items()}
    missing = [name for name, match in found.items() if not match]
    if missing:
        raise DataError(f"{path}: expected a submission as submissions.py writes it, found none of its {missing[0]}")
    nodes, tasks, batch = (int(found[name][1]) for name in ("nodes", "tasks", "batch"))
    return Measurement(nodes * tasks, batch, nodes=nodes, rate=float(found["rate"][1]))


def read_folder(folder: Path) -> tuple[list[Path], list[Measurement]]:
    """Logs in a folder and in its folder `logs`, and what its submissions would train.

    Raises:
        DataError: there is neither.
    """
    logs = sorted([*folder.glob("*.out"), *(folder / "logs").glob("*.out")])
    planned = [read_submission(path) for path in sorted(folder.glob("gpus_*.sh"))]
    if not logs and not planned:
        raise DataError(f"{folder}: expected logs (*.out, logs/*.out) or submissions (gpus_*.sh), found neither")
    return logs, planned


def read_csv(path: Path) -> list[Measurement]:
    """The lines of a CSV file with the columns `COLUMNS`; those that a report adds may be there and are not read.

    Raises:
        DataError: columns are missing or unknown, or a line is not as expected.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected a CSV file in UTF-8, found other bytes") from error
    lines = csv.DictReader(io.StringIO(text, newline=""), skipinitialspace=True)
    names = [name.strip() for name in lines.fieldnames or ()]
    lines.fieldnames = names
    unknown = [name for name in names if name not in (*COLUMNS, *_MADE)]
    missing = [name for name in _NEEDED if name not in names]
    if unknown or missing:
        raise DataError(
            f"{path}: expected columns {', '.join(_NEEDED)}, and any of {', '.join(COLUMNS[3:])}; "
            f"found {', '.join(names) or 'nothing'}"
        )
    return [_from_line(line, f"{path}, line {lines.line_num}") for line in lines]


def _from_line(line: Mapping[str | None, str | None], place: str) -> Measurement:
    if None in line or None in line.values():
        raise DataError(f"{place}: expected as many cells as there are columns, found {list(line.values())}")

    def number(name: str) -> float | None:
        text = (line.get(name) or "").strip()
        if text in ("", NOT_RUN):
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf or (value == 0 and name == "WCT (s)"):
            raise DataError(f"{place}: {name}: expected a number above 0, or {NOT_RUN}, found {text!r}")
        return value

    gpus, batch, nodes = number("#GPUs") or 0.0, number("Batch Size") or 0.0, number("#N") or 0.0
    if not all(value.is_integer() for value in (gpus, batch, nodes)) or gpus < 1 or batch < gpus or batch % gpus:
        raise DataError(
            f"{place}: expected whole numbers of GPUs and nodes, and a batch of all GPUs that they share evenly, found "
            f"#GPUs {line['#GPUs']}, Batch Size {line['Batch Size']}, #N {line.get('#N', '')}"
        )
    return Measurement(
        int(gpus),
        int(batch),
        seconds=number("WCT (s)"),
        nodes=int(nodes),
        rate=number("LR"),
        top_1=number("Val Acc@1"),
        top_5=number("Val Acc@5"),
        gpu=(line.get("GPU") or "").strip(),
        precision=(line.get("Precision") or "").strip(),
        optimizer=(line.get("Optimizer") or "").strip(),
    )


def combined(measurements: Iterable[Measurement]) -> list[Measurement]:
    """One for each batch a GPU, number of GPUs, rate, GPU, precision and optimizer, in this order.

    Of several that have run it is the median. What has not run is left out where another of the same numbers knows
    more, as a log does of a submission.

    Raises:
        ConfigurationError: not all are of the same training, so that their times say nothing about GPUs.
    """
    found = list(measurements)
    groups: dict[_Key, list[Measurement]] = {}
    for one in found:
        if not any(_covers(other, one) for other in found):
            groups.setdefault(_key(one), []).append(one)
    trainings = sorted({one.training for group in groups.values() for one in group if one.training})
    if len(trainings) > 1:
        raise ConfigurationError(f"expected logs of the same training, found {'; '.join(trainings)}: report each alone")
    return [_median(group) for _, group in sorted(groups.items())]


def _key(one: Measurement) -> _Key:
    rate = -1.0 if one.rate is None else one.rate
    return one.batch_a_gpu, one.gpus, rate, one.gpu, one.precision, one.optimizer


def _covers(other: Measurement, one: Measurement) -> bool:
    """Whether `one` has not run and says nothing that `other` does not say, too, with more."""
    known = [(getattr(one, name), getattr(other, name)) for name in _KIND]
    return (
        one.seconds is None
        and _key(one) != _key(other)
        and _key(one)[:3] == _key(other)[:3]
        and all(own in ("", others) for own, others in known)
    )


def _median(group: list[Measurement]) -> Measurement:
    done = [one for one in group if one.seconds is not None]

    def middle(name: str) -> float | None:
        values = [getattr(one, name) for one in done if getattr(one, name) is not None]
        return median(values) if values else None

    medians = {name: middle(name) for name in ("seconds", "top_1", "top_5")}
    return replace((done or group)[0], runs=max(len(done), 1), **medians)
