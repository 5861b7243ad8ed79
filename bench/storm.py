"""What a storm of setns calls feels of being watched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from .load import Done, load
from .table import Figures, Row
from .tracers import Tracer

PAIRS: Final = 200_000
"""Of each run: about a second."""


def rows(tracers: list[Tracer], repeats: int) -> list[Row]:
    """Measure untraced and traced in turns; the storm is one process all along."""
    runs: dict[str, list[Done]] = {name: [] for name in ["untraced", *(tracer.name for tracer in tracers)]}
    received: dict[str, list[int]] = {tracer.name: [] for tracer in tracers}
    lost: dict[str, list[int]] = {tracer.name: [] for tracer in tracers}
    with load() as busy:
        for _ in range(repeats):
            runs["untraced"].append(busy.run(PAIRS))
            for tracer in tracers:
                with tracer.process(busy.pid) as process:
                    runs[tracer.name].append(busy.run(PAIRS))
                    process.settle()
                received[tracer.name].append(process.count)
                lost[tracer.name].append(tracer.lost(process))
    untraced = runs["untraced"]

    def row(what: str, figures: Callable[[str], Figures | str]) -> Row:
        return Row(
            f"storm, {what}",
            figures("cni-collector"),
            None,
            figures("bpftrace") if "bpftrace" in runs else "not installed",
        )

    def compared(compare: Callable[[Done, Done], float]) -> Callable[[str], Figures]:
        """Compare each run with the untraced one of the same turn."""
        return lambda name: Figures([compare(*both) for both in zip(runs[name], untraced, strict=True)])

    def counts(name: str) -> str:
        done = sum(run.calls for run in runs[name])
        return f"{sum(received[name]):,} + {sum(lost[name]):,} of {done:,}"

    return [
        Row("storm, untraced: setns pairs/s", _rates(untraced)),
        row("traced: setns pairs/s", lambda name: _rates(runs[name])),
        row("traced / untraced: pairs/s", compared(lambda traced, plain: traced.rate / plain.rate)),
        row("traced / untraced: its CPU time", compared(lambda traced, plain: traced.cpu_ns / plain.cpu_ns)),
        row(
            "added to a call: CPU us",
            compared(lambda traced, plain: (traced.cpu_ns / traced.calls - plain.cpu_ns / plain.calls) / 1000),
        ),
        row("traced: events received + lost", counts),
    ]


def _rates(runs: list[Done]) -> Figures:
    return Figures([run.rate / 2 for run in runs], 0)
