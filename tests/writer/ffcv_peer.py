"""Run FFCV itself, in a process of its own: `python ffcv_peer.py FOLDER`.

It loads FOLDER/ours.beton with FFCV's loader in both cache modes into FOLDER/os.npz and FOLDER/process.npz, and
FOLDER/tiled.beton and FOLDER/plain.beton into files of these names. It writes FOLDER/theirs_MODE.beton from the
pictures that the test writes with ffx.
"""

import sys
from pathlib import Path

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.fields.decoders import SimpleRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.writer import DatasetWriter

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from tests.pictures import make_picture


def read(path, cached, target):
    loader = Loader(
        str(path),
        5,
        num_workers=1,
        os_cache=cached,
        order=OrderOption.SEQUENTIAL,
        drop_last=False,
        pipelines={"image": [SimpleRGBImageDecoder()]},
    )
    names = list(loader.reader.field_names)
    columns = {field: [] for field in names}
    for batch in loader:
        for field, values in zip(names, batch, strict=True):
            columns[field].append(np.array(values))
    np.savez(target, **{field: np.concatenate(parts) for field, parts in columns.items()})


class Pictures:
    def __len__(self):
        return 30

    def __getitem__(self, index):
        return make_picture(40 + index, 90 - index, seed=index), index


def write(folder):
    for mode in ("raw", "jpg", "smart"):
        image = RGBImageField(mode, max_resolution=64, smart_threshold=64 * 60 * 3, jpeg_quality=85)
        fields = {"image": image, "label": IntField()}
        DatasetWriter(str(folder / f"theirs_{mode}.beton"), fields, num_workers=1).from_indexed_dataset(Pictures())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
    folder = Path(sys.argv[1])
    for name, cached in (("os", True), ("process", False)):
        read(folder / "ours.beton", cached, folder / f"{name}.npz")
    for name in ("tiled", "plain"):
        read(folder / f"{name}.beton", True, folder / f"{name}.npz")
