"""Collectors that start in several threads of one process at once do not disturb each other."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ..support.watch import EMULATED, PATIENCE, TIER

AT_ONCE = """
import sys, threading
from cni_collector import Collector
from cni_collector.kernel.tiers import open_object

def eight_at_once(work):
    ready, failed = threading.Barrier(8), []
    def one():
        ready.wait()
        try:
            work()
        except BaseException as error:
            failed.append(error)
    threads = [threading.Thread(target=one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]
"""


def run(work: str) -> None:
    """Runs it in a process of its own, since what is wrong ends the process."""
    done = subprocess.run([sys.executable, "-c", AT_ONCE + work], capture_output=True, text=True, timeout=15 * PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_eight_threads_open_the_object_at_once() -> None:
    """Opening prints much, so here threads are most often inside libbpf's print callback while others come and go."""
    run("for _ in range(50): eight_at_once(lambda: open_object([]).close())")


@pytest.mark.timeout(600)
def test_eight_collectors_start_at_once_fifty_times() -> None:
    """Each is whole, and takes 0.1 s of CPU."""
    run(f"""
def work():
    with Collector(tier={TIER!r}, types=["netns_create"]) as collector:
        pass
    told = [event.type for event in collector.events() if event.type not in ("netns_create", "checkpoint")]
    assert told == ["collector_start", "collector_stop"], told
for _ in range({1 if EMULATED else 50}): eight_at_once(work)
""")
