import pytest
import torch
from trainer import checkpoint as checkpoints
from trainer.checkpoint import Checkpoint, check_same_training, find_checkpoint, load_checkpoint, save_checkpoint
from trainer.errors import CheckpointError

from ffx.errors import FfxWarning


def make(epoch, params=None, world=1):
    return Checkpoint("run", epoch, world, 4, 1.5, params or {}, {"w": torch.full((3,), float(epoch))}, {}, {})


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


def test_failed_write_leaves_the_checkpoints_alone(tmp_path, monkeypatch):
    for epoch in (1, 2):
        save_checkpoint(tmp_path, make(epoch))

    def fail(content, path):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(checkpoints.torch, "save", fail)
    with pytest.raises(OSError, match="no space left"):
        save_checkpoint(tmp_path, make(3))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.previous.pt", "checkpoint.pt"]
    assert load_checkpoint(tmp_path / "checkpoint.pt").epoch == 2


def test_checkpoint_is_on_the_disk_before_it_gets_its_name(tmp_path, monkeypatch):
    events = []
    fsync, replace = checkpoints.os.fsync, checkpoints.os.replace
    monkeypatch.setattr(checkpoints.os, "fsync", lambda handle: (events.append("fsync"), fsync(handle)))
    monkeypatch.setattr(checkpoints.os, "replace", lambda a, b: (events.append(b.name), replace(a, b)))
    save_checkpoint(tmp_path, make(1))
    save_checkpoint(tmp_path, make(2))
    once = ["fsync", "checkpoint.pt", "fsync"]
    assert events == [*once, "fsync", "checkpoint.previous.pt", "checkpoint.pt", "fsync"]


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
    torch.save({"uuid": _Code()}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError):
        load_checkpoint(tmp_path / "checkpoint.pt")
    assert "run" not in capsys.readouterr().out.split()


def test_training_is_continued_with_its_own_options_only(tiny):
    checkpoint = make(1, tiny().as_params(), world=2)
    check_same_training(checkpoint, tiny(**{"data.num_workers": 7, "validation.resolution": 64}), 2)
    with pytest.raises(CheckpointError) as caught:
        check_same_training(checkpoint, tiny(**{"lr.lr": 0.7, "training.seed": 3}), 1)
    message = str(caught.value)
    for change in ("lr.lr: 0.05 then, 0.7 now", "training.seed: 0 then, 3 now", "number of ranks: 2 then, 1 now"):
        assert change in message
