"""Many namespaces at once, their inode numbers reused at once: nothing is doubled, missing or mixed up."""

from __future__ import annotations

import collections
import os

import pytest

from cni_collector import Event, NetnsCreate, NetnsDestroy, NetnsEnter, NetnsExit

from ..support.actors import CLONE_NEWNET, a_netns, act, cookie, inum, setns, unshare
from ..support.watch import Scene, Watch

WORKERS = 4
EACH = 25


def _worker(first: int) -> list[tuple[int, int]]:
    """Makes namespaces one after the other, and visits the first in between; their cookies and inode numbers."""
    made = []
    for _ in range(EACH):
        unshare(CLONE_NEWNET)
        made.append((cookie(), inum()))
        setns(first, CLONE_NEWNET)
    return made


@pytest.mark.parametrize("round_", range(10))
def test_101_namespaces(scene: Scene, watch: Watch, round_: int) -> None:
    with a_netns() as (holder, first):
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        workers = []
        for _ in range(WORKERS):
            to_parent, from_child = os.pipe()
            pid = os.fork()
            if not pid:
                made = _worker(fd)
                os.write(from_child, " ".join(f"{a}:{b}" for a, b in made).encode())
                os._exit(0)
            os.close(from_child)
            workers.append((pid, to_parent))
        truth: dict[int, int] = {}
        for pid, to_parent in workers:
            with os.fdopen(to_parent) as stream:
                truth |= {int(a): int(b) for a, b in (pair.split(":") for pair in stream.read().split())}
            os.waitpid(pid, 0)
        os.close(fd)
        holder.end()
    assert len(truth) == WORKERS * EACH
    watch.destroyed(first, *truth)
    events = scene.events({str(a): a for a in (first, *truth)}, {})

    by_type = collections.Counter(type(event) for event in events)
    moves = 2 * WORKERS * EACH + 1
    assert by_type == {
        NetnsCreate: WORKERS * EACH + 1,
        NetnsDestroy: WORKERS * EACH + 1,
        NetnsEnter: moves,
        NetnsExit: moves,
    }
    for kind in (NetnsCreate, NetnsDestroy):
        assert {e.netns.cookie for e in events if isinstance(e, kind) and e.netns} == {first, *truth}
    for event in events:
        assert event.netns
        assert event.netns.inum == truth.get(event.netns.cookie, event.netns.inum)
    _check_pairs(events)


def _check_pairs(events: list[Event]) -> None:
    """A task enters, leaves what it entered, and only then enters again; nobody is inside at the end."""
    inside: dict[int, int] = {}
    for event in events:
        if isinstance(event, NetnsEnter):
            assert event.tid not in inside
            assert event.tid
            assert event.netns
            inside[event.tid] = event.netns.cookie
        elif isinstance(event, NetnsExit):
            assert event.tid
            assert event.netns
            assert inside.pop(event.tid) == event.netns.cookie
    assert not inside


def test_inode_numbers_are_reused_and_cookies_are_not(scene: Scene, watch: Watch) -> None:
    """What makes the rounds above worth while: one inode number serves several namespaces."""

    def play() -> tuple[int, int]:
        unshare(CLONE_NEWNET)
        return cookie(), inum()

    seen = []
    for _ in range(500):  # others take numbers, too
        _, (a, number) = act(play)
        watch.destroyed(a)
        seen.append((a, number))
        if len({number for _, number in seen}) < len(seen):
            break
    assert len({number for _, number in seen}) < len(seen)
    assert len({a for a, _ in seen}) == len(seen)
