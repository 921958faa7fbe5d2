"""Write ImageNet, or any folder of class folders, or CIFAR-10, as one `.ffcv` file.

    python writer/write_imagenet.py --cfg.dataset=imagenet --cfg.split=train \\
        --cfg.data_dir=/data/imagenet/train --cfg.write_path=/fast/train_400_0.10_90.ffcv \\
        --cfg.max_resolution=400 --cfg.write_mode=proportion --cfg.compress_probability=0.10

`--cfg.data_dir` may also be one of ILSVRC2012's archives, ILSVRC2012_img_train.tar or, with `--cfg.valprep_script`,
ILSVRC2012_img_val.tar: nothing is unpacked then, and the file is the same. `--cfg.shard=3 --cfg.shards=16` writes one
part in sixteen, for `ffx merge`.

The options are those of FFCV's script of this name. They can also come from YAML or JSON files
(`--config-file FILE`). A wrong option is an error with exit status 2, a failed run one with status 1;
after both, nothing stands at the path that was to be written.
"""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn

import yaml
from fastargs import Config, Param, Section
from fastargs.exceptions import MissingValueError
from fastargs.validation import And, Checker, InRange, OneOf

# Where ffx is not installed, the one of this checkout is used.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from ffx.errors import FfxError
from ffx.fields import IntField, RGBImageField
from ffx.reader import Reader
from ffx.writer import DatasetWriter, ImageArchive, JPEGFolder
from writer.ilsvrc import validation_classes
from writer.messages import printable

__all__ = ["Options", "declare_options", "main", "open_dataset", "read_options", "write_file"]

PROGRAM = "write_imagenet.py"


class WholeNumber(Checker):
    """An integer, also as text; `fastargs` by itself would cut 4.7 down to 4 without a word."""

    def check(self, value: Any) -> int:
        """Return `value` as an int or raise `ValueError`."""
        number = int(value)
        if isinstance(value, bool) or number != float(value):
            raise ValueError(value)
        return number

    def help(self) -> str:
        """Say what is accepted, for messages and `--help`."""
        return "a whole number"


@dataclass(frozen=True)
class Options:
    """What to write and how: one attribute for each `--cfg.` option, checked."""

    dataset: str
    split: str
    data_dir: Path
    write_path: Path
    write_mode: str
    max_resolution: int
    num_workers: int
    chunk_size: int
    jpeg_quality: int
    subset: int
    compress_probability: float | None = None
    smart_threshold: int | None = None
    raw_format: str = "rgb"
    orientation: str = "ignore"
    pass_through: int | None = None
    tiled: int = 1
    valprep_script: Path | None = None
    devkit: Path | None = None
    shard: int | None = None
    shards: int | None = None


def declare_options() -> Config:
    """Return a fresh `fastargs` configuration that knows every option, its check and its default."""
    config = Config()
    count = And(WholeNumber(), InRange(min=1))
    Section("cfg", "what to write, and how", config_descriptor=config).params(
        dataset=Param(OneOf(["cifar", "imagenet"]), "imagenet: a folder of class folders; cifar: CIFAR-10", "imagenet"),
        split=Param(OneOf(["train", "val"]), "which part of the data set this is", required=True),
        data_dir=Param(
            str, "folder of the class folders, or a tar archive of them (cifar: torchvision's root)", required=True
        ),
        write_path=Param(str, "the file to write", required=True),
        write_mode=Param(OneOf(["raw", "jpg", "smart", "proportion", "yuv420"]), "how pixels are stored", "smart"),
        max_resolution=Param(count, "longest side in pixels; larger images are made smaller", required=True),
        num_workers=Param(count, "processes", 16),
        chunk_size=Param(count, "images that a process takes at a time", 100),
        jpeg_quality=Param(And(WholeNumber(), InRange(1, 100)), "quality of JPEGs that are made", 90),
        subset=Param(And(WholeNumber(), InRange(min=-1)), "number of images to write, -1 for all", -1),
        compress_probability=Param(And(float, InRange(0, 1)), "write_mode proportion: share of JPEGs"),
        pass_through=Param(
            And(WholeNumber(), InRange(0, 1)),
            "1: keep a JPEG that needs no resizing, without loss (usual for write_mode jpg), 0: encode it anew",
        ),
        tiled=Param(
            And(WholeNumber(), InRange(0, 1)),
            "1: JPEGs in tiles, of which a crop decodes only those under it; 0: the bytes that FFCV would store",
            1,
        ),
        raw_format=Param(
            OneOf(["rgb", "yuv420"]), "how pixels that are not JPEG are stored; FFCV reads rgb only", "rgb"
        ),
        orientation=Param(
            OneOf(["ignore", "apply"]),
            "apply: turn pictures upright as EXIF says; ignore: pixels as stored, as FFCV and ImageFolder take them",
            "ignore",
        ),
        valprep_script=Param(str, "an archive without class folders: valprep.sh, which says each picture's class"),
        devkit=Param(str, "the same from ILSVRC2012_devkit_t12.tar.gz (needs scipy)"),
        shard=Param(And(WholeNumber(), InRange(min=0)), "write only this one of --cfg.shards parts, counted from 0"),
        shards=Param(count, "number of the parts, of which `ffx merge` makes the file of a single run"),
        smart_threshold=Param(count, "write_mode smart: JPEG for images of more raw bytes; without it all are raw"),
    )
    return config


def fail(message: str, status: int) -> NoReturn:
    """Print `message` as this program's error and leave with `status`."""
    for line in message.splitlines() or [""]:
        print(f"{PROGRAM}: error: {printable(line)}", file=sys.stderr)
    raise SystemExit(status)


def _dotted_keys(content: Any, prefix: str = "") -> Iterator[str]:
    if not isinstance(content, dict):
        yield prefix
        return
    for key, value in content.items():
        yield from _dotted_keys(value, f"{prefix}.{key}" if prefix else str(key))


def _check_config_files(paths: Sequence[str], known: set[str]) -> None:
    """`fastargs` ignores a key that it does not know and leaves a missing file as a traceback."""
    for path in paths:
        try:
            content = yaml.safe_load(Path(path).read_text())  # JSON is YAML, too
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            fail(f"--config-file {path} cannot be read: {error}", 2)
        if not isinstance(content, dict):
            fail(f"--config-file {path}: expected a mapping such as 'cfg: {{split: train}}', found {content!r}", 2)
        unknown = sorted(set(_dotted_keys(content)) - known)
        if unknown:
            fail(f"--config-file {path}: unknown {', '.join(unknown)}; known are {', '.join(sorted(known))}", 2)


def _check_values(config: Config) -> None:
    """Report every missing or wrong value; `fastargs` by itself would then exit with status 0."""
    problems = []
    for path, error in config.validate(mode="errordict").items():
        if isinstance(error, MissingValueError):
            problems.append(f"--{'.'.join(path)} is missing: {config.entries[path].desc}")
        else:
            expected = config.entries[path].checker.help()
            problems.append(f"--{'.'.join(path)}: expected {expected}, got {config.content[path]!r}")
    if problems:
        fail("; ".join(problems), 2)


def _help(config: Config) -> str:
    """All options in 100 columns of plain text; `fastargs` draws a table of 250 with a terminal's line characters."""
    lines = [f"usage: {PROGRAM} [--config-file FILE]... --cfg.OPTION=VALUE ...", "", str(__doc__).strip(), ""]
    for path, param in config.entries.items():
        given = "" if param.default is None else f"; default: {param.default}"
        usual = "; required" if param.required else given
        text = f"{param.desc} [{param.checker.help()}{usual}]"
        lines.append(f"  --{'.'.join(path)}")
        lines += textwrap.wrap(text, 100, initial_indent=" " * 8, subsequent_indent=" " * 8)
    return "\n".join(lines)


def read_options() -> Options:
    """Read `sys.argv`, configuration files and the environment; leave with status 2 when something is wrong."""
    config = declare_options()
    files = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    files.add_argument("--config-file", "-C", action="append", default=[])
    _check_config_files(files.parse_known_args()[0].config_file, {".".join(path) for path in config.entries})
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(_help(config))
        raise SystemExit(0)
    parser = argparse.ArgumentParser(prog=PROGRAM, allow_abbrev=False)
    config.augment_argparse(parser)
    config.collect_argparse_args(parser)
    _check_values(config)
    values = vars(config.get().cfg)
    for name in ("data_dir", "write_path", "valprep_script", "devkit"):
        if values.get(name) is not None:
            values[name] = Path(values[name]).expanduser()
    options = Options(**{field.name: values[field.name] for field in fields(Options) if field.name in values})
    _check_together(options)
    return options


def _check_together(options: Options) -> None:
    if options.write_mode == "proportion" and options.compress_probability is None:
        fail("--cfg.write_mode=proportion needs --cfg.compress_probability, the share of JPEGs from 0 to 1", 2)
    if options.dataset == "imagenet" and not (options.data_dir.is_dir() or options.data_dir.is_file()):
        fail(
            f"--cfg.data_dir: {options.data_dir} is no folder and no file; expected a folder with a folder for each "
            "class, or a tar archive",
            2,
        )
    for name in ("valprep_script", "devkit"):
        path = getattr(options, name)
        if path is not None and (options.dataset != "imagenet" or options.data_dir.is_dir()):
            fail(f"--cfg.{name} goes with an archive as --cfg.data_dir, found {options.data_dir}", 2)
        if path is not None and not path.is_file():
            fail(f"--cfg.{name}: there is no file {path}", 2)
    if (options.shard is None) != (options.shards is None):
        fail("--cfg.shard and --cfg.shards go together: which part, of how many", 2)
    if options.shard is not None and options.shard >= options.shards:
        fail(f"--cfg.shard: expected 0 to {options.shards - 1}, since --cfg.shards={options.shards}", 2)
    if not options.write_path.parent.is_dir():
        fail(f"--cfg.write_path: there is no folder {options.write_path.parent}; make it first", 2)


def open_dataset(options: Options) -> Any:
    """Return the data set that `options` names: indexable, with (image or its file's bytes, label) and `classes`."""
    if options.dataset == "imagenet" and options.data_dir.is_file():
        tabled = options.valprep_script is not None or options.devkit is not None
        classes = validation_classes(options.valprep_script, options.devkit) if tabled else None
        return ImageArchive(options.data_dir, classes, progress=True)
    if options.dataset == "imagenet":
        return JPEGFolder(options.data_dir)
    from torchvision.datasets import CIFAR10

    return CIFAR10(options.data_dir, train=options.split == "train", download=True)


def write_file(options: Options, dataset: Any) -> int:
    """Write `dataset`, its first `options.subset` samples, or a shard of them; return how many samples were written."""
    image_options: dict[str, Any] = {
        "write_mode": options.write_mode,
        "max_resolution": options.max_resolution,
        "jpeg_quality": options.jpeg_quality,
        "smart_threshold": options.smart_threshold,
        "raw_format": options.raw_format,
        "orientation": options.orientation,
        # The other modes promise a quality, and so a size: pictures as they come take about twice that of quality 90.
        "pass_through": options.write_mode == "jpg" if options.pass_through is None else bool(options.pass_through),
        "tiled": bool(options.tiled),
        "retile": bool(options.tiled),
    }
    if options.compress_probability is not None:
        image_options["compress_probability"] = options.compress_probability
    count = len(dataset) if options.subset < 0 else min(options.subset, len(dataset))
    writer = DatasetWriter(
        str(options.write_path),
        {"image": RGBImageField(**image_options), "label": IntField()},
        num_workers=options.num_workers,
    )
    shard = None if options.shard is None else (options.shard, options.shards)
    writer.from_indexed_dataset(dataset, indices=range(count), chunksize=options.chunk_size, shard=shard)
    return Reader(options.write_path).num_samples


def main() -> int:
    """Run the program on `sys.argv` and return its exit status."""
    options = read_options()
    try:
        dataset = open_dataset(options)
        count = write_file(options, dataset)
    except (FfxError, OSError, RuntimeError) as error:
        fail(str(error), 1)
    size = options.write_path.stat().st_size
    print(f"{printable(str(options.write_path))}: {count:,} images, {size / 1e6:,.1f} MB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
