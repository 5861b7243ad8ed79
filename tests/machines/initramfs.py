"""The archive a kernel takes its first files from (Documentation/driver-api/early-userspace/buffer-format.rst)."""

from __future__ import annotations

import stat
from collections.abc import Mapping


def archive(files: Mapping[str, bytes]) -> bytes:
    """These files, all executable, each in a directory of the root or in the root itself."""
    entries = {name.rpartition("/")[0]: (stat.S_IFDIR | 0o755, b"") for name in files if "/" in name}
    entries |= {name: (stat.S_IFREG | 0o755, data) for name, data in files.items()}
    entries["TRAILER!!!"] = (0, b"")
    return b"".join(_entry(number, name, *entry) for number, (name, entry) in enumerate(entries.items(), 1))


def _entry(number: int, name: str, mode: int, data: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    #         ino     mode  uid gid nlink mtime size       device, rdev  name's size   check
    numbers = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    return _padded(b"070701" + b"".join(b"%08x" % number for number in numbers) + encoded) + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
