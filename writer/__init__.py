"""The command-line side of making a data set: programs on top of `ffx.writer`; the library knows nothing of them."""

__all__: list[str] = []
