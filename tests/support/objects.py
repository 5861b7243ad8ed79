"""What BPF has in the kernel."""

from __future__ import annotations

import ctypes

from cni_collector.kernel.libbpf import libbpf


def kernel_objects() -> set[tuple[str, int]]:
    """All BPF programs, maps and links, by kind and id."""
    found = set()
    for kind in ("prog", "map", "link"):
        get_next = getattr(libbpf(), f"bpf_{kind}_get_next_id")
        ident = ctypes.c_uint32(0)
        while not get_next(ident, ctypes.byref(ident)):
            found.add((kind, ident.value))
    return found
