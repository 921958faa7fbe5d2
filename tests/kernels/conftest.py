"""What the kernels' tests share: a thread's words, with their decoder and scratch given back."""

from collections.abc import Iterator

import numpy as np
import pytest

from ffx.kernels.jpeg import release_decoder
from ffx.kernels.memory import THREAD_WORDS, release_thread


@pytest.fixture
def thread() -> Iterator[int]:
    """Address of a thread's words, as the engine gives it to kernels."""
    words = np.zeros(THREAD_WORDS, np.int64)
    yield words.ctypes.data
    release_decoder(words)
    release_thread(words)
