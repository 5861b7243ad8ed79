"""Refused attempts: the errno, the target wherever it can be known, and where the task still is."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from ..support.actors import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    NOBODY,
    a_netns,
    act,
    clone,
    clone3,
    cookie,
    refused,
    setns,
    unshare,
)
from ..support.watch import Scene


def _an_fd(pid: int) -> int:
    return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)


@pytest.mark.parametrize(
    ("get_fd", "nstype"),
    [
        pytest.param(_an_fd, CLONE_NEWNET, id="fd"),
        pytest.param(_an_fd, 0, id="fd of any kind"),
        pytest.param(os.pidfd_open, CLONE_NEWNET, id="pidfd"),
        pytest.param(os.pidfd_open, CLONE_NEWNET | CLONE_NEWUTS, id="pidfd of two kinds"),
    ],
)
def test_an_ordinary_user_may_not_enter(scene: Scene, get_fd: Callable[[int], int], nstype: int) -> None:
    with a_netns() as (holder, a):

        def play() -> None:
            fd = get_fd(holder.pid)
            os.setuid(NOBODY)
            assert refused(lambda: setns(fd, nstype))

        pid, _ = act(play)
        userns = os.stat("/proc/self/ns/user").st_ino
        told = scene.events({}, {"main": pid})
        assert scene.story({"A": a}, {"main": pid})[2:] == ["enter_failed A setns main prev=host EPERM"]
        assert told[0].userns == userns
        assert told[0].task_userns == userns  # type: ignore[attr-defined]
        assert told[0].uid == NOBODY


def test_refused_from_inside_another(scene: Scene) -> None:
    with a_netns() as (holder, a):

        def play() -> int:
            fd = _an_fd(holder.pid)
            unshare(CLONE_NEWNET)
            os.setuid(NOBODY)
            assert refused(lambda: setns(fd, CLONE_NEWNET))
            return cookie()

        pid, b = act(play)
        assert "enter_failed A setns main prev=B EPERM" in scene.story({"A": a, "B": b}, {"main": pid})


def test_the_host_may_be_the_target(scene: Scene) -> None:
    """An attempt to get out: the one event whose `netns` can be the host's."""

    def play() -> int:
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        unshare(CLONE_NEWNET)
        os.setuid(NOBODY)
        assert refused(lambda: setns(home, CLONE_NEWNET))
        return cookie()

    pid, a = act(play)
    assert "enter_failed host setns main prev=A EPERM" in scene.story({"A": a}, {"main": pid})


@pytest.mark.parametrize("nstype", [CLONE_NEWNET, 0])
def test_a_bad_descriptor(scene: Scene, nstype: int) -> None:
    def play() -> None:
        for fd in (-1, 1 << 20, 1 << 30):
            assert refused(lambda fd=fd: setns(fd, nstype))  # type: ignore[misc]

    pid, _ = act(play)
    assert scene.story({}, {"main": pid}) == ["enter_failed setns main prev=host EBADF"] * 3


def test_a_descriptor_of_something_else(scene: Scene) -> None:
    def play() -> None:
        for path in ("/proc/self/ns/uts", "/dev/null"):
            fd = os.open(path, os.O_RDONLY)
            assert refused(lambda fd=fd: setns(fd, CLONE_NEWNET))  # type: ignore[misc]

    pid, _ = act(play)
    assert scene.story({}, {"main": pid}) == ["enter_failed setns main prev=host EINVAL"] * 2


def test_the_pidfd_of_a_dead_process(scene: Scene) -> None:
    def play() -> None:
        child = os.fork()
        if not child:
            os._exit(0)
        fd = os.pidfd_open(child)
        os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        assert refused(lambda: setns(fd, CLONE_NEWNET))  # a zombie
        os.waitpid(child, 0)
        assert refused(lambda: setns(fd, CLONE_NEWNET))  # gone

    pid, _ = act(play)
    assert scene.story({}, {"main": pid}) == ["enter_failed setns main prev=host ESRCH"] * 2


def test_an_ordinary_user_may_not_create(scene: Scene) -> None:
    def play() -> None:
        os.setuid(NOBODY)
        assert refused(lambda: unshare(CLONE_NEWNET))
        assert refused(lambda: unshare(CLONE_NEWNET | CLONE_NEWNS))
        assert refused(lambda: clone(CLONE_NEWNET))
        assert refused(lambda: clone3(CLONE_NEWNET))

    pid, _ = act(play)
    assert scene.story({}, {"main": pid}) == [
        "create_failed unshare main prev=host EPERM",
        "create_failed unshare main prev=host EPERM",
        "create_failed clone main prev=host EPERM",
        "create_failed clone main prev=host EPERM",
    ]


def test_a_task_in_a_user_namespace_of_its_own(scene: Scene) -> None:
    """It may do all there and nothing here: so both user namespaces are told, the task's and the owner's."""
    with a_netns() as (holder, a):

        def play() -> int:
            fd = _an_fd(holder.pid)
            unshare(CLONE_NEWUSER)
            assert refused(lambda: setns(fd, CLONE_NEWNET)) == errno.EPERM
            assert refused(lambda: setns(-1, CLONE_NEWNET)) == errno.EBADF
            return os.stat("/proc/self/ns/user").st_ino

        pid, own = act(play)
        refusal, bad = scene.events({}, {"main": pid})
        told = [(event.userns, event.task_userns) for event in (refusal, bad)]  # type: ignore[attr-defined]
        assert told == [(os.stat("/proc/self/ns/user").st_ino, own), (None, None)]
        assert a


def test_flags_that_make_no_sense(scene: Scene) -> None:
    pid, error = act(lambda: refused(lambda: unshare(CLONE_NEWNET | 1)))
    assert error
    assert scene.story({}, {"main": pid}) == ["create_failed unshare main prev=host EINVAL"]


def test_the_limit_on_namespaces(scene: Scene) -> None:
    def play() -> None:
        unshare(CLONE_NEWUSER)  # each user namespace has a limit of its own
        with open("/proc/self/uid_map", "w", encoding="ascii") as ids:
            ids.write("0 0 1")
        with open("/proc/sys/user/max_net_namespaces", "w", encoding="ascii") as limit:
            limit.write("0")
        assert refused(lambda: unshare(CLONE_NEWNET))
        assert refused(lambda: clone(CLONE_NEWNET))

    pid, _ = act(play)
    assert scene.story({}, {"main": pid}) == [
        "create_failed unshare main prev=host ENOSPC",
        "create_failed clone main prev=host ENOSPC",
    ]
