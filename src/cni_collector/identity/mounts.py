"""When mounts change, and how paths of namespaces are written: `ip netns add` and runtimes name them by mounts."""

from __future__ import annotations

import os
import re
import select
from typing import Final

_MOUNTINFO: Final = ("/proc/1/mountinfo", "/proc/self/mountinfo")
"""The first process' mounts are the machine's, also where this process has a mount namespace of its own."""


def _open() -> int:
    first, *others = _MOUNTINFO
    try:
        return os.open(first, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        if not others:
            raise
        return os.open(others[0], os.O_RDONLY | os.O_CLOEXEC)


def real_path(path: str) -> str:
    """The path as the kernel has it: runtimes write /var/run, which is a link to /run."""
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

    def close(self) -> None:
        """Closes both files. Safe to call twice."""
        while self._files:
            os.close(self._files.pop())
