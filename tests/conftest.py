"""Fixtures that every folder of tests shares: made pictures, an ImageFolder tree, and a check for left-overs.

Whoever needs more than a fixture imports from `tests.pictures`.
"""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tests import pictures, sampling


def pytest_configure() -> None:
    """A shell's background jobs ignore Ctrl-C, and so does what they start: tests of it need the usual state."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Before `-m "not slow"` is applied."""
    sampling.mark_unsampled(items)


def pytest_report_header() -> str:
    """With what to get the same sample again."""
    return f"sample of the long tests: FFX_TEST_SEED={sampling.SEED}"


@pytest.fixture(scope="session")
def make_picture() -> Callable[..., np.ndarray]:
    """`make_picture(height, width, seed=0, channels=3)`: a made photograph-like picture, uint8."""
    return pictures.make_picture


@pytest.fixture(scope="session")
def picture_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with ImageFolder trees `train` (40 JPEGs) and `val` (12), four classes, sides 60 to 140; read only."""
    folder = tmp_path_factory.mktemp("pictures")
    pictures.write_image_folder(folder / "train", pictures_a_class=10, seed=1)
    pictures.write_image_folder(folder / "val", pictures_a_class=3, seed=2)
    return folder


@pytest.fixture
def no_threads_left() -> Iterator[None]:
    """Fail when the test leaves a thread behind that was not there before."""
    before = set(threading.enumerate())
    yield
    deadline = time.monotonic() + 5
    while (left := set(threading.enumerate()) - before) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left, f"threads left behind: {sorted(thread.name for thread in left)}"


@pytest.fixture
def generator() -> np.random.Generator:
    """NumPy random generator with a fixed seed, new for every test."""
    return np.random.default_rng(20240229)
