"""What BPF has in the kernel, and whose it is."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path
from typing import Final, NamedTuple

from cni_collector.kernel.libbpf import libbpf

_ID: Final = re.compile(r"^(prog|map|link)_id:\s*(\d+)$", re.M)
_NAMES: Final = {"prog": 64, "map": 24}
"""Where the name is in `struct bpf_prog_info` and `struct bpf_map_info`."""
_NAME_SIZE: Final = 16
_LINKS_PROGRAM: Final = 8
"""Where `prog_id` is in `struct bpf_link_info`."""


class Object(NamedTuple):
    """A program, a map or a link. Ids count up; none is used again for a long time."""

    kind: str
    id: int


def kernel_objects() -> set[Object]:
    """All that there are."""
    found = set()
    for kind in ("prog", "map", "link"):
        get_next = getattr(libbpf(), f"bpf_{kind}_get_next_id")
        ident = ctypes.c_uint32(0)
        while not get_next(ident, ctypes.byref(ident)):
            found.add(Object(kind, ident.value))
    return found


def held(pid: int | str) -> set[Object]:
    """Those that a process has a descriptor of; none, if it has ended."""
    found = set()
    try:
        for file in Path(f"/proc/{pid}/fdinfo").iterdir():
            found |= {Object(kind, int(ident)) for kind, ident in _ID.findall(file.read_text())}
    except OSError:
        pass
    return found


def held_by_anybody() -> set[Object]:
    """Those that some living process has a descriptor of."""
    return set().union(*(held(name) for name in os.listdir("/proc") if name.isdecimal()))


def named(one: Object) -> str:
    """The name that it has, or a link's program has; empty, if it is gone.

    Without what libbpf puts before a dot: that is another in each process.
    """
    fd = getattr(libbpf(), f"bpf_{one.kind}_get_fd_by_id")(one.id)
    if fd < 0:
        return ""
    try:
        size = ctypes.c_uint32(256)
        info = ctypes.create_string_buffer(size.value)
        if libbpf().bpf_obj_get_info_by_fd(fd, info, ctypes.byref(size)):
            return ""
    finally:
        os.close(fd)
    if one.kind == "link":
        return named(Object("prog", int.from_bytes(info.raw[_LINKS_PROGRAM : _LINKS_PROGRAM + 4], sys.byteorder)))
    at = _NAMES[one.kind]
    return info.raw[at : at + _NAME_SIZE].partition(b"\0")[0].decode().rpartition(".")[2]
