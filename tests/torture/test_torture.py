"""The faults of `make torture`, with small numbers; but for the system's time, which is other people's, too."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..support.loads import Amount
from ..support.outcome import Outcome, table
from . import disk, memory
from .descriptors import descriptors
from .hostile import hostile
from .killed import killed
from .limits import limits
from .many import many
from .metrics import metrics
from .pids import pids
from .soak import soak
from .starved import starved
from .stopped import stopped
from .threads import threads

STORM = Amount(pairs=6007, refusals=1009, births=53, calls=23, denials=53)
"""Of each of two processes: more than a ring of 1 MB has room for."""
WORK = Amount(pairs=1009, refusals=211, births=23, calls=11, denials=23)
RING = ("--ring", "1")
TRIES = 2
"""Others who make namespaces at the same moment may stand on the other side of a mark."""

FAULTS: dict[str, Callable[[Path], Outcome]] = {
    "stopped": lambda home: stopped(home, 0, STORM, *RING),
    "starved": lambda home: starved(home, 5, WORK, *RING),
    "metrics": lambda home: metrics(home, STORM, *RING),
    "stdout": lambda home: disk.blocked(home, 0, STORM, *RING),
    "disk": lambda home: disk.full(home, WORK),
    "descriptors": lambda home: descriptors(home, (8, 32, 61, *range(64, 68), 72), WORK),
    "memory at start": lambda _: memory.address_space_at_start((24, 36, 40)),
    "memory": lambda home: memory.address_space(home, WORK),
    "memory of a queue": lambda home: memory.growing_queue(home, STORM),
    "memory of a cgroup": lambda home: memory.group_limit(home, 8 << 20, STORM),
    "namespaces": lambda home: many(home, 300, print),
    "limits": lambda home: limits(home, 64, 16, 8),
    "pids": lambda home: pids(home, 41, 1),
    "threads": lambda home: threads(home, 307),
    "killed": lambda home: killed(home, 3),
    "hostile": lambda home: hostile(home, 1),
    "soak": lambda home: soak(home, 5, False, print),
}


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory that ordinary users can reach."""
    with tempfile.TemporaryDirectory(prefix="torture-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


ALONE = ("pids", "namespaces")
"""Which take all pids of the machine, and as much memory as they find."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.alone] if name in ALONE else []) for name in FAULTS]
)
def test_it_adds_up(name: str, home: Path) -> None:
    for attempt in range(TRIES):
        part = home / str(attempt)
        part.mkdir()
        outcome = FAULTS[name](part)
        if not outcome.wrong:
            break
        print("once more:", outcome.wrong)
    print(table({name: outcome}))
    assert not outcome.wrong
