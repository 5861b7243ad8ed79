"""What a session counts and tells of what was lost, without a kernel."""

from __future__ import annotations

import collections
from types import SimpleNamespace
from typing import Any

import pytest

from cni_collector.events import Event, Lost, Netns, NetnsCreate, NetnsDestroy, NetnsEnter
from cni_collector.kernel.wire import LOST, TYPES
from cni_collector.stream.session import Session

from ..support.made import made

BORN = made(NetnsCreate, "now", netns=Netns(1, 4026532001))


class Interrupted(Exception):
    """What a signal handler raises."""


class Kernel:
    """What a session reads, beside the session.

    Attributes:
        events: what is in the ring.
        lost: records by type.
        skipped: runs of programs.
        asked: how often an audit was asked for.
        interrupts: what a signal comes in the middle of, once.
    """

    def __init__(self, wanted: frozenset[type[Event]]) -> None:
        self.events: list[Event] = []
        self.lost: collections.Counter[type[Event]] = collections.Counter()
        self.skipped = 0
        self.asked = 0
        self.interrupts = ""
        self.session = session = Session.__new__(Session)
        state: Any = session
        state.more = state.detached = state.closed = state._detaching = state._asked = state._unlooked = False
        state._mounts_changed = False
        state._taken = []
        state._wanted = wanted
        state._decoder = SimpleNamespace(set_clock=lambda: None, put_births_first=lambda _: None, undecodable=0)
        state._ring = SimpleNamespace(read=self._read)
        state._mount_watch = SimpleNamespace(changed=lambda: False)
        state._auditor = SimpleNamespace(step=lambda _: None, due=None, ask=self._ask)
        state._lost_map = self
        state._lost_raw = self[:]
        state._lost_by_type = [0] * len(TYPES)
        state._skipped = state._unreadable = state._cleanup = state._audited_cleanup = 0
        state._next_look = 0.0
        state._state = bytes(64)
        state._hooks = SimpleNamespace(skipped=self._skipped)
        state._cni_calls = SimpleNamespace(unreadable=0)
        state._timer = SimpleNamespace(set=lambda _: self._interrupt("timer"))
        state._received = collections.Counter()

    def _interrupt(self, where: str) -> None:
        if self.interrupts == where:
            self.interrupts = ""
            raise Interrupted

    def _read(self, _limit: int) -> tuple[list[Event], bool]:
        events, self.events = self.events, []
        return events, False

    def _skipped(self) -> int:
        self._interrupt("skipped")
        return self.skipped

    def _ask(self) -> None:
        self._interrupt("ask")
        self.asked += 1

    def __getitem__(self, _all: slice) -> bytes:
        return LOST.pack(*(self.lost[kind] if kind else 0 for kind in TYPES))


@pytest.mark.parametrize("where", ["skipped", "ask", "timer"])
def test_what_interrupts_a_reading_counts_nothing_twice_and_loses_no_loss(where: str) -> None:
    kernel = Kernel(frozenset({NetnsCreate}))
    kernel.events, kernel.lost[NetnsCreate], kernel.skipped, kernel.interrupts = [BORN], 3, 2, where
    with pytest.raises(Interrupted):
        kernel.session.read()
    born, lost = kernel.session.read()
    assert born == BORN
    assert isinstance(lost, Lost)
    assert (lost.count, lost.by_type, lost.skipped) == (3, {"netns_create": 3}, 2)
    assert kernel.session.read() == []


def test_a_batch_whose_reading_was_interrupted_is_received_once() -> None:
    kernel = Kernel(frozenset({NetnsCreate}))
    kernel.events, kernel.interrupts = [BORN], "timer"
    with pytest.raises(Interrupted):
        kernel.session.read()
    assert kernel.session.read() == [BORN]
    assert kernel.session._received == {NetnsCreate: 1}


@pytest.mark.parametrize("kind", [NetnsCreate, NetnsDestroy])
@pytest.mark.parametrize("wanted", [NetnsCreate, NetnsEnter])
def test_lost_births_and_ends_are_audited_whoever_asked_for_them(kind: type[Event], wanted: type[Event]) -> None:
    kernel = Kernel(frozenset({wanted}))
    kernel.session.read()
    kernel.lost[kind] = 1
    kernel.session.read()
    kernel.session.read()
    assert kernel.asked == 1


def test_what_an_audit_cannot_heal_asks_for_none() -> None:
    kernel = Kernel(frozenset({NetnsEnter}))
    kernel.lost[NetnsEnter] = 1
    assert [type(event) for event in kernel.session.read()] == [Lost]
    assert kernel.asked == 0
