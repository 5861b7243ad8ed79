"""Where network namespaces are mounted: `ip netns add` and runtimes give them names that way."""

from __future__ import annotations

import os
import re
import select
from typing import Final, NamedTuple

_MOUNTINFO: Final = ("/proc/1/mountinfo", "/proc/self/mountinfo")
"""The first process' mounts are the machine's, also where this process has a mount namespace of its own."""
_NAMESPACE: Final = re.compile(rb"([0-9]+) [0-9]+ [0-9]+:[0-9]+ net:\[([0-9]{1,20})\] ([^ ]+) .* - nsfs ")
_ESCAPES: Final = (b"040", b"011", b"012", b"134")
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
    """The network namespaces that are mounted on this machine."""
    fd = _open()
    try:
        return _read(fd)
    finally:
        os.close(fd)


def _open() -> int:
    first, *others = _MOUNTINFO
    try:
        return os.open(first, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        if not others:
            raise
        return os.open(others[0], os.O_RDONLY | os.O_CLOEXEC)


def _read(fd: int) -> frozenset[Mount]:
    """What stands in an open mountinfo now (proc_pid_mountinfo(5))."""
    os.lseek(fd, 0, os.SEEK_SET)
    text = b"".join(iter(lambda: os.read(fd, 1 << 16), b""))
    return parse(text)


def parse(mountinfo: bytes) -> frozenset[Mount]:
    """The network namespaces among the mounts that a file lists."""
    # There may be thousands of mounts, and few of namespaces: the others are not taken apart.
    lines = [line for line in mountinfo.split(b"\n") if b" net:[" in line]
    return frozenset(
        Mount(ident.decode(), int(inum), _unescape(path))
        for ident, inum, path in (match.groups() for match in map(_NAMESPACE.match, lines) if match)
    )


def _unescape(path: bytes) -> str:
    for code in _ESCAPES:
        path = path.replace(b"\\" + code, bytes([int(code, 8)]))
    return path.decode("utf-8", "backslashreplace")


def real_path(path: str) -> str:
    """The path as mountinfo has it: runtimes write /var/run, which is a link to /run."""
    return re.sub("^/var/run/", "/run/", path)


class MountWatch:
    """Says when something was mounted or unmounted, at no cost in between: the kernel tells who polls mountinfo.

    A change is told once for each open file. So there are two: one to wait on, which others may poll, and one to ask.
    They stay open, so that it goes on when the process gives its privileges up.
    """

    def __init__(self) -> None:
        self._files = [_open() for _ in range(2)]
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

    def mounted(self) -> frozenset[Mount]:
        """As the function of this name."""
        return _read(self._files[1])

    def close(self) -> None:
        """Closes both files. Safe to call twice."""
        while self._files:
            os.close(self._files.pop())
