"""Lines of /proc/PID/mountinfo (proc_pid_mountinfo(5)), built without the help of what they test."""

from __future__ import annotations

ROOT = b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n"


def mount(path: bytes, ident: int = 40, root: bytes = b"net:[4026532001]", kind: bytes = b"nsfs") -> bytes:
    """The line of a mount: of a network namespace, unless told otherwise."""
    return b"%d 22 0:4 %s %s rw shared:2 - %s nsfs rw\n" % (ident, root, path, kind)
