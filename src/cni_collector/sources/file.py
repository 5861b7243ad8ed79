"""Events of a file, or of stdin."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from ..errors import CollectorError
from ..events import Event
from .lines import Parser

_BATCH: Final = 512


class FileSource:
    """Reads events, line by line.

    Args:
        path: the file; `-` is stdin.
        since: time from which on, as events have it; all, if None.
    """

    def __init__(self, path: str, since: str | None = None) -> None:
        self._stopped = False
        self._path = path
        self._since = since or ""
        self._parser = Parser()

    @property
    def bad(self) -> int:
        """Lines that are no events."""
        return self._parser.bad

    @property
    def unknown(self) -> Mapping[str, int]:
        return self._parser.unknown

    def stop(self) -> None:
        self._stopped = True

    def batches(self) -> Iterator[list[Event]]:
        """The events, in lists.

        Raises:
            CollectorError: the file cannot be read, or holds lines that are no events: which is said at the end.
        """
        try:
            with contextlib.nullcontext(sys.stdin.buffer) if self._path == "-" else Path(self._path).open("rb") as file:
                while not self._stopped and (lines := list(itertools.islice(file, _BATCH))):
                    events = map(self._parser.parse, lines)
                    if batch := [event for event in events if event and event.time >= self._since]:
                        yield batch
        except OSError as error:
            raise CollectorError(f"cannot read {self._path}: {error.strerror}") from error
        if self.bad:
            name = os.fsencode(self._path).decode(errors="replace")
            raise CollectorError(
                f"{self.bad} lines of {name} are no events, and were left out: "
                "give a file that `cni-collector watch -o json` has written"
            )
