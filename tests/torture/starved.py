"""The collector hardly gets the CPU: both are busy, and its cgroup has a small quota."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from ..support import loads
from ..support.loads import Amount
from ..support.outcome import Outcome
from ..support.overflow import beside_a_witness
from ..support.watch import Watch
from . import groups


def starved(home: Path, percent: int, amount: Amount, *options: str) -> Outcome:
    """Leaves it so many percent of one CPU."""
    with groups.cpu_quota(percent) as group:

        @contextlib.contextmanager
        def starve(victim: Watch) -> Iterator[None]:
            groups.move(victim.pid, group)
            with loads.busy(len(os.sched_getaffinity(0))):
                yield

        return beside_a_witness(home, starve, amount, *options, patience=300)
