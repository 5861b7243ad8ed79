"""From an event to its line on stdout."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import time
from typing import Final

from .load import load
from .table import Figures, Row
from .tracers import OURS

RATES: Final = (100, 10_000)
"""Events a second."""
SECONDS: Final = {100: 10, 10_000: 3}
PERCENTILES: Final = (50, 99, 99.9)
PATIENCE: Final = 30.0
_DAY: Final = 86_400_000_000_000
_NO_PAUSE: Final = f"{OURS} --coalesce 0"


def rows(repeats: int) -> list[Row]:
    """Measure with the pause that lets events gather, and without, in turns."""
    options = {OURS: [], _NO_PAUSE: ["--coalesce", "0"]}
    found = []
    for rate in RATES:
        delays: dict[str, list[list[int]]] = {name: [] for name in options}
        for _ in range(repeats):
            for name, chosen in options.items():
                delays[name].append(sorted(_delays(chosen, rate)))
        for percentile in PERCENTILES:
            figures: dict[str, Figures | str] = {
                name: Figures([run[int((len(run) - 1) * percentile / 100)] / 1e6 for run in runs])
                for name, runs in delays.items()
            }
            found.append(Row(f"at {rate:,} events/s, from event to line, p{percentile:g}: ms", figures))
    return found


def _delays(options: list[str], rate: int) -> list[int]:
    """Nanoseconds between each event and the reading of its line."""
    with load() as busy:
        command = [sys.executable, "-m", "cni_collector", "watch", "-o", "json", *options]
        wanted = re.compile(rb'"time":"[^T]*T(\d\d):(\d\d):(\d\d)\.(\d{9})Z".*"pid":%d,' % busy.pid)
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout
            fd = process.stdout.fileno()
            while b"collector_start" not in os.read(fd, 1 << 20):
                pass
            seconds = SECONDS[rate]
            busy.begin(rate * seconds // 2, rate // 2)
            found: list[int] = []
            rest = b""
            deadline = time.monotonic() + seconds + PATIENCE
            while len(found) < rate * seconds // 2 * 2:
                if not select.select([fd], [], [], max(0.0, deadline - time.monotonic()))[0]:
                    raise RuntimeError("events are missing")
                chunk = os.read(fd, 1 << 20)
                now = time.time_ns() % _DAY
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    if match := wanted.search(line):
                        hour, minute, second, rest_ns = map(int, match.groups())
                        happened = ((hour * 60 + minute) * 60 + second) * 1_000_000_000 + rest_ns
                        found.append((now - happened) % _DAY)
            busy.end()
            process.send_signal(signal.SIGINT)
            process.stdout.read()
    return found
