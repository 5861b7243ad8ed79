"""The events, as users see them. `docs/events.md` says what each type means and where each field comes from."""

from __future__ import annotations

import datetime
import functools
from typing import Any, Final, Union, get_args

import msgspec

SCHEMA: Final = 2
"""Version of the event format."""


class AbsentFieldError(msgspec.ValidationError):
    """An event lacks a field that its type always has."""


def _absent(name: str) -> Any:
    raise AbsentFieldError(f"an event of its type always has `{name}`")


def _always(name: str) -> Any:
    """A field that a type always has: it stands where `Event` has it, behind fields that others may lack."""
    return msgspec.field(default_factory=functools.partial(_absent, name))


class Netns(msgspec.Struct, frozen=True, gc=False):
    """A network namespace."""

    cookie: int
    """Its identity: never reused while the machine is up (`net->net_cookie`, SO_NETNS_COOKIE)."""
    inum: int
    """Its inode number, as in `net:[4026532000]`: reused as soon as the namespace is gone."""


class Pod(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """A Kubernetes pod, as far as it is known."""

    namespace: str | None = None
    name: str | None = None
    uid: str | None = None
    """As the runtime gave it: with dashes, or 32 hex digits for static pods."""


class Task(msgspec.Struct, frozen=True, gc=False):
    """Who: one task (thread). The fields mean what those of `Event` mean."""

    pid: int
    tid: int
    ppid: int
    uid: int
    comm: str
    cgroup: str | None = None
    container_id: str | None = None
    pod_uid: str | None = None


class Event(msgspec.Struct, frozen=True, gc=False, tag_field="type", omit_defaults=True):
    """What any event may have. A field that does not apply is None, and absent from JSON."""

    time: str
    """When it happened: RFC 3339, UTC, nanoseconds."""
    netns: Netns | None = None
    """The namespace that this is a fact about. The host's is one only as the target of a refused attempt."""
    prev: Netns | None = None
    """Where the task was before; for a refused attempt, where it still is."""
    next: Netns | None = None
    """Where the task is now."""
    cause: str | None = None
    """`unshare`, `clone`, `setns` or `exit`."""
    error: str | None = None
    """Name of the errno with which an attempt was refused."""
    pid: int | None = None
    """Process id (thread group) in the initial pid namespace."""
    tid: int | None = None
    """Thread id in the initial pid namespace."""
    ppid: int | None = None
    """Process id of the parent."""
    uid: int | None = None
    """User id in the initial user namespace."""
    comm: str | None = None
    """The thread's name, at most 15 bytes; bytes that are not UTF-8 are written as \\xNN."""
    userns: int | None = None
    """Inode number of the user namespace that owns `netns`."""
    cgroup: str | None = None
    """Path of the task's cgroup: v2, or the deepest of v1 where v2 has only the root."""
    container_id: str | None = None
    """Container id found in the cgroup's path, 64 hex digits."""
    pod_uid: str | None = None
    """Pod UID found in the cgroup's path."""
    name: str | None = None
    """Where `netns` is mounted, as in `/run/netns/blue`, where that was seen before the event."""
    pod: Pod | None = None
    """The pod that `netns` was made for, as a CNI call or libcni's cache told; of a CNI call, what CNI_ARGS says."""
    node: str | None = None
    """The machine's name: of `collector_start`, and of events read from the stream of a cluster."""

    @property
    def type(self) -> str:
        """The event's type, as in JSON: `netns_create`."""
        return type_name(type(self))

    @property
    def time_ns(self) -> int:
        """`time` as nanoseconds since 1970-01-01 00:00 UTC."""
        seconds = datetime.datetime.fromisoformat(f"{self.time[:19]}+00:00").timestamp()
        return int(seconds) * 1_000_000_000 + int(self.time[20:29])


def type_name(kind: type[Event]) -> str:
    """How a class of events is called in JSON: `netns_create`."""
    return str(kind.__struct_config__.tag)


class _ByTask(Event, frozen=True, gc=False, tag=False):
    """What a task did."""

    pid: int = _always("pid")
    tid: int = _always("tid")
    ppid: int = _always("ppid")
    uid: int = _always("uid")
    comm: str = _always("comm")


class NetnsCreate(_ByTask, frozen=True, gc=False, tag="netns_create"):
    """A namespace was born; the task is its creator."""

    netns: Netns = _always("netns")
    prev: Netns = _always("prev")
    cause: str = _always("cause")
    userns: int = _always("userns")


class NetnsEnter(_ByTask, frozen=True, gc=False, tag="netns_enter"):
    """A task is now in `netns`."""

    netns: Netns = _always("netns")
    prev: Netns = _always("prev")
    cause: str = _always("cause")
    userns: int = _always("userns")


class NetnsExit(_ByTask, frozen=True, gc=False, tag="netns_exit"):
    """A task is no longer in `netns`: it moved to `next`, or it ended."""

    netns: Netns = _always("netns")
    cause: str = _always("cause")
    userns: int = _always("userns")
    entered_tid: int | None = None
    """The task's tid when it entered, where that was another (exec by a thread that is not the leader)."""


class NetnsDestroy(Event, frozen=True, gc=False, tag="netns_destroy"):
    """The kernel has torn `netns` down."""

    netns: Netns = _always("netns")
    userns: int = _always("userns")
    lifetime_ns: int | None = None
    """From birth to the end of the tear-down, in nanoseconds, where the birth was seen."""
    teardown_ns: int | None = None
    """From the start of the kernel's clean-up to its end, in nanoseconds."""
    healed: bool | None = None
    """True where an audit found that it is gone; `time` is when it did."""


class NetnsCreateFailed(_ByTask, frozen=True, gc=False, tag="netns_create_failed"):
    """An attempt to create a namespace was refused."""

    prev: Netns = _always("prev")
    cause: str = _always("cause")
    error: str = _always("error")
    refused_by: str | None = None
    """`seccomp` where that refused it; absent where it was the kernel, or that is not known."""
    task_userns: int | None = None
    """Inode number of the user namespace that the task is in, where the error is EPERM."""


class NetnsEnterFailed(_ByTask, frozen=True, gc=False, tag="netns_enter_failed"):
    """An attempt to enter a namespace was refused; `netns` is its target, where it can be known."""

    prev: Netns = _always("prev")
    cause: str = _always("cause")
    error: str = _always("error")
    refused_by: str | None = None
    """As in `netns_create_failed`."""
    task_userns: int | None = None
    """Inode number of the user namespace that the task is in, where the error is EPERM."""


class NetnsFound(Event, frozen=True, gc=False, tag="netns_found"):
    """A namespace existed when the collector started; the task is one of its members. Or an audit found it."""

    netns: Netns = _always("netns")
    userns: int = _always("userns")
    members: int | None = None
    """How many tasks (threads) are in it, where they could be counted: in the initial pid namespace."""
    healed: bool | None = None
    """True where its birth was missed, and an audit found it; `time` is when it did."""


class CniCall(_ByTask, frozen=True, gc=False, tag=False):
    """What the beginning and the end of a CNI call have in common; the task is the plugin's process."""

    command: str | None = None
    """CNI_COMMAND: `ADD`, `DEL`, `CHECK`, `GC`, `STATUS` or `VERSION`."""
    plugin: str | None = None
    """The path that was executed."""
    parent: int | None = None
    """Process id of the caller: a runtime, or the plugin that delegates to this one."""
    cni_container_id: str | None = None
    """CNI_CONTAINERID: the id of a pod's sandbox, or of a container."""
    ifname: str | None = None
    """CNI_IFNAME."""
    netns_path: str | None = None
    """CNI_NETNS."""
    args: str | None = None
    """CNI_ARGS."""
    traceparent: str | None = None
    """TRACEPARENT, as W3C's Trace Context has it."""
    environment: str | None = None
    """`proc` where the environment came from /proc/PID/environ, `cut` where a part of it could not be had at all."""
    trusted: bool | None = None
    """False where the process held CAP_SYS_ADMIN in another user namespace than the initial one only."""


class CniStart(CniCall, frozen=True, gc=False, tag="cni_start"):
    """A CNI plugin process began."""

    plugin: str = _always("plugin")
    parent: int = _always("parent")


class CniEnd(CniCall, frozen=True, gc=False, tag="cni_end"):
    """It ended. Where its beginning was lost, the fields that only that tells are absent."""

    duration_ns: int = _always("duration_ns")
    """From its exec to the end of its last thread, in nanoseconds."""
    exit_code: int | None = None
    signal: str | None = None
    """Name of the signal that ended it."""


class CniExec(_ByTask, frozen=True, gc=False, tag="cni_exec"):
    """A helper has ended: a program that a CNI plugin executed, or another helper of it; the task is its process."""

    executable: str = _always("executable")
    """The path that was executed."""
    call: int | None = None
    """Process id of the plugin; absent where the beginning of what executed the helper was lost."""
    args: str | None = None
    """The command line, at most 256 bytes, its arguments separated by spaces."""
    duration_ns: int = _always("duration_ns")
    """From its exec to the end of its last thread, in nanoseconds."""
    exit_code: int | None = None
    signal: str | None = None
    """Name of the signal that ended it."""
    trusted: bool | None = None
    """As of a CNI call."""


class Lost(Event, frozen=True, gc=False, tag="lost"):
    """Events that could not be delivered since the previous event of this type."""

    count: int = 0
    by_type: dict[str, int] = {}
    skipped: int | None = None
    """Runs of BPF programs that the kernel skipped meanwhile: at most so many facts were not seen at all."""
    unreadable: int | None = None
    """Processes meanwhile whose environment could not be read: at most so many CNI calls were not seen."""


class Checkpoint(Event, frozen=True, gc=False, tag="checkpoint"):
    """An audit ended: of what existed when it began the stream says what still does, and of nothing else."""

    namespaces: int = _always("namespaces")
    """How many there are, but for the host's."""
    members: int | None = None
    """How many tasks (threads) are in them, where they can be counted."""
    healed: int = _always("healed")
    """How many events this audit had to add."""


class CollectorStart(Event, frozen=True, gc=False, tag="collector_start"):
    """First in every stream: everything is attached, the stream is complete from here on."""

    node: str = _always("node")
    schema: int = 0
    """Version of the event format."""
    version: str = ""
    """Version of this package."""
    boot_id: str = ""
    """/proc/sys/kernel/random/boot_id: cookies are unique within it."""
    kernel: str = ""
    """The kernel's release."""
    arch: str = ""
    """The machine's architecture."""
    tier: str = ""
    """Which set of hooks is in use."""
    host_netns: Netns = _always("host_netns")
    """The initial network namespace."""
    missing: list[str] = []
    """What is not reported because its hooks are not to be had here."""
    uncounted: list[str] = []
    """What this kernel may hide without counting that it did."""


class CollectorStop(Event, frozen=True, gc=False, tag="collector_stop"):
    """Last in an orderly end."""

    events: int = _always("events")
    """How many events about namespaces and CNI calls were delivered."""
    lost: int = _always("lost")
    """How many are known to have happened and were not delivered."""
    skipped: int | None = None
    """Runs of BPF programs that the kernel skipped."""
    unreadable: int | None = None
    """Processes whose environment could not be read."""


AnyEvent = Union[
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
    Lost,
    Checkpoint,
    CollectorStart,
    CollectorStop,
]
"""Any event; `msgspec.json.decode(line, type=AnyEvent)` reads what `watch -o json` writes."""


def json_schema() -> dict[str, Any]:
    """The JSON Schema of one line of `watch -o json`."""

    def without_null(node: Any) -> Any:
        """Fields that do not apply are absent, never null: msgspec's schema allows both."""
        if isinstance(node, list):
            return [without_null(item) for item in node]
        if not isinstance(node, dict):
            return node
        kept = {key: without_null(value) for key, value in node.items() if (key, value) != ("default", None)}
        options = [option for option in kept.pop("anyOf", []) if option != {"type": "null"}]
        if len(options) == 1:
            return options[0] | kept
        return kept | ({"anyOf": options} if options else {})

    schema: dict[str, Any] = without_null(msgspec.json.schema(AnyEvent))
    for kind in get_args(AnyEvent):
        always = [
            field.encode_name
            for field in msgspec.structs.fields(kind)
            if getattr(field.default_factory, "func", None) is _absent
        ]
        schema["$defs"][kind.__name__]["required"] += always
    return schema
