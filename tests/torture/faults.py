"""The faults, by name, in the order in which they are done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from ..support.loads import Amount
from ..support.outcome import Outcome
from . import disk, memory
from .clock import clock
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

STORM: Final = Amount(pairs=40_009, refusals=7_919, births=503, calls=211, denials=401)
"""Of each of two processes: more than twice what the ring has room for."""
WORK: Final = Amount(pairs=10_007, refusals=1_009, births=101, calls=53, denials=101)


class Options(NamedTuple):
    """What a user can choose."""

    soak: float = 600
    """Seconds."""
    namespaces: int = 30_000
    kills: int = 50


class Fault(NamedTuple):
    """One of them.

    Attributes:
        about: what it does, in a few words.
        run: does it, in an empty directory; the last argument is told how it goes.
    """

    about: str
    run: Callable[[Path, Options, Callable[[str], None]], Outcome]


FAULTS: Final = {
    "stopped": Fault("SIGSTOP for 20 s while the ring overflows", lambda home, _o, _s: stopped(home, 20, STORM)),
    "starved": Fault("5 % of a CPU, beside busy loops on all", lambda home, _o, _s: starved(home, 5, STORM)),
    "metrics": Fault("gauges after a loss", lambda home, _o, _s: metrics(home, STORM)),
    "stdout": Fault("nobody reads stdout for 20 s", lambda home, _o, _s: disk.blocked(home, 20, STORM)),
    "disk": Fault("no room on the disk of --file", lambda home, _o, _s: disk.full(home, WORK)),
    "descriptors": Fault(
        "no file descriptors left, at the start and later",
        lambda home, _o, _s: descriptors(home, range(8, 100, 2), WORK),
    ),
    "memory-at-start": Fault(
        "too little address space to start",
        lambda _h, _o, _s: memory.address_space_at_start(range(20, 64, 2)),
    ),
    "memory": Fault(
        "no address space left, and a full ring to read", lambda home, _o, _s: memory.address_space(home, WORK)
    ),
    "memory-queue": Fault(
        "no address space left, and a queue that grows", lambda home, _o, _s: memory.growing_queue(home, WORK)
    ),
    "memory-cgroup": Fault(
        "8 MB left in its cgroup, while its queue grows", lambda home, _o, _s: memory.group_limit(home, 8 << 20, STORM)
    ),
    "clock": Fault("the system's time set forward and back", lambda home, _o, _s: clock(home)),
    "namespaces": Fault("very many alive at once", lambda home, options, say: many(home, options.namespaces, say)),
    "limits": Fault("more than the kernel side remembers", lambda home, _o, _s: limits(home, 1024, 64, 16)),
    "pids": Fault("used again at once, and used up", lambda home, _o, _s: pids(home, 1009, 5)),
    "threads": Fault("1,000 in one namespace at once", lambda home, _o, _s: threads(home, 1000)),
    "killed": Fault("by SIGKILL, at any moment", lambda home, options, _s: killed(home, options.kills)),
    "hostile": Fault("unprivileged users who forge names and environments", lambda home, _o, _s: hostile(home, 5)),
    "soak": Fault("mixed work for ten minutes", lambda home, options, say: soak(home, options.soak, True, say)),
}
