"""The comparison of recipes: its design, its statistics, and that what is done is not done again."""

import argparse
import gzip
import itertools

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from benchmarks import recipes
from benchmarks.recipes_data import folder_from_idx, read_idx
from benchmarks.recipes_document import filled
from benchmarks.recipes_table import (
    difference,
    effect_cells,
    effects,
    mean_with_interval,
    relative_speeds,
    tables,
)
from benchmarks.rows import ROOT, append_row, read_rows
from tests.pictures import make_picture


def options_of(tmp_path, *arguments):
    parser = argparse.ArgumentParser()
    recipes.add_options(parser)
    return parser.parse_args(["--runs", str(tmp_path / "runs"), "--out", str(tmp_path / "rows.jsonl"), *arguments])


def test_design_has_each_addition_and_each_pair_of_them_equally_often():
    rows = [set(row) for row in recipes.design_rows()]
    assert len(rows) == 12
    for one in recipes.ADDITIONS:
        assert sum(one in row for row in rows) == 6
    for one, other in itertools.combinations(recipes.ADDITIONS, 2):
        assert sum(one in row and other in row for row in rows) == 3


def test_effects_of_a_design_are_those_that_made_its_scores():
    true = {name: 0.01 * number for number, name in enumerate(recipes.ADDITIONS)}
    rows = [{"factors": list(row), "top_1": 0.5 + sum(true[name] for name in row)} for row in recipes.design_rows()]
    found = effects([*rows, *rows])
    assert {name: effect for name, (effect, _) in found.items()} == pytest.approx(true)
    assert max(half for _, half in found.values()) == pytest.approx(0)


def test_error_of_an_effect_is_that_of_equal_trainings():
    rng = np.random.default_rng(5)
    names, spread = list(recipes.ADDITIONS), 0.01
    covered = 0
    for _ in range(40):
        rows = [
            {"factors": list(row), "top_1": 0.5 + spread * rng.standard_normal()}
            for row in recipes.design_rows()
            for _ in range(2)
        ]
        covered += sum(abs(effect) <= half for effect, half in effects(rows).values())
    assert 0.92 < covered / (40 * len(names)) < 0.98


def test_error_with_one_seed_comes_from_the_small_effects():
    rng = np.random.default_rng(6)
    rows = [
        {"factors": list(row), "top_1": 0.5 + 0.2 * ("ema" in row) + 0.01 * rng.standard_normal()}
        for row in recipes.design_rows()
    ]
    found = effects(rows)
    assert found["ema"][0] > found["ema"][1]
    assert sum(abs(effect) > half for effect, half in found.values()) <= 2


@pytest.mark.parametrize("count", [2, 3, 5, 12])
def test_interval_of_a_mean_is_students(count):
    values = np.random.default_rng(count).normal(0.9, 0.01, count).tolist()
    low, high = stats.t.interval(0.95, count - 1, loc=np.mean(values), scale=stats.sem(values))
    mean, half = mean_with_interval(values)
    assert (mean - half, mean + half) == pytest.approx((low, high), rel=1e-4)


def test_interval_of_a_difference_is_welchs_or_a_little_wider():
    rng = np.random.default_rng(2)
    for _ in range(20):
        one, other = rng.normal(0.9, 0.01, 3).tolist(), rng.normal(0.91, 0.02, 5).tolist()
        interval = stats.ttest_ind(one, other, equal_var=False).confidence_interval(0.95)
        delta, half = difference(one, other)
        assert delta == pytest.approx((interval.low + interval.high) / 2)
        # Degrees of freedom are rounded down.
        assert 1 - 1e-3 <= half / ((interval.high - interval.low) / 2) < 1.4


def test_tables_give_means_and_differences():
    rows = [
        {
            "study": "finalists", "data": "d", "epochs": 8, "recipe": recipe, "seed": seed, "top_1": top_1,
            "seconds": 10.0 + seed, "plain_top_1": top_1 - 0.01, "pillow_top_1": top_1 - 0.01,
        }
        for recipe, scores in {"ffcv": (0.80, 0.81, 0.82), "new": (0.85, 0.86, 0.87)}.items()
        for seed, top_1 in enumerate(scores)
    ]  # fmt: skip
    text = tables(rows)
    assert "**finalists, d, 8 epochs**" in text
    assert "| ffcv | 8 | 3 | 81.00 ± 2.48 |  | 80.00 ± 2.48 | 80.00 ± 2.48 | 11 |" in text
    assert "| new | 8 | 3 | 86.00 ± 2.48 | +5.00 ± 2.27 | 85.00 ± 2.48 | 85.00 ± 2.48 | 11 |" in text


def speeds(data="d", name="ffx"):
    """Three rounds; the machine gets slower, the recipes keep their relation."""
    return [
        {
            "key": f"{data}-{recipe}-{seed}", "study": "speed", "data": data, "epochs": 1, "recipe": recipe,
            "seed": seed, "images_per_second": speed / (1 + seed),
        }
        for seed in range(3)
        for recipe, speed in {"ffcv": 100.0, name: 130.0 + seed}.items()
    ]  # fmt: skip


def test_speed_is_that_of_the_same_round():
    assert relative_speeds(speeds(), "ffcv") == {"ffcv": [1, 1, 1], "ffx": pytest.approx([1.30, 1.31, 1.32])}
    assert "| ffx | 3 | 1.31 | 1.30 to 1.32 |" in tables(speeds())


def test_equal_time_is_more_epochs_of_a_faster_recipe(tmp_path):
    for row in [*speeds("data"), *speeds("other", "blurpool")]:
        append_row(tmp_path / "rows.jsonl", row)
    arguments = ["--name=data", "--study", "equal_time", "--epochs=8", "--seeds=2", "--recipes", "ffcv"]
    found = [(one.recipe, one.seed, one.epochs) for one in recipes.planned(options_of(tmp_path, *arguments, "ffx"))]
    assert found == [("ffcv", 0, 8), ("ffx", 0, 10), ("ffcv", 1, 8), ("ffx", 1, 10)]
    with pytest.raises(SystemExit, match="study speed of the same data and recipes"):
        recipes.planned(options_of(tmp_path, *arguments, "blurpool"))


def test_speed_is_measured_anew(tmp_path):
    arguments = ["--name=data", "--recipes", "ffcv", "ema", "--seeds=2", "--epochs=8"]
    found = recipes.planned(options_of(tmp_path, *arguments, "--study", "speed"))
    assert [(one.recipe, one.seed, one.epochs) for one in found] == [
        ("ffcv", 0, 1), ("ema", 0, 1), ("ffcv", 1, 1), ("ema", 1, 1)
    ]  # fmt: skip


def finalists(scores, data="d"):
    return [
        {
            "study": "finalists",
            "data": data,
            "epochs": 8,
            "recipe": recipe,
            "seed": seed,
            "top_1": top_1,
            "seconds": 1.0,
        }
        for recipe, found in scores.items()
        for seed, top_1 in enumerate(found)
    ]


def test_cells_say_what_is_known_and_from_where():
    design = [
        {"study": "design", "data": "d", "epochs": 8, "factors": list(row), "top_1": 0.5 + 0.2 * ("ema" in row)}
        for row in recipes.design_rows()
    ]
    rows = [
        *design,
        *finalists({"ffcv": (0.80, 0.81, 0.82), "ema": (0.85, 0.86, 0.87)}),
        *finalists({"ffcv": (0.9,), "lars": (0.8,)}, "e"),
    ]
    cells = effect_cells(rows)
    assert cells["ema"] == "+20.00 ± 0.00 (d, design); +5.00 ± 2.27 (d, 3 seeds)"
    assert cells["lars"] == "-10.00 (e, one seed)" and "ffcv" not in cells and cells.keys() >= recipes.ADDITIONS.keys()


def test_document_gets_the_figures_of_the_rows(tmp_path):
    document, out = tmp_path / "doc.md", tmp_path / "rows.jsonl"
    parts = ["| a | {} <!-- measured: ema --> | b |", "| {} <!-- measured: lars --> |"]
    parts += ["<!-- tables -->", "{}", "<!-- end of tables -->", "end"]
    document.write_text("\n".join(parts).format("old", "", "old"))
    for row in finalists({"ffcv": (0.80,), "ema": (0.85,)}):
        append_row(out, row)
    assert recipes.run(options_of(tmp_path, "--document", str(document))) == 0
    shown = f"\n{tables(read_rows(out))}\n"
    assert document.read_text() == "\n".join(parts).format("+5.00 (d, one seed)", "not measured yet", shown)


def test_documentation_has_the_figures_of_the_committed_rows():
    text = (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8")
    assert "<!-- tables -->" in text
    assert filled(text, read_rows(ROOT / "benchmarks" / "results" / "recipes.jsonl")) == text


def test_folder_is_made_from_mnists_files(tmp_path):
    source, folder = tmp_path / "idx", tmp_path / "images"
    source.mkdir()
    rng = np.random.default_rng(1)
    for split, count in (("train", 12), ("t10k", 6)):
        pictures = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        labels = np.arange(count, dtype=np.uint8) % 3
        head = bytes([0, 0, 8, 3]) + np.array([count, 28, 28], ">u4").tobytes()
        (source / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(head + pictures.tobytes()))
        head = bytes([0, 0, 8, 1]) + np.array([count], ">u4").tobytes()
        (source / f"{split}-labels-idx1-ubyte").write_bytes(head + labels.tobytes())
    folder_from_idx(source, folder, images_a_class=3)
    folder_from_idx(source, folder, images_a_class=99)  # There already.
    assert len(list((folder / "train").glob("*/*.png"))) == 9 and len(list((folder / "val").glob("*/*.png"))) == 3
    pictures = read_idx(source / "train-images-idx3-ubyte")
    with Image.open(folder / "train" / "1" / "00004.png") as image:
        assert image.mode == "RGB" and image.size == (32, 32)
        np.testing.assert_array_equal(np.asarray(image)[2:30, 2:30, 0], pictures[4])
    (source / "train-labels-idx1-ubyte").write_bytes(b"nothing")
    with pytest.raises(SystemExit, match="expected MNIST's format of bytes"):
        read_idx(source / "train-labels-idx1-ubyte")


@pytest.mark.long("measured files")
def test_what_is_done_is_not_done_again(tmp_path, capsys, monkeypatch):
    for split, count in (("train", 6), ("val", 2)):
        for label in "ab":
            (tmp_path / "data" / split / label).mkdir(parents=True)
            for number in range(count):
                picture = Image.fromarray(make_picture(seed=number, height=60, width=70))
                picture.save(tmp_path / "data" / split / label / f"{number}.png")
    arguments = ["--data", str(tmp_path / "data"), "--study", "finalists", "--epochs", "1", "--seeds", "1"]
    arguments += [f"--option={text}" for text in ("training.batch_size=4", "model.arch=shufflenet_v2_x0_5")]
    arguments += ["--recipes", "ffcv", "ema+nesterov"]
    assert recipes.run(options_of(tmp_path, *arguments)) == 0
    rows = read_rows(tmp_path / "rows.jsonl")
    assert [row["recipe"] for row in rows] == ["ffcv", "ema+nesterov"]
    assert rows[1]["options"]["recipe.ema"] == 0.995 and rows[1]["options"]["training.nesterov"] == 1
    assert {"top_1", "plain_top_1", "pillow_top_1", "seconds", "commit"} <= rows[0].keys() and "raw_top_1" in rows[1]
    assert "| ema+nesterov | 1 | 1 |" in capsys.readouterr().out
    monkeypatch.setattr(recipes, "_train", None)
    assert recipes.run(options_of(tmp_path, *arguments)) == 0
    assert len(read_rows(tmp_path / "rows.jsonl")) == 2
    assert recipes.run(options_of(tmp_path, "--table")) == 0
    # The first one is the other study's, too: only its second source is trained.
    monkeypatch.setattr(recipes, "_train", lambda training, *_: {"key": training.key, "source": training.source})
    monkeypatch.setattr(recipes, "tables", str)
    assert recipes.run(options_of(tmp_path, *arguments, "--study", "data")) == 0
    added = read_rows(tmp_path / "rows.jsonl")[2:]
    assert [row["source"] for row in added] == ["ffx", "folder"]
    assert added[0]["same_as"] == rows[0]["key"] and added[0]["study"] == "data" and "same_as" not in added[1]
    assert {**rows[0], **{name: added[0][name] for name in ("key", "study", "recipe", "same_as")}} == added[0]
    other = [*arguments, "--option=training.batch_size=6"]
    keys = [
        {training.key for training in recipes.planned(options_of(tmp_path, *a, "--name=data"))}
        for a in (arguments, other)
    ]
    assert keys[0] == {row["key"] for row in rows} and not keys[0] & keys[1]


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--data is missing"),
        (["--data", "x", "--recipes", "emma"], "emma"),
        (["--data", "x", "--option", "y"], "expected --option NAME=VALUE"),
    ],
)
def test_mistakes_are_named(tmp_path, capsys, arguments, message):
    assert recipes.run(options_of(tmp_path, *arguments)) == 2
    assert message in capsys.readouterr().err
