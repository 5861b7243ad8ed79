"""A collector in trouble beside a witness that is in none: both see the same, and what one lacks it has counted."""

from __future__ import annotations

import contextlib
import itertools
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from cni_collector import Event, NetnsCreate, NetnsDestroy, NetnsEnter, NetnsExit, NetnsFound

from . import loads
from .loads import Amount, Done
from .outcome import Outcome, count, lost
from .watch import LARGE, SEVERAL, Watch, mark, several_marks

Trouble = Callable[[Watch], contextlib.AbstractContextManager[None]]
"""What befalls the collector while the block is entered."""


def stopped(seconds: float) -> Trouble:
    """SIGSTOP for so long, or as long as the load takes."""
    return _paused(seconds, lambda victim: victim.process)


def unread(seconds: float) -> Trouble:
    """Whoever reads its pipe stands still for so long, or as long as the load takes."""
    return _paused(seconds, lambda victim: victim.reader)


def _paused(seconds: float, who: Callable[[Watch], subprocess.Popen[bytes] | None]) -> Trouble:
    @contextlib.contextmanager
    def pause(victim: Watch) -> Iterator[None]:
        process = who(victim)
        assert process
        process.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        try:
            yield
            time.sleep(max(0, seconds - (time.monotonic() - begun)))
        finally:
            process.send_signal(signal.SIGCONT)

    return pause


def beside_a_witness(
    home: Path,
    trouble: Trouble,
    amount: Amount,
    *options: str,
    patience: float = 60,
    pipe: bool = False,
    then: Callable[[Watch, Watch], None] = lambda _victim, _witness: None,
) -> Outcome:
    """Runs a load while the collector is in trouble, and weighs what both say.

    The load's own facts are known, so the witness is checked by them. Others may make facts meanwhile, which are
    counted as lost like any: the witness tells how many those were.

    Args:
        home: an empty directory.
        trouble: what befalls the collector.
        amount: the load of each of two processes.
        options: of the collector.
        patience: seconds that the collector may need to catch up.
        pipe: the collector writes to a pipe.
        then: what to do when the collector has caught up, with it and the witness.
    """
    with (
        Watch(*LARGE, home=home, name="witness") as witness,
        Watch(*options, home=home, name="victim", pipe=pipe) as victim,
    ):
        several_marks(victim, witness)
        with trouble(victim):
            made = loads.run(amount)
        mark(victim, witness, patience=patience)
        witness.destroyed(*made.cookies)
        then(victim, witness)
        several_marks(victim, witness, patience=patience)
        stops = victim.stop(), witness.stop()
    outcome = weigh(victim, witness, made)
    outcome.same("lost, in collector_stop", stops[0].lost, lost(victim.events).total())
    outcome.check(not stops[0].skipped, f"{stops[0].skipped} runs of programs were skipped")
    return outcome


def weigh(victim: Watch, witness: Watch, made: Done, unlike: frozenset[int] = frozenset()) -> Outcome:
    """What happened between the first marks and the last, as the witness saw it, and what became of it.

    There are several marks at either end: between some two of them the sums must be right.

    Args:
        victim: the collector in trouble.
        witness: the other one.
        made: what the load has made.
        unlike: processes that the two need not see alike.
    """
    before = witness.events[: witness.marks[0]], victim.events[: victim.marks[0]]
    inside = _inside(before[0]) - _inside(before[1])
    dying = _alive(before[0]) - _alive(before[1])
    for first, last in itertools.product(range(SEVERAL), range(-SEVERAL, 0)):
        seen = [
            e
            for e in witness.between(first, last)
            if e.pid not in unlike
            and not (e.cause == "exit" and _who(e) in inside)
            and not (isinstance(e, NetnsDestroy) and e.netns and e.netns.cookie in dying)
        ]
        told = victim.between(first, last)
        outcome = Outcome(count(seen), count(told), lost(told))
        outcome.balance()
        if not outcome.wrong:
            break
    outcome.check(not lost(witness.events), f"the witness itself has lost {lost(witness.events)}")
    outcome.same("the load, as the witness saw it", count(filter(made.mine, seen)), made.counts)
    own = made.counts.total()
    outcome.notes.append(f"{own:,} of {outcome.happened.total():,} events were the load's own")
    return outcome


def _who(event: Event) -> tuple[int | None, int]:
    tid = event.entered_tid if isinstance(event, NetnsExit) and event.entered_tid else event.tid
    return tid, event.netns.cookie if event.netns else 0


def _alive(events: list[Event]) -> set[int]:
    """The namespaces that are not gone. One that starts later does not find those whose tear-down has begun."""
    found = set()
    for event in events:
        if event.netns and isinstance(event, NetnsCreate | NetnsFound):
            found.add(event.netns.cookie)
        elif event.netns and isinstance(event, NetnsDestroy):
            found.discard(event.netns.cookie)
    return found


def _inside(events: list[Event]) -> set[tuple[int | None, int]]:
    """Who has entered and not left. One that starts later is not told when they end."""
    found = set()
    for event in events:
        if isinstance(event, NetnsEnter):
            found.add(_who(event))
        elif isinstance(event, NetnsExit):
            found.discard(_who(event))
    return found
