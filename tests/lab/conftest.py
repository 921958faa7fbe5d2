"""The lab's tests: it is imported as its programs import it, with the trainer beside it."""

import pytest

from tests.lab.class_folders import write_classes
from tests.one_thread import one_thread  # noqa: F401
from tests.trainer.quick_start import quick_ranks  # noqa: F401

# Of these images' side, the network needs a sixteenth of the time.
SIDE = 8


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """8 training and 4 validation pictures of 8 px."""
    return write_classes(tmp_path_factory.mktemp("lab"), SIDE)


@pytest.fixture
def tiny(tiny_data, tmp_path, monkeypatch):
    """Flags of a training of two steps, in an empty folder."""
    from lab import configuration

    monkeypatch.setattr(configuration, "SIDE", SIDE)
    monkeypatch.chdir(tmp_path)
    return ["--device=cpu", f"--dataset-path={tiny_data}", "--batch-size=4", "--epochs=1", "--num-of-workers=0"]
