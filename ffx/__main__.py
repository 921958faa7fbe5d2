"""`python -m ffx`: the `ffx` command."""

import sys

from .commands import main

__all__: list[str] = []

if __name__ == "__main__":
    sys.exit(main())
