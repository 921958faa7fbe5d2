"""Figures of the rows of `recipes`, put where a Markdown document has places for them.

A cell of a table that ends in `<!-- measured: NAME -->` gets an addition's or a recipe's effect, what stands between
`<!-- tables -->` and `<!-- end of tables -->` all tables.
"""

from __future__ import annotations

import re

from .recipes_table import Rows, effect_cells, tables

__all__ = ["filled"]

_CELL = re.compile(r"\|[^|\n]*<!-- measured: (?P<name>[^ ]+) -->")
_TABLES = re.compile(r"(?s)(?<=<!-- tables -->\n).*?(?=<!-- end of tables -->)")


def filled(text: str, rows: Rows) -> str:
    """The document with the figures of these rows; what they do not know is said to be not measured."""
    cells = effect_cells(rows)

    def cell(found: re.Match[str]) -> str:
        name = found["name"]
        return f"| {cells.get(name, 'not measured yet')} <!-- measured: {name} -->"

    return _TABLES.sub(lambda _: f"\n{tables(rows)}\n\n", _CELL.sub(cell, text))
