"""Between the reader and an exporter: a bounded queue, and a thread that empties it."""

from __future__ import annotations

import collections
import itertools
import threading
import time
import uuid
from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from ..events import Event

QUEUE: Final = 100_000
"""Events that may wait for an exporter: some seconds of a storm, and 60 MB at most."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts to deliver, which double from the first to the longest."""

Parcel = TypeVar("Parcel")


class Exporter(Protocol[Parcel]):
    """Delivers events somewhere. Only one thread uses it.

    Attributes:
        name: what it is called in messages and metrics.
    """

    name: str

    def prepare(self, events: list[Event]) -> Parcel:
        """Makes of a batch what is to be delivered. Called once for each, in their order."""

    def deliver(self, parcel: Parcel) -> None:
        """Delivers it. May take its time.

        Raises:
            OSError: not now. It is tried again, with the same parcel.
            Exception: never: it is dropped.
        """

    def close(self) -> None:
        """Lets go of what is open."""


class Relay:
    """Hands events to an exporter without ever waiting for it.

    What cannot be delivered waits in the queue. What finds no room there is dropped and counted.

    Args:
        exporter: it is used by the relay's thread only, and closed by it.
        say: told, in a sentence, when the exporter begins to fail, for each reason, and when it works again.
        limit: events that may wait.

    Attributes:
        name: the exporter's.
        delivered: events that it has delivered.
        dropped: events that it has not, and will not.
    """

    def __init__(self, exporter: Exporter[Parcel], say: Callable[[str], None], limit: int = QUEUE) -> None:
        self.name = exporter.name
        self.delivered = 0
        self.dropped = 0
        self._say = say
        self._limit = limit
        self._batches: collections.deque[list[Event]] = collections.deque()
        self._waiting = 0
        self._closing = False
        self._given_up = False
        self._failing: str | None = None
        """Why nothing can be delivered now."""
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, args=[exporter], name=f"exporter {self.name}", daemon=True)
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

    def finish(self) -> None:
        """Tells it that nothing more will be offered. Does not wait."""
        with self._changed:
            self._closing = True
            self._changed.notify()

    def close(self, timeout: float) -> None:
        """Delivers what waits, for so many seconds at most; the rest is dropped."""
        self.finish()
        self._thread.join(timeout)
        with self._changed:
            self._given_up = True
            self.dropped += self._waiting
            self._waiting = 0
            self._batches.clear()
            self._changed.notify()

    def _run(self, exporter: Exporter[Parcel]) -> None:
        while batch := self._next():
            try:
                delivered = self._deliver(exporter, exporter.prepare(batch))
            except Exception as error:
                self._say(f"{self.name}: {error}; {len(batch)} events are dropped")
                delivered = False
            with self._changed:
                count = min(len(batch), self._waiting)  # none, if they were given up meanwhile
                self._waiting -= count
                self.delivered += count if delivered else 0
                self.dropped += 0 if delivered else count
        exporter.close()

    def _deliver(self, exporter: Exporter[Parcel], parcel: Parcel) -> bool:
        """Tries until it is done; False if that is not wanted any more."""
        pause = _FIRST_PAUSE
        while not self._given_up:
            try:
                exporter.deliver(parcel)
            except OSError as error:
                if str(error) != self._failing:
                    self._say(f"{self.name}: {error}; events wait until it works again")
                self._failing = str(error)
            else:
                if self._failing:
                    self._say(f"{self.name}: works again; {self.dropped} events were dropped so far")
                self._failing = None
                return True
            with self._changed:
                if self._closing:
                    self._changed.wait_for(lambda: self._given_up, _FIRST_PAUSE)
                else:
                    self._changed.wait_for(lambda: self._closing, pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        return False

    def _next(self) -> list[Event] | None:
        """The oldest batch, once there is one; None at the end."""
        with self._changed:
            while not self._batches:
                if self._closing:
                    return None
                self._changed.wait()
            return self._batches.popleft()


class Idents:
    """Gives events names, by which a receiver knows one that is sent again.

    Those of two runs of a collector, or of two exporters, never meet.
    """

    def __init__(self) -> None:
        self._run = uuid.uuid4().hex
        self._numbers = itertools.count()

    def next(self) -> str:
        """The next name."""
        return f"{self._run}-{next(self._numbers)}"


def close_all(relays: list[Relay], timeout: float) -> None:
    """Closes all of them, within so many seconds together."""
    deadline = time.monotonic() + timeout
    for relay in relays:
        relay.finish()
    for relay in relays:
        relay.close(max(0.0, deadline - time.monotonic()))
