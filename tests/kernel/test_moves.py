"""Births, entries and exits, by every way there is: exactly the events of the design, in order."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from ..support.actors import (
    CLONE_NEWNET,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    NOBODY,
    a_netns,
    act,
    clone,
    clone3,
    cookie,
    inum,
    reap,
    setns,
    unshare,
)
from ..support.watch import Scene, Watch


def test_unshare_and_back(scene: Scene, watch: Watch) -> None:
    def play() -> int:
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        unshare(CLONE_NEWNET)
        made = cookie()
        setns(home, CLONE_NEWNET)
        return made

    pid, a = act(play)
    watch.destroyed(a)
    assert scene.story({"A": a}, {"main": pid}) == [
        "create A unshare main prev=host",
        "enter A unshare main prev=host",
        "exit A setns main next=host",
        "destroy A",
    ]


def test_unshare_and_end(scene: Scene, watch: Watch) -> None:
    def play() -> int:
        unshare(CLONE_NEWNET)
        return cookie()

    pid, a = act(play)
    watch.destroyed(a)
    assert scene.story({"A": a}, {"main": pid}) == [
        "create A unshare main prev=host",
        "enter A unshare main prev=host",
        "exit A exit main",
        "destroy A",
    ]


@pytest.mark.parametrize("born_by", [clone, clone3])
@pytest.mark.parametrize("flags", [CLONE_NEWNET, CLONE_NEWNET | CLONE_NEWUSER])
def test_clone(scene: Scene, watch: Watch, born_by: Callable[[int], int], flags: int) -> None:
    def play() -> tuple[int, int]:
        to_parent, from_child = os.pipe()
        child = born_by(flags)
        if not child:
            os.write(from_child, str(cookie()).encode())
            os._exit(0)
        made = int(os.read(to_parent, 20))
        reap(child)
        return child, made

    pid, (child, a) = act(play)
    watch.destroyed(a)
    assert scene.story({"A": a}, {"main": pid, "child": child}) == [
        "create A clone main prev=host",
        "enter A clone child prev=host",
        "exit A exit child",
        "destroy A",
    ]


def _by_fd(nstype: int) -> Callable[[int], None]:
    def join(pid: int) -> None:
        setns(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), nstype)

    return join


def _by_pidfd(nstype: int) -> Callable[[int], None]:
    return lambda pid: setns(os.pidfd_open(pid), nstype)


@pytest.mark.parametrize(
    "join",
    [
        pytest.param(_by_fd(CLONE_NEWNET), id="fd"),
        pytest.param(_by_fd(0), id="fd of any kind"),
        pytest.param(_by_pidfd(CLONE_NEWNET), id="pidfd"),
        pytest.param(_by_pidfd(CLONE_NEWNET | CLONE_NEWUTS), id="pidfd of two kinds"),
    ],
)
def test_setns(scene: Scene, watch: Watch, join: Callable[[int], None]) -> None:
    with a_netns() as (holder, a):

        def play() -> int:
            home = os.open("/proc/self/ns/net", os.O_RDONLY)
            join(holder.pid)
            inside = cookie()
            setns(home, CLONE_NEWNET)
            return inside

        pid, inside = act(play)
        assert inside == a
        holder.end()
    watch.destroyed(a)
    assert scene.story({"A": a}, {"main": pid, "holder": holder.pid}) == [
        "create A unshare holder prev=host",
        "enter A unshare holder prev=host",
        "enter A setns main prev=host",
        "exit A setns main next=host",
        "exit A exit holder",
        "destroy A",
    ]


def test_unshare_from_inside(scene: Scene, watch: Watch) -> None:
    def play() -> tuple[int, int]:
        unshare(CLONE_NEWNET)
        a = cookie()
        unshare(CLONE_NEWNET)
        return a, cookie()

    pid, (a, b) = act(play)
    watch.destroyed(a, b)
    story = scene.story({"A": a, "B": b}, {"main": pid})
    story.remove("destroy A")  # from the moment nobody is in it, at any time
    assert story == [
        "create A unshare main prev=host",
        "enter A unshare main prev=host",
        "create B unshare main prev=A",
        "exit A unshare main next=B",
        "enter B unshare main prev=A",
        "exit B exit main",
        "destroy B",
    ]


def test_from_one_to_another(scene: Scene, watch: Watch) -> None:
    with a_netns() as (first, a), a_netns() as (second, b):

        def play() -> None:
            fds = [os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY) for holder in (first, second)]
            for fd in fds:
                setns(fd, CLONE_NEWNET)

        pid, _ = act(play)
        story = scene.story({"A": a, "B": b}, {"main": pid, "first": first.pid, "second": second.pid})
    assert story[4:] == [
        "enter A setns main prev=host",
        "exit A setns main next=B",
        "enter B setns main prev=A",
        "exit B exit main",
    ]


def test_clone_from_inside(scene: Scene, watch: Watch) -> None:
    """The child is born in B: it never was in A, and so does not leave it."""

    def play() -> tuple[int, int, int]:
        unshare(CLONE_NEWNET)
        to_parent, from_child = os.pipe()
        child = clone(CLONE_NEWNET)
        if not child:
            os.write(from_child, str(cookie()).encode())
            os._exit(0)
        b = int(os.read(to_parent, 20))
        reap(child)
        return cookie(), b, child

    pid, (a, b, child) = act(play)
    watch.destroyed(a, b)
    assert [line for line in scene.story({"A": a, "B": b}, {"main": pid, "child": child}) if "destroy" not in line] == [
        "create A unshare main prev=host",
        "enter A unshare main prev=host",
        "create B clone main prev=A",
        "enter B clone child prev=A",
        "exit B exit child",
        "exit A exit main",
    ]


def test_every_field_of_a_birth(scene: Scene, watch: Watch) -> None:
    def play() -> dict[str, int]:
        os.setuid(NOBODY)
        with open("/proc/thread-self/comm", "wb") as comm:
            comm.write(b"a\xffb c")
        unshare(CLONE_NEWUSER | CLONE_NEWNET)
        return {
            "cookie": cookie(),
            "inum": inum(),
            "userns": os.stat("/proc/self/ns/user").st_ino,
            "ppid": os.getppid(),
        }

    pid, truth = act(play)
    watch.destroyed(truth["cookie"])
    create, enter, leave, destroy = scene.events({"A": truth["cookie"]}, {})
    for event in (create, enter, leave):
        assert event.netns is not None
        assert (event.netns.cookie, event.netns.inum) == (truth["cookie"], truth["inum"])
        assert (event.pid, event.tid, event.ppid, event.uid) == (pid, pid, truth["ppid"], NOBODY)
        assert event.comm == "a\\xffb c"
        assert event.userns == truth["userns"]
        assert event.cgroup == _cgroup_of_this_process()
    assert destroy.userns == truth["userns"]
    assert destroy.pid is None
    times = [event.time for event in (create, enter, leave, destroy)]
    assert times == sorted(times)
    assert 0 < destroy.teardown_ns < destroy.lifetime_ns  # type: ignore[attr-defined]


def _cgroup_of_this_process() -> str:
    """On v2, or the deepest on v1, counted from the root of the hierarchy."""
    paths = {}
    with open("/proc/self/cgroup", encoding="utf-8") as lines:
        for line in lines:
            number, controllers, path = line.rstrip("\n").split(":", 2)
            if not controllers.startswith("name="):
                paths[int(number)] = path
    if paths.get(0, "/") != "/":
        return paths[0]
    return max(paths.values(), key=lambda path: path.rstrip("/").count("/"))


def test_an_inherited_namespace_is_left_by_moving_only(scene: Scene, watch: Watch) -> None:
    """Children inherit A without an event; one that moves out leaves it, one that ends does not."""

    def play() -> tuple[int, int, int]:
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        unshare(CLONE_NEWNET)
        mover = os.fork()
        if not mover:
            setns(home, CLONE_NEWNET)
            os._exit(0)
        reap(mover)
        stayer = os.fork()
        if not stayer:
            os._exit(0)
        reap(stayer)
        return cookie(), mover, stayer

    pid, (a, mover, stayer) = act(play)
    watch.destroyed(a)
    assert scene.story({"A": a}, {"main": pid, "mover": mover, "stayer": stayer}) == [
        "create A unshare main prev=host",
        "enter A unshare main prev=host",
        "exit A setns mover next=host",
        "exit A exit main",
        "destroy A",
    ]
