"""Make the configuration for any number of epochs: FFCV's ImageNet recipe, or ffx's, with its schedule stretched.

python examples/imagenet/make_config.py --arch rn18 --epochs 20 > rn18_20.yaml
python train_imagenet.py --config-file rn18_20.yaml ...
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:] = [*dict.fromkeys([str(HERE), *sys.path])]

from trainer.recipes import VARIANTS, config_text, shipped_configs  # noqa: E402

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit status."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], epilog="The text goes to the standard output."
    )
    parser.add_argument("--arch", choices=["rn18", "rn50"], help="ResNet-18 on one GPU, or ResNet-50 on eight")
    parser.add_argument("--epochs", type=_at_least_one, help="number of epochs")
    recipe = parser.add_mutually_exclusive_group()
    for variant, about in VARIANTS.items():
        if variant != "ffcv":
            recipe.add_argument(
                f"--{variant.replace('_', '-')}", dest="variant", action="store_const", const=variant, help=about
            )
    parser.add_argument("--write-shipped", type=Path, metavar="ROOT", help="write the shipped files below ROOT instead")
    given = parser.parse_args(arguments)
    if given.write_shipped:
        for name, text in shipped_configs().items():
            path = given.write_shipped / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(path)
    elif given.arch is None or given.epochs is None:
        parser.error("--arch and --epochs are needed")
    else:
        sys.stdout.write(config_text(given.arch, given.epochs, given.variant or "ffcv"))
    return 0


def _at_least_one(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"expected at least 1, found {number}")
    return number


if __name__ == "__main__":
    raise SystemExit(main())
