"""Where network namespaces are mounted, from the kernel's own list of mounts: the kernel side is bpf/mounts.h."""

from __future__ import annotations

import mmap
from typing import Final

from .objects import Object
from .wire import MOUNTED, MOUNTS, MOUNTS_BYTES

_TRIES: Final = 16
"""A walk takes some 0.05 ms: so often in a row a change of the mounts seldom spoils it."""


class MountList:
    """The list, which the kernel side writes into a map. It goes on when the process gives its privileges up.

    Args:
        loaded: an object whose program `cni_host` has run.
    """

    def __init__(self, loaded: Object) -> None:
        self._program = loaded.program("cni_mounts")
        self._list = mmap.mmap(loaded.map("mounts").fd, MOUNTS.size + MOUNTS_BYTES, prot=mmap.PROT_READ)

    def read(self) -> dict[int, list[str]] | None:
        """The paths that each namespace is mounted on, by its cookie.

        They are as the first process sees them, and each leads to the namespace: what is under another mount is
        left out, and so is what found no room (512 KiB). The host's namespace is left out, too.

        Returns:
            The paths, in no order; None where the mounts changed all the time.
        """
        if all(self._program.run() for _ in range(_TRIES)):
            return None
        used, _ = MOUNTS.unpack_from(self._list)
        entries = self._list[MOUNTS.size : MOUNTS.size + used]
        found: dict[int, list[str]] = {}
        at = 0
        while at < len(entries):
            cookie, length = MOUNTED.unpack_from(entries, at)
            path = entries[at + MOUNTED.size : at + MOUNTED.size + length]
            found.setdefault(cookie, []).append(path.decode("utf-8", "backslashreplace"))
            at += MOUNTED.size + (length + 7 & ~7)
        return found

    def close(self) -> None:
        """Safe to call twice."""
        self._list.close()
