"""What Prometheus is told after a loss: what is alive, and what is under way, is counted right all the same."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ..support import loads
from ..support.actors import a_netns, execute
from ..support.exporting import free_port
from ..support.loads import Amount
from ..support.outcome import Outcome
from ..support.overflow import beside_a_witness
from ..support.prometheus import get
from ..support.watch import CHECKOUT, Watch

CALLS = 20
"""Under way when the collector is stopped; all but one of them end while it is."""
SOON = 15.0
"""Seconds within which gauges and `list` must agree: others' namespaces come and go meanwhile."""


def metrics(home: Path, amount: Amount, *options: str) -> Outcome:
    """Loses births, deaths and ends of calls, and compares the gauges with what `list` finds."""
    port = free_port()
    agreed: list[dict[str, tuple[float, int]]] = []
    calls: list[int] = []

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
        agreed.append(_agreement(f"http://127.0.0.1:{port}/metrics"))

    try:
        outcome = beside_a_witness(home, stop, amount, "--prometheus", f":{port}", *options)
    finally:
        for pid in calls:
            _end(pid)
    outcome.check(outcome.lost["cni_end"] >= CALLS - 1, "the ends of the calls were not lost: nothing is shown by this")
    for name, (told, listed) in agreed[0].items():
        outcome.same(name, told, listed)
    outcome.notes.append(f"gauges and list agree: {agreed[0]}")
    return outcome


def _end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def _agreement(url: str) -> dict[str, tuple[float, int]]:
    """The gauges and what `list` finds; when they agree, or after a while."""
    deadline = time.monotonic() + SOON
    while True:
        listed = {"cni_netns_alive": _listed(), "cni_calls_in_flight": _listed("--cni")}
        told = dict(line.split(" ", 1) for line in get(url).splitlines() if not line.startswith("#"))
        both = {name: (float(told[name]), number) for name, number in listed.items()}
        if all(one == other for one, other in both.values()) or time.monotonic() > deadline:
            return both
        time.sleep(0.2)


def _listed(*options: str) -> int:
    command = [sys.executable, "-m", "cni_collector", "list", "-o", "json", *options]
    return len(subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=True).stdout.splitlines())
