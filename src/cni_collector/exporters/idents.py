"""Names for events, by which a receiver knows one that it is sent again."""

from __future__ import annotations

import itertools
import uuid


class Idents:
    """Gives one name after the other: those of two runs of a collector, or of two exporters, never meet."""

    def __init__(self) -> None:
        self._run = uuid.uuid4().hex
        self._numbers = itertools.count()

    def next(self) -> str:
        """The next name."""
        return f"{self._run}-{next(self._numbers)}"
