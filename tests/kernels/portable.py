"""The portable vector code's results: a function of a test module, run where no vector instruction is known.

Run as `python -m tests.kernels.portable MODULE FUNCTION` it is that process.
"""

import importlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numba.core.registry import cpu_target

from ffx.kernels.jpeg import release_decoder
from ffx.kernels.memory import THREAD_WORDS, release_thread

__all__ = ["by_portable_code"]

ROOT = Path(__file__).resolve().parents[2]


def by_portable_code(function: Callable[[int], object]) -> str:
    """`function(thread)` as text, in a process that compiles for a processor of which nothing is known.

    `thread` is the address of a thread's words; the function stands at the top level of a test module.
    """
    command = [sys.executable, "-m", "tests.kernels.portable", function.__module__, function.__name__]
    environment = {**os.environ, "NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "PYTHONPATH": str(ROOT)}
    outcome = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    return outcome.stdout.removesuffix("\n")


def main(module: str, function: str) -> None:
    """Print what a function gives for a thread of its own."""
    features = cpu_target.target_context.codegen().magic_tuple()[2]
    assert "+avx2" not in features, f"expected to compile for an unknown processor, found {features}"
    words = np.zeros(THREAD_WORDS, np.int64)
    print(getattr(importlib.import_module(module), function)(words.ctypes.data))
    release_decoder(words)
    release_thread(words)


if __name__ == "__main__":
    main(*sys.argv[1:])
