"""Compiled kernels on disk: found again, never mixed up, never in the way."""

import multiprocessing
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ffx.errors import FfxWarning
from ffx.kernels import compiling

ROOT = Path(__file__).resolve().parents[2]

KERNEL = """
from ffx.kernels.compiling import compiled

@compiled
def twice(value):
    return value + value
"""


def run(code, folder, **environment):
    """Run code in a process of its own with `folder` for compiled kernels; what it prints."""
    found = {**os.environ, "FFX_CACHE_DIR": str(folder), "PYTHONPATH": f"{folder.parent}{os.pathsep}{ROOT}"}
    found.update(environment)
    # Not in the repository: the working folder comes first where Python looks for modules.
    outcome = subprocess.run([sys.executable, "-c", code], env=found, cwd=folder.parent, capture_output=True, text=True)
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout.strip()


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "some_kernels.py").write_text(KERNEL)
    return tmp_path / "cache"


USE = "from some_kernels import twice; print(twice(21), sum(twice.stats.cache_hits.values()))"


def test_the_second_process_finds_what_the_first_compiled(folder):
    assert run(USE, folder) == "42 0"
    assert run(USE, folder) == "42 1"
    assert list(folder.glob("ffx/kernels-*/**/*.nbc"))


def test_a_damaged_copy_is_compiled_again(folder):
    run(USE, folder)
    for path in folder.glob("ffx/kernels-*/**/*.nbc"):
        path.write_bytes(path.read_bytes()[:100])
    assert run(USE, folder) == "42 0"
    assert run(USE, folder) == "42 1"


@pytest.mark.parametrize("left", [0, 60, 300])
def test_a_damaged_index_is_begun_anew(left, folder):
    run(USE, folder)
    for path in folder.glob("ffx/kernels-*/**/*.nbi"):
        path.write_bytes(path.read_bytes()[:left])
    assert run(USE, folder) == "42 0"
    assert run(USE, folder) == "42 1"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes that fork")
def test_a_process_forked_under_the_lock_does_not_keep_it(folder):
    code = (
        "import fcntl, os, time\n"
        "from ffx.kernels.compiling import _locked\n"
        "read, write = os.pipe()\n"
        "with _locked('lock'):\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        os.close(write); os.read(read, 1); os._exit(0)\n"
        "fcntl.flock(open('lock'), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "os.close(write); os.waitpid(child, 0); print('free')\n"
    )
    assert run(code, folder) == "free"


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="owners of files")
def test_a_link_that_somebody_else_made_is_not_followed(monkeypatch, tmp_path):
    own, link = tmp_path / "own", tmp_path / "link"
    own.mkdir()
    link.symlink_to(own)
    assert compiling._usable(own) and compiling._usable(link)
    found = link.lstat()
    other = os.stat_result([*found[:4], os.getuid() + 1, *found[5:10]])
    monkeypatch.setattr(Path, "lstat", lambda path: other if path == link else found)
    assert compiling._usable(own) and not compiling._usable(link)


def test_a_copy_with_changed_bytes_is_not_run(folder):
    run(USE, folder)
    for path in folder.glob("ffx/kernels-*/**/*.nbc"):
        content = bytearray(path.read_bytes())
        content[300:420] = bytes(120)
        path.write_bytes(content)
    assert run(USE, folder) == "42 0"
    assert run(USE, folder) == "42 1"


@pytest.mark.parametrize("pattern", ["some_kernels.twice-*", "some_kernels.twice-*.part.*"])
def test_a_copy_under_another_copy_s_name_is_not_run(pattern, folder):
    (folder.parent / "doubling.py").write_text(
        "from ffx.kernels.compiling import compiled\nfrom some_kernels import twice\n\n"
        "@compiled\ndef four_times(value):\n    return twice(twice(value))\n"
    )
    use = "from doubling import four_times, twice; print(four_times(21), four_times(0.5), twice(21), twice(0.5))"
    assert run(use, folder) == "84 2.0 42 1.0"
    for path in copies(folder, "doubling.*"):
        path.unlink()
    first, second = (path for path in copies(folder, pattern) if ("part" in path.name) == ("part" in pattern))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    assert run(use, folder) == "84 2.0 42 1.0"


def test_versions_of_llvm_do_not_share_copies(folder):
    run(USE, folder)
    future = "import llvmlite; llvmlite.__version__ = '999.0'; "
    assert run(future + USE, folder) == "42 0"
    assert run(USE, folder) == "42 1"


CALLING = """
import numpy as np
from ffx.kernels.compiling import compiled
from some_kernels import twice

@compiled
def several(value):
    return twice(value) + twice(1) + twice(20)

@compiled
def row(count):
    return np.arange(count)

@compiled
def total(count):
    return several(row(count).sum())
"""
CALL = "from calling import several, total; print(several(7), total(4))"


def copies(folder, pattern):
    return list(folder.glob(f"ffx/kernels-*/**/{pattern}.nbc"))


def test_what_compiled_code_calls_is_kept_once_and_not_as_machine_code(folder):
    (folder.parent / "calling.py").write_text(CALLING)
    assert run(CALL, folder) == "56 54"
    # One copy for all constants, and none that Python could call.
    assert len(copies(folder, "some_kernels.twice-*")) == len(copies(folder, "some_kernels.twice-*.part.*")) == 1
    assert len(copies(folder, "calling.several-*")) == 2  # called by Python, and by `total`
    assert run(USE, folder) == "42 0"
    assert run(f"{USE}; {CALL}", folder) == "42 1\n56 54"


def test_a_version_of_numba_that_was_not_tried_compiles_in_its_usual_way(folder):
    (folder.parent / "calling.py").write_text(CALLING)
    future = "import numba; numba.version_info = numba.version_info._replace(short=(0, 999)); "
    assert run(future + CALL, folder) == "56 54"
    assert copies(folder, "some_kernels.twice-*") and not copies(folder, "*.part.*")


def test_kept_parts_are_linked_into_new_callers(folder):
    (folder.parent / "calling.py").write_text(CALLING)
    run(CALL, folder)
    for path in copies(folder, "calling.total-*"):
        path.unlink()
    times = {path: path.stat().st_mtime_ns for path in copies(folder, "*")}
    assert run(CALL, folder) == "56 54"
    assert len(copies(folder, "calling.total-*")) == 1
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_a_damaged_part_is_compiled_again(folder):
    (folder.parent / "calling.py").write_text(CALLING)
    run(CALL, folder)
    for path in copies(folder, "calling.total-*"):
        path.unlink()
    for path in copies(folder, "*.part.*"):
        path.write_bytes(path.read_bytes()[:100])
    assert run(CALL, folder) == "56 54"
    assert all(path.stat().st_size > 100 for path in copies(folder, "*.part.*"))


def test_native_steps_are_kept_too(folder):
    code = (
        "from ffx.kernels.scalar import copy_scalars as kernel; print(kernel.address > 0, kernel._compiled.cache_hits)"
    )
    assert run(code, folder) == "True 0"
    assert run(code, folder) == "True 1"


def test_a_folder_that_cannot_be_written_is_warned_of(folder, tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    code = f"import warnings; warnings.simplefilter('always')\n{USE}"
    found = {**os.environ, "FFX_CACHE_DIR": str(file / "below"), "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    outcome = subprocess.run([sys.executable, "-c", code], env=found, capture_output=True, text=True)
    assert outcome.stdout.strip() == "42 0"
    assert "set FFX_CACHE_DIR to a folder that is yours" in outcome.stderr


def compile_one(barrier, value):
    from some_kernels import twice

    barrier.wait()
    twice(value)


def test_processes_that_start_at_once_do_not_mix_up_their_copies(folder, monkeypatch):
    """Each compiles another form of one function; afterwards each form is found, and is the right one."""
    monkeypatch.setenv("FFX_CACHE_DIR", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder.parent))
    monkeypatch.syspath_prepend(str(folder.parent))
    values = [21, 21.0, 21j, True]
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(len(values))
    processes = [context.Process(target=compile_one, args=(barrier, value)) for value in values]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(values)
    code = (
        f"from some_kernels import twice; print([twice(value) for value in {values}], "
        "sum(twice.stats.cache_hits.values()))"
    )
    assert run(code, folder) == "[42, 42.0, 42j, 2] 4"


def test_another_source_has_another_folder(monkeypatch, tmp_path):
    shutil.copytree(ROOT / "ffx", tmp_path / "ffx", ignore=shutil.ignore_patterns("__pycache__"))
    code = "from ffx.kernels.compiling import cache_folder; print(cache_folder())"
    before = run(code, tmp_path / "cache", PYTHONPATH=str(tmp_path))
    with open(tmp_path / "ffx" / "kernels" / "taps.py", "a") as file:
        file.write("# a change in a file that others inline\n")
    assert run(code, tmp_path / "cache", PYTHONPATH=str(tmp_path)) != before


def test_what_nobody_has_used_for_a_month_is_removed(tmp_path):
    old, recent, kept = (tmp_path / f"kernels-{name}" for name in ("old", "recent", "kept"))
    for path in (old, recent, kept):
        path.mkdir()
        (path / "lock").touch()
    for path in (old, kept):
        os.utime(path / "lock", (0, 0))
    compiling._remove_old(tmp_path, kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kernels-kept", "kernels-recent"]


def test_a_full_disk_is_no_reason_to_stop(monkeypatch, tmp_path):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(compiling.caching.IndexDataCacheFile, "save", full)

    @compiling.compiled
    def thrice(value):
        return 3 * value

    with pytest.warns(FfxWarning, match="could not keep a compiled kernel"):
        assert thrice(14) == 42
