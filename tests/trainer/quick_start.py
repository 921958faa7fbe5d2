"""New processes in less than a second: a server that has imported torch and the trainer forks them.

Started anew, each would import for four seconds, which is most of what a tiny training takes.
"""

import multiprocessing
import multiprocessing.forkserver
import os
from pathlib import Path

import pytest

__all__ = ["QuickContext", "quick_ranks", "start"]

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "examples" / "imagenet"
PRELOADED = ["tests.trainer.faulty"]


def start(target, *arguments, name=None):
    """Start `target(*arguments)`, a function of a module, in a new process that has this one's environment."""
    context = multiprocessing.get_context("forkserver")
    server = multiprocessing.forkserver._forkserver
    if server._preload_modules != PRELOADED:
        # One that another test started, without any of the modules.
        server._stop()
        context.set_forkserver_preload(PRELOADED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{PROGRAMS}{os.pathsep}{ROOT}", prepend=os.pathsep)
        multiprocessing.forkserver.ensure_running()
    process = context.Process(target=_run, args=(dict(os.environ), target, arguments), name=name)
    process.start()
    return process


def _run(environment, target, arguments):
    os.environ.clear()
    os.environ.update(environment)
    if "OMP_NUM_THREADS" in environment:
        import torch

        torch.set_num_threads(int(environment["OMP_NUM_THREADS"]))
    target(*arguments)


class QuickContext:
    """In place of multiprocessing's context that starts each process anew."""

    SimpleQueue = staticmethod(multiprocessing.get_context("forkserver").SimpleQueue)

    class Process:
        """A process that is started by the server."""

        def __init__(self, target, args, name):
            self._given = (target, args, name)
            self._process = None

        def start(self):
            target, arguments, name = self._given
            self._process = start(target, *arguments, name=name)

        @property
        def pid(self):
            return self._process and self._process.pid

        def __getattr__(self, name):
            return getattr(self._process, name)


@pytest.fixture(autouse=True)
def quick_ranks(request, monkeypatch):
    """The ranks that a test's training starts by itself come from the server, but for tests marked `starts_anew`."""
    if request.node.get_closest_marker("starts_anew"):
        return

    class Multiprocessing:
        get_context = staticmethod(lambda _method: QuickContext)

    monkeypatch.setattr("trainer.processes.multiprocessing", Multiprocessing)
