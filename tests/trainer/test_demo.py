import json
import sys
from pathlib import Path

import numpy as np
import pytest

from ffx.reader import Reader

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def demo(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import demo

    yield demo
    sys.modules.pop("demo", None)


def test_every_digit_is_in_one_of_the_two_sets(demo):
    training, validation = demo.load_digits()
    assert (len(training), len(validation)) == (1438, 359)
    picture, label = training[0]
    assert (picture.shape, picture.dtype) == ((64, 64, 3), np.uint8)
    assert 0 <= label < 10
    labels = [digits[index][1] for digits in (training, validation) for index in range(len(digits))]
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    again = demo.load_digits()[0]
    assert np.array_equal(again[7][0], training[7][0])


def test_enlarged_digit_shrinks_to_the_original(demo):
    import cv2
    from sklearn.datasets import load_digits

    order = np.random.default_rng(0).permutation(1797)
    original = load_digits().images[order[0]] * (255 / 16)
    picture = demo.load_digits()[1][0][0]
    shrunk = cv2.resize(picture[..., 0].astype(np.float64), (8, 8), interpolation=cv2.INTER_AREA)
    assert np.corrcoef(shrunk.ravel(), original.ravel())[0, 1] > 0.95


def test_digits_are_written_with_their_classes(demo, tmp_path):
    reader = Reader(demo.write_digits(tmp_path)[1])
    assert reader.num_samples == 359
    assert reader.class_names == [str(digit) for digit in range(10)]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_demonstration_reaches_95_per_cent(demo, tmp_path):
    assert demo.main(["--folder", str(tmp_path)]) == 0
    (row,) = json.loads((tmp_path / "report.json").read_text())
    assert row["top_1"] >= 0.95
    assert row["epochs"] == 12
    for name in ("report.md", "accuracy_time.png", "accuracy_time.svg"):
        assert (tmp_path / name).exists()
