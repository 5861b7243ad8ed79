"""One session with the kernel, from start to stop: its ring, its counters, its descriptors."""

from __future__ import annotations

import collections
import contextlib
import mmap
import os
import platform
import select
import threading
import time
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from ..events import (
    SCHEMA,
    Checkpoint,
    CniEnd,
    CniExec,
    CniStart,
    CollectorStart,
    CollectorStop,
    Event,
    Lost,
    Netns,
    NetnsCreate,
    NetnsDestroy,
    NetnsFound,
    type_name,
)
from ..identity.cgroups import CgroupPaths
from ..identity.cni import CniCalls
from ..identity.mounts import MountWatch
from ..identity.namespaces import Namespaces
from ..kernel import tiers
from ..kernel.hooks import EventTypes
from ..kernel.libbpf import give_back
from ..kernel.mounts import MountList
from ..kernel.ring import Ring
from ..kernel.wire import CGROUP, ENDING, LOST, RUNNING, STATE, STATE_EPOCH, STATE_PHASE, STATE_SECCOMP_SHOWS, TYPES
from ..version import VERSION
from .auditor import Auditor
from .decoder import Decoder
from .snapshot import boot_id, take
from .timer import Timer

ATTRIBUTION: Final[EventTypes] = frozenset({NetnsCreate, NetnsDestroy, CniStart, CniEnd})
"""What has to be known, asked for or not, to say which pod a namespace is for."""
_UNASKED: Final[EventTypes] = ATTRIBUTION | {CniExec}
"""What the decoder makes, asked for or not: helpers are among what belongs to a CNI call."""
LOOK: Final = 1.0
"""Seconds at least between two looks for what the kernel skipped, which cost system calls."""
CHUNK: Final = 512
"""Most records taken from the ring at once: larger batches fall out of the processor's cache."""


class Stats(msgspec.Struct, frozen=True):
    """What a collector has counted since it started.

    Every record finds room in the ring or is counted as lost. Skipped programs and exhausted kernel memory are counted
    approximately, under one type each.
    """

    received: int = 0
    """Events about namespaces and CNI calls that were delivered."""
    lost: int = 0
    """Events known to have happened and not delivered, counted in the kernel: there was no room in the ring, or none to
    remember something, or the end of their system call was skipped."""
    undecodable: int = 0
    """Records that this version could not read: neither received nor lost."""
    received_by_type: dict[str, int] = {}
    lost_by_type: dict[str, int] = {}
    lost_cgroup_paths: int = 0
    """Cgroup paths that found no room: their events were delivered without them."""
    skipped: int = 0
    """Runs of BPF programs that the kernel skipped: at most so many facts were not seen at all."""
    unreadable: int = 0
    """Processes whose environment could not be read: at most so many CNI calls were not seen."""


class Session:
    """See the module.

    Args:
        wanted: types of event to report.
        tier: the only tier to try, or None for the best.
        ring_bytes: size of the ring buffer.
        node: the machine's name, or None for its host name.
        paths: reads the paths of cgroups.
        audit: seconds from one audit to the next, or None for none at intervals.

    Raises:
        CollectorError: nothing could be attached.

    Attributes:
        opening: the events that a stream begins with.
        more: whether the last `read` left events in the ring.
        detached: nothing more will be reported.
        closed: nothing is open any more.
    """

    def __init__(
        self,
        wanted: EventTypes,
        tier: str | None,
        ring_bytes: int,
        node: str | None,
        paths: CgroupPaths,
        audit: float | None,
    ) -> None:
        self.more = False
        self.detached = False
        self.closed = False
        self._ending = threading.RLock()  # reentrant, because a signal handler may detach, too
        self._detaching = False  # so a detach() that is entered meanwhile is nested, in the same thread
        self._taken: list[Event] = []  # out of the ring, and not given yet: an interrupted reading loses nothing
        self._node = node or platform.node()
        with contextlib.ExitStack() as opened:
            self._wanted = wanted
            self._hooks = tiers.attach(tier, wanted | ATTRIBUTION, ring_bytes)
            opened.callback(self._hooks.close)
            loaded = self._hooks.object
            self._namespaces = Namespaces()
            self._cni_calls = CniCalls(self._namespaces)
            self._decoder = Decoder(self._namespaces, self._cni_calls, self._forget_paths, paths)
            self._received: collections.Counter[type[Event]] = collections.Counter()
            self._state = opened.enter_context(mmap.mmap(loaded.map(".data.state").fd, mmap.PAGESIZE))
            lost = loaded.map("lost")
            self._lost_map = opened.enter_context(mmap.mmap(lost.fd, LOST.size * lost.max_entries, prot=mmap.PROT_READ))
            self._lost_raw = self._lost_map[:]
            self._lost_by_type = self._sum_lost(self._lost_raw)
            self._skipped = 0
            self._unreadable = 0
            self._next_look = 0.0
            # Whether there may be something to see at the next look: events were read, or a clean-up runs.
            self._unlooked = False
            self._audited_cleanup = 0  # the run of it that an audit was asked for
            self._cleanup = 0  # the run of cleanup_net() that the last look saw
            ring = loaded.map("ring")
            decoder = self._decoder
            self._ring = opened.enter_context(contextlib.closing(Ring(ring, decoder.decode, decoder.decode_run)))
            self._doorbell = os.eventfd(0, os.EFD_CLOEXEC)
            opened.callback(os.close, self._doorbell)
            self._epoll = opened.enter_context(select.epoll())
            self._epoll.register(ring.fd, select.EPOLLIN)
            self._epoll.register(self._doorbell, select.EPOLLIN)
            self._timer = opened.enter_context(contextlib.closing(Timer()))
            self._epoll.register(self._timer, select.EPOLLIN)
            self._asked = False  # for an audit, by `_request`
            self._request = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            opened.callback(os.close, self._request)
            self._epoll.register(self._request, select.EPOLLIN)
            self._auditor = Auditor(loaded, decoder.told, self._namespaces, self._ring, _now, audit)
            self._mount_watch = opened.enter_context(contextlib.closing(MountWatch()))
            self._epoll.register(self._mount_watch, select.EPOLLPRI)
            self._mounts = opened.enter_context(contextlib.closing(MountList(loaded)))
            self._mounts_changed = False
            self.opening = self._open()
            self._set_timer(self._next_look, unlooked=self._unlooked)
            self._opened = opened.pop_all()
        give_back()

    def _open(self) -> list[Event]:
        """Takes stock of what exists. From then on destructions are reported, those meanwhile included."""
        loaded = self._hooks.object
        found = take(loaded, self._decoder, self._mounts)
        self._state[STATE_SECCOMP_SHOWS] = self._hooks.see_seccomp()
        self._state[STATE_PHASE] = RUNNING
        loaded.program("cni_sweep").run()
        now = _now()
        cookie, _cleanup, inum, _epoch, _phase, counts_skips, _seccomp_shows = STATE.unpack_from(self._state)
        system = platform.uname()
        start = CollectorStart(
            now,
            schema=SCHEMA,
            version=VERSION,
            node=self._node,
            boot_id=boot_id(),
            kernel=system.release,
            arch=system.machine,
            tier=self._hooks.tier,
            host_netns=Netns(cookie, inum),
            missing=[hook.fact for hook in self._hooks.missing],
            uncounted=[] if counts_skips else [hook.fact for hook in self._hooks.skippable()],
        )
        for one in found:
            self._decoder.told.alive(one.netns, one.userns)
            if one.pod:
                self._namespaces.find_pod(one.netns, one.pod)
        self._namespaces.name({one.netns.cookie: one.names for one in found if one.names})
        events: list[Event] = [one.event(now) for one in found if NetnsFound in self._wanted]
        self._received = self._counted(events)
        return [start, *events]

    def closing(self) -> CollectorStop:
        """The event that a stream ends with."""
        stats = self.stats()
        return CollectorStop(
            _now(),
            events=stats.received,
            lost=stats.lost,
            skipped=stats.skipped or None,
            unreadable=stats.unreadable or None,
        )

    def fileno(self) -> int:
        """A descriptor that is readable when there is something to read, or nothing will come any more."""
        return self._epoll.fileno()

    def wait(self) -> None:
        """Sleeps until the descriptor is readable."""
        self._epoll.poll()

    def read(self) -> list[Event]:
        """The next events, what was lost, and what an audit tells; empty where there is nothing at the moment.

        Raises:
            LayoutError: the ring holds what no kernel writes.
        """
        if not self.more:
            self._decoder.set_clock()  # not before the pause: the time may have been set meanwhile
        events: list[Event] = []
        self.more = True
        while self.more and not events:
            mounted = self._newly_mounted()
            if not self._taken:
                self._taken, self.more = self._ring.read(CHUNK)
                self._decoder.put_births_first(self._taken)
            if mounted is not None:
                self._namespaces.name(mounted)  # not before: what has happened so far had no such name
                self._mounts_changed = False
            events = self._asked_for(self._taken)
            if not events:
                self._taken = []
        if not self.detached and not self._detaching:
            if self._asked:
                self._asked = False
                with contextlib.suppress(BlockingIOError):  # two have asked, and both were heard
                    os.eventfd_read(self._request)
                self._auditor.ask()
            self._auditor.step(self._taken)
            events = self._asked_for(self._taken)
        fresh = None
        if self.detached or self._lost_raw != self._lost_map[:] or time.monotonic() > self._next_look:
            unlooked = self._cleanup_goes_on()
            fresh = self._newly_lost()
            if fresh.heals:
                self._auditor.ask()
        else:
            unlooked = self._unlooked or bool(events)
        self._set_timer(fresh.next_look if fresh else self._next_look, unlooked=unlooked)
        received = self._counted(events)
        # Without a call in between: what interrupts this counts nothing twice, and loses no `lost`.
        if fresh:
            self._lost_raw, self._lost_by_type, self._skipped, self._unreadable, self._next_look, lost, _ = fresh
            if lost:
                events += [lost]
        self._unlooked = unlooked
        self._received = received
        self._taken = []
        return events

    def _newly_mounted(self) -> dict[int, list[str]] | None:
        """Where namespaces are mounted, by cookie, if the mounts have changed; None if not, or if they change still."""
        if self._mount_watch.changed():
            self._mounts_changed = True
        return self._mounts.read() if self._mounts_changed else None

    def _cleanup_goes_on(self) -> bool:
        """Whether a clean-up of the kernel's began. One that two looks meet is long, or its end was skipped: audit."""
        before, self._cleanup = self._cleanup, STATE.unpack_from(self._state)[1]
        fresh = self._cleanup != before
        if self._cleanup and not fresh and self._cleanup != self._audited_cleanup:
            self._audited_cleanup = self._cleanup
            self._auditor.ask()
        return bool(self._cleanup) and fresh

    def _set_timer(self, next_look: float, *, unlooked: bool) -> None:
        """Wakes who waits when an audit is due, or a look after the last events; never, where neither is to come."""
        moments = (self._auditor.due, next_look if unlooked else None)
        self._timer.set(min((moment for moment in moments if moment is not None), default=None))

    def audit(self) -> None:
        """Asks for an audit, which `read` does, unless all is closed. From any thread, also in a signal handler."""
        with self._ending:
            if not self.closed:
                os.eventfd_write(self._request, 1)
                self._asked = True  # last: who sees it empties the descriptor

    def _asked_for(self, events: list[Event]) -> list[Event]:
        if self._wanted >= _UNASKED and NetnsFound in self._wanted:  # an audit finds, whatever was asked for
            return events
        return [event for event in events if type(event) in self._wanted or isinstance(event, Checkpoint)]

    def _counted(self, events: Iterable[Event]) -> collections.Counter[type[Event]]:
        """What has been received, with these."""
        received = self._received.copy()
        received.update(map(type, events))
        received.pop(Checkpoint, None)  # it is about the stream itself
        return received

    def _sum_lost(self, raw: bytes) -> list[int]:
        """Lost records by type, over all CPUs; of types that nobody asked for, none."""
        asked_for = self._wanted | {None}
        return [count if kind in asked_for else 0 for kind, count in zip(TYPES, _lost_of_any_type(raw), strict=True)]

    def _newly_lost(self) -> _NewlyLost:
        raw = self._lost_map[:]
        by_type, skipped_now, unreadable_now = self._sum_lost(raw), self._hooks.skipped(), self._cni_calls.unreadable
        fresh = [now - then for now, then in zip(by_type, self._lost_by_type, strict=True)]
        skipped, unreadable = skipped_now - self._skipped, unreadable_now - self._unreadable
        lost = None
        if sum(fresh[CGROUP + 1 :]) or skipped or unreadable:
            lost = Lost(
                _now(),
                count=sum(fresh[CGROUP + 1 :]),
                by_type=_by_name(fresh),
                skipped=skipped or None,
                unreadable=unreadable or None,
            )
        # Also where nobody asked for births or ends: an audit compares them all.
        missing = [
            now > then
            for kind, now, then in zip(TYPES, _lost_of_any_type(raw), _lost_of_any_type(self._lost_raw), strict=True)
            if kind in (NetnsCreate, NetnsDestroy)
        ]
        return _NewlyLost(
            raw, by_type, skipped_now, unreadable_now, time.monotonic() + LOOK, lost, bool(skipped) or any(missing)
        )

    def _forget_paths(self) -> None:
        self._state[STATE_EPOCH] = self._state[STATE_EPOCH] + 1 & 0xFF

    def stats(self) -> Stats:
        """What was counted so far."""
        return Stats(
            received=self._received.total(),
            lost=sum(self._lost_by_type[CGROUP + 1 :]),
            undecodable=self._decoder.undecodable,
            received_by_type={type_name(kind): count for kind, count in self._received.items()},
            lost_by_type=_by_name(self._lost_by_type),
            lost_cgroup_paths=self._lost_by_type[CGROUP],
            skipped=self._skipped,
            unreadable=self._unreadable,
        )

    def detach(self) -> None:
        """Ends the reporting and wakes who waits. What was reported can still be read, also meanwhile.

        Safe to call twice, and from several threads: it returns when all is detached. Where a signal handler calls it
        while it is under way in the same thread, it returns at once: the interrupted one goes on, and `detached` is
        not set before that is done.
        """
        with self._ending:
            nested = self._detaching
            try:
                self._detaching = True
                if not nested and not self.detached and not self.closed:
                    self._state[STATE_PHASE] = ENDING
                    self._hooks.detach()
                    os.eventfd_write(self._doorbell, 1)
                    self.detached = True  # last: whoever sees it may close the session
            finally:
                self._detaching = nested

    def close(self) -> None:
        """Takes everything out of the kernel, and closes every descriptor. Safe to call twice."""
        with self._ending:
            self.closed = True
            self._opened.close()


class _NewlyLost(NamedTuple):
    """What a look for what was lost, skipped or not readable has found.

    Attributes:
        raw, by_type, skipped, unreadable: the counts, from the beginning.
        next_look: when the next look is due, in seconds of `time.monotonic()`.
        lost: what is new; None where nothing is.
        heals: an audit may heal some of it.
    """

    raw: bytes
    by_type: list[int]
    skipped: int
    unreadable: int
    next_look: float
    lost: Lost | None
    heals: bool


def _lost_of_any_type(raw: bytes) -> list[int]:
    return [sum(column) for column in zip(*LOST.iter_unpack(raw), strict=True)]


def _by_name(counts: list[int]) -> dict[str, int]:
    """Counts by the type's name, without the zeros."""
    return {type_name(kind): count for kind, count in zip(TYPES, counts, strict=True) if kind and count}


def _now() -> str:
    """The time as events carry it."""
    seconds, rest = divmod(time.time_ns(), 1_000_000_000)
    return time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(seconds)) + f"{rest:09d}Z"
