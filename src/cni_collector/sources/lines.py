"""Events out of lines that anybody may have written, also by other versions of this package."""

from __future__ import annotations

import collections
import datetime
import re
from typing import Final, get_args

import msgspec

from ..events import SCHEMA, AbsentFieldError, AnyEvent, CollectorStart, CollectorStop, Event, Lost, type_name

_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{9}Z")
_TYPE: Final = re.compile("[a-z][a-z0-9_]{0,63}")
_KNOWN: Final = frozenset(map(type_name, get_args(AnyEvent)))
_MOST_TYPES: Final = 64
"""Unknown types that are counted by name; the rest of them together."""
_OTHER: Final = "other types"
_SCHEMA_1: Final = {type_name(kind): {"missed": "skipped"} for kind in (Lost, CollectorStop)}
"""Fields that schema 1 gave other names."""


class _Typed(msgspec.Struct):
    """What every event has, whatever its type."""

    type: str
    time: str


class Lines:
    """Makes events of JSON lines, which come in pieces.

    Args:
        since: time from which on events are wanted, as they have it; all, if None.

    Attributes:
        bad: lines that are no events.
        unknown: events of types that this version does not know, by type.
        reason: what the first bad line lacks, in brackets, if that can be said.
    """

    def __init__(self, since: str | None = None) -> None:
        self.bad = 0
        self.unknown: collections.Counter[str] = collections.Counter()
        self.reason = ""
        self._since = since or ""
        self._rest = bytearray()
        self._event = msgspec.json.Decoder(AnyEvent)
        self._typed = msgspec.json.Decoder(_Typed)
        self._measure = msgspec.msgpack.Encoder()  # unlike JSON's it refuses numbers of more than 64 bits

    def feed(self, piece: bytes) -> list[Event]:
        """The events of the lines that end in this piece."""
        whole, end, rest = piece.rpartition(b"\n")
        if not end:
            self._rest += piece
            return []
        lines = (bytes(self._rest) + whole).split(b"\n")
        self._rest = bytearray(rest)
        return [event for event in map(self.parse, lines) if event]

    def end(self) -> list[Event]:
        """The event of a last line that has no end of line."""
        last, self._rest = bytes(self._rest), bytearray()
        event = self.parse(last) if last else None
        return [event] if event else []

    def parse(self, line: bytes) -> Event | None:
        """The event in a line; None where there is none that is wanted, or one with a time or number that none has."""
        try:
            event = self._decode(line)
            _check_time(event.time)
            self._measure.encode(event)
        except (msgspec.MsgspecError, ValueError, OverflowError, RecursionError) as error:
            if not self._is_of_unknown_type(line):
                self.bad += 1
                if isinstance(error, AbsentFieldError) and not self.reason:
                    self.reason = f" ({error})"
            return None
        return event if event.time >= self._since else None

    def _decode(self, line: bytes) -> Event:
        """The event in a line, in the present schema whatever it was written in."""
        if b'"missed":' in line:
            fields = msgspec.json.decode(line)
            if isinstance(fields, dict) and isinstance(kind := fields.get("type"), str):
                names = _SCHEMA_1.get(kind, {})
                converted: Event = msgspec.convert({names.get(k, k): value for k, value in fields.items()}, AnyEvent)
                return converted
        event: Event = self._event.decode(line)
        if isinstance(event, CollectorStart) and event.schema < SCHEMA:
            return msgspec.structs.replace(event, schema=SCHEMA)
        return event

    def _is_of_unknown_type(self, line: bytes) -> bool:
        """Counts an event that a newer version has written."""
        try:
            event = self._typed.decode(line)
            _check_time(event.time)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return False
        if event.type in _KNOWN or not _TYPE.fullmatch(event.type):
            return False
        if event.time >= self._since:
            self.unknown[event.type if event.type in self.unknown or len(self.unknown) < _MOST_TYPES else _OTHER] += 1
        return True


def _check_time(moment: str) -> None:
    """Raises ValueError unless it is a time as events have it."""
    if not _TIME.fullmatch(moment):
        raise ValueError("no time")
    datetime.datetime.fromisoformat(moment)
