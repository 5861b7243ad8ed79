"""`python -m bench`: measures everything and prints the tables, each below its command.

The exit code says only whether it could be measured.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
from collections.abc import Callable

import click

from cni_collector import Collector, CollectorError, CollectorStart, __version__

from . import bystanders, execs, idle, latency, live, programs, reading, rightness, startup, storm
from .table import Row, table
from .tracers import floor, tracers

PARTS = ["rightness", "reading", "live", "latency", "idle", "startup", "storm", "programs", "bystanders", "execs"]


@click.command()
@click.option("--idle", "idle_seconds", default=60.0, show_default=True, metavar="SECONDS", help="How long to idle.")
@click.option(
    "--live", "live_seconds", default=3.0, show_default=True, metavar="SECONDS", help="How long a paced run is."
)
@click.option("--repeats", default=5, show_default=True, type=click.IntRange(min=1), help="Of paced runs and storms.")
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(PARTS),
    help="Parts to run.",
)
def main(idle_seconds: float, live_seconds: float, repeats: int, only: tuple[str, ...]) -> None:
    """Measure what the collector costs, beside bpftrace and a naive C program, where they can be had."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("bench: terminated"))  # what was started is ended on the way out
    start = _opening()
    subjects = tracers()
    parts: dict[str, Callable[[], list[Row]]] = {
        "rightness": lambda: rightness.rows(subjects),
        "reading": lambda: reading.rows(3 * repeats),
        "live": lambda: live.rows(subjects, live_seconds, repeats),
        "latency": lambda: latency.rows(repeats),
        "idle": lambda: idle.rows(subjects, idle_seconds),
        "startup": lambda: startup.rows(subjects, 10),
        "storm": lambda: storm.rows([*subjects, *floor()], repeats),
        "programs": lambda: programs.rows(2 * repeats + 1),
        "bystanders": lambda: bystanders.rows(subjects, repeats),
        "execs": lambda: execs.rows(2 * repeats + 1),
    }
    print(
        f"cni-collector {__version__}, tier {start.tier}, Linux {start.kernel} {start.arch}, {os.cpu_count()} CPUs, "
        f"{platform.python_implementation()} {platform.python_version()}; medians (min-max)",
        flush=True,
    )
    failed = False
    for name, part in parts.items():
        if not only or name in only:
            print(f"measuring: {name}", file=sys.stderr)
            try:
                print(f"\n$ python -m bench --only {name}\n{table(part())}", flush=True)
            except (CollectorError, RuntimeError, OSError) as error:
                failed = True
                print(f"bench: cannot measure {name}: {error}", file=sys.stderr)
    sys.exit(failed)


def _opening() -> CollectorStart:
    """Prove that there is something to measure."""
    with Collector("bench") as collector:
        start = next(iter(collector.events()))
    assert isinstance(start, CollectorStart)
    assert start.host_netns
    if os.stat("/proc/self/ns/net").st_ino != start.host_netns.inum:
        raise CollectorError("cannot measure here: run in the host's network namespace, not in a container's")
    return start


try:
    main()
except CollectorError as error:
    sys.exit(f"bench: {error}")
