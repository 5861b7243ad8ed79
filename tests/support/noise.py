"""`python -m tests.support.noise [-- COMMAND...]`: others on the machine, beside whom tests must pass.

One process runs `unshare -n true` back to back: namespaces are born and die, some hundred a second, and process ids are
used up within minutes. Another is refused a setns some thousand times a second, in bursts. Both rest now and then, so
that two CPUs are busy and not overrun. They end with the command, after `--seconds`, or with whoever has started them,
however that ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

import click

from .actors import CLONE_NEWNET, Puppet, refused, setns

BURST: Final = 100
"""Refusals between two rests."""
RATE: Final = 5000
"""Refusals a second, at most."""
REST: Final = 0.02
"""Seconds, after each second of namespaces."""

_PR_SET_PDEATHSIG: Final = 1


def end_with_parent(parent: int) -> None:
    """Has the kernel end this process when its parent ends; and ends it now, where that is over already."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(0)


def _namespaces() -> int:
    """For a second or so: how many were made."""
    made, until = 0, time.monotonic() + 1
    while time.monotonic() < until:
        os.waitpid(os.posix_spawnp("unshare", ["unshare", "-n", "true"], os.environ), 0)
        made += 1
    time.sleep(REST)
    return made


def _refusals() -> int:
    """One burst: how many they were."""
    begun = time.monotonic()
    for _ in range(BURST):
        refused(lambda: setns(-1, CLONE_NEWNET))
    time.sleep(max(0.001, BURST / RATE - (time.monotonic() - begun)))
    return BURST


def _endlessly(once: Callable[[], int], parent: int) -> Callable[[Puppet], int]:
    def play(self: Puppet) -> int:
        end_with_parent(parent)
        total = 0
        while not self.spoken_to():
            total += once()
        return total

    return play


@contextlib.contextmanager
def noise() -> Iterator[None]:
    """It goes on while the block does; how much it was is told on stderr."""
    begun = time.monotonic()
    with Puppet(_endlessly(_namespaces, os.getpid())) as births, Puppet(_endlessly(_refusals, os.getpid())) as refusals:
        yield
        born, failed = births.end(), refusals.end()
    took = time.monotonic() - begun
    print(
        f"noise: {born:,} namespaces and {failed:,} refusals in {took:.0f} s, "
        f"{born / took:,.0f} and {failed / took:,.0f} a second",
        file=sys.stderr,
    )


@click.command()
@click.option("--seconds", type=click.FloatRange(min=0), help="How long, where there is no COMMAND.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def main(seconds: float | None, command: tuple[str, ...]) -> None:
    """Make noise beside a COMMAND, and end as that does; or for so many SECONDS, or until whoever started this ends."""
    parent = os.getppid()
    with noise():
        if command:
            status = subprocess.run(command, check=False).returncode
        else:
            status, until = 0, time.monotonic() + (seconds or float("inf"))
            with contextlib.suppress(KeyboardInterrupt):
                while os.getppid() == parent and time.monotonic() < until:
                    time.sleep(0.1)
    sys.exit(status)


if __name__ == "__main__":
    main()
