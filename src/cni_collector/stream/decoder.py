"""Bytes to events."""

from __future__ import annotations

import errno
import struct
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from ..events import (
    Event,
    Netns,
    NetnsCreate,
    NetnsCreateFailed,
    NetnsDestroy,
    NetnsEnter,
    NetnsEnterFailed,
    NetnsExit,
    Task,
)
from ..identity.cgroups import CgroupPaths
from ..identity.cni import CniCalls, Ended, Executed
from ..identity.namespaces import Known, Namespaces
from ..kernel.wire import (
    CAUSES,
    CGROUP,
    CGROUP_RECORD,
    CNI_END,
    CNI_END_RECORD,
    CNI_ENTERED,
    CNI_ENTERED_RECORD,
    CNI_EXEC,
    CNI_START,
    CNI_START_RECORD,
    CREATE,
    CREATE_FAILED,
    DESTROY,
    ENTER,
    ENTER_FAILED,
    EXIT,
    NETNS_RECORD,
    REFUSERS,
    SLOT,
)
from .audit import Told

_LENGTH: Final = NETNS_RECORD.size.to_bytes(4, sys.byteorder) + bytes(4)
"""What stands before a record in its slot."""
_ERRORS: Final = {**errno.errorcode, 35: "EDEADLK", 95: "EOPNOTSUPP", 524: "ENOTSUPP"}
"""Names of errors as the kernel's sources give them, where there are two, or Python has none."""
_CAUSES: Final = {number: cause for number, cause in enumerate(CAUSES) if cause}
_NETNS_TYPES: Final = frozenset(range(CREATE, ENTER_FAILED + 1))
"""Types whose record is a `struct netns_record`."""
_REFUSALS: Final = {CREATE_FAILED: NetnsCreateFailed, ENTER_FAILED: NetnsEnterFailed}
"""The types of event whose namespace may be unknown."""
_SINGLE: Final = frozenset({EXIT, DESTROY})
"""Types of records that need no other namespace."""
_NOTHING_KNOWN: Final = (None, None, None)
_CACHE: Final = 1 << 16
_SECOND: Final = 1_000_000_000
_TENTH: Final = 100_000_000

CgroupFacts = tuple[str | None, str | None, str | None]
"""Cgroup path, container id, pod UID."""


def _error(number: int) -> str:
    """The text for an errno that has no name."""
    if not number:
        raise ValueError("a refusal without an error")
    return str(number)


class _Comms(dict[bytes, str]):
    """Names of tasks by their 16 bytes."""

    def __missing__(self, raw: bytes) -> str:
        if len(self) >= _CACHE:
            self.clear()
        text = self[raw] = raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")
        return text


class _Cgroups(dict[bytes, CgroupFacts]):
    """What is known of cgroups, by key.

    The kernel sends each path once. To stay bounded, all are forgotten when there are many: `forget` asks the
    kernel to send them anew, and the last generation serves the records that are already under way.
    """

    def __init__(self, forget: Callable[[], None], paths: CgroupPaths) -> None:
        super().__init__()
        self._forget = forget
        self._paths = paths
        self._last: dict[bytes, CgroupFacts] = {}

    def add(self, key: bytes, path: str) -> None:
        if len(self) >= _CACHE // 8:
            self._last = dict(self)
            self.clear()
            self._forget()
        self[key] = (path, *self._paths.identify(path))

    def __missing__(self, key: bytes) -> CgroupFacts:
        return self._last.get(key, _NOTHING_KNOWN)


def cgroup_path(level: int, names: bytes) -> str:
    """The path of a cgroup from its names, leaf first and each closed by NUL, as in `struct cgroup_record`.

    Where the kernel had to cut the path, the part that is missing is written as `...`.
    """
    parts = [name.decode("utf-8", "backslashreplace") for name in names.split(b"\0")[:-1]]
    cut = ["..."] if len(parts) < level else []
    return "/" + "/".join(cut + parts[::-1])


class Decoder:
    """Turns records into events, and remembers what several of them share.

    Args:
        namespaces: what events about a namespace carry.
        cni_calls: the CNI calls under way.
        forget: called when cgroup paths have been forgotten and must be sent anew.
        paths: reads the paths of cgroups; where all kubelets are in their usual places, if None.
    """

    def __init__(
        self,
        namespaces: Namespaces,
        cni_calls: CniCalls,
        forget: Callable[[], None] = lambda: None,
        paths: CgroupPaths | None = None,
    ) -> None:
        self.undecodable = 0
        """Records that made no sense."""
        self.told = Told()
        """The namespaces that the events tell of."""
        self._namespaces = namespaces
        self._cni_calls = cni_calls
        self._comms = _Comms()
        self._cgroups = _Cgroups(forget, paths or CgroupPaths())
        self._first: dict[int, int] = {}
        """By cookie: where in the present batch a namespace that was not known before is first spoken of."""
        self._late: dict[int, float] = {}
        """By its place in the present batch: where a birth belongs that comes after that."""
        self._offset = 0
        self._second_start = -_SECOND
        self._second_text = ""
        self.set_clock()

    def set_clock(self) -> None:
        """Takes the distance between the records' clock (CLOCK_BOOTTIME) and UTC, if the clock was stepped.

        Differences below a millisecond are the noise of two readings, and are left alone so that times keep
        their order.
        """
        offset = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if abs(offset - self._offset) > 1_000_000:
            self._offset = offset
            self._second_start = -_SECOND

    def time(self, boot_ns: int) -> str:
        """The UTC time of a moment of CLOCK_BOOTTIME, as events carry it."""
        rest = boot_ns - self._second_start
        if not 0 <= rest < _SECOND:
            seconds, rest = divmod(boot_ns + self._offset, _SECOND)
            self._second_start = boot_ns - rest
            self._second_text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(seconds))
        return f"{self._second_text}{rest:09d}Z"

    def decode(self, buffer: bytes | memoryview, offset: int, size: int) -> Event | None:
        """The event in `size` bytes of `buffer`; None for a record that is no event or makes no sense.

        Whatever the bytes are, nothing is raised: what makes no sense is counted in `undecodable`.
        """
        record = bytes(buffer[offset : offset + size])
        try:
            if record[0] in _NETNS_TYPES and len(record) == NETNS_RECORD.size:
                events: list[Event] = []
                self.decode_run(_LENGTH + record, events)
                self._first.clear()  # that place is not one in the batch
                return events[0] if events else None
            if record[0] in (CNI_START, CNI_EXEC):
                return self._cni_start(record)
            if record[0] == CNI_ENTERED:
                self._cni_entered(record)
                return None
            if record[0] == CNI_END:
                return self._cni_end(record)
            self._cgroup(record)
        except (ValueError, IndexError, OverflowError, struct.error):
            self.undecodable += 1
        return None

    def _cni_start(self, record: bytes) -> Event | None:
        """The event of a `struct cni_start_record`."""
        (
            kind, cut, length, own_inum, when, started, own_cookie, path_cookie, *task, outer, outer_started, trusted,
            args_length, path_inum, args,
        ) = CNI_START_RECORD.unpack_from(record)  # fmt: skip
        text = record[CNI_START_RECORD.size :]
        if len(text) != length or text[-1:] != b"\0" or args_length > len(args):
            raise ValueError("no beginning of a CNI call")
        return self._cni_calls.begin(
            Executed(
                self.time(when),
                self._task(*task),
                started,
                text,
                bool(cut),
                helper=kind == CNI_EXEC,
                trusted=bool(trusted),
                own=self._netns(own_cookie, own_inum),
                led=self._netns(path_cookie, path_inum),
                outer=(outer, outer_started) if outer else None,
                args=args[:args_length],
            )
        )

    def _cni_entered(self, record: bytes) -> None:
        """What a `struct cni_entered_record` says, which is no event."""
        _, pid, started, cookie, inum = CNI_ENTERED_RECORD.unpack(record)
        if netns := self._netns(cookie, inum):
            self._cni_calls.entered((pid, started), netns)

    def _cni_end(self, record: bytes) -> Event | None:
        """The event of a `struct cni_end_record`."""
        (
            _, unreadable, status, inum, *task, trusted, several, nested, helper, when, started, duration, cookie,
        ) = CNI_END_RECORD.unpack(record)  # fmt: skip
        return self._cni_calls.end(
            Ended(
                self.time(when),
                self._task(*task),
                started,
                duration,
                status,
                unreadable=bool(unreadable),
                trusted=bool(trusted),
                nested=bool(nested),
                helper=bool(helper),
                entered=self._netns(cookie, inum),
                several=bool(several),
            )
        )

    def member(self, record: bytes) -> tuple[int, Task] | None:
        """A task that the snapshot found in a namespace, out of a `struct netns_record`.

        Returns:
            The namespace's cookie, and who it is; None for a record that makes no sense, which is counted.
        """
        if len(record) != NETNS_RECORD.size:
            self.undecodable += 1
            return None
        _, _, _, _, _, cookie, _, _, _, *task, _, _, _ = NETNS_RECORD.unpack(record)
        return cookie, self._task(*task)

    def _task(self, pid: int, tid: int, ppid: int, uid: int, cgroup: bytes, comm: bytes) -> Task:
        """What a `struct task` says."""
        return Task(pid, tid, ppid, uid, self._comms[comm], *self._cgroups[cgroup])

    def _cgroup(self, record: bytes) -> None:
        kind, level, length, hierarchy, identity = CGROUP_RECORD.unpack_from(record)
        names = record[CGROUP_RECORD.size : CGROUP_RECORD.size + length]
        if kind != CGROUP or len(names) != length or names[-1:] not in (b"", b"\0"):
            raise ValueError("no record of a cgroup")
        self._cgroups.add(identity + hierarchy, cgroup_path(level, names))

    def decode_run(self, slots: bytes | memoryview, events: list[Event]) -> int:
        """Appends the events of a run of namespaces' records to `events`: what nearly all reading time goes into.

        Args:
            slots: records as they lie in the ring (`SLOT`). The run ends at the first slot that does not hold one; that
                is for `decode`.
            events: where the events go.

        Returns:
            How many slots were decoded; those that made no sense are counted in `undecodable`, too.
        """
        comms, cgroups, known, add = self._comms, self._cgroups, self._namespaces.get, events.append
        first = self._first
        if not events:
            first.clear()
            self._late.clear()

        def remember(cookie: int, inum: int) -> Known:
            first[cookie] = len(events)
            return self._namespaces.remember(cookie, inum)

        start, prefix = self._second_start, self._second_text
        causes, refusals, single = _CAUSES, _REFUSALS, _SINGLE
        before, size, kinds = len(events), NETNS_RECORD.size, _NETNS_TYPES
        netns: Any  # None only where the class of the event lets it be: what follows sees to that
        other: Any
        try:
            for (
                length, kind, cause, error, userns, when, cookie, other_cookie, inum, other_inum,
                pid, tid, ppid, uid, cgroup, comm, detail, lifetime, teardown,
            ) in SLOT.iter_unpack(slots):  # fmt: skip
                if length != size or kind not in kinds:
                    break
                rest = when - start
                if _TENTH <= rest < _SECOND:  # no need to pad it with zeros, which takes as long as all the rest
                    time = f"{prefix}{rest}Z"
                else:
                    time = self.time(when)
                    start, prefix = self._second_start, self._second_text
                if cookie:
                    netns, name, pod = known(cookie) or remember(cookie, inum)
                elif kind in refusals:
                    netns = name = pod = None
                else:
                    raise ValueError("a record about no namespace")
                if other_cookie:
                    other = (known(other_cookie) or remember(other_cookie, other_inum))[0]
                elif kind in single:
                    other = None
                else:
                    raise ValueError("a record of a task that was nowhere")
                path, container, pod_uid = cgroups[cgroup]
                if kind == ENTER:
                    event: Event = NetnsEnter(
                        time, netns, other, None, causes[cause], None,
                        pid, tid, ppid, uid, comms[comm], userns, path, container, pod_uid, name, pod,
                    )  # fmt: skip
                elif kind == EXIT:
                    event = NetnsExit(
                        time, netns, None, other, causes[cause], None,
                        pid, tid, ppid, uid, comms[comm], userns, path, container, pod_uid, name, pod,
                        entered_tid=detail if detail and detail != tid else None,
                    )  # fmt: skip
                elif kind == CREATE:
                    event = NetnsCreate(
                        time, netns, other, None, causes[cause], None,
                        pid, tid, ppid, uid, comms[comm], userns, path, container, pod_uid, name, pod,
                    )  # fmt: skip
                    if (at := first.get(cookie, len(events))) < len(events):
                        self._late[len(events)] = at - 0.5
                    self.told.alive(netns, userns)
                elif kind == DESTROY:
                    event = NetnsDestroy(
                        time, netns, userns=userns, name=name, pod=pod,
                        lifetime_ns=lifetime or None, teardown_ns=teardown or None,
                    )  # fmt: skip
                    self._namespaces.gone(netns)
                    self.told.gone(netns)
                else:
                    event = _REFUSALS[kind](
                        time, netns, other, None, causes[cause], _ERRORS.get(error) or _error(error),
                        pid, tid, ppid, uid, comms[comm], userns if netns else None, path, container, pod_uid,
                        name, pod, refused_by=REFUSERS[detail], task_userns=lifetime or None,
                    )  # fmt: skip
                add(event)
        except (IndexError, KeyError, ValueError, OverflowError):
            self.undecodable += 1
            return len(events) - before + 1
        return len(events) - before

    def put_births_first(self, events: list[Event]) -> None:
        """Puts births ahead of what others did in the namespace before, in the batch that was decoded last.

        In the tracepoint tier a birth is seen when its system call returns. Others may have joined by then, through a
        pidfd. Nothing of the creator is passed: it was in that system call all the time.
        """
        if self._late:
            place = self._late.get
            events[:] = [events[at] for at in sorted(range(len(events)), key=lambda at: place(at, at))]

    def _netns(self, cookie: int, inum: int) -> Netns | None:
        """A namespace; None for cookie 0."""
        return (self._namespaces.get(cookie) or self._namespaces.remember(cookie, inum))[0] if cookie else None
