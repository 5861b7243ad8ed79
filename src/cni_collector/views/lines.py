"""Events as lines of text: JSON for programs, a table for people."""

from __future__ import annotations

import posixpath
import sys
from collections.abc import Hashable
from typing import Final, Protocol

import msgspec

from ..events import CniCall, CniExec, CniStart, Event, Netns, Pod
from .table import Column, header, row

_DEEPEST: Final = 8
"""How deep CNI calls are shown nested: whoever sets variables can nest them without end, and would fill the screen."""
_BOUND: Final = 1 << 16
"""CNI calls under way that are remembered."""

_COLUMNS: Final = (
    Column("TIME", 15),
    Column("EVENT", 19),
    Column("NETNS", 18),
    Column("CAUSE", 7),
    Column("PID", 7),
    Column("COMM", 15),
    Column("DETAIL", 0),
)
_COLOURS: Final = {
    "netns_create": "green",
    "netns_destroy": "magenta",
    "netns_create_failed": "red",
    "netns_enter_failed": "red",
    "cni_start": "cyan",
    "cni_end": "cyan",
    "cni_exec": "bright_black",
    "lost": "red",
    "checkpoint": "bright_black",
    "collector_start": "bright_black",
    "collector_stop": "bright_black",
}

_TOLD_ELSEWHERE: Final = {"type", "time", "netns", "cause", "pid", "comm", "command", "plugin", "executable"}
_FOR_JSON: Final = {
    *("userns", "task_userns", "cgroup", "ppid", "schema", "version", "node", "boot_id", "arch"),
    *("parent", "args", "traceparent"),
}


class Nesting:
    """How deep the CNI calls under way are nested, by what identifies their processes."""

    def __init__(self) -> None:
        self._depths: dict[Hashable, int] = {}

    def begin(self, process: Hashable, parent: Hashable) -> str:
        """The indent of a CNI call that begins below that of its parent process, if that is one."""
        depth = self._depths[process] = min(self._depths.get(parent, -1) + 1, _DEEPEST)
        while len(self._depths) > _BOUND:
            del self._depths[next(iter(self._depths))]
        return "  " * depth

    def below(self, process: Hashable) -> str:
        """The indent of what stands below a CNI call under way."""
        return "  " * min(self._depths.get(process, -1) + 1, _DEEPEST)

    def end(self, process: Hashable) -> str:
        """The indent of one that ends."""
        return "  " * self._depths.pop(process, 0)


class Lines(Protocol):
    """A form that events are written in."""

    header: bytes

    def form(self, events: list[Event]) -> bytes:
        """The lines of a batch."""


class JsonLines:
    """One JSON object a line."""

    header = b""

    def __init__(self) -> None:
        self._encoder = msgspec.json.Encoder()

    def form(self, events: list[Event]) -> bytes:
        return self._encoder.encode_lines(events)


class TableLines:
    """Aligned columns. A CNI call has its plugin's name in place of the task's, and stands below the one that made it.

    Args:
        nodes: whether a column says on which machine it was.
    """

    def __init__(self, nodes: bool = False) -> None:
        self._columns = (Column("NODE", 20), *_COLUMNS) if nodes else _COLUMNS
        self._nodes = nodes
        self.header = header(self._columns).encode() + b"\n"
        self._nesting = Nesting()

    def form(self, events: list[Event]) -> bytes:
        return "".join(f"{self._line(event)}\n" for event in events).encode()

    def _line(self, event: Event) -> str:
        cells = [
            *([event.node or ""] if self._nodes else []),
            event.time[11:26],
            event.type,
            _name(event.netns),
            (event.command if isinstance(event, CniCall) else event.cause) or "",
            str(event.pid or ""),
            self._program(event),
            " ".join(f"{key}={value}" for key, value in _details(event)),
        ]
        colour = _COLOURS.get(event.type) if sys.stdout.isatty() else None
        return row(self._columns, cells, colour, coloured=1 + self._nodes)

    def _program(self, event: Event) -> str:
        if isinstance(event, CniCall):
            return self._plugin(event)
        if isinstance(event, CniExec):
            return self._nesting.below((event.node, event.call)) + posixpath.basename(event.executable)
        return event.comm or ""

    def _plugin(self, call: CniCall) -> str:
        process = (call.node, call.pid)
        if isinstance(call, CniStart):
            indent = self._nesting.begin(process, (call.node, call.parent))
        else:
            indent = self._nesting.end(process)
        return indent + posixpath.basename(call.plugin or call.comm)


def pod_text(pod: Pod) -> str:
    """How people call a pod; its UID where no more is known."""
    return f"{pod.namespace}/{pod.name}" if pod.name else pod.uid or ""


def _name(netns: Netns | None) -> str:
    return f"{netns.cookie}/{netns.inum}" if netns else ""


def _details(event: Event) -> list[tuple[str, str]]:
    """What a person wants to know and the other columns do not say."""
    details = []
    for key, value in msgspec.to_builtins(event).items():
        if (
            key in _TOLD_ELSEWHERE
            or (key in _FOR_JSON and not _says_what_a_helper_did(key, event))
            or _goes_without_saying(key, event)
        ):
            continue
        if key.endswith("_ns"):
            details.append((key.removesuffix("_ns"), f"{value / 1e6:.1f}ms"))
        elif key in ("prev", "next", "host_netns"):
            details.append((key, f"{value['cookie']}/{value['inum']}"))
        elif key in ("container_id", "cni_container_id"):
            details.append(("container" if key == "container_id" else "sandbox", value[:12]))
        elif key == "pod":
            details.append(("pod", pod_text(msgspec.convert(value, Pod))))
        elif key == "exit_code":
            details.append(("exit", str(value)))
        elif value is True:
            details.append((key, "yes"))
        else:
            details.append((key, str(value)))
    return details


def _says_what_a_helper_did(key: str, event: Event) -> bool:
    """Its arguments; those of a CNI call are long, and are told as `pod`."""
    return key == "args" and isinstance(event, CniExec)


def _goes_without_saying(key: str, event: Event) -> bool:
    """What the line tells anyway, or is as it nearly always is."""
    return (
        (key == "tid" and event.tid == event.pid)
        or (key == "uid" and event.uid == 0)
        or (key == "pod_uid" and event.pod is not None)
        or (key == "netns_path" and event.netns is not None)
        or (key == "name" and event.pod is not None and event.pid is not None)
    )
