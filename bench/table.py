"""The table: one row for each figure."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Figures(NamedTuple):
    """Repeated measurements of one thing; shown as their median and range."""

    values: Sequence[float]
    digits: int = 2

    @property
    def median(self) -> float:
        """What is quoted."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        quoted = self._text(self.median)
        low, high = self._text(min(self.values)), self._text(max(self.values))
        return quoted if low == high else f"{quoted} ({low}-{high})"

    def _text(self, value: float) -> str:
        return f"{value:,.{self.digits}f}"


class Row(NamedTuple):
    """One line."""

    what: str
    """What was measured, with its unit."""
    figure: Figures | str
    """The collector's."""
    target: float | None = None
    """At most this."""
    bpftrace: Figures | str | None = None
    """None where there is nothing to compare."""

    def cells(self) -> tuple[str, str, str, str]:
        """Write out the row."""
        target = "" if self.target is None else f"{self.target:g}"
        if self.target is not None and isinstance(self.figure, Figures) and self.figure.median > self.target:
            target += " missed"
        return self.what, str(self.figure), target, "" if self.bpftrace is None else str(self.bpftrace)


def table(rows: Iterable[Row]) -> str:
    """Align all rows under their headings."""
    return aligned([("what", "figure", "target", "bpftrace"), *(row.cells() for row in rows)])


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Align the cells of lines, the first of which has the headings."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    shown.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(shown)
