"""Events out of lines that anybody may have written."""

from __future__ import annotations

import datetime
import re
from typing import Final

import msgspec

from ..events import AnyEvent, Event

_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z")


class Parser:
    """Makes events of lines of JSON.

    Attributes:
        bad: lines that are no events.
    """

    def __init__(self) -> None:
        self.bad = 0
        self._decoder = msgspec.json.Decoder(AnyEvent)
        self._measure = msgspec.msgpack.Encoder()  # unlike JSON's it refuses numbers of more than 64 bits

    def parse(self, line: bytes) -> Event | None:
        """The event in a line; None where there is none, or one with a time or a number that no event has."""
        try:
            event: Event = self._decoder.decode(line)
            if not _TIME.fullmatch(event.time):
                raise ValueError("no time")
            datetime.datetime.fromisoformat(event.time)
            self._measure.encode(event)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError):
            self.bad += 1
            return None
        return event
