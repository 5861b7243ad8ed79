"""What Prometheus is told after a loss: what is alive, and what is under way, is counted right all the same."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cni_collector import CniEnd, CniStart, Event, NetnsCreate, NetnsDestroy, NetnsFound

from ..support import loads
from ..support.actors import a_netns, execute
from ..support.exporting import free_port
from ..support.listing import listed
from ..support.loads import Amount
from ..support.outcome import Outcome
from ..support.overflow import beside_a_witness
from ..support.prometheus import get
from ..support.watch import Watch, mark

CALLS = 20
"""Under way when the collector is stopped; all but one of them end while it is."""
SOON = 15.0
"""Seconds within which the gauges must be right: they may lag behind the stream."""


def metrics(home: Path, amount: Amount, *options: str) -> Outcome:
    """Loses births, deaths and ends of calls; compares the gauges with what the witness knows, and that with `list`."""
    url = f"http://127.0.0.1:{(port := free_port())}/metrics"
    calls: list[int] = []
    older = {int(one["pid"]) for one in listed("--cni")}  # of others, begun before the witness
    compared = Outcome()

    @contextlib.contextmanager
    def stop(victim: Watch) -> Iterator[None]:
        calls.extend(execute([b"CNI_COMMAND=ADD"], "/bin/sleep", "1000") for _ in range(CALLS))
        victim.wait(lambda e: e.type == "cni_start" and e.pid == calls[-1])
        with contextlib.ExitStack() as living:
            for _ in range(3):  # they die, and nobody is told
                living.enter_context(a_netns())
            os.kill(victim.pid, signal.SIGSTOP)
            loads.run(Amount(pairs=amount.pairs))
        try:
            yield
            while len(calls) > 1:
                _end(calls.pop())
        finally:
            os.kill(victim.pid, signal.SIGCONT)

    def compare(victim: Watch, witness: Watch) -> None:
        deadline = time.monotonic() + SOON
        while True:
            now = _compared(url, victim, witness, older)
            if not now.wrong or time.monotonic() > deadline:
                compared.add(now)
                return

    try:
        outcome = beside_a_witness(home, stop, amount, "--prometheus", f":{port}", *options, then=compare)
    finally:
        for pid in calls:
            _end(pid)
    outcome.check(outcome.lost["cni_end"] >= CALLS - 1, "the ends of the calls were not lost: nothing is shown by this")
    outcome.add(compared)
    return outcome


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


class Kind(NamedTuple):
    """Something that begins and ends.

    Attributes:
        gauge: how many there are now.
        options: of `list`, to have them listed.
        begins, ends: the events that tell of it.
        key: what it is known by, of an event.
        listed: the same, of a line of `list`.
    """

    gauge: str
    options: Sequence[str]
    begins: type[Event] | tuple[type[Event], ...]
    ends: type[Event]
    key: Callable[[Event], int | None]
    listed: str


def _cookie(event: Event) -> int | None:
    return event.netns.cookie if event.netns else None


KINDS = (
    Kind("cni_netns_alive", (), (NetnsCreate, NetnsFound), NetnsDestroy, _cookie, "cookie"),
    Kind("cni_calls_in_flight", ("--cni",), CniStart, CniEnd, lambda e: e.pid, "pid"),
)


def _compared(url: str, victim: Watch, witness: Watch, older: set[int]) -> Outcome:
    """Between two marks a gauge must be what the witness counts at some moment; and `list` must know what it knows.

    But for CNI calls that are older than both collectors, of which `list` alone knows.
    """
    outcome = Outcome()
    mark(victim, witness)
    scraped = dict(line.split(" ", 1) for line in get(url).splitlines() if not line.startswith("#"))
    mark(witness)
    window = slice(witness.marks[-2], witness.marks[-1])
    for kind in KINDS:
        gauge = int(float(scraped[kind.gauge]))
        counts = {len(there) for there in _there(kind, witness.events, window)}
        outcome.check(min(counts) <= gauge <= max(counts), f"{kind.gauge}: {gauge} instead of {sorted(counts)}")
        mark(witness)
        found = {int(one[kind.listed]) for one in listed(*kind.options)}
        mark(witness)
        first, *later = _there(kind, witness.events, slice(witness.marks[-2], witness.marks[-1]))
        strange = found.difference(first, *later, older if kind.begins is CniStart else ())
        outcome.check(not strange, f"list {kind.options} has {len(strange)} that nobody was told of")
        # What it has no more may be on its way out.
        gone = first - found
        left = _left(kind, witness, gone)
        outcome.check(not left, f"list {kind.options} lacks {len(left)} of {len(first)}")
        outcome.notes.append(f"{kind.gauge} is {gauge}, the witness counts {sorted(counts)}, list {len(found)}")
    return outcome


def _there(kind: Kind, events: list[Event], window: slice) -> list[set[int]]:
    """What there is at the beginning of a window, and after each event in it."""
    there: set[int] = set()
    found = []
    for index, event in enumerate(events[: window.stop]):
        key = kind.key(event) or 0
        if isinstance(event, kind.begins):
            there.add(key)
        elif isinstance(event, kind.ends):
            there.discard(key)
        if index >= window.start:
            found.append(set(there))
    return found


def _left(kind: Kind, witness: Watch, gone: set[int]) -> set[int]:
    """Those whose end is not told within a while."""
    since = witness.marks[-2]

    def left() -> set[int]:
        return gone - {kind.key(e) or 0 for e in witness.events[since:] if isinstance(e, kind.ends)}

    with contextlib.suppress(TimeoutError):
        witness.until(lambda: not left(), SOON)
    return left()
