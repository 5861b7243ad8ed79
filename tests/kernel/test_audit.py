"""Audits: what was missed is told once it is looked for, and after a checkpoint the stream is exact about what exists.

A program that the kernel skips does nothing, as one that is not attached: so what is skipped here is detached. Such a
collector misses something again and again while others make namespaces, so these tests run alone.
"""

from __future__ import annotations

import contextlib
import itertools
import mmap
import os
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cni_collector import (
    AnyEvent,
    Checkpoint,
    Collector,
    Event,
    Lost,
    NetnsCreate,
    NetnsDestroy,
    NetnsFound,
    privileges,
)

from ..support.actors import Puppet, a_life, a_netns
from ..support.watch import PATIENCE, TIER, Watch, watching

RING = 64 << 20


def _of(events: Iterable[Event], cookie: int) -> list[str]:
    """What was told of a namespace: how it began to exist, and how it ended."""
    return [
        f"{event.type} healed" if event.healed else event.type
        for event in events
        if isinstance(event, NetnsFound | NetnsDestroy) and event.netns.cookie == cookie
    ] + [event.type for event in events if isinstance(event, NetnsCreate) and event.netns.cookie == cookie]


def _exist(events: Iterable[Event]) -> set[int]:
    """The cookies of the namespaces that exist, as the stream tells."""
    cookies: set[int] = set()
    for event in events:
        if isinstance(event, NetnsCreate | NetnsFound):
            assert event.netns.cookie not in cookies, "told twice"
            cookies.add(event.netns.cookie)
        elif isinstance(event, NetnsDestroy):
            cookies.discard(event.netns.cookie)
    return cookies


def _check(events: list[Event]) -> Checkpoint:
    """The last event is a checkpoint that counts what the stream tells."""
    last = events[-1]
    assert isinstance(last, Checkpoint)
    assert last.namespaces == len(_exist(events))
    return last


def _detach(collector: Collector, skipped: Callable[[str], bool]) -> None:
    """Takes programs away, by their names. Children that were forked before keep them: there must be none."""
    assert collector._session
    links = collector._session._hooks._links
    for site in [site for site in links if skipped(site.program)]:
        links.pop(site).close()


@contextlib.contextmanager
def _collecting(skipped: Callable[[str], bool]) -> Iterator[Callable[[], list[Event]]]:
    """A collector in a process without privileges, some of whose programs are skipped.

    Gives a function that asks for an audit, and returns all events up to its checkpoint since it was called last.
    """

    def collect(self: Puppet) -> None:
        collector = Collector(tier=TIER, ring_bytes=RING)
        collector.start()
        _detach(collector, skipped)
        privileges.drop()
        self.say("ready")
        encoder = msgspec.json.Encoder()
        while self.hear():
            collector.audit()
            told = []
            for event in collector.events():
                told.append(encoder.encode(event).decode())
                if isinstance(event, Checkpoint):
                    break
            self.say(told)
        collector.stop()

    with Puppet(collect) as child:
        assert child.hear() == "ready"

        def audit() -> list[Event]:
            child.say("audit")
            lines: Any = child.hear()
            return [msgspec.json.decode(line, type=AnyEvent) for line in lines]

        yield audit
        child.end()


@pytest.mark.alone
def test_an_end_that_was_skipped(watch: Watch) -> None:
    with _collecting(lambda program: "cleanup" in program) as audit:
        cookie = a_life()
        watch.destroyed(cookie)
        events = audit()
        assert sorted(_of(events, cookie)) == ["netns_create", "netns_destroy healed"]
        ended = next(e for e in events if isinstance(e, NetnsDestroy) and e.netns.cookie == cookie)
        assert (ended.lifetime_ns, ended.teardown_ns, ended.pid) == (None, None, None)
        assert ended.userns == os.stat("/proc/self/ns/user").st_ino
        assert _check(events).healed == sum(isinstance(event, NetnsDestroy) for event in events)


@pytest.mark.alone
def test_a_birth_that_was_skipped(watch: Watch) -> None:
    """Its end is told as that of any other, as it is known from then on."""
    with _collecting(lambda program: "cleanup" not in program) as audit:
        with a_netns() as (_, cookie):
            events = audit()
            assert _of(events, cookie) == ["netns_found healed"]
            found = next(e for e in events if isinstance(e, NetnsFound) and e.netns.cookie == cookie)
            assert (found.members, found.pid, found.comm, found.cgroup) == (1, None, None, None)
            assert _check(events).healed
        watch.destroyed(cookie)
        events += audit()
        assert sorted(_of(events, cookie)) == ["netns_destroy", "netns_found healed"]
        _check(events)


@pytest.mark.alone
def test_a_skipped_end_is_noticed_by_itself(watch: Watch) -> None:
    """The run of the clean-up that began does not end: an audit comes without being asked for."""
    with Collector(tier=TIER, ring_bytes=RING) as collector:
        _detach(collector, lambda program: re.fullmatch("cni_(fx|kr|tx)_cleanup", program) is not None)
        cookie = a_life()
        watch.destroyed(cookie)
        for event in collector.events():
            if isinstance(event, NetnsDestroy) and event.netns.cookie == cookie:
                assert event.healed
                break


@pytest.mark.alone
@pytest.mark.any_tier
def test_what_was_not_asked_for_is_healed_in_silence() -> None:
    types = ["netns_create", "netns_destroy", "cni_start"]
    with Collector(tier=TIER, ring_bytes=RING, types=types) as collector:
        _detach(collector, lambda program: "cleanup" not in program)
        with a_netns():
            collector.audit()
            events = []
            for event in collector.events():
                events.append(event)
                if isinstance(event, Checkpoint):
                    assert event.healed
                    break
    assert not any(isinstance(event, NetnsFound) for event in events)


@pytest.mark.alone
def test_a_namespace_that_came_and_went_unseen(watch: Watch) -> None:
    with _collecting(lambda _: True) as audit:
        cookie = a_life()
        watch.destroyed(cookie)
        assert _of(audit(), cookie) == []


def test_what_was_lost_for_want_of_room(watch: Watch) -> None:
    with Collector(tier=TIER, ring_bytes=mmap.PAGESIZE) as collector, contextlib.ExitStack() as stack:
        lives = [a_life() for _ in range(23)]
        alive = [stack.enter_context(a_netns())[1] for _ in range(3)]
        watch.destroyed(*lives)
        events: list[Event] = []
        for _ in range(2):
            collector.audit()
            for event in collector.events():
                events.append(event)
                if isinstance(event, Checkpoint):
                    break
        _check(events)
        assert any(isinstance(event, Lost) for event in events)
        assert {*lives, *alive} & _exist(events) == set(alive)


@pytest.mark.any_tier
def test_the_kernel_says_that_it_has_skipped_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    with Collector(tier=TIER, ring_bytes=RING) as collector:
        assert collector._session
        monkeypatch.setattr(collector._session._hooks, "skipped", lambda: 7)
        kinds = []
        for event in collector.events():
            kinds.append(type(event))
            if isinstance(event, Checkpoint):
                break
        assert Lost in kinds


@pytest.mark.any_tier
def test_a_look_follows_the_last_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when nothing wakes the reader any more: a program that was skipped may have been the last."""
    with Collector(tier=TIER, ring_bytes=RING, types=["netns_found"]) as collector:
        assert collector._session
        batches = collector.batches()
        next(batches)
        monkeypatch.setattr(collector._session, "_next_look", time.monotonic() + 0.5)
        monkeypatch.setattr(collector._session, "_unlooked", True)
        collector._session._set_timer(collector._session._next_look, unlooked=True)
        monkeypatch.setattr(collector._session._hooks, "skipped", lambda: 7)
        assert isinstance(next(batches)[0], Lost)


@pytest.mark.any_tier
def test_a_signal_asks_for_one(watch: Watch) -> None:
    with watching() as mine:
        with a_netns() as (_, cookie):
            for _ in range(2):
                since = len(mine.events)
                os.kill(mine.pid, signal.SIGUSR1)
                at = mine.find(lambda event: isinstance(event, Checkpoint), since)
                told = _check(mine.events[: at + 1])
                assert told.members
                assert cookie in _exist(mine.events[: at + 1])
        watch.destroyed(cookie)
        mine.destroyed(cookie)
        _exist(mine.events)
        mine.stop()


@pytest.mark.any_tier
def test_at_intervals_and_in_between_no_timer() -> None:
    with watching("--audit", "1") as mine:
        times = []
        since = 0
        for _ in range(3):
            since = mine.find(lambda event: isinstance(event, Checkpoint), since) + 1
            times.append(mine.events[since - 1].time_ns)
        assert all(later - earlier >= 1e9 for earlier, later in itertools.pairwise(times))
        assert _armed(mine.pid)
        mine.stop()


@pytest.mark.any_tier
def test_without_work_no_timer_runs() -> None:
    """After events, a look, and an audit: nothing wakes up any more."""
    with watching() as mine:
        a_life()
        os.kill(mine.pid, signal.SIGUSR1)
        mine.find(lambda event: isinstance(event, Checkpoint))
        deadline = time.monotonic() + PATIENCE
        while _armed(mine.pid):  # by what others do, too
            assert time.monotonic() < deadline
            time.sleep(0.1)
        mine.stop()


def _armed(pid: int) -> bool:
    """Whether a process waits for a timer (timerfd's fields in /proc/PID/fdinfo)."""
    texts = []
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(OSError):
            texts.append(file.read_text(encoding="ascii"))
    values = re.findall(r"^it_value: \((\d+), (\d+)\)$", "\n".join(texts), re.M)
    assert len(values) == 1
    return any(part != "0" for part in values[0])
