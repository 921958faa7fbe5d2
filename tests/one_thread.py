"""A fixture for tests that train: import it into their `conftest`."""

import pytest

__all__ = ["one_thread"]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Torch computes in one thread: on a busy machine several wait for each other at every tiny layer."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(before)
