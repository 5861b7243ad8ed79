"""The table: one row for each figure, one column for each who was measured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from .tracers import OURS

Run = TypeVar("Run")


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
    figures: Mapping[str, Figures | str]
    """By who was measured."""
    target: float | None = None
    """The collector's should be at most this."""

    def cells(self, names: Sequence[str]) -> list[str]:
        """Write out the row."""
        ours = self.figures.get(OURS)
        target = "" if self.target is None else f"{self.target:.3g}"
        if self.target is not None and isinstance(ours, Figures) and ours.median > self.target:
            target += " missed"
        first, *others = (str(self.figures.get(name, "")) for name in names)
        return [self.what, first, target, *others]


def ours(what: str, figures: Figures | str, target: float | None = None) -> Row:
    """A row of what there is nothing to compare with."""
    return Row(what, {OURS: figures}, target)


def row_of(
    what: str,
    runs: Mapping[str, Sequence[Run]],
    figure: Callable[[Run], float],
    target: float | None = None,
    digits: int = 2,
) -> Row:
    """A row with one figure of each run of each who was measured."""
    return Row(what, {name: Figures([figure(run) for run in all_], digits) for name, all_ in runs.items()}, target)


def table(rows: Iterable[Row]) -> str:
    """Align all rows under their headings."""
    rows = list(rows)
    names = list(dict.fromkeys([OURS, *(name for row in rows for name in row.figures)]))
    return aligned([("what", OURS, "target", *names[1:]), *(row.cells(names) for row in rows)])


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Align the cells of lines, the first of which has the headings."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    shown = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    shown.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(shown)
