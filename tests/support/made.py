"""Events for tests: what a type always has is filled in, so that a test says only what it is about."""

from __future__ import annotations

from typing import Any, Final, TypeVar

import msgspec

from cni_collector import Event, Netns

Kind = TypeVar("Kind", bound=Event)

HOST: Final = Netns(1, 4026531840)
_USUAL: Final[dict[str, Any]] = {
    "netns": Netns(4097, 4026532001),
    "prev": HOST,
    "host_netns": HOST,
    "cause": "setns",
    "error": "EPERM",
    "pid": 10,
    "ppid": 1,
    "uid": 0,
    "comm": "task",
    "userns": 4026531837,
    "plugin": "/opt/cni/bin/bridge",
    "executable": "/usr/sbin/iptables",
    "duration_ns": 1_000_000,
    "node": "node",
    "events": 0,
    "lost": 0,
    "namespaces": 0,
    "healed": 0,
}


def always(kind: type[Event]) -> set[str]:
    """The names of the fields that a type of event always has, besides its time."""
    return {field.name for field in msgspec.structs.fields(kind) if callable(field.default_factory)} - {
        "by_type",
        "missing",
        "uncounted",
    }


def made(kind: type[Kind], *values: Any, **fields: Any) -> Kind:
    """An event of this type, with these values; the task is its process's first thread unless told otherwise."""
    given = dict(zip(kind.__struct_fields__, values, strict=False)) | fields
    missing = always(kind) - set(given)
    filled = {name: _USUAL[name] for name in missing - {"tid", "parent"}} | given
    if "tid" in missing:
        filled["tid"] = filled["pid"]
    if "parent" in missing:
        filled["parent"] = filled["ppid"]
    return kind(**filled)
