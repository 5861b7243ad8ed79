"""The reader on the real ring: the same records, in order, in chunks, across its end; with barriers and without."""

from __future__ import annotations

import functools
import os

import pytest

from cni_collector import Collector, NetnsEnter, NetnsExit
from cni_collector.kernel import ring

from ..support.actors import a_netns, act, storm
from ..support.watch import EMULATED, TIER

pytestmark = pytest.mark.any_tier

PAIRS = 1009


@pytest.fixture(params=[ring.FENCE, ring.membarrier], ids=["this processor", "barriers"], autouse=True)
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    fenced = functools.partial(ring.Ring, fence=request.param)
    monkeypatch.setattr("cni_collector.stream.session.Ring", fenced)


@pytest.mark.alone  # a storm of another test would fill the ring
def test_a_storm_through_a_ring_that_wraps_many_times() -> None:
    """Storms of which two just fit, each read before the next: every record arrives once and in order.

    The other half of the ring is for others, of whose refusals there would be too many.
    """
    rounds, seen = 7 if EMULATED else 13, []
    with (
        a_netns() as (holder, _),
        Collector(tier=TIER, ring_bytes=1 << 19, types=["netns_enter", "netns_exit"]) as collector,
    ):
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        batches = collector.batches()
        for _ in range(rounds):
            pid, _ = act(lambda: storm(fd, PAIRS))
            mine: list[type] = []
            while len(mine) < 2 * PAIRS:
                mine += [type(event) for event in next(batches) if event.pid == pid]
            seen.append(mine)
        os.close(fd)
    assert all(mine == [NetnsEnter, NetnsExit] * PAIRS for mine in seen)
    assert collector.stats.undecodable == 0
    assert collector.stats.lost == 0


def test_chunks() -> None:
    """No batch is larger than a chunk, and none is empty."""
    with a_netns() as (holder, _), Collector(tier=TIER) as collector:
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        pid, _ = act(lambda: storm(fd, PAIRS))
        os.close(fd)
        collector.stop()
        batches = list(collector.batches())
    assert all(batches)
    assert max(map(len, batches)) <= 512
    assert sum(event.pid == pid for batch in batches for event in batch) == 2 * PAIRS
