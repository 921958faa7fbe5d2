"""The lab's flags, as its document has them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from trainer.arguments import Parser, value_of
from trainer.errors import ConfigurationError
from trainer.values import WholeNumber

__all__ = ["OPTIMIZERS", "LabOptions", "LabParser", "options_of", "whole_number"]

OPTIMIZERS = ("sgd", "sgd-nesterov", "adagrad", "adadelta", "adam")


@dataclass(frozen=True)
class LabOptions:
    """What the flags say; each attribute is a flag's long name."""

    device: str = "cuda"
    num_of_workers: int = 2
    dataset_path: str = "data"
    optimizer: str = "sgd"
    epochs: int = 5
    batch_size: int = 128
    print_epochs: bool = True
    download_data: bool = False
    run_code_3: bool = False
    run_profiler: bool = False
    no_batch_norm: bool = False
    max_num_of_workers_for_code_3: int = 8
    trace_file_name: str = "trace"

    def __post_init__(self) -> None:
        if self.run_code_3 and self.run_profiler:
            raise ConfigurationError(
                "--run-code-3=true and --run-profiler=true exclude each other: each training of the first would "
                "write over the trace of the one before"
            )
        if not self.trace_file_name:
            raise ConfigurationError("--trace-file-name: expected the name of a file, found nothing")


class LabParser(Parser):
    """The flags of `lab2.py`; programs with more of them add their own.

    Raises:
        ConfigurationError: a flag is unknown or its value is bad (and `SystemExit` after `--help`).
    """

    called = "flags"

    def __init__(self, program: str, description: str) -> None:
        super().__init__(prog=program, description=description, allow_abbrev=False)
        add, default = self.add_argument, LabOptions()
        add("-c", "--device", choices=("cuda", "cpu"), default=default.device, help="default: cuda")
        _add_number(self, "-w", "--num-of-workers", default.num_of_workers, 0, "processes that load; default: 2")
        add("-d", "--dataset-path", default=default.dataset_path, help="folder of the data set; default: data")
        add("-o", "--optimizer", choices=OPTIMIZERS, default=default.optimizer, help="default: sgd")
        _add_number(self, "-e", "--epochs", default.epochs, 1, "default: %(default)s")
        _add_number(self, "-b", "--batch-size", default.batch_size, 1, "images a batch; default: 128")
        _add_switch(self, "-pe", "--print-epochs", default.print_epochs, "show each epoch")
        _add_switch(self, "-dd", "--download-data", default.download_data, "fetch CIFAR-10 into --dataset-path")
        _add_switch(self, "-rc3", "--run-code-3", default.run_code_3, "C3: train with 0, 4, 8, ... workers")
        _add_switch(self, "-p", "--run-profiler", default.run_profiler, "write a Chrome trace")
        _add_switch(self, "-nbn", "--no-batch-norm", default.no_batch_norm, "leave out the batch norms")
        most = default.max_num_of_workers_for_code_3
        _add_number(self, "-mnw", "--max-num-of-workers-for-code-3", most, 0, "most workers in C3; default: 8")
        help_text = "file of the trace, without .json; default: trace"
        add("-tfn", "--trace-file-name", default=default.trace_file_name, help=help_text)


def options_of(parser: LabParser, arguments: Sequence[str]) -> tuple[LabOptions, argparse.Namespace]:
    """The lab's options, and all that the parser found."""
    found = parser.parse_args(list(arguments))
    known = {name: value for name, value in vars(found).items() if name in LabOptions.__dataclass_fields__}
    return LabOptions(**known), found


def whole_number(least: int) -> Any:
    """A type for argparse: a whole number of at least this."""
    return value_of(WholeNumber(least))


def _switch(text: str) -> bool:
    if text not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"expected true or false, found {text!r}")
    return text == "true"


def _add_number(parser: LabParser, short: str, long: str, default: int, least: int, text: str) -> None:
    parser.add_argument(short, long, type=whole_number(least), default=default, metavar="NUMBER", help=text)


def _add_switch(parser: LabParser, short: str, long: str, default: bool, text: str) -> None:
    shown = f"{text}; default: {str(default).lower()}"
    parser.add_argument(short, long, type=_switch, default=default, metavar="{true,false}", help=shown)
