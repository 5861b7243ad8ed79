"""Finds and ends what a runtime leaves behind, going by its pids, mounts and cgroups, never by names of programs."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import select
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

PATIENCE: Final = 30.0
"""Seconds after which something that should go is taken not to."""

_MNT_DETACH: Final = 2
_USUAL_OPTIONS: Final = {"rw", "nosuid", "nodev", "noexec", "relatime", "xattr", "clone_children"}
_libc = ctypes.CDLL(None, use_errno=True)


def marked(mark: str) -> set[int]:
    """The processes that began with this variable, `NAME=value`, in their environment."""
    return {pid for pid, variables in _environments() if mark in variables}


def values(name: str) -> set[str]:
    """What a variable is in the environments of all processes."""
    pairs = (variable.partition("=") for _, variables in _environments() for variable in variables)
    return {value for key, _, value in pairs if key == name}


def _environments() -> Iterator[tuple[int, list[str]]]:
    for pid in _pids():
        with contextlib.suppress(OSError):
            yield pid, Path("/proc", str(pid), "environ").read_bytes().decode(errors="replace").split("\0")


def netns_inums() -> set[int]:
    """The network namespaces that some thread is in."""
    found = set()
    for tasks in (Path("/proc", str(pid), "task") for pid in _pids()):
        with contextlib.suppress(OSError):
            for task in tasks.iterdir():
                found.add((task / "ns/net").stat().st_ino)
    return found


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def kill(mark: str, groups: Iterable[Path]) -> None:
    """Ends the marked processes and all in these cgroups, and waits until they have ended."""
    groups = list(groups)
    deadline = time.monotonic() + PATIENCE
    while True:
        pidfds = {}
        with contextlib.ExitStack() as stack:
            for pid in marked(mark) | members(groups):
                with contextlib.suppress(ProcessLookupError):
                    pidfds[pid] = os.pidfd_open(pid)
                    stack.callback(os.close, pidfds[pid])
            still = marked(mark) | members(groups)  # the pid of one that ended may have become somebody else's
            for pid in pidfds.keys() & still:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(pidfds[pid], signal.SIGKILL)
            for pid in pidfds.keys() & still:
                if not select.select([pidfds[pid]], [], [], max(0, deadline - time.monotonic()))[0]:
                    raise TimeoutError(f"process {pid} does not end")
        if not still:
            return
        if time.monotonic() > deadline:
            raise TimeoutError(f"these processes do not end: {sorted(still)}")


def members(groups: Iterable[Path]) -> set[int]:
    """The processes in these cgroups and below."""
    found = set()
    for group in groups:
        for file in group.glob("**/cgroup.procs"):
            with contextlib.suppress(OSError):
                found |= {int(pid) for pid in file.read_text().split()}
    return found - {0}


def hierarchies() -> list[Path]:
    """Where the trees of cgroups are mounted: one, or with version 1 one a controller."""
    fields = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    return [Path(where) for _, where, kind, *_ in fields if kind in ("cgroup", "cgroup2")]


def trees_in_use() -> list[str]:
    """The trees that runtimes put containers into: version 1's where there are any, or else that of version 2.

    Each is written as `/sys/fs/cgroup/pids:pids`, with the options of mount(8) that name it; version 2 needs none.
    """
    found: dict[str, list[str]] = {"cgroup": [], "cgroup2": []}
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split()
        if kind in found:
            named = [one for one in options.split(",") if one not in _USUAL_OPTIONS and kind == "cgroup"]
            found[kind].append(f"{where}:{','.join(named)}")
    return found["cgroup"] or found["cgroup2"]


def remove_groups(groups: Iterable[Path]) -> None:
    """Removes cgroups with all that is below; they are not in use any more, or will not be in a moment."""
    deadline = time.monotonic() + PATIENCE
    for group in groups:
        for directory in [*sorted(group.glob("**/"), reverse=True), group]:
            while directory.exists():
                try:
                    directory.rmdir()
                except OSError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.01)


def mounts_below(directory: Path) -> list[Path]:
    """Mount points in a directory, the topmost and latest first."""
    points = [_unescaped(line.split()[4]) for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return [point for point in reversed(points) if directory in point.parents]


def mounted(path: Path) -> bool:
    """Whether something is mounted here."""
    return path.resolve() in mounts_below(path.resolve().parent)


def unmount(path: Path) -> None:
    """Takes a mount away, in use or not."""
    if _libc.umount2(os.fsencode(path), _MNT_DETACH):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))


def _unescaped(field: str) -> Path:
    return Path(re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field))
