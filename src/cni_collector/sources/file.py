"""Events that were: out of a file, or out of the stream of a cluster."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import click

from ..cli.exports import NO_NATS
from ..errors import CollectorError
from ..events import Event
from .lines import Parser

_BATCH: Final = 512
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Source(Protocol):
    """What events are read from."""

    def batches(self) -> Iterator[list[Event]]:
        """The events, in lists."""

    def stop(self) -> None:
        """Ends `batches` soon. Safe in a signal handler, and from any thread."""


def moment(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """The callback of `--since`: the time as events have it."""
    if value is None:
        return None
    if ago := re.fullmatch("([0-9]+)([smhd])", value):
        try:
            then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        except OverflowError:
            raise click.BadParameter(f"{value!r} is before all time") from None
    else:
        try:
            then = datetime.datetime.fromisoformat(value).astimezone(datetime.UTC)
        except (ValueError, OverflowError):
            raise click.BadParameter(f"{value!r} is no time: write 10m (or s, h, d), or 2026-01-31T12:00:00Z") from None
    return then.strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def replay(source: str, since: str | None) -> Source:
    """Opens what `--from` names."""
    if not re.match("(nats|tls|wss?)://", source):
        return Replay(source, since)
    try:
        from .nats import ClusterStream  # here: it needs an optional part of the package
    except ImportError:
        raise CollectorError(NO_NATS) from None
    return ClusterStream(source, since)


class Replay:
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
            raise CollectorError(
                f"{self.bad} lines of {click.format_filename(self._path)} are no events, and were left out: "
                "give a file that `cni-collector watch -o json` has written"
            )
