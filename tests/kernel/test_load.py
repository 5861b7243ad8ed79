"""Thousands of namespaces on a machine that has other things to do: births, deaths and the truth are the same set."""

from __future__ import annotations

import collections
import functools
import os
from contextlib import ExitStack

from cni_collector import Event, NetnsCreate, NetnsDestroy, NetnsEnter, NetnsExit

from ..support.actors import CLONE_NEWNET, Puppet, cookie, unshare
from ..support.watch import EMULATED, watching

NAMESPACES = int(os.environ.get("CNI_TEST_NAMESPACES", 1009 if EMULATED else 10_007))
WORKERS = 3


def _burn(self: Puppet) -> None:
    while not self.spoken_to():
        sum(range(10_000))


def test_thousands_of_namespaces_on_a_loaded_machine() -> None:
    shares = [len(range(worker, NAMESPACES, WORKERS)) for worker in range(WORKERS)]

    def make(share: int, _puppet: Puppet) -> list[int]:
        made = []
        for _ in range(share):
            unshare(CLONE_NEWNET)
            made.append(cookie())
        return made

    with watching() as watch, ExitStack() as stack:
        burners = [stack.enter_context(Puppet(_burn)) for _ in range(2)]
        workers = [stack.enter_context(Puppet(functools.partial(make, share))) for share in shares]
        pids = {worker.pid for worker in workers}
        born: set[int] = set()
        gone: set[int] = set()

        def a_death(event: Event) -> bool:
            if isinstance(event, NetnsCreate) and event.pid in pids and event.netns:
                born.add(event.netns.cookie)
            if isinstance(event, NetnsDestroy) and event.netns and event.netns.cookie in born:
                gone.add(event.netns.cookie)
                return True
            return False

        since = 0
        while len(gone) < NAMESPACES:
            since = watch.events.index(watch.wait(a_death, since), since) + 1
        made = [a for worker in workers for a in worker.end()]
        for burner in burners:
            burner.end()
        stop = watch.stop()
    assert stop.lost == 0
    assert len(made) == NAMESPACES
    assert born == gone == set(made)
    ours = collections.Counter(
        type(event) for event in watch.events if event.pid in pids or (event.netns and event.netns.cookie in born)
    )
    assert ours == dict.fromkeys((NetnsCreate, NetnsEnter, NetnsExit, NetnsDestroy), NAMESPACES)
