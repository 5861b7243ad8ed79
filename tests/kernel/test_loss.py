"""A ring that is too small: what is emitted and what is counted as lost add up to what happened, exactly.

What is lost is counted by type, whoever did it. So a witness with a large ring tells what others did meanwhile.
"""

from __future__ import annotations

import collections
import os
from pathlib import Path

import pytest

from cni_collector import Collector, Event, Lost, NetnsEnterFailed

from ..support.actors import CLONE_NEWNET, a_netns, act, refused, setns, storm
from ..support.loads import Amount
from ..support.overflow import beside_a_witness, stopped
from ..support.watch import TIER, mark, watching

PAIRS = 5003
REFUSALS = 2003


def _storm(fd: int) -> None:
    storm(fd, PAIRS)
    for _ in range(REFUSALS):
        refused(lambda: setns(-1, CLONE_NEWNET))


def _by_type(events: list[Event]) -> collections.Counter[str]:
    return collections.Counter(event.type for event in events)


@pytest.mark.alone  # its ring is small: a storm of another test would fill it at the end, too
def test_emitted_and_lost_are_what_happened() -> None:
    """Nobody reads during the storm; the ring holds a few hundred records of twelve thousand."""
    with a_netns() as (holder, _), watching() as witness:
        mark(witness)
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        with Collector("cni", tier=TIER, ring_bytes=1 << 16) as collector:
            stormer, _ = act(lambda: _storm(fd))
            stream = iter(collector.events())
            assert collector.stats.received < 1000
            # The stream goes on: after the storm events arrive again.
            told = []
            for event in stream:
                told.append(event)
                if isinstance(event, Lost):
                    break
            last, _ = act(lambda: refused(lambda: setns(-2, CLONE_NEWNET)))
            collector.stop()
            rest = list(stream)
        os.close(fd)
        mark(witness)
        assert witness.stop().lost == 0
    stats = collector.stats
    assert stats.undecodable == 0
    assert [type(event) for event in rest if event.pid == last] == [NetnsEnterFailed]
    told += rest
    lost = [event for event in told if isinstance(event, Lost)]
    assert sum(event.count for event in lost) == stats.lost > 0
    ours = {stormer, last}
    mine = _by_type([event for event in told if event.pid in ours])
    assert mine.keys() == {"netns_enter", "netns_exit", "netns_enter_failed"}
    others = _by_type([e for e in witness.between() if e.pid not in ours])
    others.subtract(event.type for event in told if event.pid not in ours)
    received = _by_type(told)
    for kind, truth in (("netns_enter", PAIRS), ("netns_exit", PAIRS), ("netns_enter_failed", REFUSALS + 1)):
        assert stats.received_by_type[kind] == received[kind]
        assert sum(event.by_type.get(kind, 0) for event in lost) == stats.lost_by_type.get(kind, 0)
        assert truth <= mine[kind] + stats.lost_by_type.get(kind, 0) <= truth + others[kind]


def test_a_watch_that_is_stopped_for_a_while(tmp_path: Path) -> None:
    """SIGSTOP: the ring overflows, and the stream tells by how much."""
    outcome = beside_a_witness(tmp_path, stopped(0), Amount(PAIRS, REFUSALS), "--ring", "1")
    assert outcome.lost.total() > 0
    assert not outcome.wrong
