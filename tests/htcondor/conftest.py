"""Tests of the OSG's benchmark: it is imported as its programs import it."""

import sys
from pathlib import Path

import pytest

from tests.lab.class_folders import write_classes
from tests.one_thread import one_thread  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ROOT / "examples" / "htcondor"
for _folder in (PROGRAMS, ROOT / "examples" / "imagenet"):
    if str(_folder) not in sys.path:
        sys.path.insert(0, str(_folder))

# A training of 12 steps of 4 images in a second or two.
SMALL = (
    *("--arch", "shufflenet_v2_x0_5", "--image-size", "32", "--batch-size", "4", "--epochs", "2"),
    *("--workers", "0", "--device", "cpu"),
)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """24 training and 4 validation pictures in 4 classes, as train/ and val/."""
    return write_classes(tmp_path_factory.mktemp("htcondor"), side=40, train=6)


def status_of(main, *arguments):
    """The exit status of a program, also where argparse ends it."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code
