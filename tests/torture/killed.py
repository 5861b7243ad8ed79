"""Collectors are killed at any moment, beside one that must see everything; nothing may stay in the kernel."""

from __future__ import annotations

import os
import random
import re
import time
from pathlib import Path

from ..support.actors import Puppet, a_netns
from ..support.loads import Amount, Done, done, work
from ..support.objects import kernel_objects
from ..support.outcome import Counts, Outcome, count, lost
from ..support.recorder import LARGE, Recorder, mark
from ..support.watch import PATIENCE

_ID = re.compile(r"^(prog|map|link)_id:\s*(\d+)$", re.M)
LONGEST = 0.7
"""Seconds after its start at which one is killed at the latest: attaching takes a quarter of one."""


def killed(home: Path, kills: int) -> Outcome:
    """Kills so many, one after the other, at random moments: while they start, attach, take stock and read."""
    before = kernel_objects()
    moments = random.Random(kills)
    attached = 0
    with Recorder(home, "survivor", *LARGE) as survivor, a_netns() as (holder, _):
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        mark(survivor)
        made = Done(Counts())
        for _ in range(kills):
            with Puppet(lambda _: work(Amount(499, 101, 11, 7), fd)) as load:
                with Recorder(home, "victim", wait=False) as victim:
                    time.sleep(moments.uniform(0, LONGEST))
                    victim.kill()
                attached += victim.path.stat().st_size > 0
                made = made.join(done(load.end()))
        survivor.destroyed(made.cookies)
        mark(survivor)
        os.close(fd)
        survivor.stop()
    seen = list(filter(made.mine, survivor.between()))
    outcome = Outcome(made.counts, count(seen), lost(survivor.events))
    outcome.balance()
    left = _left_behind(before)
    outcome.check(not left, f"left in the kernel: {sorted(left)}")
    outcome.notes.append(
        f"{kills} killed, {attached} of them attached by then; programs, maps and links left: {len(left)}"
    )
    return outcome


def _held() -> set[tuple[str, int]]:
    """Those that some living process has a descriptor of."""
    found = set()
    for process in Path("/proc").glob("[0-9]*/fdinfo"):
        try:
            texts = [file.read_text() for file in process.iterdir()]
        except OSError:
            continue  # it has ended
        found |= {(kind, int(ident)) for text in texts for kind, ident in _ID.findall(text)}
    return found


def _left_behind(before: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """What has come since and is nobody's: the kernel frees programs and maps after a grace period."""
    deadline = time.monotonic() + PATIENCE
    while (left := kernel_objects() - before - _held()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left
