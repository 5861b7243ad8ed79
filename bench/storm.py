"""What a storm of setns calls feels of being watched."""

from __future__ import annotations

from typing import Final

from .load import Done, load
from .table import Figures, Row, row_of
from .tracers import OURS, Tracer

PAIRS: Final = 200_000
"""Of each run: about a second."""


def rows(tracers: list[Tracer], repeats: int) -> list[Row]:
    """Measure untraced and traced in turns; the storm is one process all along."""
    untraced: list[Done] = []
    runs: dict[str, list[Done]] = {tracer.name: [] for tracer in tracers}
    received = dict.fromkeys(runs, 0)
    lost = dict.fromkeys(runs, 0)
    with load() as busy:
        for _ in range(repeats):
            untraced.append(busy.run(PAIRS))
            for tracer in tracers:
                with tracer.process(busy.pid) as process:
                    runs[tracer.name].append(busy.run(PAIRS))
                    process.settle()
                received[tracer.name] += process.count
                lost[tracer.name] += tracer.lost(process)
    done = {name: sum(run.calls for run in all_) for name, all_ in runs.items()}
    both = {name: list(zip(all_, untraced, strict=True)) for name, all_ in runs.items()}
    return [
        Row("storm, untraced: setns pairs/s", {OURS: Figures([run.rate / 2 for run in untraced], 0)}),
        row_of("storm, traced: setns pairs/s", runs, lambda run: run.rate / 2, digits=0),
        row_of("storm, traced / untraced: pairs/s", both, lambda pair: pair[0].rate / pair[1].rate),
        row_of(
            "storm, added to a setns: CPU us",
            both,
            lambda pair: (pair[0].cpu_ns / pair[0].calls - pair[1].cpu_ns / pair[1].calls) / 1000,
        ),
        Row(
            "storm: events received + lost, of those there were",
            {name: f"{received[name]:,} + {lost[name]:,} of {done[name]:,}" for name in runs},
        ),
    ]
