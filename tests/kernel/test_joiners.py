"""Who joins a namespace while it is being made: its birth is told once, ahead of what others do in it."""

from __future__ import annotations

import os

from cni_collector import NetnsDestroy, NetnsExit

from ..support.actors import CLONE_FS, CLONE_NEWNET, Puppet, cookie, setns, unshare
from ..support.watch import EMULATED, mark, watching

TRIES = 40 if EMULATED else 300


def _make(self: Puppet) -> int:
    self.say("here")
    self.hear()
    unshare(CLONE_NEWNET)
    self.hear()
    return cookie()


def _join(self: Puppet) -> int:
    """Goes where a process is as soon as that is elsewhere, and unshares something else there."""
    pidfd = os.pidfd_open(self.hear())
    home = cookie()
    self.say("here")
    while cookie() == home:
        setns(pidfd, CLONE_NEWNET)
        unshare(CLONE_FS)
    return cookie()


def test_a_birth_is_told_once_and_first_whoever_was_faster() -> None:
    joined = []
    with watching("--coalesce", "20") as watch:
        for _ in range(TRIES):
            with Puppet(_make) as maker, Puppet(_join) as joiner:
                maker.hear()
                joiner.say(maker.pid)
                joiner.hear()
                maker.say("now")
                joined.append(joiner.end())
                assert maker.end() == joined[-1]
        mark(watch)
        watch.stop()
    told: dict[int, list[str]] = {a: [] for a in joined}
    for event in watch.events:
        if event.netns and event.netns.cookie in told and not isinstance(event, NetnsExit | NetnsDestroy):
            told[event.netns.cookie].append(event.type)
    assert [sorted(types) for types in told.values()] == [["netns_create", "netns_enter", "netns_enter"]] * TRIES
    late = [types for types in told.values() if types[0] != "netns_create"]
    assert len(late) <= TRIES // 50  # those that two batches divide
