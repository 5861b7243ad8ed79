"""What must not give an event."""

from __future__ import annotations

import os
import threading

from ..support.actors import (
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUTS,
    act,
    cookie,
    reap,
    refused,
    setns,
    unshare,
)
from ..support.watch import Scene, Watch


def test_namespaces_of_other_kinds(scene: Scene) -> None:
    def play() -> None:
        uts = os.open("/proc/self/ns/uts", os.O_RDONLY)
        for flags in (CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWCGROUP, CLONE_NEWPID, 0):
            unshare(flags)
        setns(uts, CLONE_NEWUTS)
        setns(uts, 0)

    pid, _ = act(play)
    assert scene.story({}, {"main": pid}) == []


def test_refusals_that_have_nothing_to_do_with_a_netns(scene: Scene) -> None:
    def play() -> list[int]:
        user = os.open("/proc/self/ns/user", os.O_RDONLY)
        net = os.open("/proc/self/ns/net", os.O_RDONLY)
        plain = os.open("/dev/null", os.O_RDONLY)
        return [
            refused(lambda: setns(user, 0)),  # one is in it already
            refused(lambda: setns(plain, 0)),  # not a namespace at all
            refused(lambda: setns(os.pidfd_open(os.getpid()), 0)),  # a pidfd needs to be told the kinds
            refused(lambda: setns(net, CLONE_NEWUTS)),  # another kind was asked for
            refused(lambda: setns(-1, CLONE_NEWUTS)),
            refused(lambda: unshare(1)),
        ]

    pid, errors = act(play)
    assert all(errors)
    assert scene.story({}, {"main": pid}) == []


def test_the_namespace_one_is_in(scene: Scene) -> None:
    def play() -> None:
        here = os.open("/proc/self/ns/net", os.O_RDONLY)
        setns(here, CLONE_NEWNET)
        setns(here, 0)
        setns(os.pidfd_open(os.getppid()), CLONE_NEWNET)

    pid, _ = act(play)
    assert scene.story({}, {"main": pid}) == []


def test_processes_and_threads_that_come_and_go_inside(scene: Scene, watch: Watch) -> None:
    def play() -> tuple[int, list[int]]:
        unshare(CLONE_NEWNET)
        setns(os.open("/proc/self/ns/net", os.O_RDONLY), CLONE_NEWNET)  # onto itself
        tids: list[int] = []
        for _ in range(7):
            thread = threading.Thread(target=lambda: tids.append(threading.get_native_id()))
            thread.start()
            thread.join()
        for _ in range(7):
            child = os.fork()
            if not child:
                os._exit(0)
            tids.append(child)
            reap(child)
        return cookie(), tids

    pid, (a, tids) = act(play)
    watch.destroyed(a)
    assert scene.story({"A": a}, {"main": pid} | {f"other {tid}": tid for tid in tids}) == [
        "create A unshare main prev=host",
        "enter A unshare main prev=host",
        "exit A exit main",
        "destroy A",
    ]
