"""The collector is stopped by SIGSTOP, beside a load that its ring cannot hold."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from ..support.loads import Amount
from ..support.outcome import Outcome
from ..support.overflow import beside_a_witness
from ..support.recorder import Recorder


def stopped(home: Path, seconds: float, amount: Amount, *options: str) -> Outcome:
    """Stops it for so long, or as long as the load takes."""

    @contextlib.contextmanager
    def stop(victim: Recorder) -> Iterator[None]:
        os.kill(victim.pid, signal.SIGSTOP)
        begun = time.monotonic()
        try:
            yield
            time.sleep(max(0, seconds - (time.monotonic() - begun)))
        finally:
            os.kill(victim.pid, signal.SIGCONT)

    outcome = beside_a_witness(home, stop, amount, *options)
    outcome.check(outcome.lost.total() > 0, "the ring did not overflow: nothing is shown by this")
    return outcome
