"""Bytes to events."""

from __future__ import annotations

import errno
import struct
import sys
import time
from collections.abc import Callable
from typing import Final

from ..events import CniCall, Event, Netns, NetnsDestroy, NetnsEnter, NetnsExit
from ..identity.cgroups import identify
from ..identity.cni import Calls
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
    DESTROY,
    ENTER,
    EXIT,
    FOUND,
    NETNS_RECORD,
    SLOT,
    TYPES,
)

_LENGTH: Final = NETNS_RECORD.size.to_bytes(4, sys.byteorder) + bytes(4)
"""What stands before a record in its slot."""
_ERRORS: Final = {**errno.errorcode, 35: "EDEADLK", 95: "EOPNOTSUPP", 524: "ENOTSUPP"}
"""Names of errors as the kernel's sources give them, where there are two, or Python has none."""
_EVENTS: Final = {number: kind for number, kind in enumerate(TYPES) if kind and not issubclass(kind, CniCall)}
_NOWHERE: Final = (None, None, None)
_NOTHING: Final = (None, None, None)
_BIRTHS: Final = frozenset({CREATE, FOUND})
_CACHE: Final = 1 << 16
_SECOND: Final = 1_000_000_000
_TENTH: Final = 100_000_000

Place = tuple[str | None, str | None, str | None]
"""Cgroup path, container id, pod UID."""


class _Comms(dict[bytes, str]):
    """Names of tasks by their 16 bytes."""

    def __missing__(self, raw: bytes) -> str:
        if len(self) >= _CACHE:
            self.clear()
        text = self[raw] = raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")
        return text


class _Places(dict[bytes, Place]):
    """Places by cgroup key.

    The kernel sends each path once. To stay bounded, all are forgotten when there are many: `forget` asks the
    kernel to send them anew, and the last generation serves the records that are already under way.
    """

    def __init__(self, forget: Callable[[], None]) -> None:
        super().__init__()
        self._forget = forget
        self._last: dict[bytes, Place] = {}

    def add(self, key: bytes, path: str) -> None:
        if len(self) >= _CACHE // 8:
            self._last = dict(self)
            self.clear()
            self._forget()
        self[key] = (path, *identify(path))

    def __missing__(self, key: bytes) -> Place:
        return self._last.get(key, _NOWHERE)


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
        forget: called when cgroup paths have been forgotten and must be sent anew.
    """

    def __init__(self, forget: Callable[[], None] = lambda: None) -> None:
        self.undecodable = 0
        """Records that made no sense."""
        self._comms = _Comms()
        self.namespaces = Namespaces()
        """What events about a namespace carry."""
        self.calls = Calls(self.namespaces)
        """The CNI calls under way."""
        self._places = _Places(forget)
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
            if record[0] in _EVENTS and len(record) == NETNS_RECORD.size:
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
        return self.calls.begin(
            self._task(when, *task), self._netns(own_cookie, own_inum), when, started, text, bool(cut)
        )

    def _cni_end(self, record: bytes) -> Event | None:
        """The event of a `struct cni_end_record`."""
        _, unsure, status, *task, when, started, duration = CNI_END_RECORD.unpack(record)
        return self.calls.end(self._task(when, *task), started, duration, status, bool(unsure))

    def _task(self, when: int, pid: int, tid: int, ppid: int, uid: int, cgroup: bytes, comm: bytes) -> Event:
        """What a `struct task` says."""
        path, container, pod = self._places[cgroup]
        return Event(
            self.time(when), pid=pid, tid=tid, ppid=ppid, uid=uid, comm=self._comms[comm],
            cgroup=path, container_id=container, pod_uid=pod,
        )  # fmt: skip

    def _cgroup(self, record: bytes) -> None:
        kind, level, length, hierarchy, identity = CGROUP_RECORD.unpack_from(record)
        names = record[CGROUP_RECORD.size : CGROUP_RECORD.size + length]
        if kind != CGROUP or len(names) != length or names[-1:] not in (b"", b"\0"):
            raise ValueError("no record of a cgroup")
        self._places.add(identity + hierarchy, cgroup_path(level, names))

    def decode_run(self, slots: bytes | memoryview, events: list[Event]) -> int:
        """Appends the events of a run of namespaces' records to `events`: what nearly all reading time goes into.

        Args:
            slots: records as they lie in the ring (`SLOT`). The run ends at the first slot that does not hold one; that
                is for `decode`.
            events: where the events go.

        Returns:
            How many slots were decoded; those that made no sense are counted in `undecodable`, too.
        """
        comms, places, known, add = self._comms, self._places, self.namespaces.get, events.append
        meet = self.namespaces.meet
        start, prefix = self._second_start, self._second_text
        before, size, first, last = len(events), NETNS_RECORD.size, CREATE, FOUND
        try:
            for (
                length, kind, cause, error, userns, when, cookie, other_cookie, inum, other_inum,
                pid, tid, ppid, uid, cgroup, comm, entered_tid, lifetime, teardown,
            ) in SLOT.iter_unpack(slots):  # fmt: skip
                if length != size or not first <= kind <= last:
                    break
                rest = when - start
                if _TENTH <= rest < _SECOND:  # no need to pad it with zeros, which takes as long as all the rest
                    time = f"{prefix}{rest}Z"
                else:
                    time = self.time(when)
                    start, prefix = self._second_start, self._second_text
                netns, name, pod = (known(cookie) or meet(cookie, inum)) if cookie else _NOTHING
                other = (known(other_cookie) or meet(other_cookie, other_inum))[0] if other_cookie else None
                path, container, pod_uid = places[cgroup]
                if kind == ENTER:
                    event: Event = NetnsEnter(
                        time, netns, other, None, CAUSES[cause], None,
                        pid, tid, ppid, uid, comms[comm], userns, path, container, pod_uid, name, pod,
                    )  # fmt: skip
                elif kind == EXIT:
                    event = NetnsExit(
                        time, netns, None, other, CAUSES[cause], None,
                        pid, tid, ppid, uid, comms[comm], userns, path, container, pod_uid, name, pod,
                        entered_tid=entered_tid if entered_tid and entered_tid != tid else None,
                    )  # fmt: skip
                elif kind == DESTROY:
                    event = NetnsDestroy(
                        time, netns, userns=userns, name=name, pod=pod,
                        lifetime_ns=lifetime or None, teardown_ns=teardown or None,
                    )  # fmt: skip
                    if netns:
                        self.namespaces.gone(netns)
                else:
                    event = _EVENTS[kind](
                        time, netns, other, None, CAUSES[cause], _ERRORS.get(error, str(error)) if error else None,
                        pid, tid, ppid, uid, comms[comm], userns if netns else None, path, container, pod_uid,
                        name, pod,
                    )  # fmt: skip
                    if netns and kind in _BIRTHS:
                        self.namespaces.born(netns, when)
                add(event)
        except (IndexError, ValueError, OverflowError):
            self.undecodable += 1
            return len(events) - before + 1
        return len(events) - before

    def _netns(self, cookie: int, inum: int) -> Netns | None:
        """A namespace; None for cookie 0."""
        return (self.namespaces.get(cookie) or self.namespaces.meet(cookie, inum))[0] if cookie else None
