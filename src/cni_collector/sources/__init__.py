"""Where recorded events come from: files, and the stream of a cluster."""

from __future__ import annotations

import datetime
import os
import re
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from ..errors import missing_extra
from ..events import Event
from .file import FileSource
from .since import moment

_URL: Final = re.compile("(nats|tls|wss?)://")


class Source(Protocol):
    """What recorded events are read from."""

    @property
    def unknown(self) -> Mapping[str, int]:
        """Events of types that this version does not know, by type: left out and counted so far."""

    def batches(self) -> Iterator[list[Event]]:
        """The events, in lists.

        Raises:
            CollectorError: the source cannot be read; at the end: it held something that is no event.
        """

    def stop(self) -> None:
        """Ends `batches` soon. Safe in a signal handler, and from any thread."""


def is_cluster(source: str) -> bool:
    """Whether a source is the stream of a cluster, with events of many nodes."""
    return _URL.match(source) is not None


def open_source(source: str, since: str | None = None) -> Source:
    """Opens what was recorded.

    Args:
        source: path of a file of JSON lines, `-` for stdin, or the URL of a NATS server, as `nats://HOST:4222`.
        since: time from which on, as in `Event.time`; None: a file whole, a cluster from now on.

    Raises:
        CollectorError: an optional part of the package is missing, or the URL is none.
    """
    if not is_cluster(source):
        return FileSource(source, since)
    try:
        from .nats import NatsSource  # here: it needs an optional part of the package
    except ImportError:
        raise missing_extra("speak to NATS", "nats-py", "nats") from None
    return NatsSource(source, since)


class Recording(Iterator[Event]):
    """Recorded events, one by one: what `replay` gives."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._events = (event for batch in source.batches() for event in batch)

    @property
    def unknown(self) -> Mapping[str, int]:
        """Events of types that this version does not know, by type: left out and counted so far."""
        return self._source.unknown

    def stop(self) -> None:
        """Ends the iteration soon. Safe in a signal handler, and from any thread."""
        self._source.stop()

    def __next__(self) -> Event:
        return next(self._events)


def replay(source: str | os.PathLike[str], since: str | datetime.datetime | None = None) -> Recording:
    """Recorded events, one by one: those of a file, or those that a cluster's nodes have sent and go on sending.

    Args:
        source: path of a file that `watch -o json` or `--file` has written, `-` for stdin, or the URL of a NATS server,
            as `nats://HOST:4222`: then it follows the stream, each event has its `node`, and no event loop may run in
            the thread that iterates.
        since: from when on: how long ago (`10m`, `2h`), a time in ISO 8601, or a datetime; None: a file whole, a
            cluster from now on.

    Returns:
        An iterator. Events of types that this version does not know are left out, and counted in its `unknown`.

    Raises:
        ValueError: `since` is not a time.
        CollectorError: an optional part of the package is missing; when iterated: the source cannot be read, or, at the
            end, held something that is no event.
    """
    return Recording(open_source(os.fspath(source), None if since is None else moment(since)))
