"""`python -m bench.sizing`: what each destination takes of CPU and memory, by the rate of events."""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.exporting import free_port
from tests.support.nats import NatsServer
from tests.support.receiver import Receiver

from .awake import awake
from .load import load
from .process import Process
from .table import aligned

RATES: Final = (1_000, 10_000)
"""Events a second."""
SECONDS: Final = 5
REPEATS: Final = 3
QUEUE: Final = 100_000


class _Taken(NamedTuple):
    cpu_us: float
    """An event."""
    rss: float
    """MB, at the end."""
    dropped: int


def main() -> None:
    """Measure, and print the tables."""
    with tempfile.TemporaryDirectory(prefix="sizing-") as directory:
        home = Path(directory)
        for name in ("nats", "otlp"):
            (home / name).mkdir()
        with NatsServer(home / "nats") as nats, Receiver(home / "otlp") as otlp, awake():
            nats.add_stream()
            destinations = {
                "stdout alone": [],
                "and Prometheus": ["--prometheus", f":{free_port()}"],
                "and a file": ["--file", str(home / "events.json"), "--file-size", "10"],
                "and NATS": ["--nats", nats.url],
                "and OTLP": ["--otlp", otlp.url],
            }
            lines = [["destination", *(f"at {rate:,}/s" for rate in RATES), "of one CPU", "MB", "dropped"]]
            for name, options in destinations.items():
                print(f"measuring: {name}", file=sys.stderr)
                runs = {rate: [_run(options, rate, SECONDS) for _ in range(REPEATS)] for rate in RATES}
                costs = [statistics.median(run.cpu_us for run in runs[rate]) for rate in RATES]
                lines.append(
                    [
                        name,
                        *(f"{cost:.1f} us" for cost in costs),
                        f"{costs[-1] * RATES[-1] / 1e4:.0f} %",
                        f"{max(run.rss for run in runs[RATES[-1]]):.0f}",
                        f"{sum(run.dropped for run in runs[RATES[-1]])}",
                    ]
                )
            stored = nats.stored()
        print("measuring: a full queue", file=sys.stderr)
        away = _run(["--nats", f"nats://127.0.0.1:{free_port()}"], 20_000, QUEUE // 20_000 + 2)
    payload = statistics.mean(len(message.payload) for message in stored)
    print(aligned(lines))
    print(f"\nwith {QUEUE:,} events waiting in a queue: {away.rss:.0f} MB")
    print(f"an event in the stream: {payload:.0f} bytes of JSON")


def _run(options: list[str], rate: int, seconds: int) -> _Taken:
    command = [sys.executable, "-m", "cni_collector", "watch", "-o", "json", *options]
    with load() as busy:
        with Process(command, b'"type":"collector_start"') as process:
            before = process.cpu_ns()
            done = busy.run(rate * seconds // 2, rate // 2)
            _until_idle(process)
            cpu_ns, memory = process.cpu_ns() - before, process.memory()
        dropped = sum(map(int, re.findall(rb": (\d+) events were dropped\n", process.errors)))
    return _Taken(cpu_ns / 1000 / done.calls, memory.rss, dropped)


def _until_idle(process: Process) -> None:
    """Wait until nothing is left to deliver."""
    before, now = 0, process.cpu_ns()
    while now - before > 20_000_000:
        time.sleep(1)
        before, now = now, process.cpu_ns()


if __name__ == "__main__":
    main()
