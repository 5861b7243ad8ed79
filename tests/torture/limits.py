"""More namespaces and CNI calls at once than the kernel side can remember: what cannot be told is counted."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import uuid
from pathlib import Path

from cni_collector import NetnsCreate, NetnsDestroy, NetnsFound

from ..support.actors import CLONE_FS, CLONE_NEWNET, Puppet, cookie, execute, unshare
from ..support.loads import Done
from ..support.outcome import Counts, Outcome
from ..support.overflow import weigh
from ..support.watch import LARGE, Watch, several_marks


def limits(home: Path, tracked: int, plugins: int, cgroups: int) -> Outcome:
    """Twice as many of each as there is room for: before the collector starts, and while it runs.

    Args:
        home: an empty directory.
        tracked: how many namespaces the kernel side can remember.
        plugins: how many CNI calls.
        cgroups: how many cgroups whose path was sent.
    """
    sizes = (f"tracked={tracked}", f"cni_calls={plugins}", f"sent_cgroups={cgroups}")
    with contextlib.ExitStack() as stack:
        witness = stack.enter_context(Watch(*LARGE, home=home, name="witness"))
        older = stack.enter_context(Puppet(lambda self: _hold(self, tracked // 2)))
        older_cookies = older.hear()
        victim = stack.enter_context(
            Watch(
                *LARGE,
                home=home,
                name="victim",
                command=(sys.executable, "-m", "tests.torture.smaller", *sizes, "watch"),
            )
        )
        several_marks(witness, victim)
        holder = stack.enter_context(Puppet(lambda self: _hold(self, 2 * tracked)))
        cookies = holder.hear()
        tag = f"limits-{uuid.uuid4()}"
        environment = [b"CNI_COMMAND=ADD", f"CNI_CONTAINERID={tag}".encode()]
        calls = [execute(environment, "/bin/sleep", "1000") for _ in range(2 * plugins)]
        for pid in calls:
            witness.wait(lambda e, pid=pid: e.type == "cni_start" and e.pid == pid)  # type: ignore[misc]
        for pid in calls:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for puppet in (older, holder):
            puppet.say("let go")
            puppet.hear()
        witness.destroyed(*older_cookies[: len(older_cookies) // 2], *cookies[: len(cookies) // 2])
        for puppet in (older, holder):  # there is room again: nothing may be told a second time
            puppet.say("unshare")
            puppet.hear()
            puppet.end()
        witness.destroyed(*cookies, *older_cookies)
        several_marks(witness, victim)
        victim.stop()
        witness.stop()
    made = Done(
        Counts(
            netns_create=len(cookies), netns_enter=len(cookies), netns_exit=len(cookies),
            netns_destroy=len(cookies) + len(older_cookies), cni_start=len(calls), cni_end=len(calls),
        ),
        frozenset({tag}),
        frozenset({*cookies, *older_cookies}),
    )  # fmt: skip
    outcome = weigh(victim, witness, made, frozenset({older.pid}))  # who was inside before it started leaves untold
    outcome.check(outcome.lost["netns_destroy"] > 0, "there was room for all namespaces: nothing is shown by this")
    outcome.check(outcome.lost["cni_end"] > 0, "there was room for all calls: nothing is shown by this")
    for kind in (NetnsFound, NetnsCreate, NetnsDestroy):
        told = [e.netns.cookie for e in victim.events if isinstance(e, kind) and e.netns]
        outcome.check(len(told) == len(set(told)), f"some {kind.__name__} was told twice")
    both = {e.netns.cookie for e in victim.events if isinstance(e, NetnsFound) and e.netns} & {
        e.netns.cookie for e in victim.events if isinstance(e, NetnsCreate) and e.netns
    }
    outcome.check(not both, f"{len(both)} namespaces were told both born and found")
    outcome.notes.append(f"room for {tracked} namespaces, {plugins} CNI calls, {cgroups} cgroups' paths")
    return outcome


def _hold(self: Puppet, number: int) -> None:
    """Makes so many namespaces and holds them; lets go of half of them; unshares something else in the last one."""
    made = []
    held = []
    for _ in range(number):
        unshare(CLONE_NEWNET)
        held.append(os.open("/proc/self/ns/net", os.O_RDONLY))
        made.append(cookie())
    self.say(made)
    self.hear()
    for fd in held[: number // 2]:
        os.close(fd)
    self.say("done")
    self.hear()
    unshare(CLONE_FS)
    self.say("done")
    self.hear()
