"""Events at a steady pace: what is lost, what the reading process costs, and what memory it needs afterwards."""

from __future__ import annotations

from typing import Final, NamedTuple

from .load import Done, load
from .process import Memory
from .table import Figures, Row, row_of
from .tracers import OURS, Tracer

RATES: Final = (1_000, 10_000, 100_000)
"""Events a second."""
_TARGETS: Final = {100_000: 1.3}
"""Microseconds of CPU an event."""
_THIRD: Final = 1 / 3
"""Of what each of the others takes: the target where there is much to read."""


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
    """Measure the tracers in turns, at one rate after the other."""
    found = []
    for rate in RATES:
        runs: dict[str, list[_Run]] = {tracer.name: [] for tracer in tracers}
        for _ in range(repeats):
            for tracer in tracers:
                runs[tracer.name].append(_run(tracer, rate, seconds))
        at = f"at {rate:,} events/s"
        found.append(row_of(f"{at}: CPU us/event received", runs, lambda run: run.cpu_us, _TARGETS.get(rate)))
        for name in runs:
            if name != OURS:
                pairs = zip(runs[OURS], runs[name], strict=True)
                ratios = Figures([mine.cpu_us / theirs.cpu_us for mine, theirs in pairs])
                found.append(Row(f"{at}: the same, of {name}'s", {OURS: ratios}, _THIRD if rate >= 10_000 else None))
        found.append(row_of(f"{at}: events lost", runs, lambda run: run.lost, 0, 0))
        found.append(row_of(f"{at}: done - received - lost", runs, lambda run: run.unaccounted, 0, 0))
        if rate == RATES[-1]:
            found.append(row_of(f"{at}: events/s reached", runs, lambda run: run.done.rate, digits=0))
            found.append(row_of("after that: RSS MB", runs, lambda run: run.memory.rss, digits=1))
            found.append(row_of("after that: PSS MB", runs, lambda run: run.memory.pss, 30, 1))
    return found


def _run(tracer: Tracer, rate: int, seconds: float) -> _Run:
    with load() as busy:
        with tracer.process(busy.pid) as process:
            before = process.cpu_ns()
            done = busy.run(int(rate / 2 * seconds), rate // 2)
            process.settle()
            cpu_ns, memory = process.cpu_ns() - before, process.memory()
        return _Run(done, process.count, tracer.lost(process), cpu_ns, memory)
