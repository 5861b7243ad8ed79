"""Between reader and exporter: nobody waits, and what is not delivered is counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cni_collector.events import Event, NetnsEnter
from cni_collector.exporters.relay import Relay, close_all

BATCH: list[Event] = [NetnsEnter("now"), NetnsEnter("later")]


class Slow:
    """An exporter that delivers when it is let."""

    name = "slow"

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.busy = threading.Semaphore(0)
        self.got: list[Event] = []
        self.error: OSError | None = None
        self.closed = threading.Event()

    def export(self, events: list[Event]) -> None:
        self.busy.release()
        self.go.acquire()
        if self.error:
            raise self.error
        self.got += events

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
def slow() -> Iterator[Slow]:
    exporter = Slow()
    yield exporter
    exporter.go.release(1000)


def test_everything_is_delivered_in_order(slow: Slow) -> None:
    said: list[str] = []
    relay = Relay(slow, said.append)
    slow.go.release(3)
    for _ in range(3):
        relay.offer(BATCH)
    relay.close(30)
    assert slow.got == BATCH * 3
    assert (relay.exported, relay.dropped, relay.waiting, said) == (6, 0, 0, [])
    assert slow.closed.is_set()


def test_what_finds_no_room_is_dropped_at_once(slow: Slow) -> None:
    relay = Relay(slow, print, limit=5)
    relay.offer(BATCH)
    slow.busy.acquire()  # one batch is with the exporter, and counts until it is delivered
    for _ in range(4):
        relay.offer(BATCH)
    assert (relay.waiting, relay.dropped) == (4, 6)
    slow.go.release(2)
    relay.close(30)
    assert (relay.exported, relay.dropped, relay.waiting) == (4, 6, 0)


def test_what_fails_is_counted_and_told_once(slow: Slow) -> None:
    said: list[str] = []
    relay = Relay(slow, said.append)
    slow.error = OSError(28, "No space left on device")
    slow.go.release(2)
    relay.offer(BATCH)
    relay.offer(BATCH)
    for _ in range(2):
        slow.busy.acquire()
    relay.offer(BATCH)
    slow.busy.acquire()
    slow.error = None
    slow.go.release(2)
    relay.offer(BATCH)
    relay.close(30)
    assert (relay.exported, relay.dropped) == (4, 4)
    assert said == [
        "slow: [Errno 28] No space left on device; events are dropped until it works again",
        "slow: works again; 4 events were dropped so far",
    ]


def test_closing_waits_no_longer_than_it_may(slow: Slow) -> None:
    relay = Relay(slow, print)
    other = Relay(Slow(), print)
    for _ in range(3):
        relay.offer(BATCH)
        other.offer(BATCH)
    close_all([relay, other], 0.05)
    assert (relay.dropped, relay.exported, relay.waiting) == (6, 0, 0)
    assert other.dropped == 6
