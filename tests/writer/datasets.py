"""Data sets for the writer's tests, at module level so that processes that are not forked can import them."""

import os
import signal
import sys
import time

import numpy as np

from ffx.fields import BytesField, FloatField, IntField, JSONField, NDArrayField, RGBImageField
from tests.pictures import make_picture


def all_fields(mode="proportion"):
    return {
        "image": RGBImageField(mode, max_resolution=40),
        "text": BytesField(),
        "label": IntField(),
        "weight": FloatField(),
        "array": NDArrayField(np.dtype("<f4"), (2, 3)),
        "described_at_length": JSONField(),
    }


class AllKinds:
    """A value of every kind; picture sizes differ, and some byte strings are empty."""

    classes = ["zero", "one", "two"]

    def __init__(self, length=60):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        text = np.arange(index % 5 * 7, dtype=np.uint8)
        array = np.full((2, 3), index, dtype=np.float32)
        picture = make_picture(20 + index % 30, 45, seed=index)
        return picture, text, index % 3, index / 8, array, {"index": index}


class Misbehaving:
    """Sample `where` does what `how` says; the others are (5 bytes, number)."""

    def __init__(self, how, where=17, length=40):
        self.how, self.where, self.length = how, where, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index == self.where:
            return getattr(self, self.how)()
        return bytes([index] * 5), index

    def raises(self):
        raise KeyError("no such picture")

    def raises_what_cannot_be_pickled(self):
        class Local(Exception):
            pass

        raise Local("only here")

    def wrong_type(self):
        return "text", 1

    def wrong_second_type(self):
        return b"", "one"

    def too_few(self):
        return (b"",)

    def too_many(self):
        return b"", 1, 2

    def no_tuple(self):
        return 5

    def other_names(self):
        return {"data": b"", "class": 1}

    def too_large(self):
        return bytes(3 << 20), 1

    def leaves(self):
        sys.exit(3)

    def leaves_at_once(self):
        os._exit(3)

    def is_killed(self):
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)

    def is_interrupted(self):
        raise KeyboardInterrupt


FEW_FIELDS = {"data": BytesField(), "label": IntField()}


class Slow:
    """Each sample takes a while; the process that makes it writes its id into a folder."""

    def __init__(self, folder, seconds=0.05, length=1000):
        self.folder, self.seconds, self.length = folder, seconds, length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        with open(os.path.join(self.folder, f"worker-{os.getpid()}"), "w"):
            pass
        time.sleep(self.seconds)
        return bytes(20_000), index


class Large:
    """Byte strings of `size(index)` bytes."""

    def __init__(self, sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        return np.full(self.sizes[index], index % 251, dtype=np.uint8), index
