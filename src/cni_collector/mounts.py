"""Where network namespaces are mounted: `ip netns add` and runtimes give them names that way."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterator
from typing import Final, NamedTuple

_MOUNTINFO: Final = "/proc/self/mountinfo"
_ESCAPES: Final = ("040", "011", "012", "134")
"""What mountinfo writes as three octal digits: space, tab, newline, backslash."""


class Mount(NamedTuple):
    """One mount of a network namespace.

    Attributes:
        ident: id of the mount.
        inum: inode number of the namespace.
        path: where it is.
    """

    ident: str
    inum: int
    path: str


def mounted() -> frozenset[Mount]:
    """The network namespaces mounted in this process's mount namespace (proc_pid_mountinfo(5))."""
    with open(_MOUNTINFO, encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        return frozenset(_parse(lines))


def _parse(lines: Iterator[str]) -> Iterator[Mount]:
    for line in lines:
        ident, _parent, _device, root, path, *rest = line.split(" ")
        if root.startswith("net:[") and "nsfs" in rest:
            yield Mount(ident, int(root[5:-1]), _unescape(path))


def _unescape(path: str) -> str:
    raw = path.encode("utf-8", "surrogateescape").decode("latin-1")
    for code in _ESCAPES:
        raw = raw.replace(f"\\{code}", chr(int(code, 8)))
    return raw.encode("latin-1").decode("utf-8", "backslashreplace")


def real_path(path: str) -> str:
    """The path as mountinfo has it: runtimes write /var/run, which is a link to /run."""
    return re.sub("^/var/run/", "/run/", path)


class MountWatch:
    """Says when something was mounted or unmounted, at no cost in between: the kernel tells who polls mountinfo.

    A change is told once for each open file. So there are two: one to wait on, which others may poll, and one to ask.
    """

    def __init__(self) -> None:
        self._files = [os.open(_MOUNTINFO, os.O_RDONLY | os.O_CLOEXEC) for _ in range(2)]
        self._poll = select.poll()
        self._poll.register(self._files[1], select.POLLPRI)
        self._first = True

    def fileno(self) -> int:
        """Polls as having an exceptional condition (POLLPRI) after a change."""
        return self._files[0]

    def changed(self) -> bool:
        """Whether there was a change since this was asked last; always, when it is asked for the first time."""
        first, self._first = self._first, False
        return bool(self._poll.poll(0)) or first

    def close(self) -> None:
        """Closes both files. Safe to call twice."""
        while self._files:
            os.close(self._files.pop())
