"""What everybody else pays: a system call that is not watched, with and without the collector."""

from __future__ import annotations

import ctypes
import mmap
import platform
import time
from collections.abc import Callable
from typing import Final

from .table import Figures, Row
from .tracers import Tracer

CALLS: Final = 2_000_000
_GETPPID_LOOP: Final = bytes.fromhex(
    "53"  # push rbx
    "4889fb"  # mov rbx, rdi
    "b86e000000"  # again: mov eax, 110 (getppid)
    "0f05"  # syscall
    "48ffcb"  # dec rbx
    "75f4"  # jnz again
    "5bc3"  # pop rbx; ret
)
"""x86-64 machine code, so that the loop costs next to nothing beside its system calls."""


def rows(tracers: list[Tracer], repeats: int) -> list[Row]:
    """Measure untraced and traced in turns."""
    if platform.machine() != "x86_64":
        raise RuntimeError("the loop of system calls is written for x86-64")
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    memory.write(_GETPPID_LOOP)
    code = ctypes.c_char.from_buffer(memory)
    loop = ctypes.CFUNCTYPE(None, ctypes.c_long)(ctypes.addressof(code))
    untraced: list[float] = []
    traced: dict[str, list[float]] = {tracer.name: [] for tracer in tracers}
    for _ in range(repeats):
        untraced.append(_ns_per_call(loop))
        for tracer in tracers:
            with tracer.process():
                traced[tracer.name].append(_ns_per_call(loop))

    def row(what: str, compare: Callable[[float, float], float], digits: int) -> Row:
        figures = {
            name: Figures([compare(*both) for both in zip(values, untraced, strict=True)], digits)
            for name, values in traced.items()
        }
        return Row(f"getppid, {what}", figures["cni-collector"], None, figures.get("bpftrace", "not installed"))

    return [
        Row("getppid, untraced: CPU ns", Figures(untraced, 0)),
        row("added by being attached: CPU ns", lambda with_it, without: with_it - without, 0),
        row("attached / not: CPU time", lambda with_it, without: with_it / without, 2),
    ]


def _ns_per_call(loop: Callable[[int], object]) -> float:
    begin = time.thread_time_ns()
    loop(CALLS)
    return (time.thread_time_ns() - begin) / CALLS
