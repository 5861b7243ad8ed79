"""What an audit compares, and what it tells of it, without a kernel."""

from __future__ import annotations

import errno
import struct
import sys
from types import SimpleNamespace
from typing import Any, Final

import pytest

from cni_collector.errors import AttachError
from cni_collector.events import Checkpoint, Event, Netns, NetnsDestroy, NetnsFound, Pod
from cni_collector.identity.namespaces import Namespaces
from cni_collector.stream import audit, auditor
from cni_collector.stream.audit import Look, Subject, Told, Untold, compare
from cni_collector.stream.auditor import Auditor

A, B, C = (Netns(cookie, 4026532000 + cookie) for cookie in (1, 2, 3))
USERNS: Final = 4026531837
ALIVE, DYING, GONE = range(3)


def told(*namespaces: Netns) -> Told:
    """A stream that has told that these exist."""
    stream = Told()
    for netns in namespaces:
        stream.alive(netns, USERNS)
    return stream


def subjects(*namespaces: Netns) -> dict[int, Subject]:
    return {netns.cookie: Subject(netns, USERNS) for netns in namespaces}


def look(tracked: tuple[Netns, ...] = (), untracked: tuple[Netns, ...] = (), gone: tuple[Netns, ...] = ()) -> Look:
    return Look(subjects(*tracked), subjects(*untracked), subjects(*gone), 0, {})


@pytest.mark.parametrize(
    ("stream", "kernel", "births", "ends"),
    [
        ((), look(), [], []),
        ((A, B), look(tracked=(A, B)), [], []),
        ((A,), look(tracked=(A, B)), [B], []),
        ((A,), look(tracked=(A,), untracked=(B,)), [B], []),
        ((A, B), look(tracked=(A,)), [], [B]),
        ((A, B), look(tracked=(A,), gone=(B,)), [], [B]),
        ((A,), look(tracked=(A,), gone=(B,)), [], [B]),
        ((A, B), look(untracked=(C,), gone=(A,)), [C], [A, B]),
    ],
)
def test_what_was_not_told(stream: tuple[Netns, ...], kernel: Look, births: list[Netns], ends: list[Netns]) -> None:
    assert compare(told(*stream), kernel) == Untold(
        frozenset(one.cookie for one in births), frozenset(one.cookie for one in ends)
    )


def test_where_there_are_too_many_to_see_nothing_has_ended_but_what_is_seen_to() -> None:
    kernel = look(tracked=(A,), gone=(C,))._replace(complete=False)
    assert compare(told(A, B), kernel) == Untold(frozenset(), frozenset({C.cookie}))


def test_what_is_untold_twice_was_missed() -> None:
    first, second = Untold(frozenset({1, 2}), frozenset({3})), Untold(frozenset({2, 4}), frozenset({3, 5}))
    assert first.still(second) == Untold(frozenset({2}), frozenset({3}))


def test_of_too_many_no_birth_is_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_BOUND", 2)
    stream = told(A, B, C)
    assert compare(stream, look(tracked=(A, B, C))) == Untold(frozenset(), frozenset())
    assert compare(stream, look(tracked=(A, B))).ends == {C.cookie}


class Kernel:
    """What the programs of an audit find, and the collector's own state.

    Attributes:
        tracked: the state of each namespace of that map.
        untracked: namespaces on the kernel's list that are not in it.
        left_out: what an iteration over the map does not show, though it is there.
        members: the namespace of each task.
        clock: seconds.
        produced, consumed: positions in the ring.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *stream: Netns, every: float | None = None) -> None:
        self.tracked = dict.fromkeys(stream, ALIVE)
        self.untracked: list[Netns] = []
        self.left_out: list[Netns] = []
        self.members: list[Netns] = []
        self.clock = 100.0
        self.produced = self.consumed = 0
        self.refuses = 0  # with this error
        self.waits = 0
        self.told = told(*stream)
        self.namespaces = Namespaces()
        clock = SimpleNamespace(monotonic=lambda: self.clock, clock_gettime_ns=lambda _: 7, CLOCK_BOOTTIME=7)
        monkeypatch.setattr(auditor, "time", clock)
        monkeypatch.setattr(auditor, "wait_for_programs", self._wait)
        monkeypatch.setattr(auditor, "sees_all_tasks", lambda: True)
        loaded: Any = self
        self.auditor = Auditor(loaded, self.told, self.namespaces, loaded, lambda: "now", every)

    def _wait(self) -> None:
        self.waits += 1

    def program(self, name: str) -> Any:
        return SimpleNamespace(iterate=self._states if name == "cni_tracked" else self._tasks)

    def map(self, name: str) -> Any:
        if name == "untracked":
            return SimpleNamespace(items=self._noted, remove=lambda _: True, max_entries=3)
        return SimpleNamespace(has=self._has, add=self._add, remove=self._remove)

    def _tasks(self) -> bytes:
        if self.refuses:
            raise AttachError("no", "cni_inside", "iter/task", self.refuses)
        return struct.pack(f"={len(self.members)}Q", *(netns.cookie for netns in self.members))

    def _states(self, over: object) -> bytes:
        assert over
        return b"".join(
            struct.pack("=QIIQ", netns.cookie, netns.inum, USERNS, state)
            for netns, state in self.tracked.items()
            if netns not in self.left_out
        )

    def _noted(self, _key: int, _value: int) -> list[tuple[bytes, bytes]]:
        return [
            (struct.pack("=Q", one.cookie), struct.pack("=QQIIQ", 1, 0, one.inum, USERNS, 1)) for one in self.untracked
        ]

    def _find(self, key: bytes) -> list[Netns]:
        (cookie,) = struct.unpack("=Q", key)
        return [netns for netns in self.tracked if netns.cookie == cookie]

    def _has(self, key: bytes, _size: int) -> bool:
        return bool(self._find(key))

    def _add(self, key: bytes, value: bytes) -> bool:
        if self._find(key):
            return False
        _, _, inum, _, reported = struct.unpack("=QQIIQ", value)
        assert reported
        netns = Netns(int.from_bytes(key, sys.byteorder), inum)
        self.tracked[netns] = ALIVE
        self.untracked.remove(netns)
        return True

    def _remove(self, key: bytes) -> bool:
        found = self._find(key)
        for netns in found:
            del self.tracked[netns]
        return bool(found)

    def step(self) -> list[Event]:
        """What an audit tells now, all that is due included."""
        if self.auditor.due is not None:
            self.clock = max(self.clock, self.auditor.due)
        events: list[Event] = []
        self.auditor.step(events)
        return events

    def ask(self) -> list[Event]:
        self.auditor.ask()
        return self.step()


def checkpoint(namespaces: int, members: int = 0, healed: int = 0) -> Checkpoint:
    return Checkpoint("now", namespaces=namespaces, members=members, healed=healed)


def test_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, A, B)
    kernel.members = [A, A, B]
    assert kernel.auditor.due is None
    assert kernel.step() == []
    assert kernel.ask() == [checkpoint(2, 3)]
    assert kernel.auditor.due is None


def test_members_are_absent_where_not_all_tasks_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, A)
    kernel.auditor._sees_all_tasks = False
    assert kernel.ask() == [Checkpoint("now", namespaces=1, healed=0)]


def test_a_birth_that_no_program_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, A)
    kernel.untracked, kernel.members = [B], [B, B]
    kernel.namespaces.find_pod(B, Pod("shop", "web-0"))
    assert kernel.ask() == []
    assert kernel.auditor.due == kernel.clock + auditor.PAUSE
    found = NetnsFound("now", B, userns=USERNS, pod=Pod("shop", "web-0"), members=2, healed=True)
    assert kernel.step() == [found, checkpoint(2, 2, healed=1)]
    assert B in kernel.tracked
    assert kernel.step() == [checkpoint(2, 2)]  # once more, as there may have been more
    assert kernel.auditor.due is None


def test_a_birth_under_way_is_left_to_who_reports_it(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    kernel.untracked = [A]
    assert kernel.ask() == []
    kernel.untracked, kernel.tracked = [], {A: ALIVE}
    kernel.told.alive(A, USERNS)
    assert kernel.step() == [checkpoint(1)]


def test_a_program_sees_the_birth_at_the_last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    kernel.untracked = [A]
    kernel.ask()
    kernel.produced = 100
    assert kernel.step() == []
    kernel.tracked[A] = ALIVE
    kernel.untracked = []
    kernel.consumed = 100
    assert kernel.step() == []  # not yet true
    kernel.told.alive(A, USERNS)  # its record
    assert kernel.step() == [checkpoint(1)]


def test_a_birth_whose_record_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    kernel.tracked[A] = ALIVE
    assert kernel.ask() == []
    assert kernel.step() == [NetnsFound("now", A, userns=USERNS, members=0, healed=True), checkpoint(1, healed=1)]


def test_it_ends_at_the_last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    kernel.tracked[A] = ALIVE
    kernel.ask()
    kernel.produced = 100
    assert kernel.step() == []
    del kernel.tracked[A]
    kernel.consumed = 100
    assert kernel.step() == []
    assert kernel.step() == [checkpoint(0)]


def test_an_end_that_no_program_has_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, A, B)
    kernel.tracked[A] = GONE
    kernel.namespaces.name({A.cookie: ["/run/netns/a"]})
    assert kernel.ask() == []
    destroyed = NetnsDestroy("now", A, userns=USERNS, name="/run/netns/a", healed=True)
    assert kernel.step() == [destroyed, checkpoint(1, healed=1)]
    assert list(kernel.tracked) == [B]
    assert kernel.step() == [checkpoint(1)]


def test_a_program_sees_the_end_at_the_last_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, A)
    kernel.tracked[A] = GONE
    kernel.ask()
    kernel.produced = 100
    assert kernel.step() == []
    kernel.tracked.clear()
    kernel.consumed = 100
    assert kernel.step() == []
    kernel.told.gone(A)  # by the record that comes next
    assert kernel.step() == [checkpoint(0)]


def test_an_end_whose_record_was_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, A)
    kernel.tracked.clear()
    assert kernel.ask() == []
    assert kernel.step() == [NetnsDestroy("now", A, userns=USERNS, healed=True), checkpoint(0, healed=1)]


def test_with_more_than_can_be_noted_no_end_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """`tracked` is full, so what was told of is not in it, nor in what has room for three."""
    kernel = Kernel(monkeypatch, A)
    kernel.tracked.clear()
    kernel.untracked = [Netns(cookie, cookie) for cookie in (5, 6, 7)]
    kernel.ask()
    assert all(isinstance(event, NetnsFound | Checkpoint) for event in kernel.step())
    assert A.cookie in kernel.told


def test_what_an_iteration_leaves_out_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, A)
    kernel.left_out = [A]
    assert kernel.ask() == []
    assert kernel.step() == [checkpoint(1)]


def test_while_something_dies_there_is_silence_and_a_checkpoint_at_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, A, B)
    kernel.tracked[A] = DYING
    assert kernel.ask() == [checkpoint(2)]
    for _ in range(3):
        assert kernel.auditor.due == kernel.clock + auditor.PAUSE
        assert kernel.step() == []
    assert kernel.ask() == [checkpoint(2)]  # who asks is answered
    del kernel.tracked[A]
    kernel.told.gone(A)
    assert kernel.step() == [checkpoint(1)]
    assert kernel.auditor.due is None


def test_at_intervals(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, A, every=60)
    for minute in range(1, 4):
        assert kernel.auditor.due == 100 + 60 * minute
        assert kernel.step() == [checkpoint(1)]


def test_at_intervals_also_while_something_dies(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, A, every=2.5)
    kernel.tracked[A] = DYING
    told = [kernel.step() for _ in range(7)]
    assert told == [[checkpoint(1)], [], [], [checkpoint(1)], [], [], [checkpoint(1)]]
    assert kernel.clock == 100 + 3 * 2.5


def test_who_asks_meanwhile_gets_the_same_audit(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    kernel.untracked = [A]
    assert kernel.ask() == []
    due = kernel.auditor.due
    kernel.auditor.ask()
    assert kernel.auditor.due == due
    assert kernel.waits == 0
    assert [type(event) for event in kernel.step()] == [NetnsFound, Checkpoint]
    assert kernel.waits == 1


def test_without_the_capabilities_that_an_old_kernel_wants_there_is_no_checkpoint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kernel = Kernel(monkeypatch, A)
    kernel.refuses = errno.EPERM
    assert kernel.ask() == []
    assert kernel.auditor.due is None
    kernel.refuses = 0
    assert kernel.ask() == [checkpoint(1)]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN])
def test_a_look_that_fails_for_now_is_tried_again(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    kernel = Kernel(monkeypatch, A, every=60)
    kernel.refuses = number
    for _ in range(2):
        assert kernel.step() == []
        assert kernel.auditor.due == kernel.clock + auditor.PAUSE
    kernel.refuses = 0
    assert kernel.step() == [checkpoint(1)]
    assert kernel.auditor.due == kernel.clock + 60


def test_a_second_look_that_fails_for_now_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    kernel.tracked[A] = ALIVE
    assert kernel.ask() == []
    kernel.refuses = errno.EMFILE
    assert kernel.step() == []
    kernel.refuses = 0
    assert [type(event) for event in kernel.step()] == [NetnsFound, Checkpoint]


class Interrupted(Exception):
    """What a signal handler raises."""


def once(monkeypatch: pytest.MonkeyPatch, where: Any, name: str, *, after: bool = False) -> None:
    """A signal comes when this is called first: before it does its work, or after."""
    original = getattr(where, name)

    def call(*arguments: Any, **named: Any) -> Any:
        monkeypatch.setattr(where, name, original)
        if after:
            original(*arguments, **named)
        raise Interrupted

    monkeypatch.setattr(where, name, call)


@pytest.mark.parametrize("what", ["compare", "Checkpoint"])
def test_an_audit_that_is_interrupted_when_it_ends_goes_on(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    kernel = Kernel(monkeypatch, A, every=60)
    once(monkeypatch, auditor, what)
    with pytest.raises(Interrupted):
        kernel.step()
    assert kernel.step() == [checkpoint(1)]
    assert kernel.auditor.due == kernel.clock + 60


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("what", ["NetnsFound", "compare", "add", "bound", "Checkpoint"])
def test_healing_that_is_interrupted_tells_each_thing_once(
    monkeypatch: pytest.MonkeyPatch, what: str, after: bool
) -> None:
    kernel = Kernel(monkeypatch, A)
    kernel.untracked = [B, C]
    assert kernel.ask() == []
    once(monkeypatch, {"add": kernel.auditor._tracked, "bound": kernel.told}.get(what, auditor), what, after=after)
    events: list[Event] = []
    kernel.clock += auditor.PAUSE
    with pytest.raises(Interrupted):
        kernel.auditor.step(events)
    while not any(isinstance(event, Checkpoint) for event in events):
        events += kernel.step()
    assert sorted(event.netns.cookie for event in events if isinstance(event, NetnsFound)) == [2, 3]
    assert events[-1] == checkpoint(3, healed=2)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("what", ["NetnsDestroy", "remove", "gone"])
def test_an_end_whose_telling_is_interrupted_is_told_once(
    monkeypatch: pytest.MonkeyPatch, what: str, after: bool
) -> None:
    kernel = Kernel(monkeypatch, A, B)
    kernel.tracked[A] = GONE
    kernel.namespaces.name({A.cookie: ["/run/netns/a"]})
    assert kernel.ask() == []
    once(
        monkeypatch,
        {"remove": kernel.auditor._tracked, "gone": kernel.namespaces}.get(what, auditor),
        what,
        after=after,
    )
    events: list[Event] = []
    kernel.clock += auditor.PAUSE
    with pytest.raises(Interrupted):
        kernel.auditor.step(events)
    while not any(isinstance(event, Checkpoint) for event in events):
        events += kernel.step()
    destroyed = NetnsDestroy("now", A, userns=USERNS, name="/run/netns/a", healed=True)
    assert events == [destroyed, checkpoint(1, healed=1)]


def test_what_is_missed_between_the_looks_is_healed_before_the_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, A)
    kernel.untracked = [B]
    assert kernel.ask() == []
    kernel.untracked = [C]
    kernel.tracked[A] = GONE
    assert kernel.step() == []
    assert kernel.auditor.due == kernel.clock + auditor.PAUSE
    found = NetnsFound("now", C, userns=USERNS, members=0, healed=True)
    assert kernel.step() == [found, NetnsDestroy("now", A, userns=USERNS, healed=True), checkpoint(1, healed=2)]


def test_beside_steady_unseen_births_there_is_no_checkpoint_that_is_not_true(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch, every=1)
    for cookie in range(10, 30):
        kernel.untracked = [Netns(cookie, cookie)]
        assert kernel.step() == []
    found, healed = kernel.step()
    assert isinstance(found, NetnsFound)
    assert healed == checkpoint(1, healed=1)


def test_what_is_told_while_the_audit_looks_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside births and ends that programs see, one look is enough."""
    kernel = Kernel(monkeypatch, A, B)
    kernel.produced = kernel.consumed = 100

    def tasks() -> bytes:
        kernel.produced = 200
        return b""

    monkeypatch.setattr(kernel, "_tasks", tasks)
    assert kernel.ask() == []
    kernel.told.gone(A)
    kernel.told.alive(C, USERNS)
    kernel.consumed = 200
    assert kernel.step() == [checkpoint(2)]
    assert kernel.told.since is None


def test_what_was_in_the_ring_before_the_look_has_not_happened_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """A birth that was told of, and an end that was not, both before the look: the end is missing."""
    kernel = Kernel(monkeypatch, A)
    kernel.produced = 100
    assert kernel.ask() == []
    kernel.told.alive(B, USERNS)
    kernel.consumed = 100
    assert kernel.step() == []
    assert kernel.step() == [NetnsDestroy("now", B, userns=USERNS, healed=True), checkpoint(1, healed=1)]


def test_what_cannot_be_healed_ends_the_audit_without_a_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where `tracked` is full."""
    kernel = Kernel(monkeypatch, every=60)
    kernel.untracked = [A]
    monkeypatch.setattr(kernel.auditor._tracked, "add", lambda *_: False)
    for _ in range(10):
        assert kernel.step() == []
        if kernel.auditor.due == kernel.clock + 60:
            break
    else:
        pytest.fail("it goes on")
    kernel.untracked = []
    assert kernel.ask() == [checkpoint(0)]


def test_who_asks_after_the_last_look_gets_an_audit_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    kernel.produced = 100
    assert kernel.ask() == []  # looks, and waits for what is in the ring
    kernel.tracked[A] = ALIVE
    kernel.auditor.ask()
    kernel.consumed = 100
    assert kernel.step() == [checkpoint(0)]
    assert kernel.auditor.due == kernel.clock
    assert kernel.step() == []
    assert [type(event) for event in kernel.step()] == [NetnsFound, Checkpoint]


def test_of_more_than_can_be_noted_the_rest_is_healed_by_the_next_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel(monkeypatch)
    unseen = [Netns(cookie, cookie) for cookie in range(5, 12)]
    kernel.untracked = list(unseen)
    noted = kernel._noted
    monkeypatch.setattr(kernel.auditor._loaded, "_noted", lambda *sizes: noted(*sizes)[:3])
    events = kernel.ask()
    for _ in range(8):
        if not any(isinstance(event, Checkpoint) for event in events):
            events += kernel.step()
    assert [event.netns for event in events[:-1] if isinstance(event, NetnsFound)] == unseen
    assert events[-1] == checkpoint(7, healed=7)


def test_of_too_many_there_is_no_checkpoint_until_all_that_exist_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_BOUND", 2)
    kernel = Kernel(monkeypatch, A, B, C, every=60)  # A is forgotten
    assert kernel.step() == []
    assert kernel.auditor.due == kernel.clock + 60
    del kernel.tracked[A]
    kernel.told.gone(A)
    assert kernel.step() == [checkpoint(2)]
    kernel.tracked[A] = ALIVE
    assert kernel.step() == []  # and from now on births are healed, too
    assert any(isinstance(event, NetnsFound) for event in kernel.step())


def test_of_too_many_ends_are_healed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_BOUND", 2)
    kernel = Kernel(monkeypatch, A, B, C)
    del kernel.tracked[B]
    assert kernel.ask() == []
    assert kernel.step() == [NetnsDestroy("now", B, userns=USERNS, healed=True)]
