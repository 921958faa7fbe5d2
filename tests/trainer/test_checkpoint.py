import zipfile
from pathlib import Path

import pytest
import torch
from trainer import durable
from trainer.checkpoint import Checkpoint, find_checkpoint, load_checkpoint, save_checkpoint
from trainer.distributed import Ranks
from trainer.errors import CheckpointError
from trainer.progress import EpochProgress
from trainer.resuming import check_same_training
from trainer.sealed import sealed

from ffx.errors import FfxWarning


def make(epoch, params=None, world=1):
    return Checkpoint("run", epoch, world, 4, 1.5, params or {}, {"w": torch.full((3,), float(epoch))}, {}, {})


def ranks(world):
    return Ranks(0, world)


def test_checkpoint_comes_back_as_it_was(tmp_path):
    save_checkpoint(tmp_path, make(3, {"lr.lr": 0.5}))
    loaded = load_checkpoint(find_checkpoint(str(tmp_path)))
    assert (loaded.uuid, loaded.epoch, loaded.seconds, loaded.params) == ("run", 3, 1.5, {"lr.lr": 0.5})
    assert loaded.model["w"].tolist() == [3, 3, 3]


def test_one_checkpoint_before_the_newest_is_kept(tmp_path):
    for epoch in (1, 2, 3):
        save_checkpoint(tmp_path, make(epoch))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.previous.pt", "checkpoint.pt"]
    assert load_checkpoint(tmp_path / "checkpoint.previous.pt").epoch == 2


def test_checkpoint_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = durable.os.fsync, durable.os.replace
    monkeypatch.setattr(durable.os, "fsync", lambda handle: (events.append("fsync"), fsync(handle)))
    monkeypatch.setattr(durable.os, "replace", lambda a, b: (events.append(b.name), replace(a, b)))
    save_checkpoint(tmp_path, make(1))
    save_checkpoint(tmp_path, make(2))
    once = ["fsync", "checkpoint.pt", "fsync"]
    assert events == [*once, "fsync", "checkpoint.pt", "checkpoint.previous.pt", "fsync"]


def test_checkpoint_is_an_ordinary_archive_that_torch_loads(tmp_path):
    path = save_checkpoint(tmp_path, make(3))
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert archive.comment.startswith(b"sha256 of all bytes before: ")
    assert torch.load(path, weights_only=True)["epoch"] == 3


def test_damage_of_any_byte_is_noticed(tmp_path):
    path = save_checkpoint(tmp_path, make(3))
    whole = path.read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x01 if place % 2 else 0xFF
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match="no readable checkpoint"):
            load_checkpoint(path)
    for length in [*range(0, len(whole), 97), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="no readable checkpoint"):
            load_checkpoint(path)


@pytest.mark.parametrize("damage", ["cut", "missing"])
def test_previous_checkpoint_stands_in_for_a_damaged_one(tmp_path, damage):
    for epoch in (1, 2):
        save_checkpoint(tmp_path, make(epoch))
    path = tmp_path / "checkpoint.pt"
    if damage == "missing":
        path.unlink()
        for place in (tmp_path, path):
            assert load_checkpoint(find_checkpoint(str(place))).epoch == 1
        return
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(FfxWarning, match="going on from"):
        assert load_checkpoint(path).epoch == 1


@pytest.mark.parametrize("error", [OSError(116, "Stale file handle"), MemoryError()])
def test_no_other_checkpoint_stands_in_for_one_that_cannot_be_read_just_now(tmp_path, monkeypatch, error):
    for epoch in (1, 2):
        save_checkpoint(tmp_path, make(epoch))
    path = tmp_path / "checkpoint.pt"

    def fail(_):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", fail)
        with pytest.raises(CheckpointError, match="cannot be read, though it may be sound, so nothing was put"):
            load_checkpoint(path)
    assert load_checkpoint(path).epoch == 2


def test_no_other_checkpoint_stands_in_for_one_of_another_version(tmp_path):
    save_checkpoint(tmp_path, make(1))
    path = save_checkpoint(tmp_path, make(2))
    path.write_bytes(sealed({"uuid": "a", "field_of_tomorrow": 1}))
    with pytest.raises(CheckpointError, match=r"may be sound.*field_of_tomorrow"):
        load_checkpoint(path)


def test_no_checkpoint_is_an_error_that_says_what_was_looked_for(tmp_path):
    with pytest.raises(CheckpointError, match=r"expected a run's folder with checkpoint.pt"):
        find_checkpoint(str(tmp_path))
    (tmp_path / "checkpoint.pt").write_bytes(b"something else")
    with pytest.raises(CheckpointError, match="no readable checkpoint"):
        load_checkpoint(tmp_path / "checkpoint.pt")


class _Code:
    """A pickle that would run something."""

    def __reduce__(self):
        return print, ("run",)


def test_checkpoint_cannot_run_code(tmp_path, capsys):
    (tmp_path / "checkpoint.pt").write_bytes(sealed({"uuid": _Code()}))
    with pytest.raises(CheckpointError, match="it holds something else than tensors, numbers and texts"):
        load_checkpoint(tmp_path / "checkpoint.pt")
    assert "run" not in capsys.readouterr().out.split()


def test_training_is_continued_with_its_own_options_only(tiny):
    checkpoint = make(1, tiny().as_params(), world=2)
    check_same_training(checkpoint, tiny(**{"data.num_workers": 7, "validation.resolution": 64}), ranks(2))
    with pytest.raises(CheckpointError) as caught:
        check_same_training(checkpoint, tiny(**{"lr.lr": 0.7, "training.seed": 3}), ranks(1))
    message = str(caught.value)
    for change in ("lr.lr: 0.05 then, 0.7 now", "training.seed: 0 then, 3 now"):
        assert change in message


def test_ranks_may_change_if_their_batches_together_do_not(tiny):
    checkpoint = make(1, tiny().as_params(), world=2)
    with pytest.warns(FfxWarning, match=r"2 x 4 = 8 then, 4 x 2 = 8 now\): other batch norms"):
        check_same_training(checkpoint, tiny(**{"training.batch_size": 2}), ranks(4))
    for world, advice in ((1, "--training.batch_size=8 keeps it"), (3, "allow_batch_change=1 goes on")):
        with pytest.raises(CheckpointError, match=advice):
            check_same_training(checkpoint, tiny(), ranks(world))
    check_same_training(checkpoint, tiny(**{"training.eval_only": 1}), ranks(1))
    with pytest.warns(FfxWarning, match=r"1 x 4 = 4 now\): other steps and batch norms"):
        check_same_training(checkpoint, tiny(**{"training.allow_batch_change": 1}), ranks(1))


def test_place_in_an_epoch_comes_back_as_it_was():
    place = EpochProgress(3, 7, 28, 2, 8, (1.5, 2.25), 9.0, 24, 8.0)
    assert EpochProgress.from_dict(place.as_dict()) == place
    with pytest.raises(CheckpointError, match="no such place"):
        EpochProgress.from_dict({"epoch": 3, "loss_sums": [], "other": 1})
    with pytest.raises(CheckpointError, match="no such place"):
        EpochProgress.from_dict({"epoch": 3})
