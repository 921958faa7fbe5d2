"""What a signal, the death of a rank, or a restart with other ranks does to a training: nothing that is seen later."""

import itertools
import json
import random
import signal
from collections import Counter

import pytest
import torch
from trainer.checkpoint import load_checkpoint
from trainer.errors import CheckpointError, Interrupted, TrainingError
from trainer.learner import Learner
from trainer.loop import Trainer
from trainer.signals import StopRequest

from ffx.errors import FfxWarning
from tests.trainer import faulty

STEPS, EPOCHS = 5, 2
TERM, USR1, INT, KILL = signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGKILL
# Less than any step: a checkpoint after each.
ALWAYS = {"training.checkpoint_minutes": 1e-9}
TWO = {"training.batch_size": 2}


def log_of(folder):
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def weights_of(folder):
    return torch.load(folder / "final_weights.pt", weights_only=True)


def assert_same_end(folder, other):
    """The same weights, bit for bit, and the same figures in the log."""
    one, two = weights_of(folder), weights_of(other)
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    names = ("epoch", "train_loss", "top_1", "val_loss", "current_lr", "steps", "resolution")
    assert [[line[name] for name in names] for line in log_of(folder)] == [
        [line[name] for name in names] for line in log_of(other)
    ]


def run_of(folder):
    (run,) = folder.iterdir()
    return run


# In this process: the training is asked to stop by the object that a signal would set


def train(config, stop_before=None, in_validation=False):
    """Train; asked to stop before a step (or a batch of the validation) of that number. Returns the run's folder."""
    stop, calls = StopRequest(), itertools.count()
    with Trainer(config, stop=stop) as trainer, pytest.MonkeyPatch.context() as patch:
        name = "outputs" if in_validation else "step"
        wrapped = getattr(Learner, name)

        def counting(*arguments):
            if next(calls) == stop_before:
                stop.number = TERM
            return wrapped(*arguments)

        patch.setattr(Learner, name, counting)
        if stop_before is None:
            trainer.train()
        else:
            with pytest.raises(Interrupted, match=r"SIGTERM: stopped in epoch \d behind step \d, with a checkpoint"):
                trainer.train()
        return trainer.run_folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory, make_tiny):
    """A run that nothing happened to."""
    return train(make_tiny(tmp_path_factory.mktemp("finished")))


@pytest.mark.parametrize(
    "in_validation, number", [(False, 0), (False, 2), (False, 4), (False, 8), (True, 0), (True, 3)]
)
def test_training_stopped_anywhere_goes_on_to_the_same_end(finished, tiny, in_validation, number):
    stopped = train(tiny(), number, in_validation)
    assert not (stopped / "final_weights.pt").exists()
    assert train(tiny(**{"training.resume": str(stopped)})) == stopped
    assert_same_end(stopped, finished)


def test_training_stopped_again_and_again_goes_on_to_the_same_end(finished, tiny):
    folder = train(tiny(), 1)
    for number in (0, 2, 1):
        folder = train(tiny(**{"training.resume": str(folder)}), number)
    assert_same_end(train(tiny(**{"training.resume": str(folder)})), finished)


@pytest.mark.parametrize(
    "changes",
    [
        {"data.in_memory": 0},
        {"data.source": "synthetic", "data.synthetic_images": 20, "data.classes": 4},
        {"model.arch": "mobilenet_v3_small"},
        {"resolution.max_res": 64, "resolution.end_ramp": 1},
    ],
    ids=["pages read ahead", "made-up data", "dropout", "growing images"],
)
def test_other_trainings_go_on_as_well(tiny, changes):
    straight = train(tiny(**changes))
    stopped = train(tiny(**changes), STEPS + 1)
    train(tiny(**changes, **{"training.resume": str(stopped)}))
    assert_same_end(stopped, straight)


EVERYTHING = {
    "model.arch": "resnet18",
    "training.use_blurpool": 1,
    "recipe.ema": 0.9,
    "recipe.loss": "bce",
    "recipe.mixup": 0.2,
    "recipe.cutmix": 1,
    "recipe.stochastic_depth": 0.3,
    "recipe.randaugment": 9,
    "recipe.alternating_flip": 1,
}


@pytest.mark.long("ranks")
def test_training_with_every_recipe_goes_on_as_well(tiny):
    straight = train(tiny(**EVERYTHING))
    stopped = train(tiny(**EVERYTHING), STEPS + 1)
    train(tiny(**EVERYTHING, **{"training.resume": str(stopped)}))
    assert_same_end(stopped, straight)
    one, other = (load_checkpoint(folder / "checkpoint.pt") for folder in (stopped, straight))
    assert one.average["steps"] == other.average["steps"] == EPOCHS * STEPS
    assert all(torch.equal(one.model[name], other.model[name]) for name in other.model)
    assert [line["raw_top_1"] for line in log_of(stopped)] == [line["raw_top_1"] for line in log_of(straight)]


@pytest.mark.parametrize("workers", [0, 2])
def test_folder_goes_on_with_the_same_images(tiny, picture_folder, workers):
    places = {"data.train_dataset": str(picture_folder / "train"), "data.val_dataset": str(picture_folder / "val")}
    changes = {**places, "training.epochs": 1, "lr.lr_peak_epoch": 0, "training.batch_size": 10}
    changes |= {"recipe.randaugment": 9, "recipe.alternating_flip": 1}
    straight = train(tiny(**changes, **{"data.num_workers": 0}))
    stopped = train(tiny(**changes, **{"data.num_workers": workers}), 1)
    train(tiny(**changes, **{"data.num_workers": workers, "training.resume": str(stopped)}))
    assert_same_end(stopped, straight)


def test_log_counts_what_all_processes_of_an_epoch_did(tiny):
    stopped = train(tiny(**{"training.epochs": 1}), 2)
    before = load_checkpoint(stopped / "checkpoint.pt")
    train(tiny(**{"training.epochs": 1, "training.resume": str(stopped)}))
    (line,) = log_of(stopped)
    assert line["steps"] == STEPS
    assert before.progress["steps"] == 3
    assert line["train_time"] > before.progress["seconds"]
    # Two steps behind the first one of the first process, one behind that of the second.
    assert before.progress["timed_images"] == 8
    assert 12 / line["train_time"] < line["images_per_second"] < 12 / before.progress["timed_seconds"]
    assert line["relative_time"] > before.seconds


def test_checkpoints_come_by_time_in_the_middle_of_an_epoch(tiny, monkeypatch):
    places = []

    def note(folder, checkpoint):
        places.append((checkpoint.epoch, checkpoint.progress.get("steps", 0)))

    monkeypatch.setattr("trainer.loop.save_checkpoint", note)
    train(tiny())
    at_ends = [(1, 0), (2, 0)]
    assert places == at_ends
    places.clear()
    train(tiny(**ALWAYS))
    assert places == sorted([*at_ends, *((epoch, step) for epoch in (0, 1) for step in range(1, STEPS + 1))])
    places.clear()
    train(tiny(**{"training.checkpoint_minutes": 60}))
    assert places == at_ends


def test_max_steps_counts_what_earlier_processes_did(tiny):
    changes = {"training.max_steps": STEPS + 3}
    stopped = train(tiny(**changes), STEPS + 1)
    train(tiny(**changes, **{"training.resume": str(stopped)}))
    assert [line["steps"] for line in log_of(stopped)] == [STEPS, 3]


def test_mid_epoch_checkpoint_goes_on_with_its_own_data_only(tiny, validation_file):
    stopped = train(tiny(), 1)
    with pytest.raises(Exception, match="expected a state of a loader with the same file"):
        Trainer(tiny(**{"data.train_dataset": str(validation_file), "training.resume": str(stopped)}))
    made = {"data.source": "synthetic", "data.classes": 4}
    stopped = train(tiny(**made, **{"data.synthetic_images": 20}), 1)
    with pytest.raises(CheckpointError, match=r"data.synthetic_images: 20 then, 40 now"):
        Trainer(tiny(**made, **{"data.synthetic_images": 40, "training.resume": str(stopped)}))


def test_folder_with_other_files_is_refused_in_mid_epoch(tiny, picture_folder, tmp_path):
    places = {"data.train_dataset": str(picture_folder / "train"), "data.val_dataset": str(picture_folder / "val")}
    stopped = train(tiny(**places, **{"data.num_workers": 0}), 0)
    other = {**places, "data.train_dataset": str(picture_folder / "val"), "training.resume": str(stopped)}
    with pytest.raises(CheckpointError, match="but their images differ"):
        Trainer(tiny(**other))
    with pytest.raises(CheckpointError, match="in the middle of an epoch of source folder, this one is ffx"):
        Trainer(tiny(**{"training.resume": str(stopped)}))


def test_resume_auto_goes_on_with_the_newest_run_if_there_is_one(finished, tiny, tmp_path):
    auto = {"training.resume": "auto"}
    stopped = train(tiny(**auto), 1)
    train(tiny(**{"training.epochs": 1, "logging.folder": str(tmp_path / "elsewhere")}))
    assert train(tiny(**auto)) == stopped
    assert_same_end(stopped, finished)
    # The newest is done: nothing is left to do.
    assert train(tiny(**auto)) == stopped
    assert_same_end(stopped, finished)


def test_damaged_checkpoint_does_not_take_the_place_of_the_good_one_before_it(finished, tiny):
    stopped = train(tiny(**ALWAYS), 3)
    newest = stopped / "checkpoint.pt"
    newest.write_bytes(newest.read_bytes()[:-1000] + bytes(1000))
    (stopped / "checkpoint.damaged.pt").write_bytes(b"of another day")
    with pytest.warns(FfxWarning, match=r"checkpoint.pt is no readable .* going on from .*checkpoint.previous.pt"):
        train(tiny(**{"training.resume": str(stopped)}), 0)
    assert (stopped / "checkpoint.damaged.pt").read_bytes() == b"of another day"
    assert (stopped / "checkpoint.damaged-2.pt").read_bytes()[-1000:] == bytes(1000)
    assert load_checkpoint(stopped / "checkpoint.previous.pt").progress["steps"] == 3
    assert load_checkpoint(stopped / "checkpoint.pt").progress["steps"] == 4
    train(tiny(**{"training.resume": str(stopped)}))
    assert_same_end(stopped, finished)


def test_source_that_ends_early_is_an_error(tiny, monkeypatch):
    with Trainer(tiny()) as trainer:
        monkeypatch.setattr(trainer.training_source, "steps_left", lambda images, batch_size: STEPS + 1)
        monkeypatch.setattr(trainer, "_rates", lambda source, begun: [0.1] * 9)
        with pytest.raises(TrainingError, match="expected 6 more batches in this epoch, found 5"):
            trainer.train()


# Other ranks


def test_other_batch_of_all_ranks_needs_a_word(tiny):
    stopped = train(tiny(), 1)
    other = {"training.batch_size": 2, "training.resume": str(stopped)}
    with pytest.raises(CheckpointError, match=r"1 x 4 = 4 then, 1 x 2 = 2 now\): --training.batch_size=4 keeps it"):
        Trainer(tiny(**other))
    with pytest.warns(FfxWarning, match="goes on with other ranks"):
        train(tiny(**other, **{"training.allow_batch_change": 1}))
    # Two steps of 4 images, and the other 12 in steps of 2.
    assert [line["steps"] for line in log_of(stopped)] == [2 + 6, 10]


def test_rates_go_on_from_their_place_in_the_epoch_when_steps_change(tiny):
    stopped = train(tiny(), 1)
    rates = []
    other = {"training.batch_size": 2, "training.resume": str(stopped), "training.allow_batch_change": 1}
    with pytest.warns(FfxWarning):
        trainer = Trainer(tiny(**other))
    with trainer:
        trainer.learner.optimizer.register_step_post_hook(lambda *_: rates.append(trainer.learner.rate))
        trainer.train()
    # From 1e-4 of the peak to the peak of .05 in the first epoch, in a straight line over its images.
    first, peak = 0.05e-4, 0.05
    assert rates[:6] == pytest.approx([first + (peak - first) * (8 + 2 * step) / 20 for step in range(6)])


def steps_of(records):
    """What the ranks wrote down: (epoch, step) -> losses by rank; a step that was made twice has to be the same."""
    found = {}
    for path in sorted(records.glob("steps.*.txt")):
        for line in path.read_text().splitlines():
            epoch, step, loss = line.split()
            place = (path.name, int(epoch), int(step))
            assert found.setdefault(place, loss) == loss
    return found


def folders(tmp_path, *names):
    made = [tmp_path / name for name in names]
    for folder in made:
        folder.mkdir()
    return made


@pytest.fixture(scope="module")
def finished_by_two(tmp_path_factory, make_tiny):
    """A run of two ranks that nothing happened to, and what they wrote down."""
    folder = tmp_path_factory.mktemp("two")
    runs, records = folders(folder, "runs", "records")
    assert faulty.train(make_tiny(runs, **TWO), 2, records=records) == [0, 0]
    return run_of(runs), steps_of(records)


def test_signal_to_one_of_two_ranks_stops_both_at_the_same_step(finished_by_two, tmp_path, make_tiny):
    runs, records = folders(tmp_path, "runs", "records")
    assert faulty.train(make_tiny(runs, **TWO), 2, [(1, 7, USR1)], records) == [85, 85]
    run = run_of(runs)
    checkpoint = load_checkpoint(run / "checkpoint.pt")
    assert (checkpoint.epoch, checkpoint.progress["steps"], len(checkpoint.progress["loss_sums"])) == (1, 3, 2)
    assert faulty.train(make_tiny(runs, **TWO, **{"training.resume": str(run)}), 2, records=records) == [0, 0]
    straight, steps = finished_by_two
    assert_same_end(run, straight)
    assert steps_of(records) == steps


def test_death_of_a_rank_ends_the_other_and_is_forgotten(finished_by_two, tmp_path, make_tiny):
    runs, records = folders(tmp_path, "runs", "records")
    auto = make_tiny(runs, **TWO, **ALWAYS, **{"training.resume": "auto"})
    assert faulty.train(auto, 2, [(1, 3, KILL)], records) == [1, -KILL]
    assert "rank 0 lost contact with another rank" in (records / "said.0.txt").read_text()
    assert faulty.train(auto, 2, records=records) == [0, 0]
    straight, steps = finished_by_two
    assert_same_end(run_of(runs), straight)
    assert steps_of(records) == steps


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_twenty_five_deaths_of_a_rank_are_forgotten(world, finished, finished_by_two, tmp_path, make_tiny):
    chance, deaths = random.Random(world), 0
    straight, changes = (finished, {}) if world == 1 else (finished_by_two[0], TWO)
    for trial in itertools.count():
        if deaths >= 25:
            break
        runs, records = folders(tmp_path, f"runs {trial}", f"records {trial}")
        minutes = chance.choice([0, 1e-9, 0.001])
        config = make_tiny(runs, **changes, **{"training.resume": "auto", "training.checkpoint_minutes": minutes})
        for _ in range(4):
            event = (chance.randrange(world), chance.randrange(STEPS), KILL)
            statuses = faulty.train(config, world, [event], records)
            deaths += -KILL in statuses
            assert statuses == [0] * world or -KILL in statuses
        assert faulty.train(config, world, records=records) == [0] * world
        # One that died before its first checkpoint left a folder, and another one was begun.
        (run,) = [run for run in runs.iterdir() if (run / "final_weights.pt").exists()]
        assert_same_end(run, straight)
        if world == 2:
            assert steps_of(records) == finished_by_two[1]


@pytest.mark.parametrize("then, now", [(2, 1), (1, 2)])
@pytest.mark.long("signals")
def test_other_number_of_ranks_goes_on_with_the_rest_of_the_epoch(then, now, tmp_path, make_tiny):
    runs, records = folders(tmp_path, "runs", "records")
    before = make_tiny(runs, **{"training.batch_size": 4 // then, "training.epochs": 1})
    assert faulty.train(before, then, [(0, 1, TERM)], records) == [85] * then
    place = load_checkpoint(run_of(runs) / "checkpoint.pt")
    assert place.progress["images"] == 8
    options = {"training.batch_size": 4 // now, "training.epochs": 1, "training.resume": "auto"}
    assert faulty.train(make_tiny(runs, **options), now, records=records) == [0] * now
    (line,) = log_of(run_of(runs))
    assert line["steps"] == STEPS
    # The mean of all losses that were seen, whoever saw them.
    losses = [(path, float.fromhex(loss)) for (path, _, _), loss in steps_of(records).items()]
    by_step = Counter(step for _, _, step in steps_of(records))
    weighted = sum(float.fromhex(loss) / by_step[step] for (_, _, step), loss in steps_of(records).items()) / STEPS
    assert len(losses) == 2 * then + 3 * now
    assert line["train_loss"] == pytest.approx(weighted)
    assert "goes on with other ranks" in (records / "said.0.txt").read_text()


# Signals


@pytest.mark.parametrize("number, status", [(TERM, 85), ((USR1, USR1), 85), (INT, 130)])
@pytest.mark.long("signals")
def test_signal_ends_the_program_with_a_checkpoint(number, status, finished, tmp_path, make_tiny):
    runs, records = folders(tmp_path, "runs", "records")
    assert faulty.train(make_tiny(runs), events=[(0, 6, number)], records=records) == [status]
    said = (records / "said.0.txt").read_text()
    name = signal.Signals(number[0] if isinstance(number, tuple) else number).name
    assert f"{name}: stopped in epoch 2 behind step 2, with a checkpoint" in said
    assert load_checkpoint(run_of(runs) / "checkpoint.pt").progress["steps"] == 2
    assert faulty.train(make_tiny(runs, **{"training.resume": "auto"})) == [0]
    assert_same_end(run_of(runs), finished)


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.long("signals")
def test_signal_in_validation_keeps_the_epoch_that_was_trained(world, tmp_path, make_tiny):
    runs, records = folders(tmp_path, "runs", "records")
    config = make_tiny(runs, **{"training.batch_size": 4 // world, "validation.batch_size": 2})
    assert faulty.train(config, world, [(world - 1, -1, TERM)], records) == [85] * world
    place = load_checkpoint(run_of(runs) / "checkpoint.pt")
    assert (place.epoch, place.progress["steps"]) == (0, STEPS)


def test_signal_at_the_start_ends_the_program_at_once(tmp_path, make_tiny):
    runs, records = folders(tmp_path, "runs", "records")
    assert faulty.train(make_tiny(runs), events=[(0, -2, TERM)], records=records) == [85]
    assert "SIGTERM: ended without a new checkpoint: nothing has been trained" in (records / "said.0.txt").read_text()
    assert not list(runs.iterdir())


@pytest.mark.long("signals")
def test_step_that_never_ends_does_not_keep_the_program_from_ending(tmp_path, make_tiny):
    runs, records = folders(tmp_path, "runs", "records")
    config = make_tiny(runs, **ALWAYS)
    assert faulty.train(config, events=[(0, 3, "stuck")], records=records, grace_seconds=1.0) == [85]
    assert "SIGTERM: ended without a new checkpoint: it was not possible" in (records / "said.0.txt").read_text()
    assert load_checkpoint(run_of(runs) / "checkpoint.pt").progress["steps"] == 3


def test_signal_to_all_processes_of_a_job_leaves_the_workers_alone(tmp_path, make_tiny, picture_folder):
    runs, records = folders(tmp_path, "runs", "records")
    places = {"data.train_dataset": str(picture_folder / "train"), "data.val_dataset": str(picture_folder / "val")}
    config = make_tiny(runs, **places, **{"data.num_workers": 2})
    assert faulty.train(config, events=[(0, 3, "TERM to all")], records=records) == [85]
    assert load_checkpoint(run_of(runs) / "checkpoint.pt").progress["steps"] == 4


@pytest.mark.long("signals")
def test_second_signal_ends_the_program_at_once(tmp_path, make_tiny):
    runs, records = folders(tmp_path, "runs", "records")
    config = make_tiny(runs, **ALWAYS)
    # Within the limit of `faulty`, but not within the grace of this process.
    event = (0, 2, "stuck until the second signal")
    assert faulty.train(config, events=[event], records=records, grace_seconds=1000.0) == [85]
    assert "SIGTERM: ended without a new checkpoint: a second signal" in (records / "said.0.txt").read_text()
    assert load_checkpoint(run_of(runs) / "checkpoint.pt").progress["steps"] == 2
