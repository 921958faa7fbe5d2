"""The compiled core: every kernel that touches pixels, bytes or random numbers, each testable alone."""

__all__: list[str] = []
