"""Aligned tables for people: fixed columns, and nothing in a cell that a terminal would obey."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import click


class Column(NamedTuple):
    """A column: its heading and the width its cells are padded to. The last one may be longer."""

    heading: str
    width: int


def printable(text: str) -> str:
    """The text with everything that is not printable escaped: whoever names a task or a cgroup may be hostile."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def header(columns: Sequence[Column]) -> str:
    """The line of headings."""
    return row(columns, [column.heading for column in columns])


def row(columns: Sequence[Column], cells: Sequence[str], colour: str | None = None, coloured: int = 0) -> str:
    """One line of a table.

    Args:
        columns: as many as there are cells.
        cells: their texts.
        colour: of one of the cells, if any.
        coloured: which one.
    """
    padded = [printable(cell).ljust(column.width) for column, cell in zip(columns, cells, strict=True)]
    if colour:
        padded[coloured] = click.style(padded[coloured], fg=colour)
    return "  ".join(padded).rstrip()
