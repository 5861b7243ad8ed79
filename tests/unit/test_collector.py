"""The collector's life: start, iterate, stop, from any thread, without a kernel."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import mmap
import random
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cni_collector import Collector
from cni_collector import collector as module
from cni_collector.collector import RING_BYTES
from cni_collector.errors import ClosedError, CollectorError, LayoutError, UnsupportedError
from cni_collector.events import (
    CniCall,
    CollectorStart,
    CollectorStop,
    Event,
    Lost,
    NetnsCreate,
    NetnsDestroy,
    NetnsExit,
)
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


CHOICE = "choose from cni_end, cni_exec, cni_start, netns_create, .*, netns_found"
ALWAYS = "; collector_start, lost, checkpoint, collector_stop are in every stream$"


@pytest.mark.parametrize(
    ("types", "told"),
    [
        (["netns_create", "netns_lost"], f"unknown event types 'netns_lost': {CHOICE}{ALWAYS}"),
        (["collector_start"], f"unknown event types 'collector_start': {CHOICE}{ALWAYS}"),
        ([NetnsCreate, Lost, CollectorStart], f"unknown event types Lost, CollectorStart: {CHOICE}{ALWAYS}"),
        ([Event, CniCall, int], f"unknown event types Event, CniCall, int: {CHOICE}{ALWAYS}"),
        ([7, None, ["netns_create"]], rf"unknown event types 7, None, \['netns_create'\]: {CHOICE}{ALWAYS}"),
        ([made(NetnsCreate, "1")], rf"unknown event types NetnsCreate\(.*\): {CHOICE}{ALWAYS}"),
        ("netns_create", r"types must be a list, not 'netns_create' alone: write types=\['netns_create'\]$"),
        (b"netns_create", "types must be a list, not b'netns_create' alone"),
        ("", "types must be a list, not '' alone"),
        (NetnsCreate, r"types must be a list, not NetnsCreate alone: write types=\[NetnsCreate\]$"),
        (7, r'types must be a list, not 7: write types=\["netns_create"\]$'),
        ([], f"types is empty, so nothing would be reported: {CHOICE}, or leave it out for all$"),
        (frozenset(), "types is empty"),
    ],
)
def test_types_that_make_no_sense_are_refused(types: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}"):
        Collector(types=types)


REFUSED: dict[str, tuple[str, list[Any]]] = {
    "ring_bytes": (
        f"ring_bytes must be a power of two of at least {mmap.PAGESIZE} and at most 2147483648, not ",
        [0, -mmap.PAGESIZE, mmap.PAGESIZE // 2, 3 * mmap.PAGESIZE, 1 << 32, float(1 << 20), "4", None],
    ),
    "coalesce": (
        "coalesce must be between 0 and 60 seconds, not ",
        [-0.001, 61, float("nan"), float("inf"), "0.1", None, 1j],
    ),
    "audit": (
        r"audit must be between 1 second and 86,400 \(a day\), or None for no audits at intervals, not ",
        [0, 0.9, -1, 86401, 1e19, 1e300, True, float("nan"), float("inf"), "60", 1j],
    ),
    "tier": (
        "there is no tier .*: choose one of fentry, kprobe, tracepoint, or None for the best here$",
        ["best", "", 7, ["tracepoint"]],
    ),
    "node": ("node must be text, or None for the host name, not ", [7, b"n", ["n"]]),
    "kubelet_roots": ("kubelet_roots must be absolute paths of cgroups, not ", ["/foo.slice", ["foo.slice"], [7]]),
    "name": ("name must be text, not ", [7, None, ["netns_create"]]),
}


def test_an_interval_too_long_to_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^audit must be between .*, not so many$"):
        Collector(audit=10**5000)


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [(option, value, told) for option, (told, values) in REFUSED.items() for value in values],
)
def test_options_that_make_no_sense_are_refused(option: str, value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=f"^{told}") as caught:
        Collector(**{option: value})
    assert "\n" not in str(caught.value)


def test_a_tier_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match=r"there is no tier 'best': choose one of .*tracepoint"):
        Collector(tier="best")


def test_keywords_that_do_not_exist_are_pythons_business() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'type'"):
        Collector(type=["netns_create"])  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "types",
    [
        ["netns_create", "netns_exit"],
        [NetnsCreate, NetnsExit],
        (NetnsCreate, "netns_exit", "netns_create"),
        {NetnsCreate, "netns_exit"},
        dict.fromkeys([NetnsCreate, "netns_exit"]),
    ],
)
def test_types_are_classes_and_names(session: FakeSession, types: Any) -> None:
    with Collector(types=types):
        assert session.arguments[0] == {NetnsCreate, NetnsExit}


def test_options_reach_the_session(session: FakeSession) -> None:
    with Collector(
        types=["netns_create"],
        tier="tracepoint",
        ring_bytes=mmap.PAGESIZE,
        node="n",
        kubelet_roots=["/foo.slice"],
        audit=60,
    ):
        assert session.arguments[:4] == (frozenset({NetnsCreate}), "tracepoint", mmap.PAGESIZE, "n")
        assert session.arguments[4].identify(f"/foo.slice/kubepods/pod{'6d' * 16}") == (None, "6d" * 16)
        assert session.arguments[5] == 60


def test_an_audit_is_asked_for(session: FakeSession) -> None:
    collector = Collector()
    with pytest.raises(ClosedError, match="is not running"):
        collector.audit()
    with collector:
        collector.audit()
        assert session.audits == 1
    with pytest.raises(ClosedError, match="is not running"):
        collector.audit()
    assert session.audits == 1


def test_by_default_everything_is_reported(session: FakeSession) -> None:
    with Collector() as collector:
        assert session.arguments[:4] == (ALL, None, RING_BYTES, None)
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


def test_stop_by_a_signal_in_a_reading_that_finds_nothing_is_no_reason_to_wait(
    session: FakeSession, collector: Collector
) -> None:
    def interrupted() -> list[Event]:
        collector.stop()
        return []

    collector.start()
    session.script.append(interrupted)
    assert list(collector.events()) == [START, stop_event(0)]


def test_stop_by_a_signal_in_the_middle_of_a_stop_changes_nothing(session: FakeSession, collector: Collector) -> None:
    def interrupted() -> list[Event]:
        collector.stop()
        return [TWO]

    collector.start()
    session.script.extend([[ONE], interrupted, [THREE]])
    collector.stop()
    assert list(collector.events()) == [START, ONE, TWO, THREE, stop_event(3)]


def test_stop_by_a_signal_while_stop_detaches_leaves_the_end_to_it(session: FakeSession, collector: Collector) -> None:
    def interrupted() -> None:
        collector.stop()
        assert not session.closed, "the interrupted one goes on with its descriptors"

    collector.start()
    session.detaching = interrupted
    collector.stop()
    assert (session.detached, session.closed) == (1, True)
    assert list(collector.events()) == [START, stop_event(0)]


def test_stop_by_a_signal_during_the_start_takes_effect_when_that_ends(
    session: FakeSession, collector: Collector
) -> None:
    session.attaching = collector.stop
    collector.start()
    assert not collector.healthy
    assert session.closed
    assert list(collector.events()) == [START, stop_event(0)]


def test_stop_by_a_signal_during_a_start_that_fails_has_nothing_to_stop(
    session: FakeSession, collector: Collector
) -> None:
    session.attaching, session.start_error = collector.stop, UnsupportedError("no kernel")
    with pytest.raises(UnsupportedError):
        collector.start()
    session.attaching, session.start_error = lambda: None, None
    collector.start()
    assert collector.healthy


class InterruptionError(Exception):
    """What a signal handler raises."""


def raised(*_: object) -> list[Event]:
    raise InterruptionError


def test_an_exception_of_a_signal_handler_in_a_reading_ends_the_loop_alone(
    session: FakeSession, collector: Collector
) -> None:
    collector.start()
    session.script.extend([[ONE], raised, [TWO]])
    events = iter(collector.events())
    assert [next(events), next(events)] == [START, ONE]
    with pytest.raises(InterruptionError):
        next(events)
    assert collector.healthy
    assert next(collector.batches()) == [TWO]


def test_an_exception_of_a_signal_handler_in_stop_leaves_the_rest_to_the_next(
    session: FakeSession, collector: Collector
) -> None:
    collector.start()
    session.script.extend([[ONE], raised, [TWO]])
    session.detaching = raised
    for _ in range(2):
        with pytest.raises(InterruptionError):
            collector.stop()
        session.detaching = lambda: None
    assert not session.closed
    collector.stop()
    assert session.closed
    assert list(collector.events()) == [START, ONE, TWO, stop_event(2)]


def test_a_start_that_is_interrupted_may_be_tried_again(session: FakeSession, collector: Collector) -> None:
    session.attaching = raised
    with pytest.raises(InterruptionError):
        collector.start()
    session.attaching = lambda: None
    collector.start()
    assert next(collector.batches()) == [START]


class Interruption:
    """Raises at one of the places where Python runs signal handlers: a function's entry, the return of one in C."""

    def __init__(self, place: int) -> None:
        self.left = place

    def __call__(self, frame: types.FrameType, what: str, _: object) -> None:
        caller = frame.f_back
        ours = frame.f_code.co_filename == module.__file__
        entered = what == "call" and (ours or (caller and caller.f_code.co_filename == module.__file__))
        if entered or (what == "c_return" and ours):
            self.left -= 1
            if self.left < 0:
                sys.setprofile(None)
                raise InterruptionError


def interrupted(place: int, life: Callable[[], None]) -> bool:
    """Whether it had so many places."""
    before = sys.getprofile()
    sys.setprofile(Interruption(place))
    try:
        life()
    except InterruptionError:
        return True
    finally:
        sys.setprofile(before)
    return False


@pytest.mark.parametrize("kind", ["events", "batches"])
def test_wherever_an_exception_of_a_signal_handler_comes_nothing_is_lost_and_stop_works(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    for place in itertools.count():
        fake = FakeSession()
        monkeypatch.setattr(module, "Session", fake.start)
        collector = Collector("under test", coalesce=0)
        collector.start()
        fake.script.append([ONE, TWO])
        reported: list[Event] = []
        seen: list[Event] = []

        def wait(fake: FakeSession = fake, reported: list[Event] = reported) -> None:
            fake.report(THREE)
            reported.append(THREE)

        monkeypatch.setattr(fake, "wait", wait)

        # Kept until after: what is raised while a generator is thrown away reaches nobody.
        first, second, last = iter(collector.events()), iter(collector.events()), iter(collector.events())
        batches = collector.batches()

        def life(
            collector: Collector = collector,
            seen: list[Event] = seen,
            first: Iterator[Event] = first,
            second: Iterator[list[Event]] = batches if kind == "batches" else ([event] for event in second),
            last: Iterator[Event] = last,
        ) -> None:
            for event in first:
                seen.append(event)
                if event is ONE:
                    break
            for batch in second:
                seen.extend(batch)
                if THREE in batch:
                    break
            collector.stop()
            seen.extend(last)

        more = interrupted(place, life)
        collector.stop()
        assert fake.closed, place
        seen.extend(collector.events())
        assert seen == [START, ONE, TWO, *reported, stop_event(2 + len(reported))], place
        fake.dispose()
        if not more:
            assert reported
            assert place > 50
            return


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
    second = collector.batches()
    assert next(second) == [ONE]
    with pytest.raises(CollectorError, match="one reader at a time: another loop took over"):
        next(first)
    assert next(second) == [TWO]


def test_while_a_loop_waits_no_other_begins(session: FakeSession, collector: Collector) -> None:
    collector.start()
    reader = Reader(collector)
    assert session.waited.wait(SOON)
    for attempt in (lambda: next(iter(collector.events())), lambda: next(collector.batches()), anext_of(collector)):
        with pytest.raises(CollectorError, match="is being read already: one reader at a time"):
            attempt()
    session.report(ONE)
    collector.stop()
    assert reader.finish() == [START, ONE, stop_event(1)]


def anext_of(collector: Collector) -> Callable[[], Event]:
    """Reads one event on an event loop."""

    async def first() -> Event:
        return await anext(aiter(collector.events()))

    return lambda: asyncio.run(first())


def test_stop_closes_what_no_loop_waits_for(session: FakeSession, collector: Collector) -> None:
    """A loop may have been left for good, and its iterator be kept all the same."""
    collector.start()
    session.script.append([ONE])
    batches = collector.batches()
    assert next(batches) == [START]
    collector.stop()
    assert session.closed
    assert list(collector.events()) == [ONE, stop_event(1)]


def test_a_loop_that_is_left_during_the_reading_in_which_a_signal_stops_leaves_nothing_open(
    session: FakeSession, collector: Collector
) -> None:
    def interrupted() -> list[Event]:
        collector.stop()
        return [ONE]

    collector.start()
    session.script.extend([interrupted, [TWO]])
    left = [event for _, event in zip(range(2), collector.events(), strict=False)]
    assert left == [START, ONE]
    assert session.closed
    assert list(collector.events()) == [TWO, stop_event(2)]


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


@pytest.mark.parametrize("again", ["the same stream", "another stream", "batches"])
def test_a_loop_goes_on_where_another_was_left_whose_iterator_is_kept(
    session: FakeSession, collector: Collector, again: str
) -> None:
    collector.start()
    session.script.extend([[ONE, TWO], [THREE]])
    stream = collector.events()
    kept = iter(stream)
    for event in kept:
        if event is ONE:
            break
    if again == "batches":
        batches = collector.batches()
        assert [next(batches), next(batches)] == [[TWO], [THREE]]
    else:
        second = iter(stream if again == "the same stream" else collector.events())
        assert [next(second), next(second)] == [TWO, THREE]
    with pytest.raises(CollectorError, match="another loop took over"):
        next(kept)


def test_a_loop_inside_a_loop_takes_over(session: FakeSession, collector: Collector) -> None:
    collector.start()
    session.script.extend([[ONE, TWO], [THREE]])
    seen = []
    outer = iter(collector.events())
    seen.append(next(outer))
    for event in collector.events():
        seen.append(event)
        if event is THREE:
            break
    assert seen == [START, ONE, TWO, THREE]
    with pytest.raises(CollectorError, match="another loop took over"):
        next(outer)


def test_no_batch_is_empty(session: FakeSession, collector: Collector) -> None:
    collector.start()
    session.script.append([ONE])
    session.report()
    session.report(TWO)
    batches = collector.batches()
    assert [next(batches) for _ in range(3)] == [[START], [ONE], [TWO]]


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
        return [await anext(stream), await anext(stream)]

    collector.start()
    session.script.append([ONE, TWO])
    assert asyncio.run(first_two()) == [START, ONE]
    collector.stop()
    assert list(collector.events()) == [TWO, stop_event(2)]


def test_async_for_goes_on_at_once_where_another_was_left(session: FakeSession, collector: Collector) -> None:
    """Also in the middle of a batch, and also while the iterator of the other is kept."""

    async def scenario() -> list[Event]:
        seen, kept = [], aiter(collector.events())
        async for event in kept:
            seen.append(event)
            if event is ONE:
                break
        async for event in collector.events():
            seen.append(event)
            if event is TWO:
                break
        async for event in collector.events():
            seen.append(event)
            if event is THREE:
                break
        with pytest.raises(CollectorError, match="another loop took over"):
            await anext(kept)
        return seen

    collector.start()
    session.script.extend([[ONE, TWO], [THREE]])
    assert asyncio.run(scenario()) == [START, ONE, TWO, THREE]


def test_async_for_refuses_a_second_loop_while_the_first_waits(session: FakeSession, collector: Collector) -> None:
    async def scenario() -> list[Event]:
        stream = aiter(collector.events())
        assert await anext(stream) == START
        waiting = asyncio.ensure_future(anext(stream))
        await until(session.waited.is_set)
        for second in (stream, aiter(collector.events())):
            with pytest.raises(CollectorError, match="is being read already: one reader at a time"):
                await anext(second)
        session.report(ONE)
        return [await waiting]

    collector.start()
    assert asyncio.run(scenario()) == [ONE]


def held(reached: threading.Event, go_on: threading.Event) -> Callable[[], None]:
    """Something that takes until another thread lets it go on."""

    def hold() -> None:
        reached.set()
        assert go_on.wait(SOON), "nobody else gets on"

    return hold


async def until(condition: Callable[[], bool]) -> None:
    """Lets the event loop go on until this is so."""
    async with asyncio.timeout(SOON):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("again", ["the same loop", "another loop"])
def test_a_wait_that_is_cancelled_loses_nothing(session: FakeSession, collector: Collector, again: str) -> None:
    async def scenario() -> list[Event]:
        stream = aiter(collector.events())
        seen = [await anext(stream)]
        for moment in "pause", "wait", "gather":
            waiting = asyncio.ensure_future(anext(stream))
            if moment == "pause":  # after START, that other events may gather
                await asyncio.sleep(0.001)
                assert not session.waited.is_set()
            else:
                await until(session.waited.is_set)
            if moment == "gather":  # after the first of them
                session.waited.clear()
                session.report(ONE, TWO)
                await until(session.waited.is_set)  # it no longer watches the descriptor
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            session.waited.clear()
            if again == "another loop":
                stream = aiter(collector.events())
        seen.append(await anext(stream))
        if again == "another loop":
            stream = aiter(collector.events())
        return [*seen, await anext(stream)]

    collector._coalesce = 60  # no pause is over before it is cancelled
    collector.start()
    assert asyncio.run(asyncio.wait_for(scenario(), SOON)) == [START, ONE, TWO]


def test_a_wait_that_is_cancelled_after_the_stop_leaves_nothing_open(
    session: FakeSession, collector: Collector
) -> None:
    async def scenario() -> None:
        stream = aiter(collector.events())
        assert await anext(stream) == START
        waiting = asyncio.ensure_future(anext(stream))
        await until(session.waited.is_set)
        session.script.append([ONE])
        collector.stop()
        assert not session.closed, "somebody waits for its descriptor"
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert session.closed

    collector.start()
    asyncio.run(scenario())
    assert list(collector.events()) == [ONE, stop_event(1)]


def test_a_task_group_that_fails_loses_nothing(session: FakeSession, collector: Collector) -> None:
    seen: list[Event] = []

    async def read() -> None:
        async for event in collector.events():
            seen.append(event)
            await asyncio.sleep(0)

    async def fail() -> None:
        await until(lambda: len(seen) >= 2)
        raise ZeroDivisionError

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(read())
            group.create_task(fail())

    collector.start()
    session.script.extend([[ONE, TWO, THREE] for _ in range(3000)])
    with pytest.raises(ExceptionGroup):
        asyncio.run(both())
    assert 2 <= len(seen) < 9001
    collector.stop()
    seen.extend(collector.events())
    assert seen == [START, *[ONE, TWO, THREE] * 3000, stop_event(9000)]


def test_a_reader_that_is_patient_for_less_than_a_pause_gets_on(session: FakeSession, collector: Collector) -> None:
    async def scenario() -> list[Event]:
        stream = aiter(collector.events())
        seen: list[Event] = []
        async with asyncio.timeout(SOON):
            while len(seen) < 4:
                try:
                    seen.append(await asyncio.wait_for(anext(stream), 0.002))
                except TimeoutError:
                    if not session.script and len(seen) < 3:
                        session.report((ONE, TWO, THREE)[len(seen) - 1])
                    elif len(seen) == 3:
                        collector.stop()
        return seen

    collector._coalesce = 30
    collector.start()
    assert asyncio.run(scenario()) == [START, ONE, TWO, stop_event(2)]


def test_the_event_loop_gets_its_turn_between_batches(session: FakeSession, collector: Collector) -> None:
    async def scenario() -> int:
        left = asyncio.create_task(asyncio.sleep(0))
        async for _ in collector.events():
            if left.done():
                break
        return len(session.script)

    collector.start()
    session.script.extend([[ONE]] * 100)
    assert asyncio.run(scenario()) > 90


def test_however_often_loops_of_all_kinds_are_left_events_come_once_and_in_order(
    session: FakeSession, collector: Collector
) -> None:
    chance = random.Random(14)
    events: list[Event] = [made(NetnsCreate, str(number)) for number in range(2000)]
    left = iter(events)
    while batch := list(itertools.islice(left, chance.randrange(1, 9))):
        session.script.append(batch)
    seen: list[Event] = []
    kept: list[object] = []

    async def some(count: int, patience: float) -> None:
        stream = aiter(collector.events())
        kept.append(stream)
        try:
            async with asyncio.timeout(patience):
                async for event in stream:
                    seen.append(event)
                    if not (count := count - 1):
                        break
        except TimeoutError:
            pass

    async def scenario() -> None:
        while len(seen) < 2000:
            count = chance.randrange(1, 20)
            match chance.randrange(3):
                case 0:
                    await some(count, chance.choice([0, 0.0001, SOON]) if session.script else 0)
                case 1 if session.script:
                    stream = iter(collector.events())
                    kept.append(stream)
                    for event in stream:
                        seen.append(event)
                        if not (count := count - 1) or not session.script:
                            break
                case 2 if session.script:
                    batches = collector.batches()
                    kept.append(batches)
                    seen.extend(next(batches))
                case _:
                    collector.stop()
                    seen.extend(collector.events())

    collector.start()
    asyncio.run(scenario())
    collector.stop()
    seen.extend(collector.events())
    assert seen == [START, *events, stop_event(2000)]


def test_async_with_starts_and_stops_while_the_event_loop_goes_on(session: FakeSession) -> None:
    async def scenario() -> list[Event]:
        turned = threading.Event()
        session.attaching = session.detaching = held(threading.Event(), turned)
        asyncio.get_running_loop().call_later(0.01, turned.set)
        async with Collector("under test", coalesce=0) as collector:
            assert collector.healthy
            turned.clear()
            session.script.append([ONE])
            asyncio.get_running_loop().call_later(0.01, turned.set)
        assert not collector.healthy
        assert session.closed
        return [event async for event in collector.events()]

    assert asyncio.run(scenario()) == [START, ONE, stop_event(1)]


def test_events_are_read_while_stop_detaches(session: FakeSession, collector: Collector) -> None:
    """On the event loop, too: it does not stand still for a lock."""

    async def scenario() -> list[Event]:
        detaching, told = threading.Event(), threading.Event()
        session.detaching = held(detaching, told)
        stream = aiter(collector.events())
        seen = [await anext(stream)]
        stopping = asyncio.create_task(asyncio.to_thread(collector.stop))
        await until(detaching.is_set)
        session.report(ONE)
        seen.append(await anext(stream))
        assert collector.stats.received == 1
        told.set()
        seen.extend([event async for event in stream])
        await stopping
        return seen

    collector.start()
    assert asyncio.run(scenario()) == [START, ONE, stop_event(1)]
    assert session.closed


def test_stop_waits_for_a_start_and_for_another_stop(session: FakeSession, collector: Collector) -> None:
    attaching, detaching, go_on = threading.Event(), threading.Event(), threading.Event()
    session.attaching = held(attaching, go_on)
    session.detaching = held(detaching, go_on)
    starting = threading.Thread(target=collector.start)
    starting.start()
    assert attaching.wait(SOON)
    stopping = [threading.Thread(target=collector.stop) for _ in range(2)]
    for thread in stopping:
        thread.start()
    assert not detaching.wait(0.01)
    go_on.set()
    for thread in (starting, *stopping):
        thread.join(SOON)
    assert session.closed
    assert list(collector.events()) == [START, stop_event(0)]


def test_async_with_needs_no_thread_of_the_event_loops(session: FakeSession) -> None:
    """The only one reads, until the stop that would have to wait for it."""

    async def scenario() -> list[Event]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(1))
        async with Collector("under test", coalesce=0) as collector:
            reading = loop.run_in_executor(None, lambda: list(collector.events()))
            await until(session.waited.is_set)
        return await reading

    stuck = threading.Timer(SOON, session.report, [ONE])
    stuck.start()
    try:
        assert asyncio.run(asyncio.wait_for(scenario(), SOON)) == [START, stop_event(0)]
    finally:
        stuck.cancel()


def test_an_async_loop_that_is_closed_leaves_the_rest_to_the_next(session: FakeSession, collector: Collector) -> None:
    async def scenario() -> list[Event]:
        seen = []
        async with contextlib.aclosing(aiter(collector.events())) as stream:
            async for event in stream:
                seen.append(event)
                if event is ONE:
                    break
        await stream.aclose()
        assert [event async for event in stream] == []
        seen.append(await anext(second := aiter(collector.events())))
        await stream.aclose()
        return [*seen, await anext(second)]

    collector.start()
    session.script.extend([[ONE, TWO], [THREE]])
    assert asyncio.run(scenario()) == [START, ONE, TWO, THREE]


def test_an_async_loop_that_waits_is_not_closed_from_another_task(session: FakeSession, collector: Collector) -> None:
    async def scenario() -> list[Event]:
        stream = aiter(collector.events())
        seen = [await anext(stream)]
        waiting = asyncio.ensure_future(anext(stream))
        await until(session.waited.is_set)
        with pytest.raises(RuntimeError, match="another task waits"):
            await stream.aclose()
        session.report(ONE)
        return [*seen, await waiting]

    collector.start()
    assert asyncio.run(scenario()) == [START, ONE]


def test_async_with_raises_what_start_raises(session: FakeSession) -> None:
    async def scenario() -> None:
        async with Collector("under test"):
            pytest.fail("it did start")

    session.start_error = UnsupportedError("no kernel")
    with pytest.raises(UnsupportedError, match="no kernel"):
        asyncio.run(scenario())


@pytest.mark.parametrize("impatient", [1, 3])
def test_a_start_that_is_cancelled_leaves_nothing_attached(
    session: FakeSession, collector: Collector, impatient: int
) -> None:
    async def scenario() -> None:
        attaching, go_on = threading.Event(), threading.Event()
        session.attaching = held(attaching, go_on)
        entering = asyncio.create_task(collector.__aenter__())
        await until(attaching.is_set)
        for _ in range(impatient):
            entering.cancel()
            await asyncio.sleep(0.001)
        assert not entering.done(), "it has to wait for what cannot be interrupted"
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert session.closed

    asyncio.run(scenario())
    assert not collector.healthy


def test_a_start_that_is_cancelled_and_fails_is_cancelled(session: FakeSession, collector: Collector) -> None:
    async def scenario() -> None:
        go_on = threading.Event()
        session.attaching = lambda: go_on.wait(SOON)
        entering = asyncio.create_task(collector.__aenter__())
        await asyncio.sleep(0.001)
        entering.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError) as caught:
            await entering
        assert isinstance(caught.value.__cause__, UnsupportedError)

    session.start_error = UnsupportedError("no kernel")
    asyncio.run(scenario())


def test_a_stop_that_is_cancelled_stops(session: FakeSession) -> None:
    async def scenario() -> None:
        detaching, go_on = threading.Event(), threading.Event()
        session.detaching = held(detaching, go_on)

        async def block() -> None:
            async with Collector("under test"):
                pass

        leaving = asyncio.create_task(block())
        await until(detaching.is_set)
        leaving.cancel()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        assert session.closed

    asyncio.run(scenario())


def test_stats_are_live_and_stay_after_the_stop(session: FakeSession, collector: Collector) -> None:
    assert collector.stats.received == 0
    collector.start()
    session.script.append([ONE, TWO])
    batches = collector.batches()
    next(batches), next(batches)
    assert collector.stats.received == 2
    session.script.append([THREE])
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
