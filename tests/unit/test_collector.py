"""The collector's life: start, iterate, stop, from any thread, without a kernel."""

from __future__ import annotations

import asyncio
import mmap
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from cni_collector import Collector
from cni_collector.collector import RING_BYTES
from cni_collector.errors import ClosedError, CollectorError, LayoutError, UnsupportedError
from cni_collector.events import CollectorStart, CollectorStop, Event, NetnsCreate, NetnsDestroy
from cni_collector.kernel.hooks import ALL

from ..support.made import made
from .fake_session import FakeSession

ONE, TWO, THREE = made(NetnsCreate, "1"), made(NetnsCreate, "2"), made(NetnsDestroy, "3")
START = made(CollectorStart, "opening")
SOON = 10  # seconds; nothing here takes so long unless it hangs


def stop_event(events: int) -> CollectorStop:
    return made(CollectorStop, "closing", events=events, lost=0)


@pytest.fixture
def collector(session: FakeSession) -> Iterator[Collector]:
    """Not started yet; reads at once."""
    made = Collector("under test", coalesce=0)
    yield made
    made.stop()


class Reader(threading.Thread):
    """Reads all events in a thread of its own."""

    def __init__(self, collector: Collector) -> None:
        super().__init__(daemon=True)
        self._collector = collector
        self.seen: list[Event] = []
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            self.seen.extend(self._collector.events())
        except CollectorError as error:
            self.error = error

    def finish(self) -> list[Event]:
        self.join(SOON)
        assert not self.is_alive(), "iteration does not end"
        return self.seen


@pytest.mark.parametrize(
    "options",
    [
        {"types": ["netns_create", "netns_lost"]},
        {"types": "netns_create"},
        {"types": ["collector_start"]},
        {"ring_bytes": 0},
        {"ring_bytes": -mmap.PAGESIZE},
        {"ring_bytes": mmap.PAGESIZE // 2},
        {"ring_bytes": 3 * mmap.PAGESIZE},
        {"coalesce": -0.001},
        {"coalesce": 61},
        {"coalesce": float("nan")},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=name if name != "types" else "unknown event types"):
        Collector(**options)


def test_options_reach_the_session(session: FakeSession) -> None:
    with Collector(types=["netns_create"], tier="tracepoint", ring_bytes=mmap.PAGESIZE, node="n"):
        assert session.arguments == (frozenset({NetnsCreate}), "tracepoint", mmap.PAGESIZE, "n")


def test_by_default_everything_is_reported(session: FakeSession) -> None:
    with Collector() as collector:
        assert session.arguments == (ALL, None, RING_BYTES, None)
        assert collector.name == "cni"


@pytest.mark.parametrize("attempt", [lambda c: next(iter(c.events())), lambda c: next(c.batches()), Collector.fileno])
def test_before_the_start_there_is_nothing_to_read(collector: Collector, attempt: Any) -> None:
    with pytest.raises(ClosedError, match="under test"):
        attempt(collector)
    assert not collector.healthy


def test_a_second_start_is_an_error_also_after_the_stop(collector: Collector) -> None:
    collector.start()
    with pytest.raises(CollectorError, match="started already"):
        collector.start()
    collector.stop()
    with pytest.raises(CollectorError, match="started already"):
        collector.start()


def test_a_start_that_failed_may_be_tried_again(session: FakeSession, collector: Collector) -> None:
    session.start_error = UnsupportedError("no kernel")
    with pytest.raises(UnsupportedError):
        collector.start()
    assert not collector.healthy
    session.start_error = None
    collector.start()
    assert collector.healthy


def test_stop_before_start_changes_nothing(collector: Collector) -> None:
    collector.stop()
    collector.start()
    assert collector.healthy


def test_stop_may_be_repeated(session: FakeSession, collector: Collector) -> None:
    collector.start()
    collector.stop()
    collector.stop()
    assert (session.detached, session.closed) == (1, True)


def test_what_was_reported_before_the_stop_is_still_delivered(session: FakeSession, collector: Collector) -> None:
    with collector:
        session.script.extend([[ONE], [TWO, THREE]])
    assert session.closed
    assert list(collector.batches()) == [[START], [ONE], [TWO, THREE], [stop_event(3)]]
    assert list(collector.events()) == []


def test_stop_inside_the_loop_ends_it_after_the_drain(session: FakeSession, collector: Collector) -> None:
    collector.start()
    session.script.extend([[ONE, TWO], [THREE]])
    seen = []
    for event in collector.events():
        seen.append(event)
        if event is ONE:
            collector.stop()
    assert seen == [START, ONE, TWO, THREE, stop_event(3)]
    assert session.closed


def test_stop_from_another_thread_ends_the_iteration_after_the_drain(
    session: FakeSession, collector: Collector
) -> None:
    collector.start()
    reader = Reader(collector)
    assert session.waited.wait(SOON)
    session.script.append([ONE])
    collector.stop()
    assert reader.finish() == [START, ONE, stop_event(1)]
    assert session.closed


def test_stop_by_a_signal_in_the_middle_of_a_reading_loses_nothing(session: FakeSession, collector: Collector) -> None:
    def interrupted() -> list[Event]:
        collector.stop()  # as a signal handler does, in the same thread, the lock being held
        assert not session.closed
        return [ONE]

    collector.start()
    session.script.extend([interrupted, [TWO]])
    assert list(collector.events()) == [START, ONE, TWO, stop_event(2)]


def test_a_reader_sleeps_until_there_is_something(session: FakeSession, collector: Collector) -> None:
    collector.start()
    reader = Reader(collector)
    for event in (ONE, TWO):
        assert session.waited.wait(SOON)
        session.waited.clear()
        session.report(event)
    assert session.waited.wait(SOON)
    assert reader.seen == [START, ONE, TWO]
    collector.stop()
    assert reader.finish()[-1] == stop_event(2)


def test_a_pause_follows_what_emptied_the_ring_and_a_wait_the_pause_in_which_nothing_came(
    session: FakeSession, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    did: list[object] = []

    def wait() -> None:
        did.append("wait")
        collector.stop()

    monkeypatch.setattr(time, "sleep", lambda _: did.append("pause"))
    monkeypatch.setattr(session, "wait", wait)
    collector.start()
    session.script.extend([[ONE], [TWO]])
    for batch in collector.batches():
        did.extend(batch)
    assert did == [START, ONE, TWO, "pause", "wait", "pause", stop_event(2)]


def test_a_reader_that_fails_is_unhealthy_and_says_why_each_time(session: FakeSession, collector: Collector) -> None:
    collector.start()
    session.script.extend([[ONE], LayoutError("corrupt"), [TWO]])
    batches = collector.batches()
    assert [next(batches), next(batches)] == [[START], [ONE]]
    with pytest.raises(LayoutError, match="corrupt"):
        next(batches)
    assert not collector.healthy
    assert session.closed
    with pytest.raises(LayoutError, match="corrupt"):
        next(collector.batches())
    collector.stop()
    assert collector.stats.received == 1


def test_a_drain_that_fails_is_told_to_whoever_reads_after_what_was_read(
    session: FakeSession, collector: Collector
) -> None:
    collector.start()
    session.script.extend([[ONE], LayoutError("corrupt")])
    collector.stop()
    assert session.closed
    batches = collector.batches()
    assert [next(batches), next(batches)] == [[START], [ONE]]
    with pytest.raises(LayoutError, match="corrupt"):
        next(batches)
    assert collector.stats.received == 1


def test_one_reader_at_a_time(session: FakeSession, collector: Collector) -> None:
    collector.start()
    session.script.extend([[ONE], [TWO]])
    first = collector.batches()
    assert next(first) == [START]
    with pytest.raises(CollectorError, match="one reader at a time"):
        next(collector.batches())
    first.close()
    second = collector.batches()
    assert [next(second), next(second)] == [[ONE], [TWO]]
    second.close()


def test_a_reader_that_gives_up_after_the_stop_leaves_the_rest_to_the_next(
    session: FakeSession, collector: Collector
) -> None:
    collector.start()
    session.script.append([ONE])
    batches = collector.batches()
    assert next(batches) == [START]
    collector.stop()
    assert not session.closed, "the reader has not been told yet"
    batches.close()
    assert session.closed
    assert list(collector.events()) == [ONE, stop_event(1)]


def test_a_reader_that_leaves_in_the_middle_of_a_batch_leaves_the_rest_to_the_next(
    session: FakeSession, collector: Collector
) -> None:
    collector.start()
    session.script.append([ONE, TWO])
    for event in collector.events():
        if event is ONE:
            break
    collector.stop()
    assert list(collector.events()) == [TWO, stop_event(2)]


def test_no_batch_is_empty(session: FakeSession, collector: Collector) -> None:
    collector.start()
    session.script.append([ONE])
    session.report()
    session.report(TWO)
    batches = collector.batches()
    assert [next(batches) for _ in range(3)] == [[START], [ONE], [TWO]]
    batches.close()


def test_async_for_gives_the_same_events(session: FakeSession, collector: Collector) -> None:
    async def read() -> list[Event]:
        return [event async for event in collector.events()]

    async def scenario() -> list[Event]:
        reading = asyncio.create_task(read())
        for event in (ONE, TWO):
            while not session.waited.is_set():
                await asyncio.sleep(0)
            session.waited.clear()
            session.report(event)
        collector.stop()
        return await asyncio.wait_for(reading, SOON)

    collector.start()
    assert asyncio.run(scenario()) == [START, ONE, TWO, stop_event(2)]
    assert session.closed


def test_async_for_that_is_left_makes_room_for_another_reader(session: FakeSession, collector: Collector) -> None:
    async def first_two() -> list[Event]:
        stream = aiter(collector.events())
        events = [await anext(stream), await anext(stream)]
        await stream.aclose()
        return events

    collector.start()
    session.script.append([ONE, TWO])
    assert asyncio.run(first_two()) == [START, ONE]
    collector.stop()
    assert list(collector.events()) == [TWO, stop_event(2)]


def test_stats_are_live_and_stay_after_the_stop(session: FakeSession, collector: Collector) -> None:
    assert collector.stats.received == 0
    collector.start()
    session.script.append([ONE, TWO])
    batches = collector.batches()
    next(batches), next(batches)
    assert collector.stats.received == 2
    session.script.append([THREE])
    batches.close()
    collector.stop()
    assert collector.stats.received == 3


def test_fileno_is_the_sessions_until_the_stop(session: FakeSession, collector: Collector) -> None:
    collector.start()
    assert collector.fileno() == session.fileno()
    collector.stop()
    with pytest.raises(ClosedError, match="not running"):
        collector.fileno()


def test_health(collector: Collector) -> None:
    collector.start()
    assert collector.healthy
    collector.stop()
    assert not collector.healthy
