"""A command line of `--section.option=value` and YAML files, by fastargs, that refuses what it does not know.

fastargs declares and collects. By itself it would ignore a key of a file that it does not know, leave a missing file
as a traceback and exit with status 0 on bad values; here each of these is a `ConfigurationError`.
Of one option, the command line wins over the environment (a variable named `section.option`), that over the files,
a later file over an earlier one, and a file over the default.
"""

from __future__ import annotations

import argparse
import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from fastargs import Config, Param, Section
from fastargs.validation import Checker

from .config import SECTIONS, OptionInfo, TrainerConfig, all_options
from .errors import ConfigurationError
from .values import Check

__all__ = ["TOLERATED", "CommandLine", "read_command_line"]

# Keys of published configuration files that say nothing here: a run's name, the number of a GPU, and weight decay of
# batch norms, which must be 0 because that is what ffx does.
TOLERATED = ("uid", "data.gpu", "training.bn_wd")

_FOLDERS_OF_FILES = "the current folder, then the repository's root"


@dataclass(frozen=True)
class CommandLine:
    """What a command line said.

    Attributes:
        config: the options.
        config_files: paths of the files that were read, in order.
    """

    config: TrainerConfig
    config_files: tuple[Path, ...]


class _FastargsCheck(Checker):
    """An option's check in fastargs' terms."""

    def __init__(self, check: Check) -> None:
        self._check = check

    def check(self, value: Any) -> Any:
        return self._check.parse(value)

    def help(self) -> str:
        return self._check.expected


@dataclass
class _Values:
    """Collects values and where each came from, and all that is wrong with them."""

    declared: Config
    origin: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def collect(self, values: Mapping[str, Any], origin: str) -> None:
        for name, value in values.items():
            if name in TOLERATED:
                self._check_tolerated(name, value, origin)
            elif tuple(name.split(".")) not in self.declared.entries:
                self.problems.append(f"{origin}: unknown option {name}{_suggestion(name)}")
            elif value is None:
                self.problems.append(f"{origin}: {name} has no value")
            else:
                self.declared.collect({name: value})
                self.origin[name] = origin

    def _check_tolerated(self, name: str, value: Any, origin: str) -> None:
        if name == "training.bn_wd" and str(value).lower() not in ("0", "0.0", "false"):
            self.problems.append(
                f"{origin}: {name}={value}: only 0 is accepted, batch norms never have weight decay here"
            )

    def result(self) -> dict[str, Any]:
        """The values of all options by their dotted names; raises when anything was wrong."""
        for path in self.declared.validate(mode="errordict"):
            name = ".".join(path)
            expected = self.declared.entries[path].checker.help()
            self.problems.append(
                f"{self.origin[name]}: {name}: expected {expected}, found {self.declared.content[path]!r}"
            )
        if self.problems:
            raise ConfigurationError("\n".join(self.problems))
        return {".".join(path): self.declared[path] for path in self.declared.entries}


def read_command_line(arguments: Sequence[str], program: str, description: str, second_folder: Path) -> CommandLine:
    """Read a command line, its files and the environment.

    Args:
        arguments: without the program's name.
        program: that name.
        description: for `--help`.
        second_folder: where `--config-file` looks when a relative path is not in the current folder.

    Raises:
        ConfigurationError: with one line for each mistake.
        SystemExit: after `--help` (0).
    """
    options = list(all_options())
    given = _parse(arguments, options, program, description)
    files = tuple(_find(path, second_folder) for path in given.pop("config_file"))
    unknown = given.pop("unknown")
    values = _Values(_declare(options))
    values.problems.extend(unknown)
    for path in files:
        values.collect(_read_file(path), str(path))
    names = {option.name for option in options}
    values.collect({name: os.environ[name] for name in sorted(names & os.environ.keys())}, "environment")
    values.collect(given, "command line")
    return CommandLine(TrainerConfig.from_params(values.result()), files)


def _declare(options: Sequence[OptionInfo]) -> Config:
    config = Config()
    for name, kind in SECTIONS.items():
        params = {
            option.key: Param(_FastargsCheck(option.check), option.help, default=option.default)
            for option in options
            if option.section == name
        }
        Section(name, (kind.__doc__ or "").strip(), config_descriptor=config).params(**params)
    return config


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise ConfigurationError(f"command line: {message}")


def _parse(arguments: Sequence[str], options: Sequence[OptionInfo], program: str, description: str) -> dict[str, Any]:
    """The options given, by dotted names, with `config_file` (list of paths) and `unknown` (list of problems)."""
    parser = _Parser(
        prog=program,
        description=description,
        allow_abbrev=False,
        usage=f"{program} [--config-file FILE]... [--SECTION.OPTION=VALUE]...",
        formatter_class=lambda prog: argparse.HelpFormatter(prog, max_help_position=34, width=110),
    )
    parser.add_argument(
        "-C",
        "--config-file",
        action="append",
        default=[],
        metavar="FILE",
        help=f"read options from a YAML or JSON file, looked for in {_FOLDERS_OF_FILES}; may be repeated",
    )
    groups = {name: parser.add_argument_group(name, (kind.__doc__ or "").strip()) for name, kind in SECTIONS.items()}
    for option in options:
        groups[option.section].add_argument(
            f"--{option.name}",
            dest=option.name,
            default=argparse.SUPPRESS,
            metavar="VALUE",
            help=f"{option.help} [{option.check.expected}; default {_shown(option.default)}]".replace("%", "%%"),
        )
    found, rest = parser.parse_known_args(list(arguments))
    return {**vars(found), "unknown": [_unknown_argument(argument) for argument in rest]}


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return str(int(default))
    return str(default) if default != "" else "none"


def _unknown_argument(argument: str) -> str:
    if not argument.startswith("-"):
        return f"command line: unexpected argument {argument!r}: options look like --lr.lr=0.5"
    name = argument.lstrip("-").partition("=")[0]
    return f"command line: unknown option --{name}{_suggestion(name)}"


def _suggestion(name: str) -> str:
    known = [option.name for option in all_options()]
    same_key = [other for other in known if other.rpartition(".")[2] == name.rpartition(".")[2]]
    candidates = same_key + difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    return f" (did you mean {candidates[0]}?)" if candidates else " (--help lists all)"


def _find(path: str, second_folder: Path) -> Path:
    for candidate in (Path(path).expanduser(), second_folder / path):
        if candidate.is_file():
            return candidate
    near = difflib.get_close_matches(Path(path).name, _names_beside(path, second_folder), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    raise ConfigurationError(f"--config-file {path}: no such file in {_FOLDERS_OF_FILES} ({second_folder}){hint}")


def _names_beside(path: str, second_folder: Path) -> list[str]:
    folders = {Path(path).expanduser().parent, (second_folder / path).parent}
    return [file.name for folder in folders if folder.is_dir() for file in folder.iterdir()]


def _read_file(path: Path) -> dict[str, Any]:
    """A file's options by their dotted names. JSON is YAML, too."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path} cannot be read: {error}") from error
    if content is not None and not isinstance(content, dict):
        raise ConfigurationError(f"{path}: expected sections of options, such as 'lr: {{lr: 0.5}}', found {content!r}")
    return dict(_flatten(content or {}, ""))


def _flatten(content: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _flatten(value, f"{name}.")
        elif value is not None or name not in SECTIONS:
            yield name, value
