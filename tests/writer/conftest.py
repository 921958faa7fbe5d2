"""What the writer's tests share: a check that a run leaves nothing behind, and short ways to write and read."""

import hashlib
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from ffx.reader import Reader
from ffx.writer import DatasetWriter


def shared_memory():
    """Names of this process's shared memory; other programs of the machine have theirs."""
    folder = Path("/dev/shm")
    names = os.listdir(folder) if folder.is_dir() else []
    return {name for name in names if name.startswith(("psm_", f"pym-{os.getpid()}-"))}


@pytest.fixture(autouse=True)
def nothing_left_behind(tmp_path):
    """Fail when a test leaves a process, a temporary file or shared memory."""
    before = shared_memory()
    yield
    deadline = time.monotonic() + 5
    while multiprocessing.active_children() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not multiprocessing.active_children()
    assert not list(tmp_path.rglob("*.ffx-tmp*"))
    assert not shared_memory() - before


@pytest.fixture
def write(tmp_path):
    """`write(dataset, fields, …)` writes `file.beton` and opens it; options are the writer's and the method's."""

    def run(dataset, fields, name="file.beton", workers=1, indices=None, chunksize=100, shuffle=False, **options):
        path = tmp_path / name
        writer = DatasetWriter(path, fields, num_workers=workers, progress=False, **options)
        writer.from_indexed_dataset(dataset, indices, chunksize, shuffle)
        return Reader(path)

    return run


@pytest.fixture
def digest():
    """`digest(reader_or_path)`: SHA-256 of a file."""

    def of(file):
        path = file.file_name if isinstance(file, Reader) else file
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()

    return of
