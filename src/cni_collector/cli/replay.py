"""Events out of a file that `watch -o json` has written."""

from __future__ import annotations

import contextlib
import itertools
import re
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Final

import click
import msgspec

from ..errors import CollectorError
from ..events import AnyEvent, Event

_BATCH: Final = 512
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z")


class Replay:
    """Reads events, line by line.

    Args:
        path: the file; `-` is stdin.

    Attributes:
        bad: lines that are no events.
        stopped: nothing more is wanted.
    """

    def __init__(self, path: str) -> None:
        self.bad = 0
        self.stopped = False
        self._path = path
        self._decoder = msgspec.json.Decoder(AnyEvent)
        self._measure = msgspec.msgpack.Encoder()  # unlike JSON's it refuses numbers of more than 64 bits

    def stop(self) -> None:
        """Ends `batches` after the present one. Safe in a signal handler."""
        self.stopped = True

    def batches(self) -> Iterator[list[Event]]:
        """The events, in lists.

        Raises:
            CollectorError: the file cannot be read.
        """
        try:
            with contextlib.nullcontext(sys.stdin.buffer) if self._path == "-" else Path(self._path).open("rb") as file:
                while not self.stopped and (lines := list(itertools.islice(file, _BATCH))):
                    if batch := list(self._events(lines)):
                        yield batch
        except OSError as error:
            raise CollectorError(f"cannot read {self._path}: {error.strerror}") from error

    def _events(self, lines: list[bytes]) -> Iterator[Event]:
        for line in lines:
            try:
                event = self._event(line)
            except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
                self.bad += 1
            else:
                yield event

    def _event(self, line: bytes) -> Event:
        """The event in a line; raises where there is none, or one with a time or a number that no event has."""
        event: Event = self._decoder.decode(line)
        if not _TIME.fullmatch(event.time):
            raise ValueError("no time")
        datetime.fromisoformat(event.time)
        self._measure.encode(event)
        return event

    def check(self) -> None:
        """Says what could not be read.

        Raises:
            CollectorError: something could not.
        """
        if self.bad:
            raise CollectorError(
                f"{self.bad} lines of {click.format_filename(self._path)} are no events, and were left out: "
                "give a file that `cni-collector watch -o json` has written"
            )
