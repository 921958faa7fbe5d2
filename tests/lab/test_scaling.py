"""The calculator of speed-ups and efficiencies, and the sweep whose files it reads."""

import re
from pathlib import Path

import pytest
import scaling
import sweep
import torch
from lab import scaling as figures
from lab import sweeping
from lab.configuration import configuration
from lab.options import LabParser, options_of
from lab.scaling import out_line, read_times, same_batch_table, scaling_of, times_from_text
from lab.sweeping import Sweep
from trainer.errors import ConfigurationError, DataError
from trainer.launch import launch

# Seconds of an epoch, as the lab's document gives them.
DOCUMENT = {512: {1: 18.07, 2: 10.20}, 8192: {1: 18.34, 4: 5.02}}


def test_figures_of_the_document_come_out_under_their_right_names():
    found = {(one.batch_size, one.gpus): one for one in scaling_of(DOCUMENT)}
    two, four = found[512, 2], found[8192, 4]
    assert round(two.speed_up, 2) == 1.77
    # The document calls the next three weak scaling's "speedup"; they are its efficiency.
    assert two.weak_seconds == pytest.approx(20.4) and four.weak_seconds == pytest.approx(20.08)
    assert round(two.weak_efficiency, 3) == 0.886 and int(100 * two.weak_efficiency) == 88
    assert round(four.weak_efficiency, 2) == 0.91
    # Its speed-ups are these, and they are those of strong scaling: both come from the same two times.
    assert (two.scaled_speed_up, four.scaled_speed_up) == pytest.approx((two.speed_up, four.speed_up))
    assert (two.efficiency, four.efficiency) == pytest.approx((two.speed_up / 2, four.speed_up / 4))
    assert (found[512, 1].speed_up, found[512, 1].efficiency, found[512, 1].weak_efficiency) == (1, 1, 1)


def test_measured_weak_times_are_used():
    (one, two) = scaling_of({512: DOCUMENT[512]}, {512: {2: 18.5}})
    assert not one.is_measured and two.is_measured
    assert two.weak_efficiency == pytest.approx(18.07 / 18.5)
    assert two.scaled_speed_up == pytest.approx(2 * 18.07 / 18.5)
    assert two.efficiency == pytest.approx(18.07 / 20.4)


def test_same_batch_of_all_gpus_is_strong_scaling_in_its_strict_sense():
    table = same_batch_table({32: {1: 50.0, 4: 15.0}, 128: {1: 20.0, 2: 12.0}, 512: {1: 18.0}})
    assert table.rows == [
        ["128", "1", "128", "20.00", "1.000", "1.000"],
        ["128", "4", "32", "15.00", "1.333", "0.333"],
    ]


def test_calculator_prints_tables_and_draws(capsys, tmp_path):
    arguments = ["--times=512:1=18.07,2=10.20", "--times=8192:1=18.34,4=5.02", f"--plot={tmp_path / 'a' / 'b.png'}"]
    assert scaling.main(arguments) == 0
    shown = capsys.readouterr().out
    assert re.search(r"512 \|    2 \| +10.20 \| +1.772 \| +0.886 \| +20.40\* \| +0.886 \| +1.772 \|", shown)
    assert re.search(r"8192 \|    4 \| +5.02 \| +3.653 \| +0.913 \| +20.08\* \| +0.913 \| +3.653 \|", shown)
    assert (tmp_path / "a" / "b.png").read_bytes().startswith(b"\x89PNG")


def test_picture_needs_matplotlib_and_says_so(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(figures, "new_axes", lambda *_: None)
    assert scaling.main(["--times=8:1=2,2=1", f"--plot={tmp_path / 'b.png'}"]) == 0
    assert "pip install matplotlib" in capsys.readouterr().out


def test_out_files_are_read_again(tmp_path):
    lines = [out_line(gpus=2, batch_per_gpu=512, epoch=epoch, train_seconds=f"{12 - epoch:.2f}") for epoch in (1, 2)]
    (tmp_path / "gpus2.out").write_text("\n".join([*lines, "gpus=2 batch_per_gpu=8192 not trained: too large"]))
    (tmp_path / "gpus1.out").write_text(out_line(gpus=1, batch_per_gpu=512, train_seconds=18.07))
    times = read_times([tmp_path / "gpus1.out", tmp_path / "gpus2.out"])
    assert times == {512: {1: 18.07, 2: 10.0}}


@pytest.mark.parametrize("text", ["512", "512:1", "a:1=2", "512:1=2,x=3", "512:0=2", "512:1=-2", "512:1=inf"])
def test_times_written_otherwise_are_refused(text):
    with pytest.raises(ConfigurationError, match="expected a batch a GPU and seconds by GPUs"):
        times_from_text([text])


def test_calculator_without_times_says_what_it_needs(tmp_path, capsys):
    (tmp_path / "empty.out").write_text("nothing\n")
    with pytest.raises(DataError, match="expected lines with gpus="):
        read_times([tmp_path / "empty.out"])
    assert scaling.main([str(tmp_path / "empty.out")]) == 1
    assert scaling.main([]) == 2
    assert scaling.main(["--times=512:2=3"]) == 2
    assert "expected times of one GPU" in capsys.readouterr().err


@pytest.mark.long("ranks")
def test_sweep_trains_on_several_ranks_and_writes_its_files(tiny, capsys):
    arguments = ["--gpus=1,2", "--batch-sizes=2", "--q4-epochs=2", "--print-epochs=false", "--out=swept"]
    assert sweep.main([*tiny, *arguments]) == 0
    files = {path.name: path.read_text().splitlines() for path in Path("swept").glob("*.out")}
    assert sorted(files) == ["gpus1.out", "gpus2.out", "q4.out"]
    # 8 images: four steps of 2 for one rank, two for each of two.
    pattern = r"gpus=(\d) batch_per_gpu=(\d+) epoch=(\d) .* steps=(\d)"
    found = {name: [re.findall(pattern, line)[0] for line in lines] for name, lines in files.items()}
    assert found == {
        "gpus1.out": [("1", "2", "1", "4")],
        "gpus2.out": [("2", "2", "1", "2")],
        "q4.out": [("2", "2", "1", "2"), ("2", "2", "2", "2")],
    }
    assert read_times(sorted(Path("swept").glob("gpus*.out"))).keys() == {2}
    assert "Scaling at the same batch a GPU" in capsys.readouterr().out
    assert Path("swept/scaling.png").exists()


def test_sweep_goes_on_behind_a_batch_that_does_not_fit(tiny, capsys, monkeypatch):
    assert sweep.main([*tiny, "--gpus=1", "--batch-sizes=4,64", "--print-epochs=false"]) == 0
    first, second = Path("gpus1.out").read_text().splitlines()
    assert "batch_per_gpu=4 epoch=1 train_seconds=" in first
    assert re.search("batch_per_gpu=64 not trained: .* 8 images make no batch of 64", second)

    def too_large(*_):
        raise torch.cuda.OutOfMemoryError("of 8 GiB")

    monkeypatch.setattr(sweeping, "run_trainer", too_large)
    assert sweep.main([*tiny, "--gpus=1", "--batch-sizes=4"]) == 0
    assert "not trained: the GPU's memory is too small: of 8 GiB" in Path("gpus1.out").read_text()


def test_sweep_takes_the_fastest_batch_for_q4(tmp_path, monkeypatch):
    taken = []
    made = Sweep(None, tmp_path)
    monkeypatch.setattr(made, "_write", lambda *arguments: taken.append(arguments))
    times = {32: {1: 1.0, 4: 9.0}, 512: {1: 20.0, 4: 5.0}, 2048: {1: 15.0, 4: 6.0}}
    assert made.run_best(times, 4, 5) == tmp_path / "q4.out"
    assert taken == [(tmp_path / "q4.out", 4, 512, 5)]
    assert made.run_best({512: {1: 20.0}}, 4, 5) is None


def test_two_ranks_have_the_gradients_of_one_process_with_both_batches(tiny):
    """Without batch norms, whose statistics are those of a rank's own batch."""

    def gradients(world):
        flags = [*tiny, "--no-batch-norm=true", f"--batch-size={8 // world}", "--print-epochs=false"]
        options = options_of(LabParser("", ""), flags)[0]
        ranks = {"training.distributed": world > 1, "dist.world_size": world, "dist.port": 0}
        plain = {"training.momentum": 0.0, "training.weight_decay": 0.0, "lr.lr": 1.0}
        folder = launch(configuration(options, **ranks, **plain))
        return torch.load(folder / "final_weights.pt", weights_only=True)

    # One step of plain SGD with rate 1: the weights are those of the beginning less the gradients.
    from trainer.distributed import seed_generators
    from trainer.networks import make_own_network

    seed_generators(0)
    begin = make_own_network("cifar_resnet18_no_norm", 4).state_dict()
    one, two = gradients(1), gradients(2)
    for name, weights in begin.items():
        expected, found = weights - one[name], weights - two[name]
        assert expected.abs().max() > 0, name
        assert (found - expected).norm() <= 1e-4 * expected.norm() + 1e-6, name
