"""Between reader and exporter: nobody waits, and what is not delivered is counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from cni_collector.events import Event, NetnsEnter
from cni_collector.exporters.relay import Relay, close_all

from ..support.made import made

BATCH: list[Event] = [made(NetnsEnter, "now"), made(NetnsEnter, "later")]


class Slow:
    """An exporter that delivers when it is let."""

    name = "slow"

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.busy = threading.Semaphore(0)
        self.got: list[Event] = []
        self.prepared = 0
        self.error: Exception | None = None
        self.closed = threading.Event()

    def prepare(self, events: list[Event]) -> list[Event]:
        self.prepared += 1
        return events

    def deliver(self, events: list[Event]) -> None:
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
    assert (relay.delivered, relay.dropped, relay.waiting, said) == (6, 0, 0, [])
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
    assert (relay.delivered, relay.dropped, relay.waiting) == (4, 6, 0)


def test_what_cannot_be_delivered_now_waits_and_is_told_once(slow: Slow) -> None:
    said: list[str] = []
    relay = Relay(slow, said.append, limit=3)
    slow.error = OSError("nobody there")
    slow.go.release(2)
    relay.offer(BATCH)
    for _ in range(3):
        slow.busy.acquire()  # it is tried again
    relay.offer(BATCH)  # finds no room
    slow.error = None
    slow.go.release()
    relay.close(30)
    assert slow.got == BATCH
    assert slow.prepared == 1
    assert (relay.delivered, relay.dropped, relay.waiting) == (2, 2, 0)
    assert said == [
        "slow: nobody there; events wait until it works again",
        "slow: works again; 2 events were dropped so far",
    ]


def test_what_can_never_be_delivered_is_dropped_and_the_next_is_not(slow: Slow) -> None:
    said: list[str] = []
    relay = Relay(slow, said.append)
    slow.error = ValueError("what is this?")
    slow.go.release()
    relay.offer(BATCH)
    slow.busy.acquire()
    relay.offer(BATCH[:1])
    slow.busy.acquire()
    slow.error = None
    slow.go.release()
    relay.close(30)
    assert slow.got == BATCH[:1]
    assert (relay.delivered, relay.dropped) == (1, 2)
    assert said == ["slow: what is this?; 2 events are dropped"]


def test_at_the_end_it_is_tried_until_the_time_is_over(slow: Slow) -> None:
    relay = Relay(slow, lambda _: None)
    slow.error = OSError("nobody there")
    slow.go.release(1000)
    relay.offer(BATCH)
    slow.busy.acquire()
    relay.close(0.5)
    assert (relay.delivered, relay.dropped, relay.waiting) == (0, 2, 0)
    assert slow.closed.wait(30), "the thread ends, too"


def test_a_dead_exporter_takes_no_time_from_another(slow: Slow) -> None:
    dead, alive = Slow(), slow
    relays = [Relay(exporter, lambda _: None) for exporter in (dead, alive)]
    alive.go.release(2)
    for relay in relays:
        relay.offer(BATCH)
    close_all(relays, 0.5)
    assert [relay.delivered for relay in relays] == [0, 2]
    assert alive.closed.is_set()
    dead.go.release(1000)


def test_closing_waits_no_longer_than_it_may(slow: Slow) -> None:
    relay = Relay(slow, print)
    other = Relay(Slow(), print)
    for _ in range(3):
        relay.offer(BATCH)
        other.offer(BATCH)
    close_all([relay, other], 0.05)
    assert (relay.dropped, relay.delivered, relay.waiting) == (6, 0, 0)
    assert other.dropped == 6
