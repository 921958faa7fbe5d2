"""At every moment of saving a checkpoint something fails, or the process dies: a good one is always there."""

import builtins
import contextlib
import random
import signal
import time

import pytest
import torch
from trainer import durable
from trainer.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, save_checkpoint

from tests.trainer import faulty

# Three parts of a write.
VALUES, PART_BYTES = 2500, 4096


def make(epoch, values=8):
    return Checkpoint("run", epoch, 1, 4, 1.5, {}, {"w": torch.full((values,), float(epoch))}, {}, {})


def loaded(folder):
    """Epoch of what a training would go on from; its weights have to be those of that epoch."""
    checkpoint = load_checkpoint(find_checkpoint(str(folder)))
    assert checkpoint.model["w"].unique().tolist() == [checkpoint.epoch]
    return checkpoint.epoch


def damage(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


class Death(BaseException):
    """The process is gone: nothing of it runs any more, so nothing is tidied up either."""


class Disk:
    """Counts the calls that change the disk; from call number `fails_at` on (or there only) they fail."""

    def __init__(self, patch, fails_at, dies):
        self.calls, self._fails_at, self._dies = 0, fails_at, dies
        for name in ("fsync", "replace", "link"):
            patch.setattr(durable.os, name, self._failing(getattr(durable.os, name)))
        patch.setattr(durable.Path, "unlink", self._failing(durable.Path.unlink))
        patch.setattr(durable, "open", self._opened, raising=False)
        patch.setattr(durable, "_PART_BYTES", PART_BYTES)

    def _failing(self, call):
        def failing(*arguments, **options):
            self._count()
            return call(*arguments, **options)

        return failing

    def _count(self):
        self.calls += 1
        if self._dies and self.calls >= self._fails_at:
            raise Death
        if self.calls == self._fails_at:
            raise OSError(28, "No space left on device")

    def _opened(self, path, mode):
        file = builtins.open(path, mode)  # noqa: SIM115 - the caller closes it
        return _File(file, self._count)


class _File:
    def __init__(self, file, count):
        self._file, self._count = file, count

    def writelines(self, parts):
        for part in parts:
            # Half of a part reaches the disk.
            self._file.write(part[: len(part) // 2])
            self._file.flush()
            self._count()
            self._file.write(part[len(part) // 2 :])

    def flush(self):
        self._file.flush()

    def fileno(self):
        return self._file.fileno()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()


def prepared(folder):
    folder.mkdir()
    for epoch in (1, 2):
        save_checkpoint(folder, make(epoch))
    return folder


def calls_of_a_save(folder):
    prepared(folder)
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(patch, 10**9, dies=False)
        save_checkpoint(folder, make(3, VALUES))
    return disk.calls


@pytest.mark.parametrize("dies", [False, True], ids=["fails", "dies"])
@pytest.mark.parametrize("links", [True, False], ids=["hard links", "no hard links"])
def test_a_good_checkpoint_is_there_whatever_call_fails(tmp_path, dies, links):
    calls = calls_of_a_save(tmp_path / "counted")
    # Three parts, flushed; a link and two names between two removals; the folder flushed.
    assert calls == 3 + 1 + 1 + 3 + 1 + 1
    for number in range(1, calls + 1):
        folder = prepared(tmp_path / f"{dies} {links} {number}")
        with pytest.MonkeyPatch.context() as patch:
            if not links:
                patch.setattr(durable.os, "link", _no_links)
            Disk(patch, number, dies)
            with contextlib.suppress(OSError, Death):
                save_checkpoint(folder, make(3, VALUES))
        assert loaded(folder) in (2, 3)
        if links:
            # One of them may be damaged on top of it.
            damage(find_checkpoint(str(folder)))
            with pytest.warns(UserWarning, match="going on from"):
                assert loaded(folder) in (1, 2)
        # And the next one is written as ever.
        save_checkpoint(folder, make(4))
        assert loaded(folder) == 4


def _no_links(*_):
    raise PermissionError(1, "Operation not permitted")


def save_for_ever(folder, values, told):
    """Save epoch after epoch, and tell of each that is saved."""
    torch.set_num_threads(1)
    for epoch in range(1, 10**6):
        save_checkpoint(folder, make(epoch, values))
        told.send(epoch)


def killed_while_saving(folder, values, moment):
    """The last epoch that a process told of before it was killed, `moment` seconds after its second checkpoint."""
    import multiprocessing

    mine, its = multiprocessing.Pipe(duplex=False)
    process = faulty.start(save_for_ever, folder, values, its)
    its.close()
    told = 0
    while told < 2:
        told = mine.recv()
    time.sleep(moment)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    try:
        while True:
            told = mine.recv()
    except EOFError:
        return told


def check_kills(folder, seed, count):
    chance = random.Random(seed)
    for number in range(count):
        place = folder / str(number)
        place.mkdir()
        told = killed_while_saving(place, 1 << chance.randrange(10, 20), chance.random() * 0.05)
        assert told <= loaded(place) <= told + 1
        damage(find_checkpoint(str(place)))
        with pytest.warns(UserWarning, match="going on from"):
            assert loaded(place) >= told - 1


@pytest.mark.long("kills")
def test_process_killed_while_it_saves_leaves_two_good_checkpoints(tmp_path):
    check_kills(tmp_path, 1, 5)


@pytest.mark.slow
def test_process_killed_at_two_hundred_moments_leaves_two_good_checkpoints(tmp_path):
    check_kills(tmp_path, 2, 200)
