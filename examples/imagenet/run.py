"""Train a ResNet-50 fast, with plain flags.

    python run.py --data-path ./imagenet --epochs 90 --progressive-resize --scheduler onecycle
    torchrun --nproc_per_node=4 run.py --data-path ./imagenet --distributed

Flags translate to options of the trainer: docs/fast_pipeline.md lists them. Exit statuses and signals are those of
train_imagenet.py: a wrong flag 2, a failed training 1, SIGTERM and SIGUSR1 a checkpoint and 85, Ctrl-C one and 130.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence
from typing import Any

import checkout  # noqa: F401
from config import ConfigurationError, Setting, TrainingConfig, all_settings, get_default_config, settings_of
from trainer.arguments import Parser
from trainer.program import run_program
from trainer.signals import StopRequest
from trainer.values import Choice, Switch

from ffx.remote import redacted

__all__ = ["main", "make_parser", "read_arguments", "worded"]

PROGRAM = "run.py"
# What a message of the trainer recommends, where it is not a flag with the same values here.
_OTHER_WORDS = {"--training.precision=fp32": "--amp off", "--training.distributed=0": "no --distributed"}
_TRAINERS_OPTION = re.compile(r"--([a-z]+\.[a-z_]+)")


class _Parser(Parser):
    called = "flags"


def make_parser(program: str = PROGRAM, description: str = "") -> argparse.ArgumentParser:
    """A parser of all flags; those that are not given are absent from its result."""
    parser = _Parser(
        prog=program,
        description=description or (__doc__ or "").partition("\n")[0],
        allow_abbrev=False,
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=40, width=118),
    )
    groups: dict[str, Any] = {}
    for group, setting in all_settings():
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        _add(groups[group], setting)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="SECTION.OPTION=VALUE",
        help="any option of the trainer (docs/training.md); wins over flags; may be repeated",
    )
    return parser


def _add(group: Any, setting: Setting) -> None:
    arguments: dict[str, Any] = {"dest": setting.flag, "default": argparse.SUPPRESS}
    if isinstance(setting.check, Switch):
        # A switch that is on by default can be turned off.
        arguments["action"] = argparse.BooleanOptionalAction if setting.default else "store_true"
        default = "on" if setting.default else "off"
    else:
        words = setting.check.words if isinstance(setting.check, Choice) else ()
        arguments["metavar"] = f"{{{','.join(words)}}}" if words else "VALUE"
        default = str(setting.default) or "none"
    help_text = f"{setting.help} (default: {default})".replace("%", "%%")
    group.add_argument(setting.flag, help=help_text, **arguments)


def read_arguments(
    arguments: Sequence[str], parser: argparse.ArgumentParser | None = None
) -> tuple[TrainingConfig, dict[str, Any], argparse.Namespace]:
    """What a command line says: the configuration, the trainer's options from `--set`, and all that was given.

    Raises:
        ConfigurationError: with a line for each mistake.
        SystemExit: after `--help` (0).
    """
    given = (parser or make_parser()).parse_args(list(arguments))
    config, problems = get_default_config(), []
    homes = {setting.flag: (part, setting) for part in config.sections() for setting in settings_of(part)}
    for flag, value in vars(given).items():
        if flag not in homes:
            continue
        part, setting = homes[flag]
        try:
            setattr(part, setting.name, value)
        except ConfigurationError:
            problems.append(f"{flag}: expected {setting.check.expected}, found {value!r}")
    options = {}
    for text in given.set:
        name, equals, value = text.partition("=")
        if not equals:
            problems.append(f"--set {text}: expected SECTION.OPTION=VALUE, such as training.use_blurpool=1")
        options[name] = value
    if problems:
        raise ConfigurationError("\n".join(problems))
    return config, options, given


def worded(text: str) -> str:
    """A message of the trainer with the names of the flags here."""
    pairs = [(setting.option, setting.flag) for _, setting in all_settings() if setting.option]
    pairs += [("resolution.schedule", "--progressive-schedule"), ("lr.lr", "--lr"), ("dist.world_size", "--world-size")]
    # Longer names first, as one may begin like another.
    for option, flag in sorted(pairs, key=lambda pair: -len(pair[0])):
        text = text.replace(f"--{option}", flag)
    for option, words in _OTHER_WORDS.items():
        text = text.replace(option, words)
    return _TRAINERS_OPTION.sub(r"--set \1", text)


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit status."""
    return run_program(PROGRAM, _run, arguments, worded)


def _run(arguments: Sequence[str], stop: StopRequest) -> None:
    config, options, _ = read_arguments(arguments)
    # Not before the flags are known to be right: it takes seconds.
    from train import Trainer

    trainer = Trainer(config, options, stop)
    places = trainer.options.data
    if os.environ.get("RANK", "0") == "0" and places.train_dataset:
        print(f"data: {redacted(places.train_dataset)}, {redacted(places.val_dataset)}", flush=True)
    trainer.train()


if __name__ == "__main__":
    raise SystemExit(main())
