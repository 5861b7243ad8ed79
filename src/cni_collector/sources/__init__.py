"""Where recorded events come from: files, and the stream of a cluster."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, Protocol

from ..errors import missing_extra
from ..events import Event
from .file import FileSource

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
        CollectorError: an optional part of the package is missing.
    """
    if not is_cluster(source):
        return FileSource(source, since)
    try:
        from .nats import NatsSource  # here: it needs an optional part of the package
    except ImportError:
        raise missing_extra("speak to NATS", "nats-py", "nats") from None
    return NatsSource(source, since)


def replay(source: str, since: str | None = None) -> Iterator[Event]:
    """Recorded events, one by one: those of a file, or those that a cluster's nodes have sent and go on sending.

    Args:
        source: path of a file that `watch -o json` or `--file` has written, `-` for stdin, or the URL of a NATS server,
            as `nats://HOST:4222`: then it follows the stream, and each event has its `node`.
        since: time from which on, as in `Event.time`; None: a file whole, a cluster from now on.

    Yields:
        Events. Those of types that this version does not know are left out.

    Raises:
        CollectorError: the source cannot be read; at the end: it held something that is no event.
    """
    opened = open_source(source, since)
    try:
        for batch in opened.batches():
            yield from batch
    finally:
        opened.stop()
