"""The collector holds nothing and leaves nothing behind, and several can run."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from ..support.actors import a_life, a_netns
from ..support.objects import held, kernel_objects
from ..support.watch import PATIENCE, TIER, Watch, watching


def test_it_pins_nothing(watch: Watch) -> None:
    """A namespace is destroyed while it is watched and listed, and no process of ours holds a descriptor of one."""
    with a_netns() as (holder, a):
        subprocess.run([sys.executable, "-m", "cni_collector", "list"], check=True, stdout=subprocess.DEVNULL)
        holder.end()
    watch.destroyed(a)
    links = [os.readlink(f"/proc/{watch.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{watch.pid}/fd")]
    assert not [link for link in links if link.startswith("net:")]


def test_a_killed_watch_leaves_nothing() -> None:
    with watching() as watch:
        ours = held(watch.pid)
        assert {one.kind for one in ours} == {"prog", "map", "link"}
        assert ours <= kernel_objects()
        watch.kill()
    deadline = time.monotonic() + PATIENCE  # the kernel frees programs and maps after a grace period
    while kernel_objects() & ours and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not kernel_objects() & ours


def test_memory_that_loading_took_is_given_back() -> None:
    """Of the types of the whole kernel, that libbpf reads: the C library would keep what was freed since."""
    program = f"""
import ctypes
from cni_collector import Collector

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

with Collector(tier={TIER!r}):
    before = resident()
    ctypes.CDLL(None).malloc_trim(0)
    print(before - resident())
"""
    kept = subprocess.check_output([sys.executable, "-c", program], text=True)
    assert int(kept) < 2048  # KiB


def test_two_collectors_see_the_same(watch: Watch) -> None:
    with watching() as other:
        a = a_life()
        for one in (watch, other):
            one.destroyed(a)
        stories = [[e for e in one.events if e.netns and e.netns.cookie == a] for one in (watch, other)]
        other.stop()
    first, second = ([(e.type, e.cause, e.pid) for e in story] for story in stories)
    assert first == second
    assert len(first) == 4
