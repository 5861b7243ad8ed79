"""The bytes that come from the kernel side: Python's half of bpf/record.h, which says what each field means."""

from __future__ import annotations

import struct
from typing import Final

from ..events import (
    CniEnd,
    CniExec,
    CniStart,
    Event,
    NetnsCreate,
    NetnsCreateFailed,
    NetnsDestroy,
    NetnsEnter,
    NetnsEnterFailed,
    NetnsExit,
    NetnsFound,
)

TYPES: Final[tuple[type[Event] | None, ...]] = (
    None,  # a cgroup's path: no event
    NetnsCreate,
    NetnsEnter,
    NetnsExit,
    NetnsDestroy,
    NetnsCreateFailed,
    NetnsEnterFailed,
    NetnsFound,
    CniStart,
    CniEnd,
    CniExec,
    None,  # a namespace that a CNI call has entered: no event
)
"""`enum record_type`: the class of event for each type of record."""

(
    CGROUP, CREATE, ENTER, EXIT, DESTROY, CREATE_FAILED, ENTER_FAILED, FOUND, CNI_START, CNI_END, CNI_EXEC, CNI_ENTERED,
) = range(len(TYPES))  # fmt: skip
"""The same by name; the first byte of each record."""
EDGES: Final = (
    None,
    "sys_enter_setns",
    "sys_exit_setns",
    "sys_enter_unshare",
    "sys_exit_unshare",
    "sys_enter_clone",
    "sys_exit_clone",
    "sys_enter_clone3",
    "sys_exit_clone3",
)
"""`enum edge`: the tracepoint for each attach cookie."""
REFUSERS: Final = (None, "seccomp")
"""`enum refuser`."""
CAUSES: Final = (None, "unshare", "clone", "setns", "exit")
"""`enum cause`."""

_TASK: Final = "IIII12s16s"
"""`struct task`; `cgroup` and `hierarchy` are read as one key of 12 bytes."""
NETNS_RECORD: Final = struct.Struct(f"=BBHIQQQII{_TASK}IQQ")
"""`struct netns_record`."""
SLOT: Final = struct.Struct(f"=I4x{NETNS_RECORD.format[1:]}")
"""A `struct netns_record` as it lies in the ring: the length out of the ring's header, then its fields."""
CNI_START_RECORD: Final = struct.Struct(f"=BBHIQQQQ{_TASK}IQHHI256s")
"""`struct cni_start_record` up to its text."""
CNI_END_RECORD: Final = struct.Struct(f"=BBHI{_TASK}BBBBQQQQ")
"""`struct cni_end_record`."""
CNI_ENTERED_RECORD: Final = struct.Struct("=IIQQI")
"""`struct cni_entered_record`."""
CGROUP_RECORD: Final = struct.Struct("=BBH4s8s")
"""`struct cgroup_record` up to its names; `hierarchy` and `id` are read as bytes, being parts of a key."""
LOST: Final = struct.Struct(f"={len(TYPES)}Q")
"""`struct lost`."""
STATE: Final = struct.Struct("=QQIIIII")
"""`struct state` without its padding."""
STATE_EPOCH: Final = 20
STATE_PHASE: Final = 24
STATE_SECCOMP_SHOWS: Final = 32
"""Offsets of the fields of `struct state` that Python writes."""
STARTING, RUNNING, ENDING = range(3)
"""`enum phase`."""
TRACKED: Final = struct.Struct("=QQIIQ")
"""`struct tracked`."""
ALIVE, DYING, GONE = range(3)
"""`enum netns_state`."""
AUDITED: Final = struct.Struct("=QIIQ")
"""`struct audited`."""
MOUNTED: Final = struct.Struct("=QQ")
"""`struct mounted` up to its path."""
MOUNTS: Final = struct.Struct("=II")
"""`struct mounts` up to its entries."""
MOUNTS_BYTES: Final = 512 * 1024
"""Bytes of its entries."""
