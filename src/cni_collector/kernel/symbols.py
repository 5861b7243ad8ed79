"""What functions of the kernel are called here: the processor and the compiler have a say in that."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Final

_SYSTEM_CALLS: Final = {"x86_64": "__x64_sys_", "aarch64": "__arm64_sys_"}
"""How the entry functions of system calls begin (arch/*/include/asm/syscall_wrapper.h)."""


def local_name(function: str) -> str:
    """The name on this processor of a function that is named as on x86-64."""
    return function.replace("__x64_sys_", _SYSTEM_CALLS.get(platform.machine(), "__x64_sys_"))


def variant(function: str, symbols: str = "/proc/kallsyms") -> str | None:
    """What the compiler left of a function under another name, as `copy_net_ns.isra.0`; None if nothing.

    Such a variant may take other arguments than its source says; what it returns is the same.
    """
    with Path(symbols).open(encoding="ascii", errors="replace") as lines:
        for line in lines:
            name = line.split()[2]
            base, dot, suffix = name.partition(".")
            # .cold is the unlikely half of a function, .part a piece of it: neither is entered by every call
            if base == function and dot and not suffix.startswith(("cold", "part")):
                return name
    return None
