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
    NetnsFound,
    Task,
)
from ..identity.cgroups import identify
from ..identity.cni import CniCalls
from ..identity.namespaces import Namespaces
from ..kernel.wire import (
    CAUSES,
    CGROUP,
    CGROUP_RECORD,
    CNI_END,
    CNI_END_RECORD,
    CNI_START,
    CNI_START_RECORD,
    CREATE,
    CREATE_FAILED,
    DESTROY,
    ENTER,
    ENTER_FAILED,
    EXIT,
    FOUND,
    NETNS_RECORD,
    SLOT,
)
from .audit import Told

_LENGTH: Final = NETNS_RECORD.size.to_bytes(4, sys.byteorder) + bytes(4)
"""What stands before a record in its slot."""
_ERRORS: Final = {**errno.errorcode, 35: "EDEADLK", 95: "EOPNOTSUPP", 524: "ENOTSUPP"}
"""Names of errors as the kernel's sources give them, where there are two, or Python has none."""
_CAUSES: Final = {number: cause for number, cause in enumerate(CAUSES) if cause}
_NETNS_TYPES: Final = frozenset(range(CREATE, FOUND + 1))
"""Types whose record is a `struct netns_record`."""
_REFUSALS: Final = {CREATE_FAILED: NetnsCreateFailed, ENTER_FAILED: NetnsEnterFailed}
"""The types of event whose namespace may be unknown."""
_SINGLE: Final = frozenset({EXIT, DESTROY, FOUND})
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

    def __init__(self, forget: Callable[[], None]) -> None:
        super().__init__()
        self._forget = forget
        self._last: dict[bytes, CgroupFacts] = {}

    def add(self, key: bytes, path: str) -> None:
        if len(self) >= _CACHE // 8:
            self._last = dict(self)
            self.clear()
            self._forget()
        self[key] = (path, *identify(path))

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
    """

    def __init__(self, namespaces: Namespaces, cni_calls: CniCalls, forget: Callable[[], None] = lambda: None) -> None:
        self.undecodable = 0
        """Records that made no sense."""
        self.told = Told()
        """The namespaces that the events tell of."""
        self._namespaces = namespaces
        self._cni_calls = cni_calls
        self._comms = _Comms()
        self._cgroups = _Cgroups(forget)
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
                return events[0] if events else None
            if record[0] == CNI_START:
                return self._cni_start(record)
            if record[0] == CNI_END:
                return self._cni_end(record)
            self._cgroup(record)
        except (ValueError, IndexError, OverflowError, struct.error):
            self.undecodable += 1
        return None

    def _cni_start(self, record: bytes) -> Event | None:
        """The event of a `struct cni_start_record`."""
        _, cut, length, own_inum, when, started, own_cookie, *task = CNI_START_RECORD.unpack_from(record)
        text = record[CNI_START_RECORD.size :]
        if len(text) != length or text[-1:] != b"\0":
            raise ValueError("no beginning of a CNI call")
        own = self._netns(own_cookie, own_inum)
        return self._cni_calls.begin(self.time(when), self._task(*task), own, when, started, text, bool(cut))

    def _cni_end(self, record: bytes) -> Event | None:
        """The event of a `struct cni_end_record`."""
        _, unreadable, status, *task, when, started, duration = CNI_END_RECORD.unpack(record)
        return self._cni_calls.end(self.time(when), self._task(*task), started, duration, status, bool(unreadable))

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
        remember = self._namespaces.remember
        start, prefix = self._second_start, self._second_text
        causes, refusals, single = _CAUSES, _REFUSALS, _SINGLE
        before, size, kinds = len(events), NETNS_RECORD.size, _NETNS_TYPES
        netns: Any  # None only where the class of the event lets it be: what follows sees to that
        other: Any
        try:
            for (
                length, kind, cause, error, userns, when, cookie, other_cookie, inum, other_inum,
                pid, tid, ppid, uid, cgroup, comm, entered_tid, lifetime, teardown,
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
                        entered_tid=entered_tid if entered_tid and entered_tid != tid else None,
                    )  # fmt: skip
                elif kind == CREATE:
                    event = NetnsCreate(
                        time, netns, other, None, causes[cause], None,
                        pid, tid, ppid, uid, comms[comm], userns, path, container, pod_uid, name, pod,
                    )  # fmt: skip
                    self._namespaces.born(netns, when)
                    self.told.alive(netns, userns)
                elif kind == DESTROY:
                    event = NetnsDestroy(
                        time, netns, userns=userns, name=name, pod=pod,
                        lifetime_ns=lifetime or None, teardown_ns=teardown or None,
                    )  # fmt: skip
                    self._namespaces.gone(netns)
                    self.told.gone(netns)
                elif kind == FOUND:
                    event = NetnsFound(
                        time, netns, None, None, None, None,
                        pid, tid, ppid, uid, comms[comm], userns, path, container, pod_uid, name, pod,
                    )  # fmt: skip
                    self._namespaces.born(netns, when)
                    self.told.alive(netns, userns)
                else:
                    event = _REFUSALS[kind](
                        time, netns, other, None, causes[cause], _ERRORS.get(error) or _error(error),
                        pid, tid, ppid, uid, comms[comm], userns if netns else None, path, container, pod_uid,
                        name, pod,
                    )  # fmt: skip
                add(event)
        except (KeyError, ValueError, OverflowError):
            self.undecodable += 1
            return len(events) - before + 1
        return len(events) - before

    def _netns(self, cookie: int, inum: int) -> Netns | None:
        """A namespace; None for cookie 0."""
        return (self._namespaces.get(cookie) or self._namespaces.remember(cookie, inum))[0] if cookie else None
