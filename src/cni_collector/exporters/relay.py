"""Between the reader and an exporter: a bounded queue, and a thread that empties it."""

from __future__ import annotations

import collections
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from ..events import Event

QUEUE: Final = 100_000
"""Events that may wait for an exporter: some seconds of a storm, and 60 MB at most."""


class Exporter(Protocol):
    """Delivers events somewhere.

    Attributes:
        name: what it is called in messages and metrics.
    """

    name: str

    def export(self, events: list[Event]) -> None:
        """Delivers a batch. May take its time.

        Raises:
            OSError: it could not be delivered, and will not be: the next one may.
        """

    def close(self) -> None:
        """Lets go of what is open."""


class Relay:
    """Hands events to an exporter without ever waiting for it: what finds no room in its queue is dropped and counted.

    Args:
        exporter: it is used by the relay's thread only, and closed by it.
        say: told, in a sentence, when the exporter begins to fail and when it works again.
        limit: events that may wait.

    Attributes:
        name: the exporter's.
        exported: events that it has delivered.
        dropped: events that it has not: they found no room, or it failed.
    """

    def __init__(self, exporter: Exporter, say: Callable[[str], None], limit: int = QUEUE) -> None:
        self.name = exporter.name
        self.exported = 0
        self.dropped = 0
        self._exporter = exporter
        self._say = say
        self._limit = limit
        self._batches: collections.deque[list[Event]] = collections.deque()
        self._waiting = 0
        self._closing = False
        self._failing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"exporter {self.name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Events that were offered and are neither delivered nor dropped yet."""
        return self._waiting

    def offer(self, events: list[Event]) -> None:
        """Takes a batch for the exporter, or drops all of it. Never waits."""
        with self._changed:
            if self._waiting + len(events) > self._limit:
                self.dropped += len(events)
                return
            self._waiting += len(events)
            self._batches.append(events)
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Delivers what waits, for so many seconds at most; the rest is dropped."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(timeout)
        with self._changed:
            self.dropped += self._waiting
            self._waiting = 0
            self._batches.clear()

    def _run(self) -> None:
        while batch := self._next():
            error = None
            try:
                self._exporter.export(batch)
            except OSError as caught:
                error = caught
            with self._changed:
                count = min(len(batch), self._waiting)  # none, if they were given up meanwhile
                self._waiting -= count
                self.exported += 0 if error else count
                self.dropped += count if error else 0
            if error and not self._failing:
                self._say(f"{self.name}: {error}; events are dropped until it works again")
            elif self._failing and not error:
                self._say(f"{self.name}: works again; {self.dropped} events were dropped so far")
            self._failing = error is not None
        self._exporter.close()

    def _next(self) -> list[Event] | None:
        """The oldest batch, once there is one; None at the end."""
        with self._changed:
            while not self._batches:
                if self._closing:
                    return None
                self._changed.wait()
            return self._batches.popleft()


def close_all(relays: list[Relay], timeout: float) -> None:
    """Closes all of them, within so many seconds together."""
    deadline = time.monotonic() + timeout
    for relay in relays:
        relay.close(max(0.0, deadline - time.monotonic()))
