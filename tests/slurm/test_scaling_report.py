"""The report on scaling: the figures of the Kempner cluster's table, logs, CSV files, what has not run."""

import csv
import io
from dataclasses import replace

import pytest
from ddp import measurements
from ddp import scaling as tables
from ddp.measurements import Measurement, combined, read_csv, read_log
from ddp.results import Heading, Total
from ddp.scaling import figures_of
from scaling_report import main
from trainer.errors import ConfigurationError, DataError

from tests.slurm.conftest import SLURM

# Batch, nodes, GPUs, learning rate, seconds, hours:minutes:seconds, top-1, top-5, efficiency: as published.
PUBLISHED = """
256 1 1 0.1 129686 36:01:26 75.392 92.470 100.00
512 1 2 0.1 65752 18:15:52 75.356 92.600 98.62
1024 1 4 0.1 33216 09:13:36 74.672 92.054 97.61
2048 2 8 0.1 17104 04:45:04 73.308 91.204 94.78
4096 4 16 1.6 8914 02:28:34 70.342 89.346 90.93
8192 8 32 3.2 4765 01:19:25 72.550 90.910 85.05
16384 16 64 6.4 2640 00:44:00 64.208 85.644 76.76
"""
ROWS = [line.split() for line in PUBLISHED.split("\n") if line]
NAMES = "Batch Size,#N,#GPUs,LR,WCT (s),WCT (h:m:s),Val Acc@1,Val Acc@5,Scaling Efficiency"


def csv_text(rows, names=NAMES):
    return "\n".join([names, *(",".join(row) for row in rows), ""])


@pytest.fixture
def published(tmp_path):
    """The published table; times and efficiency are wrong in it, for they are to be made from the seconds."""
    rows = [[*row[:5], "00:00:00", *row[6:8], "1"] for row in ROWS]
    rows.append(["32768", "32", "128", "6.4", *["TBD"] * 5])
    (tmp_path / "published.csv").write_text(csv_text(rows))
    return tmp_path / "published.csv"


def log_text(gpus, batch=None, rate=0.1, seconds=0.0, top=(75.0, 92.0), epochs=90, arch="resnet50", done=None, **kind):
    """What a job prints; twice, as one that was requeued."""
    heading = Heading(
        arch, epochs, gpus, max(1, gpus // 4), batch or 256 * gpus, rate, kind.get("optimizer", "sgd"), "multistep"
    )
    precision, gpu = kind.get("precision", "float32"), kind.get("gpu", "NVIDIA A100")
    lines = [
        str(heading),
        f"{arch}: 25,557,032 parameters, 1000 classes, {precision} on {gpus} x {gpu}",
        "Epoch: [0][ 1/10]\tTime  1.0 ( 1.0)",
        " * Acc@1 1.000 Acc@5 2.000",
        "srun: error: node: tasks 0-7: Exited with exit code 85",
    ]
    scores = f" * Acc@1 {top[0]:.3f} Acc@5 {top[1]:.3f}"
    end = [scores, str(Total(seconds, epochs if done is None else done, epochs))] if seconds else []
    return "\n".join([*lines, *lines[:2], *end, ""])


def shown_rows(capsys, *arguments):
    assert main([*map(str, arguments), "--format=csv"]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[2]}-gpus")
def test_figures_of_the_published_table_come_out(row, published, capsys):
    found = {each["#GPUs"]: each for each in shown_rows(capsys, published)}[row[2]]
    names = ("Batch Size", "#N", "#GPUs", "LR", "WCT (s)", "WCT (h:m:s)", "Val Acc@1", "Val Acc@5")
    assert [found[name] for name in names] == row[:8]
    assert found["Strong Scaling Efficiency"] == row[8]
    assert float(found["Speed-up"]) == pytest.approx(129686 / int(row[4]), abs=0.005)


def test_published_table_comes_out_of_logs(tmp_path, capsys):
    logs = tmp_path / "logs"
    logs.mkdir()
    for batch, _, gpus, rate, seconds, _, *top, _ in ROWS:
        text = log_text(int(gpus), int(batch), float(rate), int(seconds), [float(each) for each in top])
        (logs / f"resnet50_{gpus}-7.out").write_text(text)
    found = shown_rows(capsys, *logs.iterdir())
    made = [
        [row["Batch Size"], row["#N"], row["#GPUs"], row["LR"], row["WCT (s)"], row["WCT (h:m:s)"]] for row in found
    ]
    assert made == [row[:6] for row in ROWS]
    ends = [[row["Val Acc@1"], row["Val Acc@5"], row["Strong Scaling Efficiency"]] for row in found]
    assert ends == [row[6:] for row in ROWS]
    assert {row["GPU"] for row in found} == {"NVIDIA A100"}


def test_what_has_not_run_is_tbd(published, tmp_path, capsys):
    last = shown_rows(capsys, published)[-1]
    assert (last["#GPUs"], last["Batch Size"], last["#N"]) == ("128", "32768", "32")
    names = ("WCT (s)", "WCT (h:m:s)", "Val Acc@1", "Val Acc@5", "Speed-up", "Strong Scaling Efficiency")
    assert {last[name] for name in names} == {"TBD"}
    # Of logs: one that has ended early, one that is not at its end, and jobs that nobody has submitted.
    place = tmp_path / "A100"
    (place / "logs").mkdir(parents=True)
    for gpus in (1, 2, 4, 8):
        script = SLURM / "run_results" / "A100" / f"gpus_{gpus:03}.sh"
        (place / script.name).write_text(script.read_text())
    (place / "logs" / "a.out").write_text(log_text(1, seconds=100))
    (place / "logs" / "b.out").write_text(log_text(2))
    (place / "logs" / "c.out").write_text(log_text(4, seconds=20, done=30))
    found = shown_rows(capsys, place)
    assert [(row["#GPUs"], row["#N"], row["WCT (s)"]) for row in found] == [
        ("1", "1", "100"),
        ("2", "1", "TBD"),
        ("4", "1", "TBD"),
        ("8", "2", "TBD"),
    ]
    assert [row["Batch Size"] for row in found] == ["256", "512", "1024", "2048"]


def test_efficiencies_have_their_right_names(capsys, published):
    strong = [Measurement(1, 256, 100.0), Measurement(4, 1024, 30.0)]
    (_, derived) = figures_of(strong)
    assert derived.speed_up == pytest.approx(100 / 30) and derived.efficiency == pytest.approx(100 / 120)
    assert not derived.is_measured and derived.weak_efficiency == pytest.approx(derived.efficiency)
    (_, measured) = figures_of(strong, [Measurement(4, 1024, 110.0)])
    assert measured.weak_efficiency == pytest.approx(100 / 110)
    assert measured.scaled_speed_up == pytest.approx(400 / 110)
    assert measured.efficiency == pytest.approx(100 / 120)
    # Weak ones that were not measured are marked, and in a file for programs left out.
    assert main([str(published)]) == 0
    shown = capsys.readouterr().out
    assert "76.76%*" in shown and "*: not measured" in shown
    assert [row["Weak Scaling Efficiency"] for row in shown_rows(capsys, published)] == ["100.00", *["TBD"] * 7]


def test_measured_weak_scaling_stands_beside_strong(published, tmp_path, capsys):
    (tmp_path / "weak.out").write_text(log_text(4, seconds=140000))
    found = shown_rows(capsys, published, "--weak", tmp_path / "weak.out")
    assert [row["Weak Scaling Efficiency"] for row in found][:3] == ["100.00", "TBD", f"{100 * 129686 / 140000:.2f}"]
    assert found[2]["Strong Scaling Efficiency"] == "97.61"


def test_formats_and_pictures(published, tmp_path, capsys):
    out = tmp_path / "made" / "report"
    shown = {}
    for form in ("text", "markdown", "csv"):
        assert main([str(published), f"--format={form}", "--out", str(out)]) == 0
        shown[form] = capsys.readouterr().out
    assert sorted(path.name for path in out.iterdir()) == [
        "accuracy.png",
        "scaling.csv",
        "scaling.md",
        "scaling.png",
        "scaling.txt",
    ]
    assert shown["text"] == (out / "scaling.txt").read_text()
    assert shown["markdown"] == (out / "scaling.md").read_text()
    assert shown["csv"] == (out / "scaling.csv").read_text()
    assert "|    16384 |" not in shown["text"] and "|      16384 | 16 |    64 | 6.4 |" in shown["markdown"]
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in ("scaling.png", "accuracy.png"))
    # What it has written it reads again, to the same bytes.
    assert main([str(out / "scaling.csv"), "--format=csv"]) == 0
    assert capsys.readouterr().out == shown["csv"]


def test_picture_shows_speed_up_and_efficiency(monkeypatch, tmp_path):
    kept = []
    monkeypatch.setattr(tables, "save_figure", lambda figure, path: kept.append(figure))
    rows = [Measurement(1, 256, 100.0, top_1=70.0), Measurement(4, 1024, 30.0, top_1=60.0)]
    tables.draw_speed_up(rows, figures_of(rows), tmp_path / "a.png")
    tables.draw_accuracy(rows, tmp_path / "b.png")
    (speed,), (accuracy,) = (figure.axes for figure in kept)
    measured, ideal = speed.lines
    assert list(measured.get_xdata()) == [1, 4] and list(measured.get_ydata()) == pytest.approx([1, 100 / 30])
    assert list(ideal.get_ydata()) == [1, 4]
    assert [text.get_text() for text in speed.texts] == ["100.0%", "83.3%"]
    assert list(accuracy.lines[0].get_xdata()) == [256, 1024] and list(accuracy.lines[0].get_ydata()) == [70, 60]
    # Another kind is a line of its own.
    rows = [replace(row, gpu=gpu) for gpu in ("A100", "H100") for row in rows]
    tables.draw_speed_up(rows, figures_of(rows), tmp_path / "a.png")
    tables.draw_accuracy(rows, tmp_path / "b.png")
    speed, accuracy = ([line.get_label() for line in figure.axes[0].lines] for figure in kept[2:])
    assert speed == ["256 a GPU, A100", "256 a GPU, H100", "ideal"]
    assert accuracy == ["top-1, A100", "top-5, A100", "top-1, H100", "top-5, H100"]


def test_pictures_need_matplotlib_and_say_so(published, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tables, "new_axes", lambda *_: None)
    assert main([str(published), "--out", str(tmp_path / "out")]) == 0
    assert "needs figures, and matplotlib" in capsys.readouterr().err
    assert not list((tmp_path / "out").glob("*.png"))


def test_several_runs_are_their_median(tmp_path, capsys):
    for number, (seconds, top_1) in enumerate([(100, 70), (300, 72), (110, 71)]):
        (tmp_path / f"{number}.out").write_text(log_text(1, seconds=seconds, top=(top_1, 90)))
    (tmp_path / "3.out").write_text(log_text(1))
    (row,) = shown_rows(capsys, tmp_path)
    assert (row["WCT (s)"], row["Val Acc@1"]) == ("110", "71.000")
    assert main([str(tmp_path)]) == 0
    assert "Medians of several runs (1 GPUs: 3)" in capsys.readouterr().out


OTHER_KINDS = [{"optimizer": "lars"}, {"gpu": "NVIDIA H100"}, {"precision": "bfloat16"}]


@pytest.mark.parametrize("other", OTHER_KINDS, ids=lambda other: next(iter(other)))
def test_other_gpus_precisions_and_optimizers_are_rows_of_their_own(other, tmp_path, capsys):
    for name, seconds, kind in (("a", 100, {}), ("b", 60, other)):
        (tmp_path / f"{name}1.out").write_text(log_text(1, seconds=4 * seconds, top=(76, 93), **kind))
        (tmp_path / f"{name}4.out").write_text(log_text(4, seconds=seconds + 25, top=(seconds / 2, 90), **kind))
    (tmp_path / "gpus_004.sh").write_text((SLURM / "run_results" / "A100" / "gpus_004.sh").read_text())
    found = shown_rows(capsys, tmp_path, "--out", tmp_path)
    assert all(row["WCT (s)"] != "TBD" for row in found) and len(found) == 4
    fours = {row["Val Acc@1"]: row for row in found if row["#GPUs"] == "4"}
    # Each by its own T(1).
    assert float(fours["50.000"]["Speed-up"]) == pytest.approx(400 / 125, abs=0.005)
    assert float(fours["30.000"]["Speed-up"]) == pytest.approx(240 / 85, abs=0.005)
    column, text = (
        {"optimizer": "Optimizer", "gpu": "GPU", "precision": "Precision"}[next(iter(other))],
        [*other.values()],
    )
    assert fours["30.000"][column].split(", ")[:1] == text and fours["50.000"][column] not in ("", *text)
    assert shown_rows(capsys, tmp_path / "scaling.csv") == found


def test_one_gpu_of_a_csv_file_is_that_of_the_same_kind():
    ones = [Measurement(1, 256, 100.0, gpu="A100"), Measurement(1, 256, 60.0, gpu="H100")]
    rows = [
        *ones,
        Measurement(4, 1024, 20.0, gpu="H100"),
        Measurement(8, 2048, 20.0),
        Measurement(2, 512, 9.0, gpu="B"),
    ]
    assert combined(ones) == ones
    by_gpus = {row.gpus: one for row, one in zip(rows, figures_of(rows), strict=True)}
    assert by_gpus[4].speed_up == pytest.approx(3) and by_gpus[8] is by_gpus[2] is None
    (alone,) = figures_of([ones[0], Measurement(4, 1024, 50.0)])[1:]
    assert alone.speed_up == pytest.approx(2)


def test_heading_without_an_optimizer_is_read():
    """As `main.py` wrote it once."""
    heading = Heading("resnet50", 90, 8, 2, 2048, 0.1)
    assert Heading.find(str(heading)) == heading and str(heading).endswith("learning rate 0.1")


def test_without_one_gpu_there_are_times_but_no_efficiency(tmp_path, capsys):
    (tmp_path / "a.out").write_text(log_text(4, seconds=100))
    (row,) = shown_rows(capsys, tmp_path)
    assert (row["WCT (s)"], row["Speed-up"], row["Strong Scaling Efficiency"]) == ("100", "TBD", "TBD")
    assert main([str(tmp_path)]) == 0
    assert "No speed-up where one GPU has not trained" in capsys.readouterr().out


def test_logs_of_different_trainings_are_refused(tmp_path, capsys):
    (tmp_path / "a.out").write_text(log_text(1, seconds=100))
    (tmp_path / "b.out").write_text(log_text(2, seconds=10, epochs=10))
    assert main([str(tmp_path)]) == 2
    assert (
        "expected logs of the same training, found resnet50, 10 epochs; resnet50, 90 epochs" in capsys.readouterr().err
    )
    with pytest.raises(ConfigurationError):
        combined([Measurement(1, 256, training="a"), Measurement(1, 256, training="b")])


def test_log_that_says_nothing_is_named_and_left_out(tmp_path, capsys):
    (tmp_path / "a.out").write_text(log_text(1, seconds=100))
    (tmp_path / "b.out").write_text("gpus_002.sh: DATA is not set\n")
    # Went on with other ranks: its time is that of neither.
    (tmp_path / "c.out").write_text(log_text(2, seconds=60) + log_text(4, seconds=100))
    assert main([str(tmp_path), "--format=csv"]) == 0
    shown, told = capsys.readouterr()
    assert len(shown.splitlines()) == 2 and shown.count("100") >= 1
    assert "b.out: expected the log of one training of main.py, found no line main.py: NETWORK" in told
    assert "c.out: expected the log of one training of main.py, found main.py: resnet50, 90 epochs, 2 ranks" in told
    (tmp_path / "a.out").unlink()
    assert main([str(tmp_path)]) == 1
    assert "no training was found there" in capsys.readouterr().err
    with pytest.raises(DataError, match="found no line"):
        read_log(tmp_path / "b.out")


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", "expected columns #GPUs, Batch Size, WCT .s., and any of GPU, #N.*found nothing"),
        ("#GPUs,Batch Size\n1,256\n", "expected columns"),
        ("#GPUs,Batch Size,WCT (s),Time\n1,256,3,4\n", "found #GPUs, Batch Size, WCT .s., Time"),
        ("#GPUs,Batch Size,WCT (s)\n1,256\n", "line 2: expected as many cells as there are columns"),
        ("#GPUs,Batch Size,WCT (s)\n1,256,3,4\n", "line 2: expected as many cells as there are columns"),
        (
            "#GPUs,Batch Size,WCT (s)\n1,256,3\n2,512,soon\n",
            "line 3: WCT .s.: expected a number above 0, or TBD, found",
        ),
        ("#GPUs,Batch Size,WCT (s)\n1,256,0\n", "expected a number above 0"),
        ("#GPUs,Batch Size,WCT (s)\n1,256,inf\n", "expected a number above 0"),
        ("#GPUs,Batch Size,WCT (s)\n0,256,3\n", "expected whole numbers of GPUs"),
        ("#GPUs,Batch Size,WCT (s)\n1.5,256,3\n", "expected whole numbers of GPUs"),
        ("#GPUs,Batch Size,WCT (s)\n3,256,3\n", "a batch of all GPUs that they share evenly, found #GPUs 3"),
    ],
)
def test_csv_files_that_are_not_as_expected_are_refused(text, expected, tmp_path):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=expected):
        read_csv(tmp_path / "a.csv")


def test_other_files_are_refused(tmp_path, capsys):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe#\x00")
    with pytest.raises(DataError, match="expected a CSV file in UTF-8"):
        read_csv(tmp_path / "a.csv")
    (tmp_path / "gpus_001.sh").write_text("#!/bin/bash\n")
    with pytest.raises(DataError, match=r"expected a submission as submissions\.py writes it"):
        measurements.read_submission(tmp_path / "gpus_001.sh")
    (tmp_path / "empty").mkdir()
    assert main([str(tmp_path / "empty")]) == 1
    assert "expected logs (*.out, logs/*.out) or submissions (gpus_*.sh), found neither" in capsys.readouterr().err
    assert main([str(tmp_path / "nothing.out")]) == 1
    assert main([]) == 2
    assert main(["--format=html", "x"]) == 2
    assert "--help lists all options" in capsys.readouterr().err
