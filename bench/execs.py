"""What an exec costs that is no CNI call: its whole environment is looked through."""

from __future__ import annotations

import os
from typing import Final

from cni_collector import Collector

from .programs import RunTimes
from .table import Figures, Row, ours

EXECS: Final = 300


def rows(repeats: int) -> list[Row]:
    """Measure by the kernel's own statistics of the program."""
    took: dict[int, list[float]] = {40: [], 400: []}
    with Collector("cni") as collector, RunTimes(collector) as times:
        for _ in range(repeats):
            for variables, values in took.items():
                before = times.of("cni_exec")
                _execs(variables)
                after = times.of("cni_exec")
                values.append((after.ns - before.ns) / (after.runs - before.runs))
    what = "exec with {} variables of 75 bytes: ns"
    return [ours(what.format(number), Figures(values, 0)) for number, values in took.items()]


def _execs(variables: int) -> None:
    environment = {f"SOME_VARIABLE_{number:04}": "x" * 55 for number in range(variables)}
    for _ in range(EXECS):
        os.waitpid(os.posix_spawn("/bin/true", ["true"], environment), 0)
