"""What a process costs while nothing happens."""

from __future__ import annotations

import contextlib
import time

from .table import Figures, Row
from .tracers import Tracer


def rows(tracers: list[Tracer], seconds: float) -> list[Row]:
    """Measure all at once: they idle at the same time on the same machine."""
    with contextlib.ExitStack() as stack:
        processes = {tracer.name: stack.enter_context(tracer.process()) for tracer in tracers}
        for process in processes.values():
            process.settle()
        before = {name: (one.switches(), one.cpu_ns(), one.count) for name, one in processes.items()}
        time.sleep(seconds)
        after = {name: (one.switches(), one.cpu_ns(), one.count) for name, one in processes.items()}
    ours, theirs = (
        [b - a for a, b in zip(before[name], after[name], strict=True)] if name in before else None
        for name in ("cni-collector", "bpftrace")
    )
    assert ours

    def row(what: str, index: int, unit: int, target: float | None, digits: int) -> Row:
        return Row(
            f"idle for {seconds:g} s: {what}",
            Figures([ours[index] / unit], digits),
            target,
            Figures([theirs[index] / unit], digits) if theirs else "not installed",
        )

    return [
        row("context switches", 0, 1, 0, 0),
        row("CPU ms", 1, 1_000_000, None, 2),
        row("events there were all the same", 2, 1, None, 0),
    ]
