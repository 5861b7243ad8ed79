"""Events at a steady pace: what is lost, what the reading process costs, and what memory it needs afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from .load import Done, load
from .process import Memory
from .table import Figures, Row
from .tracers import Tracer

EVENTS_PER_SECOND: Final = 100_000


class _Run(NamedTuple):
    done: Done
    received: int
    lost: int
    cpu_ns: int
    memory: Memory


_Extract = Callable[[_Run], float]


def rows(tracers: list[Tracer], seconds: float, repeats: int) -> list[Row]:
    """Measure the tracers in turns."""
    runs: dict[str, list[_Run]] = {tracer.name: [] for tracer in tracers}
    for _ in range(repeats):
        for tracer in tracers:
            runs[tracer.name].append(_run(tracer, seconds))
    ours, theirs = runs["cni-collector"], runs.get("bpftrace")

    def row(what: str, figures: _Extract, target: float | None = None, digits: int = 0) -> Row:
        return Row(
            what,
            Figures([figures(run) for run in ours], digits),
            target,
            Figures([figures(run) for run in theirs], digits) if theirs else "not installed",
        )

    at = f"at {EVENTS_PER_SECOND:,} events/s for {seconds:g} s"
    return [
        row(f"{at}: events/s reached", lambda run: run.done.rate),
        row(f"{at}: events received", lambda run: run.received),
        row(f"{at}: events lost", lambda run: run.lost, 0),
        row(f"{at}: done - received - lost", lambda run: run.done.calls - run.received - run.lost, 0),
        row(f"{at}: CPU us/event received", lambda run: run.cpu_ns / 1000 / max(run.received, 1), 1.3, 2),
        row("after that: RSS MB", lambda run: run.memory.rss, 30, 1),
        row("after that: PSS MB", lambda run: run.memory.pss, None, 1),
    ]


def _run(tracer: Tracer, seconds: float) -> _Run:
    with load() as busy:
        with tracer.process(busy.pid) as process:
            before = process.cpu_ns()
            done = busy.run(int(EVENTS_PER_SECOND / 2 * seconds), EVENTS_PER_SECOND // 2)
            process.settle()
            cpu_ns, memory = process.cpu_ns() - before, process.memory()
        return _Run(done, process.count, tracer.lost(process), cpu_ns, memory)
