"""Measure ffx beside its peers, and compare their pixels: `python -m benchmarks --help`.

`harness` takes turns and makes figures, `worker` is a contender's process, `rows` describes the machine; `files`
writes each kind of file once, `peers` opens them; every other module is a command or a command's work (README.md).
Nothing here is installed with the library.
"""

__all__: list[str] = []
