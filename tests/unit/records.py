"""Records as bpf/record.h lays them out, built without the help of what they test."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable

import pytest

from cni_collector.identity.cni import CniCalls
from cni_collector.identity.namespaces import Namespaces
from cni_collector.stream.decoder import Decoder

TASK = "IIIIQI16s"
TASK_FIELDS = "pid tid ppid uid cgroup hierarchy comm"
NETNS = struct.Struct(f"=BBHIQQQII{TASK}IQQ")
NETNS_FIELDS = (
    f"type cause error userns time cookie other_cookie inum other_inum {TASK_FIELDS} entered_tid lifetime teardown"
)
CNI_START = struct.Struct(f"=BBHIQQQQ{TASK}IQHHI256s")
CNI_START_FIELDS = (
    f"type cut length own_inum time started own_cookie path_cookie {TASK_FIELDS} outer outer_started trusted "
    "args_length path_inum args"
)
CNI_END = struct.Struct(f"=BBHI{TASK}BBBBQQQQ")
CNI_END_FIELDS = (
    f"type unreadable status entered_inum {TASK_FIELDS} trusted several nested helper "
    "time started duration entered_cookie"
)
CNI_ENTERED = struct.Struct("=IIQQI")
CGROUP = struct.Struct("@BBHIQ")
CGROUP_SIZE = 2048

BOOT = 1_000_000_000 * 1_767_323_045  # 2026-01-02T03:04:05Z


_USUAL = {"cookie": 4097, "inum": 4026532001, "other_cookie": 1, "other_inum": 4026531840, "cause": 3, "error": 1}
_SUBJECT, _OTHER = ("cookie", "inum"), ("other_cookie", "other_inum")
ALWAYS = {
    1: (*_SUBJECT, *_OTHER, "cause"),
    2: (*_SUBJECT, *_OTHER, "cause"),
    3: (*_SUBJECT, "cause"),
    4: _SUBJECT,
    5: (*_OTHER, "cause", "error"),
    6: (*_OTHER, "cause", "error"),
    7: _SUBJECT,
}
"""What each type of record always has, by the number of the type."""


def netns_record(**fields: int | bytes) -> bytes:
    """A `struct netns_record`; fields that are not given are zero, but for those that all of its type have."""
    always: dict[str, int | bytes] = {name: _USUAL[name] for name in ALWAYS.get(int(fields["type"]), ())}
    return _packed(NETNS, NETNS_FIELDS, always | fields)


def cni_start_record(*texts: bytes, length: int | None = None, **fields: int | bytes) -> bytes:
    """A `struct cni_start_record` as the kernel sends it, up to the last text; the first text is the executed path.

    It is of a trusted process, and of a plugin.
    """
    text = b"".join(one + b"\0" for one in texts)
    args = fields.get("args", b"")
    usual: dict[str, int | bytes] = {"type": 8, "trusted": 1, "args": b""}
    usual |= {"args_length": len(args) if isinstance(args, bytes) else 0}
    fields = usual | fields | {"length": len(text) if length is None else length}
    return _packed(CNI_START, CNI_START_FIELDS, fields) + text


def cni_end_record(**fields: int | bytes) -> bytes:
    """A `struct cni_end_record`."""
    return _packed(CNI_END, CNI_END_FIELDS, {"trusted": 1} | fields | {"type": 9})


def cni_entered_record(pid: int, started: int, cookie: int, inum: int) -> bytes:
    """A `struct cni_entered_record`."""
    return CNI_ENTERED.pack(11, pid, started, cookie, inum)


def _packed(layout: struct.Struct, names: str, fields: dict[str, int | bytes]) -> bytes:
    values = dict.fromkeys(names.split(), 0) | {"comm": b""} | fields
    return layout.pack(*(values.pop(name) for name in names.split()))


def slot(record: bytes) -> bytes:
    """A record as it lies in the ring: behind the kernel's header."""
    return struct.pack("@II", len(record), 0) + record + bytes(-len(record) % 8)


def cgroup_record(*names: bytes, ident: int = 0, hierarchy: int = 0, level: int | None = None) -> bytes:
    """A `struct cgroup_record` as the snapshot writes it: up to the last name, the leaf's being the first."""
    text = b"".join(name + b"\0" for name in names)
    return CGROUP.pack(0, len(names) if level is None else level, len(text), hierarchy, ident) + text


def full(record: bytes) -> bytes:
    """A cgroup's record as it comes out of the ring: always of the same size, what is behind the names being old."""
    return record.ljust(CGROUP_SIZE, b"x")


def decoder(boot_time: int = BOOT, forget: Callable[[], None] = lambda: None) -> Decoder:
    """A decoder on a machine that was booted at `boot_time`, in nanoseconds since 1970."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: boot_time + 7)
        patch.setattr(time, "clock_gettime_ns", lambda _clock: 7)
        known = Namespaces()
        return Decoder(known, CniCalls(known), forget)
