"""Something to see: processes that make a known number of facts."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from cni_collector import Event
from cni_collector.events import CniCall

from .actors import (
    CLONE_NEWNET,
    NOBODY,
    Puppet,
    a_netns,
    act,
    cookie,
    execute,
    refused,
    setns,
    storm,
    unshare,
)
from .outcome import Counts

TRUE = "/bin/true"
CALL = (b"CNI_COMMAND=ADD", b"CNI_NETNS=/nowhere", b"CNI_IFNAME=eth0")


class Amount(NamedTuple):
    """How much a load makes of each."""

    pairs: int = 0
    """A task enters a namespace and leaves it."""
    refusals: int = 0
    """A join is refused."""
    births: int = 0
    """A namespace is born, and dies with its only task."""
    calls: int = 0
    """A CNI call; every third fails."""
    denials: int = 0
    """An unshare is refused."""


class Done(NamedTuple):
    """What a load has made: the truth.

    Attributes:
        counts: how much of each type.
        tags: the names of its tasks, and the container ids of its calls: nobody else's, unlike pids, which others may
            have had before or after.
        cookies: its namespaces, in which nobody else is.
        pids: its processes.
    """

    counts: Counts
    tags: frozenset[str] = frozenset()
    cookies: frozenset[int] = frozenset()
    pids: frozenset[int] = frozenset()

    def mine(self, event: Event) -> bool:
        """Whether an event is about this load."""
        if isinstance(event, CniCall):
            return event.cni_container_id in self.tags
        return event.comm in self.tags or (event.netns is not None and event.netns.cookie in self.cookies)

    def join(self, other: Done) -> Done:
        """Both together."""
        return Done(
            self.counts + other.counts,
            self.tags | other.tags,
            self.cookies | other.cookies,
            self.pids | other.pids,
        )


def work(amount: Amount, fd: int) -> dict[str, Any]:
    """Makes so much of it, by the calling process and children of its own.

    Args:
        amount: how much.
        fd: a namespace to enter.
    """
    tag = f"t{uuid.uuid4().hex[:12]}"
    Path("/proc/self/comm").write_text(tag, encoding="utf-8")
    pids = [os.getpid()]
    storm(fd, amount.pairs)
    for _ in range(amount.refusals):
        refused(lambda: setns(-1, CLONE_NEWNET))
    cookies = []
    for _ in range(amount.births):
        pid, made = act(_live)
        pids.append(pid)
        cookies.append(made)
    for number in range(amount.calls):
        pid = execute([*CALL, f"CNI_CONTAINERID={tag}".encode()], "/bin/sh", "-c", f"exit {int(number % 3 == 0)}")
        os.waitpid(pid, 0)
        pids.append(pid)
    if amount.denials:
        pids.append(act(lambda: _denied(amount.denials))[0])
    counts = {
        "netns_enter": amount.pairs + amount.births,
        "netns_exit": amount.pairs + amount.births,
        "netns_create": amount.births,
        "netns_destroy": amount.births,
        "netns_enter_failed": amount.refusals,
        "netns_create_failed": amount.denials,
        "cni_start": amount.calls,
        "cni_end": amount.calls,
    }
    return {"counts": counts, "tags": [tag], "cookies": cookies, "pids": pids}


def _live() -> int:
    unshare(CLONE_NEWNET)
    return cookie()


def _denied(times: int) -> None:
    os.setgroups([])
    os.setresuid(NOBODY, NOBODY, NOBODY)
    for _ in range(times):
        refused(lambda: unshare(CLONE_NEWNET))


def done(told: dict[str, Any]) -> Done:
    """What a load has handed back."""
    return Done(+Counts(told["counts"]), *(frozenset(told[what]) for what in ("tags", "cookies", "pids")))


def run(amount: Amount, workers: int = 2) -> Done:
    """Makes so much of it in each of several processes, and waits until they are through."""
    with contextlib.ExitStack() as stack:
        holder, its_cookie = stack.enter_context(a_netns())
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        stack.callback(os.close, fd)
        puppets = [stack.enter_context(Puppet(lambda _: work(amount, fd))) for _ in range(workers)]
        told = Done(Counts())
        for puppet in puppets:
            told = told.join(done(puppet.end()))
        # Its namespace is part of the load.
        life = Counts(dict.fromkeys(("netns_create", "netns_enter", "netns_exit", "netns_destroy"), 1))
        told = told.join(Done(life, cookies=frozenset({its_cookie})))
        holder.end()
    return told


@contextlib.contextmanager
def busy(processes: int) -> Iterator[None]:
    """So many processes do nothing but take the CPU."""

    def burn(self: Puppet) -> None:
        while not self.spoken_to():
            sum(range(100_000))

    with contextlib.ExitStack() as stack:
        for _ in range(processes):
            stack.enter_context(Puppet(burn))
        yield
