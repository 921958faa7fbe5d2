"""What the benchmarks' tests share: the program as a process, contenders that do next to nothing, made rows."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = "tests.benchmarks.helpers"


def run_benchmarks(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *map(str, arguments)], cwd=ROOT, capture_output=True, text=True
    )


def measured(*arguments, out):
    """Run a benchmark that has to succeed; its rows."""
    done = run_benchmarks(*arguments, "--out", out)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in Path(out).read_text().splitlines()]
    for row in rows:
        assert {"benchmark", "commit", "command", "machine", "versions", "time", "load_before"} <= row.keys()
    return rows


def open_counting(log, name, wall=1.0):
    """A contender that notes its turns in a file."""

    def do_round():
        with open(log, "a") as file:
            file.write(f"{name} {os.getpid()}\n")
        return {"images": 10, "wall": wall, "cpu": 0.0}

    return do_round


def open_environment(names):
    """A contender that tells of its environment: the variables' values, and what lies in folders they name."""
    values = {name: os.environ.get(name) for name in names}
    inside = {name: os.listdir(value) for name, value in values.items() if value and os.path.isdir(value)}
    return lambda: {"values": values, "inside": inside, "cores": sorted(os.sched_getaffinity(0))}


def open_failing():
    raise RuntimeError("there is nothing to measure")


def open_waiting(seconds):
    def do_round():
        time.sleep(seconds)
        return {"images": 1, "wall": seconds, "cpu": 0.0}

    return do_round


def loader_row(
    peer, kind="raw400", size=160, time="2026-01-01T00:00:00+00:00", rate=100.0, ratio=None, workers=1, samples=12_000
):
    """A row as `loader` writes it, with what its readers look at."""
    row = {
        "benchmark": "loader",
        "commit": "0123456789abcdef",
        "images_a_second": {"median": rate, "low": 0.9 * rate, "high": 1.1 * rate},
        "kind": {"name": kind},
        "machine": {"processor": "made processor", "cores": 3},
        "peer": peer,
        "pictures": 20,
        "rounds": [{}] * 5,
        "task": {"size": size, "workers": workers, "samples": samples},
        "time": time,
        "versions": {"ffcv": "1.0.2"},
    }
    if ratio is not None:
        median, low, high = ratio
        row["ratio"] = {"to": "ffcv", "median": median, "low": low, "high": high}
    return row
