"""The collector from Python, on the running kernel."""

from __future__ import annotations

import contextlib
import datetime
import itertools
import os
import signal
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import cni_collector
from cni_collector import (
    Collector,
    CollectorError,
    CollectorStart,
    CollectorStop,
    Event,
    NetnsDestroy,
    NetnsEnterFailed,
)
from cni_collector.stream import decoder

from ..support.actors import CLONE_NEWNET, a_life, refused, setns, unshare
from ..support.watch import EMULATED, PATIENCE, TIER


def test_starts_and_stops_leave_nothing_behind() -> None:
    def resources() -> tuple[int, int, int]:
        with open("/proc/self/maps", encoding="utf-8") as maps:
            regions = sum("bpf" in line for line in maps)
        return len(os.listdir("/proc/self/fd")), threading.active_count(), regions

    with Collector(tier=TIER):  # what is loaded once, stays
        pass
    before = resources()
    rss = []
    for _ in range(11 if EMULATED else 31):
        with Collector(tier=TIER) as collector:
            pass
        told = [event.type for event in collector.events()]
        assert (told[0], told[-1]) == ("collector_start", "collector_stop")
        rss.append(_rss())
    assert resources() == before
    # Of a few in a row the least: what others make meanwhile only adds. 50 KB for each start would be too much.
    assert min(rss[-8:]) - min(rss[3:11]) < 1 << 20


def _rss() -> int:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_stop_from_another_thread_ends_iteration_after_the_drain() -> None:
    seen: list[Event] = []
    armed = threading.Event()
    collector = Collector(tier=TIER)
    collector.start()

    def read() -> None:
        for event in collector.events():
            seen.append(event)
            if isinstance(event, CollectorStart):
                armed.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert armed.wait(PATIENCE)
    for _ in range(7):
        assert refused(lambda: setns(-1, CLONE_NEWNET))
    collector.stop()
    collector.stop()
    reader.join(PATIENCE)
    assert not reader.is_alive()
    assert sum(isinstance(event, NetnsEnterFailed) and event.pid == os.getpid() for event in seen) == 7
    assert isinstance(seen[-1], CollectorStop)
    assert not collector.healthy


def test_stop_from_several_threads_at_once_returns_when_all_is_detached() -> None:
    collector = Collector(tier=TIER, types=["netns_enter_failed"])
    collector.start()
    assert refused(lambda: setns(-1, CLONE_NEWNET))

    def stop() -> None:
        collector.stop()
        assert refused(lambda: setns(-1, CLONE_NEWNET))

    stopping = [threading.Thread(target=stop) for _ in range(4)]
    for thread in stopping:
        thread.start()
    for thread in stopping:
        thread.join(PATIENCE)
    seen = [event for event in collector.events() if event.pid == os.getpid()]
    assert [event.tid for event in seen] == [threading.get_native_id()]


@pytest.mark.any_tier
def test_starting_twice_is_an_error() -> None:
    with Collector(tier=TIER) as collector:
        assert collector.healthy
        with pytest.raises(CollectorError, match="started already"):
            collector.start()
    with pytest.raises(CollectorError, match="started already"):
        collector.start()


def test_types_are_switched_off_in_the_kernel() -> None:
    """With only births wanted nothing else reaches the ring, and no program stands where the rest would be seen."""
    with Collector(tier=TIER):
        everything = _links_held()
    with Collector(tier=TIER, types=["netns_create"]) as collector:
        held = _links_held()
        a_life()
        assert refused(lambda: setns(-1, CLONE_NEWNET))
    assert 0 < held < everything
    assert {e.type for e in collector.events()} == {"collector_start", "netns_create", "collector_stop"}
    assert set(collector.stats.received_by_type) == {"netns_create"}


def _links_held() -> int:
    """How many attachments of BPF programs this process has a descriptor of."""
    count = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{fd}") == "anon_inode:bpf_link"
        except FileNotFoundError:  # the descriptor with which the directory was listed
            continue
    return count


def test_destructions_alone() -> None:
    """Their births are known all the same."""
    with Collector(tier=TIER, types=["netns_destroy"]) as collector:
        a = a_life()
        for event in collector.events():
            if isinstance(event, NetnsDestroy) and event.netns and event.netns.cookie == a:
                assert event.lifetime_ns
                break
    assert {e.type for e in collector.events()} <= {"netns_destroy", "collector_stop"}


@pytest.mark.any_tier
def test_what_a_reader_leaves_of_a_batch_is_kept() -> None:
    with Collector(tier=TIER, types=["netns_enter_failed"]) as collector:
        for _ in range(5):
            assert refused(lambda: setns(-1, CLONE_NEWNET))
        first = list(itertools.islice(collector.events(), 3))
    rest = list(collector.events())
    assert [event.type for event in first] == ["collector_start", "netns_enter_failed", "netns_enter_failed"]
    assert sum(event.pid == os.getpid() for event in first + rest) == 5
    assert rest[-1].type == "collector_stop"


@pytest.mark.any_tier
def test_the_first_event_after_the_time_was_set_has_the_new_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing happens in between, so nothing had the collector look at the clock."""
    set_by = [0]
    clock = types.SimpleNamespace(**vars(time))
    clock.time_ns = lambda: time.time_ns() + set_by[0]
    monkeypatch.setattr(decoder, "time", clock)
    with Collector(types=["netns_create_failed"], coalesce=0, tier=TIER) as collector:
        stream = iter(collector.events())
        next(stream)
        me = threading.get_native_id()
        for hours in (0, 30, -30):
            reader: list[Event] = []

            def mine(reader: list[Event] = reader) -> None:
                reader.append(next(event for event in stream if event.tid == me))

            waiting = threading.Thread(target=mine)
            waiting.start()
            _until_it_waits(waiting.native_id or 0)
            set_by[0] = hours * 3_600_000_000_000
            refused(lambda: unshare(CLONE_NEWNET | 1))
            waiting.join(PATIENCE)
            told = datetime.datetime.fromisoformat(f"{reader[0].time[:26]}+00:00").timestamp()
            assert abs(told - time.time() - hours * 3600) < 10


def _until_it_waits(tid: int) -> None:
    """Until a thread of ours has found nothing in the ring, and sleeps in epoll_wait()."""
    deadline = time.monotonic() + PATIENCE
    while "poll" not in Path(f"/proc/self/task/{tid}/wchan").read_text(encoding="ascii"):
        assert time.monotonic() < deadline


@contextlib.contextmanager
def _alarmed(handler: Callable[[int, types.FrameType | None], object], delay: float, interval: float) -> Iterator[None]:
    """Signals that come while this thread is at something."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, delay, interval)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_stop_by_a_signal_while_stop_detaches_writes_to_nobody_elses_descriptor() -> None:
    """The descriptors that the nested stop would close are somebody else's at once."""
    collector = Collector(tier=TIER)
    collector.start()
    session = collector._session
    assert session
    detach = session._hooks.detach
    foreign: list[int] = []

    def interrupted() -> None:
        session._hooks.detach = detach  # type: ignore[method-assign]
        detach()
        collector.stop()  # as a signal handler does
        foreign.extend(os.memfd_create("foreign") for _ in range(64))

    session._hooks.detach = interrupted  # type: ignore[method-assign]
    try:
        collector.stop()
        assert {os.fstat(fd).st_size for fd in foreign} == {0}
    finally:
        for fd in foreign:
            os.close(fd)
    assert session.closed
    told = [event.type for event in collector.events()]
    assert (told[0], told[-1]) == ("collector_start", "collector_stop")


@pytest.mark.parametrize("milliseconds", [1, 3, 10, 30, 100])
def test_stop_by_signals_at_any_time_of_start_and_stop(milliseconds: int) -> None:
    collector = Collector(tier=TIER, types=["netns_create"])
    # Not more often: bpf_check() ends with EAGAIN where a signal is pending, and libbpf tries five times.
    with _alarmed(lambda *_: collector.stop(), milliseconds / 1000, 0):
        collector.start()
    with _alarmed(lambda *_: collector.stop(), milliseconds / 10000, 0.0001):
        collector.stop()
    told = [event.type for event in collector.events()]
    assert (told[0], told[-1]) == ("collector_start", "collector_stop")
    assert collector._session
    assert collector._session.closed


class InterruptionError(Exception):
    """What a signal handler raises."""


def test_a_storm_of_signals_whose_handler_raises_loses_nothing() -> None:
    """It raises where the collector's own code is interrupted, so that no event is lost between that and this test."""
    here, raised = threading.get_native_id(), 0
    package = str(Path(cni_collector.__file__).parent)

    def handler(_signal: int, frame: types.FrameType | None) -> None:
        nonlocal raised
        if frame and frame.f_code.co_filename.startswith(package):
            raised += 1
            raise InterruptionError

    collector = Collector(tier=TIER, types=["netns_enter_failed"], coalesce=0)
    collector.start()
    seen: list[Event] = []
    attempts = 0
    with _alarmed(handler, 0.001, 0.001):
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            for _ in range(20):
                assert refused(lambda: setns(-1, CLONE_NEWNET))
                attempts += 1
            try:
                for event in collector.events():
                    seen.append(event)
                    if len(seen) > attempts:
                        break
            except InterruptionError:
                pass
    assert collector.healthy
    collector.stop()
    seen.extend(collector.events())
    assert raised > 9
    assert sum(event.tid == here for event in seen) == attempts
    assert isinstance(seen[-1], CollectorStop)
    assert collector._session
    assert collector._session.closed
