"""A short, seeded part of the fuzzer (`python -m tests.fuzz` for more), and whether the fuzzer itself would notice."""

import os
import random
import signal
import time

import pytest

from ffx.errors import FormatError
from tests.fuzz.canvas import Canvas
from tests.fuzz.extremes_target import ExtremesTarget
from tests.fuzz.jpeg_target import JpegTarget
from tests.fuzz.loader_target import LoaderTarget
from tests.fuzz.parser_target import ParserTarget
from tests.fuzz.refusals import UNREACHABLE, all_refusals
from tests.fuzz.running import run_inputs
from tests.fuzz.seed_files import seed_files
from tests.fuzz.target import Find

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="inputs are run in a forked process")


def assert_nothing_found(found, inputs):
    assert found.finds == {}, "\n".join(found.finds.values())
    assert found.inputs == inputs


@pytest.fixture(scope="module")
def parser_target(tmp_path_factory):
    return ParserTarget(tmp_path_factory.mktemp("fuzz"))


def test_mutated_files_are_refused_or_can_be_read(parser_target):
    found = run_inputs(parser_target, seed=1, seconds=120, most=3000)
    assert_nothing_found(found, 3000)
    assert found.outcomes["opened"] > 100
    assert len(set(found.outcomes) & all_refusals()) > 40


@pytest.mark.slow
def test_every_refusal_is_met(parser_target):
    found = run_inputs(parser_target, seed=2, seconds=500, most=100_000)
    assert_nothing_found(found, 100_000)
    unseen = all_refusals() - set(found.outcomes)
    assert {next(filter(text.startswith, UNREACHABLE), text) for text in unseen} == set(UNREACHABLE)


def test_mutated_jpegs_are_decoded_or_refused(tmp_path):
    found = run_inputs(JpegTarget(tmp_path), seed=1, seconds=120, most=3000)
    assert_nothing_found(found, 3000)
    assert {outcome.rpartition(": ")[2] for outcome in found.outcomes} == {"decoded", "damaged", "another size"}


@pytest.mark.parametrize("written", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_every_integer_at_its_limits_is_refused_or_harmless_and_takes_little_memory(written, tmp_path):
    target = ExtremesTarget(seed_files(tmp_path, 40 if written else 3, written))
    found = run_inputs(target, seed=0, seconds=300, most=target.inputs)
    assert_nothing_found(found, target.inputs)
    assert min(found.outcomes.values()) > 500 and set(found.outcomes) == {"opened", "refused"}


def test_damaged_files_are_loaded_or_an_error_of_ffx(tmp_path):
    found = run_inputs(LoaderTarget(tmp_path), seed=1, seconds=120, most=200)
    assert_nothing_found(found, 200)
    assert {"epoch: DecodeError", "epoch: SampleChecksumError", "loaded, some skip"} <= set(found.outcomes)


def test_canvas_is_as_before_after_anything(tmp_path):
    content, generator = random.Random(1).randbytes(10_000), random.Random(2)
    canvas = Canvas(tmp_path / "file", content)
    for _ in range(50):
        for _ in range(generator.randint(1, 6)):
            canvas.put(generator.randrange(12_000), generator.randbytes(generator.randrange(300)))
            canvas.resize(generator.randrange(12_000))
        canvas.undo()
        assert (tmp_path / "file").read_bytes() == content and canvas.length == 10_000


class Scripted:
    """A target that does something bad at one input."""

    name, memory_bytes = "scripted", None

    def __init__(self, deed, memory_bytes=None):
        self.deed, self.memory_bytes, self.seen = deed, memory_bytes, 0

    def run(self, generator):
        number = self.seen
        self.seen += 1
        if number == 5:
            self.deed()
        return "good"


def out_of_memory():
    bytearray(1 << 28)


def untyped():
    raise KeyError("lost")


def found_out():
    raise Find("a wrong answer")


def refused():
    raise FormatError("only the target itself may take this for an outcome")


DEEDS = {
    "signal": (lambda: os.kill(os.getpid(), signal.SIGKILL), "SIGKILL"),
    "exit": (lambda: os._exit(3), "exit code 3"),
    "exception": (untyped, "KeyError"),
    "find": (found_out, "a wrong answer"),
    "refusal": (refused, "FormatError"),
    "memory": (out_of_memory, "MemoryError"),
}


@pytest.mark.parametrize("deed", DEEDS)
def test_bad_deeds_are_found_and_the_rest_is_run(deed):
    action, text = DEEDS[deed]
    found = run_inputs(Scripted(action, 1 << 26 if deed == "memory" else None), seed=1, seconds=60, most=8)
    assert len(found.finds) == 1 and text in "".join(found.finds.values())
    assert list(found.numbers.values()) == [5] and found.inputs == 8


def test_hanging_is_found(monkeypatch):
    monkeypatch.setattr("tests.fuzz.running._MOST_SECONDS", 0.3)
    found = run_inputs(Scripted(lambda: time.sleep(60)), seed=1, seconds=60, most=8)
    assert "took more than" in "".join(found.finds.values()) and list(found.numbers.values()) == [5]
