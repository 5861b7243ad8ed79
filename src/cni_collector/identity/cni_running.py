"""The CNI calls under way, from /proc: what `list --cni` shows."""

from __future__ import annotations

import os
import re
import struct
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from ..events import Pod
from .cni_environment import TICK, lies_in_cni_path, parse_args, parse_environment, text

_AT_SECURE: Final = 23
_AT_EXECFN: Final = 31
"""linux/auxvec.h: whether the exec gave rights to the process; the address of the path that was executed."""
_LONGEST: Final = 4096
"""PATH_MAX."""
_ENVIRONMENT: Final = 6 << 20
"""Bytes that execve(2) takes at most. prctl(PR_SET_MM) makes any memory of a process its environment."""
_VARIABLE: Final = re.compile(rb"(?<![^\0])(?:CNI_|TRACEPARENT=)[^\0]*")
_VARIABLES: Final = 1 << 16
"""Of those that matter: as many as the kernel side reads of all."""
_FORKNOEXEC: Final = 0x40
"""PF_FORKNOEXEC of linux/sched.h: forked, and has executed nothing since."""
_CAP_SYS_ADMIN: Final = 21
_INITIAL_USER_NAMESPACE: Final = 0xEFFFFFFD
"""Its inode number, PROC_USER_INIT_INO of linux/proc_ns.h."""


class RunningCniCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """A CNI call that is under way: one line of `list --cni -o json`."""

    pid: int
    parent: int
    command: str
    age_ns: int
    """Since its process was started, in nanoseconds."""
    plugin: str | None = None
    """The path that was executed; of a script, the script's. Of one that is not trusted, the program's file."""
    pod: Pod | None = None
    cni_container_id: str | None = None
    ifname: str | None = None
    netns_path: str | None = None
    args: str | None = None
    traceparent: str | None = None
    trusted: bool | None = None
    """As of the events."""


class _State(NamedTuple):
    """What an exec changes of a process, and what it may do.

    Attributes:
        capable: it holds CAP_SYS_ADMIN, and no exec gave it that.
        initial: it is in the initial user namespace.
        started: in ticks since the machine was booted.
        auxiliary: what the kernel told it at its exec, addresses that are chosen at random included.
    """

    capable: bool
    initial: bool
    started: int
    auxiliary: dict[int, int]


class _Process(NamedTuple):
    """A process that may make a CNI call, with CNI_COMMAND in its environment."""

    pid: int
    variables: list[bytes]
    path: bytes
    parent: int
    session: int
    forked: bool
    """It was forked by what executed the path."""
    initial: bool
    """It is in the initial user namespace."""
    started: int
    """In ticks since the machine was booted."""


def running_cni_calls() -> list[RunningCniCall]:
    """The CNI calls under way, from /proc; parents first.

    They are the processes that hold CAP_SYS_ADMIN and have executed a plugin: with CNI_COMMAND in their environment,
    and either out of a directory of CNI_PATH, or where no process above them is in a call. One that its parent has not
    started, being of another session, was left behind by a call that has ended.
    """
    now = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    found = {process.pid: process for process in _processes()}
    calls = [
        RunningCniCall(
            process.pid,
            process.parent,
            fields.pop("command"),
            max(now - process.started * TICK, 0),
            text(process.path),
            parse_args(fields.get("args", "")) if process.initial else None,
            trusted=None if process.initial else False,
            **fields,
        )
        for process in found.values()
        if _is_plugin(process, found) and (fields := parse_environment(process.variables))
    ]
    return sorted(calls, key=lambda call: (-call.age_ns // TICK, call.pid))


def _is_plugin(process: _Process, found: dict[int, _Process]) -> bool:
    if process.forked:
        return False
    if lies_in_cni_path(process.path, process.variables):
        return True
    return found.keys().isdisjoint(_ancestors(process.parent)) and process.session == _session(process.parent)


def _ancestors(pid: int) -> Iterator[int]:
    """A process and those above it."""
    while pid:
        yield pid
        try:
            pid = int(_stat(pid)[1])
        except OSError:
            return


def _session(pid: int) -> int:
    try:
        return int(_stat(pid)[3])
    except OSError:
        return 0


def _stat(pid: int) -> list[bytes]:
    """The fields of /proc/PID/stat from the third on, the state: the name before it may be anything."""
    return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()


def _processes() -> Iterator[_Process]:
    """Those that may make a CNI call. Of all others nothing is read that they can make large, or slow to read.

    A process can execute a program between any two looks, a set-user-ID program too: so what it may do is looked at
    before the rest and after it, and the process is passed over where that is not the same.
    """
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state = _state(place)
            if not state.capable:
                continue
            with (place / "environ").open("rb") as environment:
                everything = environment.read(_ENVIRONMENT)
            variables = [one[0] for one in islice(_VARIABLE.finditer(everything), _VARIABLES)]
            if "command" not in parse_environment(variables):
                continue
            pid = int(place.name)
            path = _executed(place, state)
            stat = _stat(pid)
            if _state(place) != state:
                continue
            yield _Process(
                pid,
                variables,
                path,
                parent=int(stat[1]),
                session=int(stat[3]),
                forked=bool(int(stat[6]) & _FORKNOEXEC),
                initial=state.initial,
                started=state.started,
            )
        except OSError:
            continue  # it has ended, or may not be looked at


def _state(place: Path) -> _State:
    """What a process may do, and since which exec.

    The kernel gives a process its new capabilities first, and then AT_SECURE: where that is not there yet, the exec may
    have given them.
    """
    capable = bool(_effective(place) >> _CAP_SYS_ADMIN & 1)
    auxiliary = _auxiliary(place) if capable else {}
    return _State(
        capable and auxiliary.get(_AT_SECURE) == 0,
        (place / "ns/user").stat().st_ino == _INITIAL_USER_NAMESPACE,
        int(_stat(int(place.name))[19]),
        auxiliary,
    )


def _effective(place: Path) -> int:
    """The capabilities that a process holds now (proc_pid_status(5))."""
    lines = (place / "status").read_bytes().split(b"\n")
    return next(int(line.split()[1], 16) for line in lines if line.startswith(b"CapEff:"))


def _auxiliary(place: Path) -> dict[int, int]:
    """What the kernel told a process when it executed its program (getauxval(3))."""
    word = struct.calcsize("P")
    raw = (place / "auxv").read_bytes()
    words = [int.from_bytes(raw[at : at + word], sys.byteorder) for at in range(0, len(raw), word)]
    return dict(zip(words[::2], words[1::2], strict=False))


def _executed(place: Path, state: _State) -> bytes:
    """The path that a process has executed, as it was given: of a script its own, and of a file that is gone, too.

    It is in the memory of the process. Where that may not be read, or has another word size than ours, it is the path
    of the program's file. So it is of a process that is not trusted: that can have AT_EXECFN lead into a file that
    never answers (FUSE). What is read is the memory that the process had when it was opened.
    """
    try:
        if not state.initial:
            raise ValueError("not trusted")
        with (place / "mem").open("rb", buffering=0) as memory:
            if _state(place) != state:
                raise ValueError("another program by now")
            memory.seek(state.auxiliary[_AT_EXECFN])
            return _string(memory.read(_LONGEST))
    except (OSError, KeyError, ValueError, OverflowError):
        return os.fsencode(os.readlink(place / "exe"))


def _string(memory: bytes) -> bytes:
    """The string at the beginning; ValueError where it has no end, or is empty."""
    path = memory[: memory.index(b"\0")]
    if not path:
        raise ValueError("no path")
    return path
