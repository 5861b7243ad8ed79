"""Tasks that take the CPU from each other in the middle of it all: nothing is missing, or the stream says so.

Where the kernel preempts programs (modes full and lazy), it skips them for others meanwhile: those of fentry, and from
7.0 on those of tracepoints. A skipped end of a call can hide two events, an exit and an enter. While a task is
preempted in a bpf(2) operation on a map, the kernel skips those of kprobes and system-call tracepoints.
"""

from __future__ import annotations

import collections
import ctypes
import os
from collections.abc import Callable
from contextlib import ExitStack

from cni_collector import CollectorStop, Lost, NetnsEnter, NetnsExit
from cni_collector.kernel.libbpf import libbpf

from ..support.actors import Puppet, a_netns, storm
from ..support.watch import Watch, watching

PAIRS = 5003
STORMS = 3


def _on_one_cpu() -> None:
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})


def _storms(watch: Watch, count: int, beside: Callable[[Puppet], None] | None = None) -> tuple[int, int, CollectorStop]:
    """Storms that share one CPU: how many of their events were reported, and counted as lost; the stream's end."""
    with a_netns() as (holder, _), ExitStack() as stack:
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)

        def play(self: Puppet) -> None:
            _on_one_cpu()
            self.hear()
            storm(fd, PAIRS)

        storms = [stack.enter_context(Puppet(play)) for _ in range(count)]
        other = stack.enter_context(Puppet(beside)) if beside else None
        if other:
            other.hear()
        for one in storms:
            one.say("go")
        for one in storms:
            one.end()
        if other:
            other.end()
        os.close(fd)
    stop = watch.stop()
    pids = {one.pid for one in storms}
    told = collections.Counter(type(event) for event in watch.events if event.pid in pids)
    lost = [event.by_type for event in watch.events if isinstance(event, Lost)]
    return (
        told[NetnsEnter] + told[NetnsExit],
        sum(one.get("netns_enter", 0) + one.get("netns_exit", 0) for one in lost),
        stop,
    )


def test_storms_that_share_one_cpu() -> None:
    with watching() as watch:
        told, lost, stop = _storms(watch, STORMS)
    moves = 2 * PAIRS * STORMS
    if stop.skipped is None:
        assert told + lost == moves
    else:
        assert watch.start.tier != "kprobe"
        assert told <= moves <= told + lost + 2 * stop.skipped  # a skipped run need not hide anything


def _read_a_large_map(self: Puppet) -> None:
    """Without a pause, in batches: nearly all the time it is in the middle of an operation."""
    _on_one_cpu()
    hash_map = 1  # BPF_MAP_TYPE_HASH
    fd = libbpf().bpf_map_create(hash_map, b"large", 4, 4, 1 << 18, None)
    assert fd >= 0
    keys, values, at = (ctypes.create_string_buffer(1 << 14) for _ in range(3))
    self.say("reading")
    while not self.spoken_to():
        libbpf().bpf_map_lookup_batch(fd, None, at, keys, values, ctypes.byref(ctypes.c_uint32(1 << 12)), None)


def test_a_reader_of_large_maps_shares_the_cpu_with_storms() -> None:
    with watching() as watch:
        told, lost, stop = _storms(watch, 2, _read_a_large_map)
    assert told <= 4 * PAIRS
    if stop.skipped is None and not watch.start.uncounted:
        assert told + lost == 4 * PAIRS
    if watch.start.uncounted:
        assert "entry and exit by setns, and its refusals" in watch.start.uncounted
        assert watch.start.tier != "fentry"
