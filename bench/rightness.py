"""Who tells the truth: scenes in which it is known what happens, against what each tracer says of them."""

from __future__ import annotations

import collections
import os
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec
from tests.support.actors import (
    CLONE_NEWNET,
    CLONE_NEWUTS,
    NOBODY,
    a_netns,
    act,
    clone,
    inum,
    reap,
    refused,
    setns,
    unshare,
)

from cni_collector import Collector, NetnsDestroy

from .table import Row
from .tracers import OURS, Tracer

CHURN: Final = 50
HOST: Final = os.stat("/proc/self/ns/net").st_ino


class Fact(NamedTuple):
    """Something that happened, or that is said to have.

    Attributes:
        kind: `create`, `enter`, `exit`, `destroy`, `create_failed`, `enter_failed`.
        inum: the namespace; 0 where it is not known.
        pid: who; 0 where nobody.
    """

    kind: str
    inum: int
    pid: int


Facts = collections.Counter[Fact]


def rows(tracers: list[Tracer]) -> list[Row]:
    """Play all scenes beside each tracer."""
    told = {tracer.name: _judged(tracer) for tracer in tracers}
    return [
        Row(f"facts of {len(_SCENES)} scenes told: {what}", {name: f"{counts[index]}" for name, counts in told.items()})
        for index, what in enumerate(("right", "wrong", "missing"))
    ]


def _judged(tracer: Tracer) -> tuple[int, int, int]:
    """How many facts it told right, how many that are none, and how many it did not tell."""
    happened: Facts = collections.Counter()
    with tracer.process() as process:
        process.keep()
        for scene in _SCENES:
            happened.update(scene())
        happened.update(_until_torn_down())
        process.settle()
    pids = {fact.pid for fact in happened} - {0}
    namespaces = {fact.inum for fact in happened} - {0, HOST}
    said: Facts = collections.Counter()
    for line in process.kept():
        claims = _ours(line) if tracer.name == OURS else _theirs(line)
        said.update(claim for claim in claims if claim.pid in pids or (not claim.pid and claim.inum in namespaces))
    right = happened & said
    wrong, missing = said - happened, happened - said
    # Who does not say which namespace it was is not wrong about it.
    for claim in list(wrong):
        for fact in list(missing):
            if not claim.inum and (claim.kind, claim.pid) == (fact.kind, fact.pid):
                both = min(wrong[claim], missing[fact])
                right[fact] += both
                wrong[claim] -= both
                missing[fact] -= both
    return right.total(), (+wrong).total(), (+missing).total()


def _until_torn_down() -> list[Fact]:
    """All namespaces of the scenes are to be gone. One that is made now is torn down after them: its facts."""
    with Collector("last", types=["netns_create", "netns_destroy"]) as collector:
        last = _unshare_and_end()
        for event in collector.events():
            if isinstance(event, NetnsDestroy) and event.netns and event.netns.inum == last[0].inum:
                break
    return last


def _ours(line: bytes) -> list[Fact]:
    event = msgspec.json.decode(line)
    kind = event["type"].removeprefix("netns_")
    if kind not in ("create", "enter", "exit", "destroy", "create_failed", "enter_failed"):
        return []
    return [Fact(kind, event.get("netns", {"inum": 0})["inum"], event.get("pid", 0))]


def _theirs(line: bytes) -> list[Fact]:
    """What lines mean to who reads them: time, pid, tid, comm, uid, inum, call, and of bpftrace inum and result."""
    words = line.split()
    if len(words) < 7:
        return []
    pid, before = int(words[1]), int(words[5])
    call = words[6].decode()
    if len(words) == 7:  # the naive one's: it was called, and the caller is there
        return [Fact("enter" if call == "setns" else "create", before, pid)]
    after, result = int(words[7]), int(words[8])
    if result:
        return [Fact("enter_failed" if call == "setns" else "create_failed", 0, pid)]
    if after == before:
        return []
    facts = [Fact("create", after, pid)] if call == "unshare" else []
    facts += [Fact("exit", before, pid)] if before != HOST else []
    return facts + ([Fact("enter", after, pid)] if after != HOST else [])


def _unshare_and_end() -> list[Fact]:
    def play() -> int:
        unshare(CLONE_NEWNET)
        return inum()

    pid, made = act(play)
    return [Fact("create", made, pid), Fact("enter", made, pid), Fact("exit", made, pid), Fact("destroy", made, 0)]


def _churn() -> list[Fact]:
    return [fact for _ in range(CHURN) for fact in _unshare_and_end()]


def _unshare_and_back() -> list[Fact]:
    def play() -> int:
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        unshare(CLONE_NEWNET)
        made = inum()
        setns(home, CLONE_NEWNET)
        return made

    pid, made = act(play)
    return [Fact("create", made, pid), Fact("enter", made, pid), Fact("exit", made, pid), Fact("destroy", made, 0)]


def _clone() -> list[Fact]:
    def play() -> tuple[int, int]:
        to_parent, from_child = os.pipe()
        child = clone(CLONE_NEWNET)
        if not child:
            os.write(from_child, str(inum()).encode())
            os._exit(0)
        made = int(os.read(to_parent, 20))
        reap(child)
        return child, made

    pid, (child, made) = act(play)
    return [Fact("create", made, pid), Fact("enter", made, child), Fact("exit", made, child), Fact("destroy", made, 0)]


def _there_and_back(nstype: int, by_pidfd: bool = False) -> Callable[[], list[Fact]]:
    def scene() -> list[Fact]:
        with a_netns() as (holder, _):

            def play() -> int:
                home = os.open("/proc/self/ns/net", os.O_RDONLY)
                path = f"/proc/{holder.pid}/ns/net"
                setns(os.pidfd_open(holder.pid) if by_pidfd else os.open(path, os.O_RDONLY), nstype)
                there = inum()
                setns(home, CLONE_NEWNET)
                return there

            pid, there = act(play)
            born = [Fact("create", there, holder.pid), Fact("enter", there, holder.pid)]
        return [
            *born, Fact("enter", there, pid), Fact("exit", there, pid),
            Fact("exit", there, holder.pid), Fact("destroy", there, 0),
        ]  # fmt: skip

    return scene


def _nothing() -> list[Fact]:
    """Calls that change no network namespace: another kind of namespace, the same one again, other flags."""

    def play() -> None:
        setns(os.open("/proc/self/ns/uts", os.O_RDONLY), 0)
        setns(os.open("/proc/self/ns/net", os.O_RDONLY), CLONE_NEWNET)
        unshare(CLONE_NEWUTS)
        unshare(0)
        refused(lambda: setns(-1, CLONE_NEWNET))  # so that there is one fact about the process

    pid, _ = act(play)
    return [Fact("enter_failed", 0, pid)]


def _refused_join() -> list[Fact]:
    with a_netns() as (holder, _):
        path = f"/proc/{holder.pid}/ns/net"

        def play() -> int:
            fd = os.open(path, os.O_RDONLY)
            there = os.fstat(fd).st_ino
            os.setresuid(NOBODY, NOBODY, NOBODY)
            refused(lambda: setns(fd, CLONE_NEWNET))
            return there

        pid, there = act(play)
        born = [Fact("create", there, holder.pid), Fact("enter", there, holder.pid)]
    return [*born, Fact("enter_failed", there, pid), Fact("exit", there, holder.pid), Fact("destroy", there, 0)]


def _refused_birth() -> list[Fact]:
    def play() -> None:
        os.setresuid(NOBODY, NOBODY, NOBODY)
        refused(lambda: unshare(CLONE_NEWNET))

    pid, _ = act(play)
    return [Fact("create_failed", 0, pid)]


def _refused_otherwise() -> list[Fact]:
    """Refused, but not about a network namespace: no fact of ours."""

    def play() -> None:
        refused(lambda: setns(-1, CLONE_NEWNET))
        os.setresuid(NOBODY, NOBODY, NOBODY)
        refused(lambda: unshare(CLONE_NEWUTS))

    pid, _ = act(play)
    return [Fact("enter_failed", 0, pid)]


def _thread() -> list[Fact]:
    """A thread enters, and ends there."""
    with a_netns() as (holder, _):

        def play() -> int:
            there: list[int] = []

            def enter() -> None:
                setns(os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY), CLONE_NEWNET)
                there.append(inum())

            thread = threading.Thread(target=enter)
            thread.start()
            thread.join()
            return there[0]

        pid, there = act(play)
        born = [Fact("create", there, holder.pid), Fact("enter", there, holder.pid)]
    return [
        *born, Fact("enter", there, pid), Fact("exit", there, pid),
        Fact("exit", there, holder.pid), Fact("destroy", there, 0),
    ]  # fmt: skip


def _from_one_to_another() -> list[Fact]:
    def play() -> tuple[int, int]:
        unshare(CLONE_NEWNET)
        first = inum()
        unshare(CLONE_NEWNET)
        return first, inum()

    pid, (first, second) = act(play)
    return [
        Fact("create", first, pid), Fact("enter", first, pid), Fact("create", second, pid),
        Fact("exit", first, pid), Fact("enter", second, pid), Fact("exit", second, pid),
        Fact("destroy", first, 0), Fact("destroy", second, 0),
    ]  # fmt: skip


_SCENES: Final[list[Callable[[], list[Fact]]]] = [
    _unshare_and_end,
    _unshare_and_back,
    _clone,
    _there_and_back(CLONE_NEWNET),
    _there_and_back(0),
    _there_and_back(CLONE_NEWNET, by_pidfd=True),
    _nothing,
    _refused_join,
    _refused_birth,
    _refused_otherwise,
    _thread,
    _from_one_to_another,
    _churn,
]
