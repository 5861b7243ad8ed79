"""The collector is stopped by SIGSTOP, beside a load that its ring cannot hold."""

from __future__ import annotations

from pathlib import Path

from ..support import overflow
from ..support.loads import Amount
from ..support.outcome import Outcome


def stopped(home: Path, seconds: float, amount: Amount, *options: str) -> Outcome:
    """Stops it for so long, or as long as the load takes."""
    outcome = overflow.beside_a_witness(home, overflow.stopped(seconds), amount, *options)
    outcome.check(outcome.lost.total() > 0, "the ring did not overflow: nothing is shown by this")
    return outcome
