"""The load: a process of its own that goes into a network namespace of its own and back, counted and paced.

As a script it is that process: it reads one line for each run (pairs of calls, pairs a second or 0, seconds between
two bursts) and answers it with one line (calls that succeeded, nanoseconds of wall and of CPU time). It ends, and its
namespace with it, when its input does.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

CLONE_NEWNET: Final = 0x40000000
EVENLY: Final = 0.0002
"""Seconds between two bursts of a paced run: as even as sleeping allows."""


class Done(NamedTuple):
    """What one run did; each call moves the process, so each is one event."""

    calls: int
    wall_ns: int
    cpu_ns: int

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.calls * 1e9 / self.wall_ns


class Load:
    """The process, as seen by who started it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    def run(self, pairs: int, pairs_per_second: int = 0, burst_seconds: float = EVENLY) -> Done:
        """Go there and back so many times; as fast as possible where no pace is given."""
        self.begin(pairs, pairs_per_second, burst_seconds)
        return self.end()

    def begin(self, pairs: int, pairs_per_second: int, burst_seconds: float = EVENLY) -> None:
        """The same, without waiting for its end."""
        stdin = self._process.stdin
        assert stdin
        stdin.write(f"{pairs} {pairs_per_second} {burst_seconds}\n")
        stdin.flush()

    def end(self) -> Done:
        """Wait for the end of what was begun."""
        stdout = self._process.stdout
        assert stdout
        answer = stdout.readline().split()
        if len(answer) != 3:
            raise RuntimeError("the load process has died")
        return Done(*map(int, answer))


@contextlib.contextmanager
def load() -> Iterator[Load]:
    """Start the process, with its namespace made, and end it."""
    process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with process:  # closes its input, and waits for it
        it = Load(process)
        it.run(1)
        yield it


def _serve() -> None:
    libc = ctypes.PyDLL(None, use_errno=True)  # keeps the GIL: half the cost of a call otherwise
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET):
        sys.exit(f"cannot make a network namespace: {os.strerror(ctypes.get_errno())}")
    away = os.open("/proc/self/ns/net", os.O_RDONLY)
    _move(libc, home)
    for line in sys.stdin:
        pairs, pace = map(int, line.split()[:2])
        burst = max(1, int(pace * float(line.split()[2]))) if pace else pairs
        wall, cpu = time.monotonic_ns(), time.process_time_ns()
        for done in range(0, pairs, burst):
            if pace and (early := wall / 1e9 + done / pace - time.monotonic()) > 0:
                time.sleep(early)
            for _ in range(min(burst, pairs - done)):
                _move(libc, away)
                _move(libc, home)
        print(2 * pairs, time.monotonic_ns() - wall, time.process_time_ns() - cpu, flush=True)


def _move(libc: ctypes.PyDLL, netns: int) -> None:
    if libc.setns(netns, CLONE_NEWNET):
        sys.exit(f"cannot enter a network namespace: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    _serve()
