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
from ..kernel.tiers import sees_all_tasks
from ..kernel.wire import AUDITED, TRACKED
from .audit import Look, Subject, Told, Untold, compare

PAUSE: Final = 1.0
"""Seconds between the looks of an audit that misses something, and between audits while a namespace dies."""
_REFUSED: Final = (errno.EPERM, errno.EACCES)
"""Why no look will ever succeed. After any other error it is tried again."""
_IN_VAIN: Final = 5
"""Looks in a row that find the same things untold and cannot heal them: then there is no checkpoint."""


class Auditor:
    """Looks again where something is missing: what a program is about to report is not healed.

    One look, once all that was in the ring by then is read, says what the stream has not told. What it still has not
    told at the next look, and after all programs that ran then have ended, was missed. It looks until nothing is
    missing, so that the checkpoint is true. That nothing is told twice hangs
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
        self._start = 0  # where the ring's records were when it began
        self._suspects: Untold | None = None  # what the look before has not found told; None: there was none
        self._healed = 0  # events so far
        self._vain = 0  # looks in a row that have changed nothing
        self._asked = False  # since the last look began
        self._silent = False  # nobody asked: it waits for what is dying, and says nothing where nothing has changed
        self._sees_all_tasks = sees_all_tasks()
        self._next = time.monotonic() + every if every else None  # when a checkpoint is to come, whatever dies
        self.due = self._next

    def ask(self) -> None:
        """Has an audit begin soon. One that is under way answers, if it looks once more; otherwise another follows."""
        self._asked = True
        if not self._look and not self._suspects:
            self.due = time.monotonic()

    def step(self, events: list[Event]) -> None:
        """Goes on with an audit, where it is time. To be called when events were read, and when it is due.

        What interrupts it, as an exception of a signal handler, loses nothing: the next step begins where it ended.

        Args:
            events: where what it tells goes.
        """
        now = time.monotonic()
        if self.due is not None and now >= self.due:
            if self._asked or (self._next is not None and now >= self._next):
                self._silent = False
            self._asked = False
            look: Look | None
            try:
                look = self._take()
            except AttachError as error:
                if error.errno not in _REFUSED:  # no descriptor or no memory is left, for now: the audit goes on
                    self.due = now + PAUSE
                    return
                # Before 5.19 the kernel wants capabilities for it, which may have been given up: no checkpoint.
                look = self._suspects = self._told.since = None
            self._look, self.due = look, None  # last: what interrupts a look is followed by another
        if not self._look:
            return
        if self._ring.consumed >= self._target:
            self._conclude(self._look, events)
        elif self._told.since is None and self._ring.consumed >= self._start:
            self._told.since = set()

    def _take(self) -> Look:
        """Looks; at a second look, also waits until all is in the ring that was under way."""
        self._start = self._ring.produced
        self._told.since = set() if self._ring.consumed >= self._start else None
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
        """What follows from a look, once all that was in the ring by then has been read.

        There is a checkpoint only where nothing is untold any more: what this look alone misses, another is to meet.
        """
        before = self._suspects
        if before:
            self._heal(before.still(compare(self._told, look)), look, events)
        untold = compare(self._told, look)
        now = time.monotonic()
        vain = self._vain + 1 if untold == before else 0
        if (any(untold) or not look.complete) and vain < _IN_VAIN:
            pause = PAUSE if any(untold) else 0  # what had no room in `untracked` has some now
            self._look, self._suspects, self._vain, self.due = None, untold, vain, now + pause
            return
        whole = look.complete and not any(untold) and self._told.is_exact(look)
        again = bool(look.dying or self._healed)
        closing: list[Event] = []
        following = self._next
        if not whole or self._healed or not look.dying or not self._silent:
            following = now + self._every if self._every else None
            if whole:
                members = None if look.members is None else sum(look.members.values())
                closing.append(
                    Checkpoint(self._now(), namespaces=len(self._told), members=members, healed=self._healed)
                )
        soon = now if self._asked else now + PAUSE if again else None
        due = min((moment for moment in (soon, following) if moment is not None), default=None)
        # Without a call in between: what interrupts this does all of it, or nothing.
        events += closing
        self._look = self._suspects = self._told.since = None
        self._silent, self._healed, self._vain = again, 0, 0
        self._next, self.due = following, due

    def _heal(self, missed: Untold, look: Look, events: list[Event]) -> None:
        """Tells what was missed."""
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

    def _tell_birth(self, subject: Subject, look: Look, events: list[Event]) -> None:
        netns, userns = subject
        _, name, pod = self._namespaces.get(netns.cookie) or self._namespaces.remember(*_numbers(netns))
        members = None if look.members is None else look.members.get(netns.cookie, 0)
        found = NetnsFound(self._now(), netns, userns=userns, name=name, pod=pod, members=members, healed=True)
        cookie, since = netns.cookie, self._told.since
        # Without a call in between: what interrupts this has told it, and knows so, or has not.
        events += [found]
        self._told[cookie] = subject
        self._healed += 1
        if since is not None:
            since |= {cookie}
        self._told.bound()

    def _tell_end(self, subject: Subject, events: list[Event]) -> None:
        netns, userns = subject
        _, name, pod = self._namespaces.get(netns.cookie) or self._namespaces.remember(*_numbers(netns))
        end = NetnsDestroy(self._now(), netns, userns=userns, name=name, pod=pod, healed=True)
        cookie, since = netns.cookie, self._told.since
        # As above.
        events += [end]
        if cookie in self._told:
            del self._told[cookie]
        self._healed += 1
        if since is not None:
            since |= {cookie}
        self._namespaces.gone(netns)

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
