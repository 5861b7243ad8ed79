"""Collectors are killed at any moment, beside one that must see everything; nothing may stay in the kernel."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

from ..support.actors import Puppet, a_netns
from ..support.loads import Amount, Done, done, work
from ..support.objects import Object, held, held_by_anybody, kernel_objects, named
from ..support.outcome import Counts, Outcome, count, lost
from ..support.watch import LARGE, PATIENCE, Watch, mark

LONGEST = 0.7
"""Seconds after its start at which one is killed at the latest: attaching takes a quarter of one."""


def killed(home: Path, kills: int) -> Outcome:
    """Kills so many, one after the other, at random moments: while they start, attach, take stock and read."""
    before = kernel_objects()
    moments = random.Random(kills)
    attached = 0
    with Watch(*LARGE, home=home, name="survivor") as survivor, a_netns() as (holder, _):
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        mark(survivor)
        ours = {named(one) for one in held(survivor.pid)}
        made = Done(Counts())
        for _ in range(kills):
            with Puppet(lambda _: work(Amount(499, 101, 11, 7), fd)) as load:
                with Watch(home=home, name="victim", wait=False) as victim:
                    time.sleep(moments.uniform(0, LONGEST))
                    victim.kill()
                attached += victim.path.stat().st_size > 0
                made = made.join(done(load.end()))
        survivor.destroyed(*made.cookies)
        mark(survivor)
        os.close(fd)
        survivor.stop()
    seen = list(filter(made.mine, survivor.between()))
    outcome = Outcome(made.counts, count(seen), lost(survivor.events))
    outcome.balance()
    left = _left_behind(before, ours)
    outcome.check(not left, f"left in the kernel: {sorted(left)}")
    outcome.notes.append(
        f"{kills} killed, {attached} of them attached by then; programs, maps and links left: {len(left)}"
    )
    return outcome


def _left_behind(before: set[Object], ours: set[str]) -> set[Object]:
    """What has come since, has one of our names, and is nobody's: the kernel frees it after a grace period."""
    deadline = time.monotonic() + PATIENCE
    while True:
        fresh = {one for one in kernel_objects() - before if (name := named(one)) in ours or name.startswith("cni_")}
        left = fresh - held_by_anybody()
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.1)
