"""The fuzzer as a program: `python -m tests.fuzz --seconds 60 --seed 1 --target parser`."""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.refusals import UNREACHABLE, all_refusals
from tests.fuzz.running import Findings, run_inputs
from tests.fuzz.target import Target, generator_for


def _parser(folder: Path) -> Target:
    from tests.fuzz.parser_target import ParserTarget

    return ParserTarget(folder)


def _jpeg(folder: Path) -> Target:
    from tests.fuzz.jpeg_target import JpegTarget

    return JpegTarget(folder)


def _loader(folder: Path) -> Target:
    from tests.fuzz.loader_target import LoaderTarget

    return LoaderTarget(folder)


TARGETS: dict[str, Callable[[Path], Target]] = {"parser": _parser, "jpeg": _jpeg, "loader": _loader}


def _report(name: str, found: Findings, seconds: float) -> None:
    print(f"{name}: {found.inputs} inputs, {found.inputs / seconds:.0f} a second, {len(found.finds)} finds")
    for outcome, count in found.outcomes.most_common():
        print(f"{count:10d}  {outcome:.140}")
    if name == "parser":
        unseen = sorted(all_refusals() - set(found.outcomes))
        for refusal in unseen:
            reason = next((text for start, text in UNREACHABLE.items() if refusal.startswith(start)), "")
            print(f"  not seen: {refusal:.140}{'  (' + reason + ')' if reason else ''}")


def _keep(target: Target, found: Findings, seed: int, folder: Path) -> None:
    for key, text in found.finds.items():
        path = folder / f"{target.name}-{seed}-{found.numbers[key]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        target.keep(generator_for(seed, found.numbers[key]), path)
        print(f"\nFind, kept as {path} (--seed {seed} --first {found.numbers[key]} --inputs 1):\n{text}")


def main() -> int:
    """Run what is asked for; the number of finds is the exit code (at most 100)."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--target", choices=sorted(TARGETS), default="parser")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0, help="number of the first input")
    parser.add_argument("--inputs", type=int, default=1 << 62, help="at most so many")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "ffx-finds")
    arguments = parser.parse_args()
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="ffx-fuzz-", dir=memory) as folder:
        target = TARGETS[arguments.target](Path(folder))
        print(getattr(target, "note", arguments.target), flush=True)
        start = time.monotonic()
        found = run_inputs(target, arguments.seed, arguments.seconds, arguments.inputs, arguments.first)
        _report(arguments.target, found, time.monotonic() - start)
        _keep(target, found, arguments.seed, arguments.keep)
    return min(len(found.finds), 100)


if __name__ == "__main__":
    raise SystemExit(main())
