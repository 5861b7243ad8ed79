"""How long it takes from exec until everything is attached."""

from __future__ import annotations

from .table import Figures, Row
from .tracers import Tracer


def rows(tracers: list[Tracer], repeats: int) -> list[Row]:
    """Measure the tracers in turns; each is gone, and has detached, before the next begins."""
    took: dict[str, list[float]] = {tracer.name: [] for tracer in tracers}
    for _ in range(repeats):
        for tracer in tracers:
            with tracer.process() as process:
                took[tracer.name].append(process.ready_ns / 1e6)
    theirs = Figures(took["bpftrace"], 0) if "bpftrace" in took else "not installed"
    return [Row("from exec to attached: wall ms", Figures(took["cni-collector"], 0), 200, theirs)]
