"""Measure ffx beside its peers, and prove that both give the same pixels: `python -m benchmarks --help`.

`files` writes each kind of file once, `peers` opens them, `loader` measures, `parity` compares pixels;
`rows` describes the machine and does the statistics. Nothing here is installed with the library.
"""

__all__: list[str] = []
