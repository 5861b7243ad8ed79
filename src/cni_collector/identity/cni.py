"""CNI plugin calls: what a process with CNI_COMMAND in its environment is asked to do, and for which pod."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import msgspec

from ..events import CniEnd, CniStart, Netns, Pod, Task
from .namespaces import Namespaces

_BOUND: Final = 1 << 13
"""CNI calls under way that are remembered: as many as the kernel side remembers; the ends of more are lost."""
_TICK: Final = 1_000_000_000 // os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 0
"""Nanoseconds in the unit of /proc/PID/stat."""
_FIELDS: Final = {
    "CNI_COMMAND": "command",
    "CNI_CONTAINERID": "cni_container_id",
    "CNI_IFNAME": "ifname",
    "CNI_NETNS": "netns_path",
    "CNI_ARGS": "args",
    "TRACEPARENT": "traceparent",
}


def text(raw: bytes) -> str:
    r"""Bytes as events carry them: what is not UTF-8 is written as \xNN."""
    return raw.decode("utf-8", "backslashreplace")


def parse_environment(variables: list[bytes]) -> dict[str, str]:
    """The fields of a CNI call that its environment has.

    Of a variable that is there more than once, the first counts, as for getenv(3). One that is empty says nothing, but
    for CNI_COMMAND, which makes the process a call.
    """
    found: dict[str, str] = {}
    for variable in variables:
        name, sign, value = variable.partition(b"=")
        field = _FIELDS.get(text(name))
        if field and sign:
            found.setdefault(field, text(value))
    return {field: value for field, value in found.items() if value or field == "command"}


def parse_args(args: str, cut: bool = False) -> Pod | None:
    """The pod that CNI_ARGS names: pairs such as `K8S_POD_NAME=web-0`, separated by semicolons, in any order.

    Args:
        args: CNI_ARGS.
        cut: its end is missing; then the last pair is not believed.

    Returns:
        The pod; None where namespace and name are not both given, or one key is given two values.
    """
    pairs = [pair.partition("=") for pair in args.split(";")]
    return pod_of((key, value) for key, _, value in (pairs[:-1] if cut else pairs))


def pod_of(pairs: Iterable[tuple[str, str]]) -> Pod | None:
    """The pod that pairs of CNI_ARGS name; None where namespace or name is missing, or a key has two values."""
    values: dict[str, set[str]] = {}
    for key, value in pairs:
        if value:
            values.setdefault(key, set()).add(value)
    namespace, name, uid = (values.get(f"K8S_POD_{key}", set()) for key in ("NAMESPACE", "NAME", "UID"))
    if len(namespace) != 1 or len(name) != 1 or len(uid) > 1:
        return None
    return Pod(*namespace, *name, *uid)


def read_environment(pid: int, started: int) -> list[bytes] | None:
    """The environment of a process, from /proc; None where it has gone, or may not be read.

    Args:
        pid: its id.
        started: when it was started, in nanoseconds of CLOCK_BOOTTIME: so that another with the same id is not taken
            for it.
    """
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
        ticks = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, IndexError):
        return None
    return raw.split(b"\0") if raw and ticks == started // _TICK else None


class RunningCniCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A CNI call that is under way: one line of `list --cni -o json`."""

    pid: int
    parent: int
    command: str
    age_ns: int
    """Since its process was started, in nanoseconds."""
    plugin: str | None = None
    pod: Pod | None = None
    cni_container_id: str | None = None
    ifname: str | None = None
    netns_path: str | None = None
    args: str | None = None
    traceparent: str | None = None


def running_cni_calls() -> list[RunningCniCall]:
    """The CNI calls under way, from /proc: the processes with CNI_COMMAND in their environment; parents first."""
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            variables = (process / "environ").read_bytes().split(b"\0")
            fields = parse_environment(variables)
            if "command" not in fields:
                continue
            stat = (process / "stat").read_bytes().rpartition(b")")[2].split()
            plugin = text(os.fsencode(os.readlink(process / "exe")))
        except OSError:
            continue  # it has ended, or may not be looked at
        found.append(
            RunningCniCall(
                int(process.name),
                int(stat[1]),
                fields.pop("command"),
                max(now - int(stat[19]) * _TICK, 0),
                plugin,
                parse_args(fields.get("args", "")),
                **fields,
            )
        )
    return sorted(found, key=lambda call: (-call.age_ns // _TICK, call.pid))


def _complete(pid: int, started: int, seen: list[bytes]) -> tuple[list[bytes], str]:
    """The environment that the kernel side has seen in part, and where it is from.

    What was seen counts where the process has gone, or has executed something else meanwhile.
    """
    everything = read_environment(pid, started)
    if everything is None or ("command" in parse_environment(seen) and "command" not in parse_environment(everything)):
        return seen, "cut"
    return everything, "proc"


class CniCalls:
    """Makes the events of CNI calls, and remembers those under way: so the end of one has the fields of its beginning.

    Args:
        namespaces: where calls find the namespace that they are about, and leave the pod that it is for.
    """

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._running: dict[tuple[int, int], CniStart] = {}
        self.unreadable = 0
        """Processes whose environment could not be read at all: they may have been CNI calls."""

    def begin(
        self, time: str, task: Task, own: Netns | None, netns: Netns | None, started: int, raw: bytes, cut: bool
    ) -> CniStart | None:
        """A CNI call begins.

        Args:
            time: when, as in `Event.time`.
            task: who.
            own: the namespace that the plugin is in.
            netns: the namespace that CNI_NETNS led to then; None where that is not known for certain.
            started: when the process was started, in nanoseconds of CLOCK_BOOTTIME.
            raw: the path that was executed and the variables that matter, each closed by NUL.
            cut: something of the environment is missing.

        Returns:
            The event; None where it turns out to be no CNI call, or nobody can tell.
        """
        path, *variables = raw.split(b"\0")[:-1]
        source = None
        if cut:
            variables, source = _complete(task.pid, started, variables)
        fields = parse_environment(variables)
        if "command" not in fields or (task.pid, started) in self._running:
            self.unreadable += source == "cut" and "command" not in fields
            return None
        pod = parse_args(fields.get("args", ""), source == "cut")
        call = CniStart(
            time,
            netns,
            **msgspec.structs.asdict(task),
            name=self._namespaces.remember(netns.cookie, netns.inum)[1] if netns else None,
            pod=pod,
            plugin=text(path),
            parent=task.ppid,
            environment=source,
            **fields,  # type: ignore[arg-type]
        )
        if pod and netns and call.command == "ADD" and self._believed(call, own):
            self._namespaces.add_pod(netns, pod, call.cni_container_id)
        self._running[task.pid, started] = call
        while len(self._running) > _BOUND:
            del self._running[next(iter(self._running))]
        return call

    def _believed(self, call: CniStart, own: Netns | None) -> bool:
        """Anyone may set variables: which pod a namespace is for is told by root, outside of containers."""
        return call.uid == 0 and own is not None and own.inum == self._namespaces.host_inum

    def end(self, time: str, task: Task, started: int, duration: int, status: int, unreadable: bool) -> CniEnd | None:
        """A CNI call ends.

        Args:
            time: when, as in `Event.time`.
            task: who.
            started: when the process was started, in nanoseconds of CLOCK_BOOTTIME.
            duration: nanoseconds.
            status: as wait(2) gives it.
            unreadable: its environment could not be read at first, so it may have been no CNI call.

        Returns:
            The event; None where it was none. Where its beginning was lost, the event has only what the end says.
        """
        call = self._running.pop((task.pid, started), None)
        if call is None and unreadable:
            return None
        number = status & 0x7F
        fields = (msgspec.structs.asdict(call) if call else {}) | {"time": time, **msgspec.structs.asdict(task)}
        if netns := fields.get("netns"):
            fields["name"] = self._namespaces.remember(netns.cookie, netns.inum)[1] or fields["name"]
        return CniEnd(
            **fields,
            duration_ns=duration,
            exit_code=None if number else status >> 8,
            signal=_signal_name(number) if number else None,
        )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"
