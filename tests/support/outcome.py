"""What a fault came to: what happened, what arrived, what was counted as lost, and whether it adds up."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Iterable

from cni_collector import Checkpoint, CollectorStart, CollectorStop, Event, Lost

Counts = collections.Counter[str]
"""Events by type."""


def count(events: Iterable[Event]) -> Counts:
    """Events by type, without those that a collector tells of itself, and what an audit added: it may be lost, too."""
    own = CollectorStart | CollectorStop | Lost | Checkpoint
    return Counts(event.type for event in events if not isinstance(event, own) and not getattr(event, "healed", None))


def lost(events: Iterable[Event]) -> Counts:
    """What a stream says was lost, by type."""
    total = Counts()
    for event in events:
        if isinstance(event, Lost):
            total.update(event.by_type)
    return total


@dataclasses.dataclass
class Outcome:
    """The sums of one fault.

    Attributes:
        happened: what is known to have happened, from who did it or from a witness that lost nothing.
        arrived: what came out of the collector under test.
        lost: what it counted as lost.
        notes: what else is worth knowing.
        wrong: what is not as it must be.
        ended: the collector did not survive, and may not have: what is missing is not counted by anybody.
    """

    happened: Counts = dataclasses.field(default_factory=Counts)
    arrived: Counts = dataclasses.field(default_factory=Counts)
    lost: Counts = dataclasses.field(default_factory=Counts)
    notes: list[str] = dataclasses.field(default_factory=list)
    wrong: list[str] = dataclasses.field(default_factory=list)
    ended: bool = False

    def check(self, right: bool, wrong: str) -> None:
        """Notes what is wrong, unless it is right."""
        if not right:
            self.wrong.append(wrong)

    def same(self, what: str, told: object, truth: object) -> None:
        """Notes where what was told is not the truth."""
        self.check(told == truth, f"{what}: {_short(told)} instead of {_short(truth)}")

    def add(self, other: Outcome, *, sums: bool = True) -> None:
        """Takes over what a part of the fault came to.

        Args:
            other: the part.
            sums: its counts, too.
        """
        if sums:
            self.happened.update(other.happened)
            self.arrived.update(other.arrived)
            self.lost.update(other.lost)
        self.notes += other.notes
        self.wrong += other.wrong

    def types(self) -> list[str]:
        """The types that anything is known of."""
        return sorted({*self.happened, *self.arrived, *self.lost})

    def balance(self) -> None:
        """What arrived and what was counted as lost must be what happened, for each type."""
        for kind in [] if self.ended else self.types():
            told = self.arrived[kind] + self.lost[kind]
            self.check(
                told == self.happened[kind],
                f"{kind}: {self.arrived[kind]:,} arrived + {self.lost[kind]:,} lost, {self.happened[kind]:,} happened",
            )

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.wrong:
            return "WRONG"
        return "true up to its end" if self.ended else "exact"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) < 200 else f"{text[:200]}..."


def table(outcomes: dict[str, Outcome]) -> str:
    """All of it as Markdown, a line for each type; notes and what is wrong come below."""
    rows = [["fault", "what happened", "what arrived", "counted as lost", "verdict"]]
    remarks = []
    for name, outcome in outcomes.items():
        first = [name, outcome.verdict]
        for kind in outcome.types() or ["nothing"]:
            counts = (outcome.happened[kind], outcome.arrived[kind], outcome.lost[kind])
            rows.append([first[0], f"{counts[0]:,} {kind}", f"{counts[1]:,}", f"{counts[2]:,}", first[1]])
            first = ["", ""]
        remarks += [f"- {name}: {note}" for note in outcome.notes]
        remarks += [f"- {name}: WRONG: {what}" for what in outcome.wrong]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    lines = [f"| {' | '.join(cell.ljust(w) for cell, w in zip(row, widths, strict=True))} |" for row in rows]
    return "\n".join([*lines, *([""] if remarks else []), *remarks])
