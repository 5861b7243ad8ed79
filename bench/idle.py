"""What a process costs while nothing happens."""

from __future__ import annotations

import contextlib
import time
from typing import NamedTuple

from .process import Process
from .table import Row, row_of
from .tracers import Tracer


class _Spent(NamedTuple):
    switches: int
    cpu_ns: int
    lines: int


def rows(tracers: list[Tracer], seconds: float) -> list[Row]:
    """Measure all at once: they idle at the same time on the same machine."""
    with contextlib.ExitStack() as stack:
        processes = {tracer.name: stack.enter_context(tracer.process()) for tracer in tracers}
        for process in processes.values():
            process.settle()
        before = {name: _spent(process) for name, process in processes.items()}
        time.sleep(seconds)
        after = {name: _spent(process) for name, process in processes.items()}
    spent = {name: [_Spent(*(b - a for a, b in zip(before[name], after[name], strict=True)))] for name in processes}
    idle = f"idle for {seconds:g} s"
    return [
        row_of(f"{idle}: context switches", spent, lambda one: one.switches, 0, 0),
        row_of(f"{idle}: CPU ms", spent, lambda one: one.cpu_ns / 1e6),
        row_of(f"{idle}: events there were all the same", spent, lambda one: one.lines, digits=0),
    ]


def _spent(process: Process) -> _Spent:
    return _Spent(process.switches(), process.cpu_ns(), process.count)
