"""A collector in trouble beside a witness that is in none: both see the same, and what one lacks it has counted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from . import loads
from .loads import Amount, Done
from .outcome import Outcome, count, lost
from .recorder import LARGE, Recorder, mark

Trouble = Callable[[Recorder], contextlib.AbstractContextManager[None]]
"""What befalls the collector while the block is entered."""


def beside_a_witness(
    home: Path, trouble: Trouble, amount: Amount, *options: str, patience: float = 60, pipe: bool = False
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
    """
    with Recorder(home, "witness", *LARGE) as witness, Recorder(home, "victim", *options, pipe=pipe) as victim:
        mark(victim, witness)
        with trouble(victim):
            made = loads.run(amount)
        mark(victim, witness, patience=patience)
        witness.destroyed(made.cookies)
        mark(victim, witness, patience=patience)
        stops = victim.stop(), witness.stop()
    outcome = weigh(victim, witness, made)
    outcome.same("lost, in collector_stop", stops[0].lost, outcome.lost.total())
    outcome.check(not stops[0].missed, f"{stops[0].missed} runs of hooks were missed")
    return outcome


def weigh(victim: Recorder, witness: Recorder, made: Done, unlike: frozenset[int] = frozenset()) -> Outcome:
    """What happened between the first and the last mark, as the witness saw it, and what became of it.

    Args:
        victim: the collector in trouble.
        witness: the other one.
        made: what the load has made.
        unlike: processes that the two need not see alike.
    """
    seen = [event for event in witness.between(0, -1) if event.pid not in unlike]
    outcome = Outcome(count(seen), count(victim.between(0, -1)), lost(victim.events))
    outcome.check(not lost(witness.events), f"the witness itself has lost {lost(witness.events)}")
    outcome.same("the load, as the witness saw it", count(filter(made.mine, seen)), made.counts)
    own = made.counts.total()
    outcome.notes.append(f"{own:,} of {outcome.happened.total():,} events were the load's own")
    outcome.balance()
    return outcome
