"""What only hooks in the kernel's functions see; and that the tracepoint tier, which misses it, says nothing false."""

from __future__ import annotations

import errno
import os
import platform
from contextlib import ExitStack

import pytest

from ..support.actors import (
    CLONE_NEWNET,
    CLONE_NEWUSER,
    NOBODY,
    Puppet,
    a_netns,
    act,
    clone3,
    cookie,
    refused,
    setns,
    setns_32,
    unshare,
    unshare_32,
)
from ..support.watch import Scene, Watch

x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the second way into the kernel is x86's")


@x86
def test_setns_by_a_32_bit_program(scene: Scene, watch: Watch) -> None:
    with a_netns() as (holder, a):

        def play() -> list[int]:
            home = os.open("/proc/self/ns/net", os.O_RDONLY)
            fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
            results = [setns_32(fd, CLONE_NEWNET), setns_32(home, 0)]
            setns(fd, CLONE_NEWNET)
            results.append(setns_32(home, CLONE_NEWNET))
            results += [setns_32(-1, CLONE_NEWNET), setns_32(home, CLONE_NEWUSER)]
            os.setuid(NOBODY)
            return [*results, setns_32(fd, CLONE_NEWNET)]

        pid, results = act(play)
        assert results == [0, 0, 0, -errno.EBADF, -errno.EINVAL, -errno.EPERM]
        assert scene.story({"A": a}, {"main": pid, "holder": holder.pid})[2:] == (
            [
                "enter A setns main prev=host",
                "exit A setns main next=host",
                "enter A setns main prev=host",
                "exit A setns main next=host",
                "enter_failed setns main prev=host EBADF",
                "enter_failed A setns main prev=host EPERM",
            ]
            if watch.sees_functions
            # It did leave, though the way was not seen: told when it ended.
            else ["enter A setns main prev=host", "exit A exit main"]
        )


@x86
def test_unshare_by_a_32_bit_program(scene: Scene, watch: Watch) -> None:
    def play() -> list[int]:
        results = [unshare_32(CLONE_NEWNET), cookie()]
        os.setuid(NOBODY)
        return [*results, unshare_32(CLONE_NEWNET)]

    pid, (done, a, refusal) = act(play)
    assert (done, refusal) == (0, -errno.EPERM)
    if not watch.sees_functions:
        assert scene.story({"A": a}, {"main": pid}) == []
        return
    watch.destroyed(a)
    assert scene.story({"A": a}, {"main": pid}) == [
        "create A unshare main prev=host",
        "enter A unshare main prev=host",
        "create_failed unshare main prev=A EPERM",
        "exit A exit main",
        "destroy A",
    ]


def test_a_clone3_that_fails_after_making_the_namespace(scene: Scene, watch: Watch) -> None:
    """The wanted pid is in use, which the kernel sees late."""
    pid, error = act(lambda: refused(lambda: clone3(CLONE_NEWNET, os.getpid())))
    assert error == errno.EEXIST
    failed = "create_failed clone main prev=host EEXIST"
    if not watch.sees_functions:
        assert scene.story({}, {"main": pid}) == [failed]
        return
    born, _ = scene.events({}, {"main": pid})
    assert born.netns
    a = born.netns.cookie
    watch.destroyed(a)
    assert scene.story({"A": a}, {"main": pid}) == ["create A clone main prev=host", failed, "destroy A"]


def test_many_calls_under_way_at_once(scene: Scene, watch: Watch) -> None:
    """More than a return probe has places for (kretprobe.maxactive)."""

    def play(self: Puppet) -> int:
        self.hear()
        unshare(CLONE_NEWNET)
        self.say(cookie())
        self.hear()
        return os.getpid()

    with ExitStack() as stack:
        crowd = [stack.enter_context(Puppet(play)) for _ in range(67)]
        for one in crowd:
            one.say("go")
        made = {f"A{one.pid}": one.hear() for one in crowd}
        for one in crowd:
            one.end()
    watch.destroyed(*made.values())
    story = scene.story(made, {f"p{one.pid}": one.pid for one in crowd})
    for one in crowd:
        assert [line for line in story if f"A{one.pid}" in line.split()] == [
            f"create A{one.pid} unshare p{one.pid} prev=host",
            f"enter A{one.pid} unshare p{one.pid} prev=host",
            f"exit A{one.pid} exit p{one.pid}",
            f"destroy A{one.pid}",
        ]
