"""Audits: when they run, how they look into the kernel, and how they heal what the stream has missed."""

from __future__ import annotations

import collections
import errno
import sys
import time
from collections.abc import Callable
from typing import Final

from ..errors import AttachError
from ..events import Checkpoint, Event, Netns, NetnsDestroy, NetnsFound
from ..identity.namespaces import Namespaces
from ..kernel.objects import Object
from ..kernel.ring import Ring, wait_for_programs
from ..kernel.wire import AUDITED, TRACKED
from .audit import Look, Subject, Told, Untold, compare
from .snapshot import sees_all_tasks

PAUSE: Final = 1.0
"""Seconds between the two looks of an audit that misses something, and between audits while a namespace dies."""
_REFUSED: Final = (errno.EPERM, errno.EACCES)
"""Why no look will ever succeed. After any other error it is tried again."""


class Auditor:
    """Looks twice where something is missing: what a program is about to report is not healed.

    One look, once all that was in the ring by then is read, says what the stream has not told. What it still has not
    told at a second look, and after all programs that ran then have ended, was missed. That nothing is told twice hangs
    on the map of tracked namespaces alone: who adds an entry tells the birth, who removes it tells the end.

    Args:
        loaded: the object whose programs look.
        told: what the stream has told of.
        namespaces: what events about a namespace carry.
        ring: what is read between a look and the comparison.
        now: the time as events carry it.
        every: seconds from one audit to the next; None: only when asked.

    Attributes:
        due: when `step` has something to do, in seconds of `time.monotonic()`; None: not before it is asked.
    """

    def __init__(
        self,
        loaded: Object,
        told: Told,
        namespaces: Namespaces,
        ring: Ring,
        now: Callable[[], str],
        every: float | None,
    ) -> None:
        self._loaded = loaded
        self._tracked = loaded.map("tracked")
        self._told = told
        self._namespaces = namespaces
        self._ring = ring
        self._now = now
        self._every = every
        self._look: Look | None = None  # one that was not compared yet
        self._target = 0  # up to where the ring is to be read before it is
        self._untracked: dict[int, bytes] = {}  # what it noted of these: what `tracked` is to have
        self._suspects: Untold | None = None  # between the two looks
        self._silent = False  # nobody asked: it waits for what is dying, and says nothing where nothing has changed
        self._sees_all_tasks = sees_all_tasks()
        self._next = time.monotonic() + every if every else None  # when a checkpoint is to come, whatever dies
        self.due = self._next

    def ask(self) -> None:
        """Has an audit begin soon, if none is under way. Safe in a signal handler."""
        self._silent = False
        if not self._suspects and not self._look:  # otherwise one is under way
            self.due = time.monotonic()

    def step(self, events: list[Event]) -> None:
        """Goes on with an audit, where it is time. To be called when events were read, and when it is due.

        Args:
            events: where what it tells goes.
        """
        now = time.monotonic()
        if self.due is not None and now >= self.due:
            if self._next is not None and now >= self._next:
                self._silent = False
            try:
                self._look = self._take()
            except AttachError as error:
                if error.errno not in _REFUSED:  # no descriptor or no memory is left, for now: the audit goes on
                    self.due = now + PAUSE
                    return
                # Before 5.19 the kernel wants capabilities for it, which may have been given up: no checkpoint.
                self._suspects = None
            self.due = None  # last: what interrupts a look is followed by another
        if self._look and self._ring.consumed >= self._target:
            look, self._look = self._look, None
            self._conclude(look, events)

    def _take(self) -> Look:
        """Looks; at a second look, also waits until all is in the ring that was under way."""
        members = self._loaded.program("cni_inside").iterate()
        noted = self._loaded.map("untracked")
        self._untracked = {_cookie(key): value for key, value in list(noted.items(8, TRACKED.size))}
        for cookie in self._untracked:
            noted.remove(_key(cookie))
        alive: dict[int, Subject] = {}
        dying: dict[int, Subject] = {}
        gone: dict[int, Subject] = {}
        states = (alive, dying, gone)  # as in `enum netns_state`
        written = self._loaded.program("cni_tracked").iterate(over=self._tracked)
        for cookie, inum, userns, state in AUDITED.iter_unpack(written):
            states[state][cookie] = Subject(Netns(cookie, inum), userns)
        for cookie in self._suspects.ends if self._suspects else ():
            # An iteration may leave out what others change meanwhile.
            if cookie not in gone and (subject := self._told.get(cookie)) and self._is_tracked(cookie):
                alive[cookie] = subject
        if self._suspects:
            wait_for_programs()
        self._target = self._ring.produced
        return Look(
            alive | dying,
            {cookie: _subject(cookie, value) for cookie, value in self._untracked.items()},
            gone,
            len(dying),
            collections.Counter(memoryview(members).cast("Q")) if self._sees_all_tasks else None,
            complete=len(self._untracked) < noted.max_entries,
        )

    def _conclude(self, look: Look, events: list[Event]) -> None:
        """What follows from a look, once all that was in the ring by then has been read."""
        untold, before = compare(self._told, look), self._suspects
        self._suspects = None
        if before is None and any(untold):
            self._suspects = untold
            self.due = time.monotonic() + PAUSE
            return
        healed = self._heal(before.still(untold), look, events) if before else 0
        if healed or not look.dying or not self._silent:
            members = None if look.members is None else sum(look.members.values())
            events.append(Checkpoint(self._now(), namespaces=len(self._told), members=members, healed=healed))
            self._next = time.monotonic() + self._every if self._every else None
        self._silent = bool(look.dying or healed)
        again = time.monotonic() + PAUSE if self._silent else None
        self.due = min((moment for moment in (again, self._next) if moment is not None), default=None)

    def _heal(self, missed: Untold, look: Look, events: list[Event]) -> int:
        """Tells what was missed: how many events that took."""
        before = len(events)
        for cookie in sorted(missed.births):
            # A program that saw the birth after all has added it; of one that was tracked the record was lost.
            value = self._untracked.get(cookie)
            if self._is_tracked(cookie) if cookie in look.tracked else value and self._tracked.add(_key(cookie), value):
                self._tell_birth(look.tracked.get(cookie) or look.untracked[cookie], look, events)
        for cookie in sorted(missed.ends):
            if cookie not in look.gone:
                self._tell_end(self._told[cookie], events)
            elif self._tracked.remove(_key(cookie)):
                self._tell_end(look.gone[cookie], events)
        return len(events) - before

    def _tell_birth(self, subject: Subject, look: Look, events: list[Event]) -> None:
        netns, userns = subject
        self._told.alive(netns, userns)
        _, name, pod = self._namespaces.get(netns.cookie) or self._namespaces.remember(*_numbers(netns))
        members = None if look.members is None else look.members.get(netns.cookie, 0)
        events.append(NetnsFound(self._now(), netns, userns=userns, name=name, pod=pod, members=members, healed=True))

    def _tell_end(self, subject: Subject, events: list[Event]) -> None:
        netns, userns = subject
        _, name, pod = self._namespaces.get(netns.cookie) or self._namespaces.remember(*_numbers(netns))
        events.append(NetnsDestroy(self._now(), netns, userns=userns, name=name, pod=pod, healed=True))
        self._namespaces.gone(netns)
        self._told.gone(netns)

    def _is_tracked(self, cookie: int) -> bool:
        return self._tracked.has(_key(cookie), TRACKED.size)


def _key(cookie: int) -> bytes:
    return cookie.to_bytes(8, sys.byteorder)


def _cookie(key: bytes) -> int:
    return int.from_bytes(key, sys.byteorder)


def _subject(cookie: int, value: bytes) -> Subject:
    """The namespace of a `struct tracked`."""
    _, _, inum, userns, _ = TRACKED.unpack(value)
    return Subject(Netns(cookie, inum), userns)


def _numbers(netns: Netns) -> tuple[int, int]:
    return netns.cookie, netns.inum
