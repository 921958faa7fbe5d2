"""The options of `main.py`: those of PyTorch's ImageNet example, and a few more."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from trainer.arguments import Parser, value_of
from trainer.errors import ConfigurationError
from trainer.values import Architecture, Check, Choice, RealNumber, Switch, Text, WholeNumber

__all__ = ["MainOptions", "options_of"]

PROGRAM = "main.py"
# In PyTorch's ImageNet example, where one program has to start the processes of a machine.
_STARTED_BY_SLURM = ("--world-size", "--rank", "--gpu", "--multiprocessing-distributed")


def _option(default: Any, check: Check, flags: str, help_text: str) -> Any:
    return field(default=default, metadata={"check": check, "flags": flags, "help": help_text})


@dataclass(frozen=True)
class MainOptions:
    """What the options say; each attribute is an option's long name."""

    arch: str = _option("resnet18", Architecture(), "-a --arch", "network of torchvision.models")
    workers: int = _option(4, WholeNumber(-1), "-j --workers", "processes (files: threads) that load, a rank")
    epochs: int = _option(90, WholeNumber(1), "--epochs", "number of epochs")
    start_epoch: int = _option(0, WholeNumber(0), "--start-epoch", "a new training begins with this epoch, from 0")
    batch_size: int = _option(256, WholeNumber(1), "-b --batch-size", "images a step of all ranks together")
    lr: float = _option(0.1, RealNumber(0), "--lr --learning-rate", "learning rate at the beginning")
    momentum: float = _option(0.9, RealNumber(0), "--momentum", "momentum")
    weight_decay: float = _option(1e-4, RealNumber(0), "--wd --weight-decay", "weight decay of all parameters")
    print_freq: int = _option(10, WholeNumber(1), "-p --print-freq", "steps between lines")
    resume: str = _option(
        "", Text(), "--resume", "go on from this checkpoint.pth.tar; auto: this folder's newest run, if there is one"
    )
    evaluate: bool = _option(False, Switch(), "-e --evaluate", "only evaluate what --resume or --pretrained names")
    pretrained: bool = _option(False, Switch(), "--pretrained", "start from torchvision's ImageNet weights")
    dist_url: str = _option(
        "env://", Text(), "--dist-url", "tcp://HOST:PORT where rank 0 listens; env://: the first node, MASTER_PORT"
    )
    dist_backend: str = _option(
        "auto", Choice(("auto", "nccl", "gloo")), "--dist-backend", "auto: nccl connects GPUs, gloo processors"
    )
    seed: int = _option(0, WholeNumber(0, 2**63 - 1), "--seed", "of weights, order and augmentations")
    dummy: bool = _option(False, Switch(), "--dummy", "no data: random numbers, as many as ImageNet has images")
    optimizer: str = _option("sgd", Choice(("sgd", "lars")), "--optimizer", "lars: for batches of thousands")
    warmup_epochs: int = _option(0, WholeNumber(0), "--warmup-epochs", "epochs in which the rate rises from 0")
    scale_lr: bool = _option(False, Switch(), "--scale-lr", "--lr is for 256 images: multiply it by batch / 256")
    schedule: str = _option(
        "step", Choice(("step", "cosine")), "--schedule", "step: a tenth after each 30 epochs; cosine: down to 0"
    )
    precision: str = _option("fp32", Choice(("fp32", "fp16", "bf16")), "--precision", "of convolutions")
    device: str = _option("auto", Choice(("auto", "cpu", "cuda")), "--device", "auto: a GPU where there is one")
    checkpoint_minutes: float = _option(
        0.0, RealNumber(0), "--checkpoint-minutes", "minutes between checkpoints in mid-epoch; 0: none"
    )
    output_dir: str = _option(".", Text(), "--output-dir", "folder for checkpoints and runs")


def _parser(description: str) -> argparse.ArgumentParser:
    parser = Parser(
        prog=PROGRAM,
        description=description,
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=36, width=118),
    )
    parser.add_argument(
        "data",
        nargs="?",
        default="imagenet",
        metavar="DATA",
        help="folder with train/ and val/, or with train*.ffcv and val*.ffcv (default: imagenet)",
    )
    for name, item in MainOptions.__dataclass_fields__.items():
        check, flags = item.metadata["check"], item.metadata["flags"].split()
        if isinstance(check, Switch):
            parser.add_argument(*flags, dest=name, action="store_true", help=item.metadata["help"])
            continue
        words = check.words if isinstance(check, Choice) else ()
        default = "none" if item.default == "" else item.default
        parser.add_argument(
            *flags,
            dest=name,
            type=value_of(check),
            default=item.default,
            metavar=f"{{{','.join(words)}}}" if words else "VALUE",
            help=f"{item.metadata['help']} (default: {default})",
        )
    for flag in _STARTED_BY_SLURM:
        parser.add_argument(flag, dest="started_by_slurm", action=_RefuseAction, nargs="?", help=argparse.SUPPRESS)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.OPTION=VALUE",
        help="any option of the trainer (docs/training.md); wins; may be repeated",
    )
    return parser


class _RefuseAction(argparse.Action):
    def __call__(self, parser, namespace, values, option_string=None):
        parser.error(
            f"{option_string}: expected that srun starts a process for each GPU (srun --ntasks=8 python main.py ...), "
            "from which each takes its rank: no process is started here"
        )


def options_of(arguments: Sequence[str], description: str) -> tuple[str, MainOptions, dict[str, str]]:
    """The place of the data, the options, and the trainer's own from `--set`.

    Raises:
        ConfigurationError: an option is unknown or bad, or excludes another one.
        SystemExit: after `--help` (0).
    """
    found = vars(_parser(description).parse_args(list(arguments)))
    options = MainOptions(**{name: found[name] for name in MainOptions.__dataclass_fields__})
    further = {}
    for text in found["set"]:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigurationError(f"--set {text}: expected SECTION.OPTION=VALUE, such as recipe.ema=0.999")
        further[name] = value
    _check(options)
    return found["data"], options, further


def _check(options: MainOptions) -> None:
    if options.evaluate and not options.resume and not options.pretrained:
        raise ConfigurationError("--evaluate needs something to evaluate: --resume checkpoint.pth.tar, or --pretrained")
    if options.start_epoch and options.resume not in ("", "auto"):
        raise ConfigurationError(
            f"--start-epoch and --resume {options.resume} exclude each other: the checkpoint says where to go on"
        )
