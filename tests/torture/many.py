"""Very many namespaces alive at once: found at the start, listed, and each told destroyed."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

from cni_collector import NetnsCreate, NetnsDestroy, NetnsFound

from ..support.actors import CLONE_NEWNET, Puppet, cookie, unshare
from ..support.listing import listed_by_cookie
from ..support.outcome import Outcome, lost
from ..support.watch import LARGE, Watch

LEFT = 2 << 30
"""Bytes of memory that are left free."""
EACH = 5000
"""Namespaces that one process holds: each takes a descriptor, of which it may have some thousands."""
SAMPLE = 200
"""Namespaces by which the memory that one takes is measured."""


def many(home: Path, number: int, say: Callable[[str], None]) -> Outcome:
    """So many of them, or as many as there is memory for, held by descriptors of a few processes.

    Args:
        home: an empty directory.
        number: how many.
        say: told how it goes.
    """

    def hold(self: Puppet) -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        while (want := self.hear()) is not None:
            made = []
            for _ in range(want):
                unshare(CLONE_NEWNET)
                os.open("/proc/self/ns/net", os.O_RDONLY)
                made.append(cookie())
            self.say(made)

    outcome = Outcome()
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(Watch(*LARGE, home=home, name="first"))
        holders = [stack.enter_context(Puppet(hold)) for _ in range(0, number, EACH)]
        made: list[int] = []

        def more(count: int) -> None:
            holder = holders[len(made) // EACH]
            holder.say(count)
            made.extend(holder.hear())

        before = _free()
        more(min(SAMPLE, number))
        each = max((before - _free()) // len(made), 1)
        say(f"one namespace takes {each >> 10} KiB; {_free() >> 20} MiB are free")
        while len(made) < number and _free() - 1000 * each > LEFT:
            more(min(1000, number - len(made), EACH - len(made) % EACH))
        outcome.check(len(made) == number, f"memory was enough for {len(made):,} namespaces only")
        outcome.notes.append(f"one namespace takes {each >> 10} KiB of memory")
        say(f"{len(made):,} namespaces are there")
        with Watch(*LARGE, home=home, name="second") as second:
            found = {e.netns.cookie for e in second.events if isinstance(e, NetnsFound) and e.netns}
            begun = time.monotonic()
            there = listed_by_cookie()
            outcome.notes.append(
                f"list took {time.monotonic() - begun:.1f} s, a second collector's RSS is {_rss(second.pid)} MB"
            )
            outcome.same("made, but not listed", set(made) - there.keys(), set())
            say("all of them die")
            begun = time.monotonic()
            for holder in holders:
                holder.kill()
            for one in (first, second):
                one.destroyed(*made)
            outcome.notes.append(f"the kernel took {time.monotonic() - begun:.1f} s to tear them down")
            second.stop()
            first.stop()
    truth = set(made)
    deaths = [e.netns.cookie for e in second.events if isinstance(e, NetnsDestroy) and e.netns]
    births = [e.netns.cookie for e in first.events if isinstance(e, NetnsCreate) and e.netns]
    found |= {e.netns.cookie for e in second.events if isinstance(e, NetnsFound) and e.netns}
    gone = [e.netns.cookie for e in first.events if isinstance(e, NetnsDestroy) and e.netns]
    for what, told in (("netns_create", births), ("netns_found", sorted(found)), ("netns_destroy", deaths)):
        outcome.happened[what] = len(made)
        outcome.arrived[what] = len([one for one in told if one in truth])
    outcome.same("the first collector's deaths", sorted(one for one in gone if one in truth), sorted(truth))
    outcome.lost = lost([*first.events, *second.events])
    outcome.balance()
    return outcome


def _free() -> int:
    """Bytes of memory that are to be had."""
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    raise RuntimeError("/proc/meminfo does not tell")


def _rss(pid: int) -> int:
    """Megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) >> 10
    return 0
