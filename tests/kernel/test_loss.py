"""A ring that is too small: what is emitted and what is counted as lost add up to what happened, exactly."""

from __future__ import annotations

import os
import signal

from cni_collector import Collector, Lost, NetnsEnter, NetnsEnterFailed, NetnsExit

from ..support.actors import CLONE_NEWNET, a_netns, act, refused, setns, storm
from ..support.watch import TIER, Watch

PAIRS = 20011
REFUSALS = 7919


def _storm(fd: int) -> None:
    storm(fd, PAIRS)
    for _ in range(REFUSALS):
        refused(lambda: setns(-1, CLONE_NEWNET))


def test_emitted_and_lost_are_what_happened() -> None:
    """Nobody reads during the storm; the ring holds a few hundred records of fifty thousand."""
    with a_netns() as (holder, _):
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        with Collector("cni", tier=TIER, ring_bytes=1 << 16) as collector:
            act(lambda: _storm(fd))
            stream = iter(collector.events())
            assert collector.stats.received < 1000
            # The stream goes on: after the storm events arrive again.
            before = []
            for event in stream:
                before.append(event)
                if isinstance(event, Lost):
                    break
            _, _ = act(lambda: refused(lambda: setns(-2, CLONE_NEWNET)))
            collector.stop()
            rest = list(stream)
        os.close(fd)
    stats = collector.stats
    assert stats.undecodable == 0
    lost = [event for event in before + rest if isinstance(event, Lost)]
    assert sum(event.count for event in lost) == stats.lost > 0
    for kind, truth in (("netns_enter", PAIRS), ("netns_exit", PAIRS), ("netns_enter_failed", REFUSALS + 1)):
        received = stats.received_by_type.get(kind, 0)
        assert received + stats.lost_by_type.get(kind, 0) == truth
        assert sum(event.by_type.get(kind, 0) for event in lost) == stats.lost_by_type.get(kind, 0)
    assert isinstance(rest[-2], NetnsEnterFailed)
    assert sum(
        isinstance(event, NetnsEnter | NetnsExit | NetnsEnterFailed) for event in before + rest
    ) + stats.lost == (2 * PAIRS + REFUSALS + 1)


def test_a_watch_that_is_stopped_for_a_while() -> None:
    """SIGSTOP: the ring overflows, and the stream tells by how much."""
    with a_netns() as (holder, _), Watch() as mine:
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        os.kill(mine.pid, signal.SIGSTOP)
        storming = [act(lambda: _storm(fd))[0] for _ in range(2)]
        os.kill(mine.pid, signal.SIGCONT)
        os.close(fd)
        stop = mine.stop()
        ours = [event for event in mine.events if event.pid in storming]
        lost = sum(event.count for event in mine.events if isinstance(event, Lost))
        assert lost == stop.lost > 0
        assert len(ours) + lost == 2 * (2 * PAIRS + REFUSALS)
