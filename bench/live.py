"""Events at a steady pace: what is lost, what the reading process costs, and what memory it needs afterwards."""

from __future__ import annotations

import contextlib
from typing import Final, NamedTuple

from .awake import awake
from .load import EVENLY, Done, load
from .process import Memory
from .table import Figures, Row, row_of
from .tracers import OURS, Tracer


class Pace(NamedTuple):
    """One way that events come, and the targets there."""

    name: str
    rate: int
    """Events a second."""
    burst_seconds: float = EVENLY
    cpu_us: float | None = None
    """Microseconds of CPU an event."""
    share: float | None = None
    """Of what each of the others takes."""
    asleep: bool = False
    """Whether CPUs sleep that have nothing to do."""


PACES: Final = (
    Pace("at 1,000 events/s", 1_000),
    Pace("at 1,000 events/s, CPUs asleep between", 1_000, asleep=True),
    Pace("at 10,000 events/s", 10_000, share=1 / 3),
    Pace("at 10,000 events/s, CPUs asleep between", 10_000, share=1 / 3, asleep=True),
    Pace("at 10,000 events/s in bursts of 50", 10_000, 0.005, share=1 / 3),
    Pace("at 10,000 events/s in bursts of 50, CPUs asleep between", 10_000, 0.005, share=1 / 3, asleep=True),
    Pace("at 100,000 events/s", 100_000, cpu_us=1.3, share=1 / 3),
)
"""The highest rate last: memory is that after it."""


class _Run(NamedTuple):
    done: Done
    received: int
    lost: int
    cpu_ns: int
    memory: Memory

    @property
    def unaccounted(self) -> int:
        """Events that were neither received nor counted as lost."""
        return self.done.calls - self.received - self.lost

    @property
    def cpu_us(self) -> float:
        """An event that was received."""
        return self.cpu_ns / 1000 / max(self.received, 1)


def rows(tracers: list[Tracer], seconds: float, repeats: int) -> list[Row]:
    """Measure the tracers in turns, at one pace after the other."""
    found = []
    for pace in PACES:
        runs: dict[str, list[_Run]] = {tracer.name: [] for tracer in tracers}
        for _ in range(repeats):
            for tracer in tracers:
                runs[tracer.name].append(_run(tracer, pace, seconds))
        at = pace.name
        found.append(row_of(f"{at}: CPU us/event received", runs, lambda run: run.cpu_us, pace.cpu_us))
        for name in runs:
            if name != OURS:
                pairs = zip(runs[OURS], runs[name], strict=True)
                ratios = Figures([mine.cpu_us / theirs.cpu_us for mine, theirs in pairs])
                found.append(Row(f"{at}: the same, of {name}'s", {OURS: ratios}, pace.share))
        found.append(row_of(f"{at}: events/s reached", runs, lambda run: run.done.rate, digits=0))
        found.append(row_of(f"{at}: events lost", runs, lambda run: run.lost, 0, 0))
        found.append(row_of(f"{at}: done - received - lost", runs, lambda run: run.unaccounted, 0, 0))
    found.append(row_of("after that: RSS MB", runs, lambda run: run.memory.rss, digits=1))
    found.append(row_of("after that: PSS MB", runs, lambda run: run.memory.pss, 30, 1))
    return found


def _run(tracer: Tracer, pace: Pace, seconds: float) -> _Run:
    with load() as busy, contextlib.nullcontext() if pace.asleep else awake():
        with tracer.process(busy.pid) as process:
            before = process.cpu_ns()
            done = busy.run(int(pace.rate / 2 * seconds), pace.rate // 2, pace.burst_seconds)
            process.settle()
            cpu_ns, memory = process.cpu_ns() - before, process.memory()
        return _Run(done, process.count, tracer.lost(process), cpu_ns, memory)
