"""CNI calls: what a plugin is asked to do, for which pod, and which network namespace that is about."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import msgspec

from ..events import CniEnd, CniExec, CniStart, Netns, Task
from .cni_environment import args_may_be_cut, parse_args, parse_environment, read_environment, text
from .namespaces import Namespaces, Process

_TRUSTED: Final = 1 << 13
_UNTRUSTED: Final = 1 << 8
"""Processes under way that are remembered: as many as the kernel side remembers; the ends of more are lost."""
_DEEPEST: Final = 16
"""How far out a namespace counts for the calls that a process is in: anybody can nest them without end."""
_SHORT: Final = 256
"""Bytes at most of each text of a CNI call that is not trusted, and of a helper's command line."""


def _complete(pid: int, started: int, seen: list[bytes]) -> tuple[list[bytes], str]:
    """The environment that the kernel side has seen in part, and where it is from.

    What was seen counts where the process has gone, or has executed something else meanwhile.
    """
    everything = read_environment(pid, started)
    if everything is None or ("command" in parse_environment(seen) and "command" not in parse_environment(everything)):
        return seen, "cut"
    return everything, "proc"


class Executed(NamedTuple):
    """A process that may begin a CNI call has executed a program with CNI_COMMAND in its environment.

    Attributes:
        time: when, as in `Event.time`.
        task: who.
        started: when the process was started, in nanoseconds of CLOCK_BOOTTIME.
        text: the path that was executed and the variables that matter, each closed by NUL.
        cut: something of the environment is missing.
        helper: it is one, and not a plugin.
        trusted: the process holds CAP_SYS_ADMIN in the initial user namespace.
        own: the network namespace that it is in.
        led: the network namespace that CNI_NETNS led to, for this process; None where that is not known for certain.
        outer: the process whose CNI call it belongs to already; None where this begins one.
        args: its arguments, each closed by NUL, at most 256 bytes.
    """

    time: str
    task: Task
    started: int
    text: bytes
    cut: bool = False
    helper: bool = False
    trusted: bool = True
    own: Netns | None = None
    led: Netns | None = None
    outer: Process | None = None
    args: bytes = b""


class Ended(NamedTuple):
    """Such a process has ended.

    Attributes:
        time: when, as in `Event.time`.
        task: who.
        started: when the process was started, in nanoseconds of CLOCK_BOOTTIME.
        duration: nanoseconds since it began as a helper or, where it has become a plugin, as that.
        status: as wait(2) gives it.
        unreadable: its environment could not be read at first, so it may have been no CNI call.
        trusted: as in `Executed`.
        nested: it belonged to a CNI call already when it executed that.
        helper: as in `Executed`.
        entered: the namespace that its tasks have entered, if it was one, and not its own.
        several: they have entered several.
    """

    time: str
    task: Task
    started: int
    duration: int
    status: int
    unreadable: bool = False
    trusted: bool = True
    nested: bool = False
    helper: bool = False
    entered: Netns | None = None
    several: bool = False


class _Plugin:
    """A CNI call under way."""

    def __init__(self, process: Process, event: CniStart, own: Netns | None, outer: Process | None) -> None:
        self.process = process
        self.event = event
        self.own = own
        self.outer = outer
        """The plugin that has called this one."""
        self.entered: Netns | None = None
        self.several = False

    @property
    def netns(self) -> Netns | None:
        """The namespace that it is about: the one that it enters; before it enters any, where its path leads."""
        return None if self.several else self.entered or self.event.netns

    @property
    def names_pod(self) -> bool:
        return self.event.command == "ADD" and self.event.trusted is None and self.event.pod is not None


class _Helper(NamedTuple):
    """A helper that has not ended.

    Attributes:
        plugin: whose helper it is; None where that is not known.
    """

    executable: str
    args: str | None
    plugin: Process | None


class _Untold:
    """A process that was not told as a plugin, since its command is not known: nor is its end."""


def _plugin_of(process: Process, what: _Plugin | _Helper | _Untold) -> Process | None:
    """The plugin that a process is, or is a helper of; None where that is not known."""
    return process if isinstance(what, _Plugin) else what.plugin if isinstance(what, _Helper) else None


class _Processes(dict[Process, _Plugin | _Helper | _Untold]):
    """The plugins and helpers under way of one kind: trusted, or not.

    Attributes:
        plugins: the plugin that a process belongs to, for some time after its end: what it leaves behind can execute
            helpers still.
    """

    def __init__(self, bound: int) -> None:
        super().__init__()
        self._bound = bound
        self.plugins: dict[Process, Process | None] = {}

    def add(self, process: Process, what: _Plugin | _Helper | _Untold) -> None:
        self[process] = what
        self.plugins[process] = _plugin_of(process, what)
        for known in (self, self.plugins):
            while len(known) > self._bound:
                del known[next(iter(known))]


class CniCalls:
    """Makes the events of CNI calls, and remembers those under way: so the end of one has the fields of its beginning.

    Args:
        namespaces: where calls find the namespace that they are about, and leave the pod that it is for.
    """

    def __init__(self, namespaces: Namespaces) -> None:
        self._namespaces = namespaces
        self._trusted = _Processes(_TRUSTED)
        self._untrusted = _Processes(_UNTRUSTED)
        self.unreadable = 0
        """Processes whose CNI_COMMAND is not known, as it could not be read or kept: they may have been CNI calls."""

    def begin(self, told: Executed) -> CniStart | None:
        """A CNI call begins, or a helper.

        Returns:
            The event of a call; None for a helper, and where it turns out to be neither, or nobody can tell.
        """
        process = (told.task.pid, told.started)
        known = self._under_way(process)
        if isinstance(known, _Plugin):
            return None
        path, *variables = told.text.split(b"\0")[:-1]
        source = None
        if told.cut:
            variables, source = _complete(*process, variables) if told.trusted else (variables, "cut")
        processes = self._trusted if told.trusted else self._untrusted
        if "command" not in parse_environment(variables):
            self.unreadable += source == "cut"
            if not told.helper:
                self._pop(process)
                processes.add(process, _Untold())
            return None
        plugin = known.plugin if isinstance(known, _Helper) else self._plugin_of(told.outer)
        if told.helper:
            if not isinstance(known, _Helper):
                args = text(told.args.rstrip(b"\0").replace(b"\0", b" ")) or None
                processes.add(process, _Helper(_bounded(text(path), told.trusted), args, plugin))
            return None
        if known:
            self._pop(process)
        call = self._start(told, path, variables, source)
        processes.add(process, started := _Plugin(process, call, told.own, plugin))
        self._claim(started)
        return call

    def _start(self, told: Executed, path: bytes, variables: list[bytes], source: str | None) -> CniStart:
        """The event of a CNI call that begins. One that is not trusted has no pod."""
        fields = parse_environment(variables)
        cut = source == "cut" and args_may_be_cut(variables)
        netns = told.led if told.trusted else None
        short = {field: _bounded(value, told.trusted) for field, value in fields.items()}
        return CniStart(
            told.time,
            netns,
            **msgspec.structs.asdict(told.task),
            name=self._name(netns),
            pod=parse_args(fields.get("args", ""), cut) if told.trusted else None,
            plugin=_bounded(text(path), told.trusted),
            parent=told.task.ppid,
            environment=source if short == fields else "cut",
            trusted=None if told.trusted else False,
            **short,  # type: ignore[arg-type]
        )

    def _name(self, netns: Netns | None) -> str | None:
        return self._namespaces.remember(netns.cookie, netns.inum)[1] if netns else None

    def _under_way(self, process: Process) -> _Plugin | _Helper | _Untold | None:
        return self._trusted.get(process) or self._untrusted.get(process)

    def _pop(self, process: Process) -> _Plugin | _Helper | _Untold | None:
        return self._trusted.pop(process, None) or self._untrusted.pop(process, None)

    def _plugin_of(self, process: Process | None) -> Process | None:
        """The plugin that a process is, or is a helper of; None where that is not known."""
        if not process:
            return None
        it = self._under_way(process)
        if it:
            return _plugin_of(process, it)
        return self._trusted.plugins.get(process) or self._untrusted.plugins.get(process)

    def _calls_of(self, process: Process) -> Iterator[_Plugin]:
        """The CNI calls under way that a process belongs to, from the nearest out."""
        at = self._plugin_of(process)
        for _ in range(_DEEPEST):
            plugin = self._under_way(at) if at else None
            if not isinstance(plugin, _Plugin):
                return
            yield plugin
            at = plugin.outer

    def entered(self, process: Process, netns: Netns) -> None:
        """A task of a process, or one that it has forked, has entered a namespace: its calls are about that."""
        for plugin in self._calls_of(process):
            if netns not in (plugin.own, plugin.entered):
                before = plugin.netns
                plugin.several = plugin.entered is not None
                plugin.entered = plugin.entered or netns
                self._is_about(plugin, before)

    def _several(self, process: Process) -> None:
        """The same of several namespaces: its calls are about none of them."""
        for plugin in self._calls_of(process):
            before, plugin.several = plugin.netns, True
            self._is_about(plugin, before)

    def _is_about(self, plugin: _Plugin, before: Netns | None) -> None:
        """The pod that a call names goes to the namespace that it is about, and away from where it went before.

        What it leaves goes to the oldest call under way that is about that: it was refused before.
        """
        netns = plugin.netns
        if not plugin.names_pod or netns == before:
            return
        if before and self._namespaces.withdraw_pod(before, plugin.process):
            for other in self._trusted.values():
                if isinstance(other, _Plugin) and other.netns == before:
                    self._claim(other)
        self._claim(plugin)

    def _claim(self, plugin: _Plugin) -> None:
        """The namespace that a call is about is for the pod that it names, if no other call has said so before."""
        call, netns = plugin.event, plugin.netns
        if plugin.names_pod and call.pod and netns:
            self._namespaces.add_pod(netns, call.pod, call.cni_container_id, plugin.process)

    def end(self, told: Ended) -> CniEnd | CniExec | None:
        """A CNI call ends, or a helper.

        Returns:
            The event; None where it was neither, or a helper whose beginning is not known, or `begin` could not tell.
            Where the beginning of a call was lost, the event has only what the end says.
        """
        process = (told.task.pid, told.started)
        if told.several:
            self._several(process)
        elif told.entered:
            self.entered(process, told.entered)
        it = self._pop(process)
        number = told.status & 0x7F
        told_by_end: dict[str, Any] = {
            "time": told.time,
            **msgspec.structs.asdict(told.task),
            "duration_ns": told.duration,
            "exit_code": None if number else told.status >> 8,
            "signal": _signal_name(number) if number else None,
        }
        trusted = None if told.trusted else False
        if it is None:
            if told.unreadable or told.helper:
                return None
            return CniEnd(**told_by_end, netns=told.entered, name=self._name(told.entered), trusted=trusted)
        if isinstance(it, _Untold):
            return None
        if isinstance(it, _Helper):
            call = it.plugin[0] if it.plugin else None
            return CniExec(**told_by_end, executable=it.executable, call=call, args=it.args, trusted=trusted)
        start, netns = it.event, it.netns
        done = start.command == "DEL" and told.status == 0 and start.trusted is None and not told.nested
        if netns and done:
            self._namespaces.delete_pod(netns, start.cni_container_id)
        name = self._name(netns) or (start.name if netns == start.netns else None)
        return CniEnd(**msgspec.structs.asdict(start) | told_by_end | {"netns": netns, "name": name})


def _bounded(value: str, trusted: bool) -> str:
    """A text of a CNI call: one that is not trusted has 256 bytes at most."""
    return value if trusted else value.encode()[:_SHORT].decode(errors="ignore")


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"
