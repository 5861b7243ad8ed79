"""Whatever holds a namespace: it is destroyed when the last holder goes, and not before."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from ..support.actors import CLONE_NEWNET, Puppet, a_netns, act, bind_mount, cookie, unmount, unshare
from ..support.watch import Scene, Watch


def _another_is_destroyed(watch: Watch) -> None:
    """Makes a namespace end, and waits until it is reported.

    The kernel cleans up in order, so by then whatever had ended before would have been reported as well.
    """

    def play() -> int:
        unshare(CLONE_NEWNET)
        return cookie()

    watch.destroyed(act(play)[1])


def _alive(scene: Scene, a: int) -> bool:
    return "destroy A" not in scene.story({"A": a}, {})


def test_two_bind_mounts(scene: Scene, watch: Watch, tmp_path: Path) -> None:
    names = [tmp_path / "one", tmp_path / "two"]
    with a_netns() as (holder, a):
        for name in names:
            name.touch()
            bind_mount(f"/proc/{holder.pid}/ns/net", str(name))
        holder.end()
    for name in names:
        _another_is_destroyed(watch)
        assert _alive(scene, a)
        unmount(str(name))
    watch.destroyed(a)


def test_a_descriptor(scene: Scene, watch: Watch) -> None:
    with a_netns() as (holder, a):
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        holder.end()
    _another_is_destroyed(watch)
    assert _alive(scene, a)
    os.close(fd)
    watch.destroyed(a)


def test_a_socket(scene: Scene, watch: Watch) -> None:
    """A socket made inside and passed outside keeps the namespace, without a mount, a descriptor of it or a task."""
    here, there = socket.socketpair()

    def play(self: Puppet) -> None:
        unshare(CLONE_NEWNET)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inside:
            socket.send_fds(there, [b"x"], [inside.fileno()])
        self.say(cookie())
        self.hear()

    with here, there, Puppet(play) as holder:
        a = holder.hear()
        _, [fd], _, _ = socket.recv_fds(here, 1, 1)
        holder.end()
        _another_is_destroyed(watch)
        assert _alive(scene, a)
        os.close(fd)
        watch.destroyed(a)


def test_a_zombie_holds_nothing(scene: Scene, watch: Watch) -> None:
    """A process gives its namespaces back when it ends, not when it is waited for (do_exit())."""
    with a_netns() as (holder, a):
        os.kill(holder.pid, signal.SIGKILL)
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        watch.destroyed(a)
        assert Path(f"/proc/{holder.pid}/stat").read_text().split()[2] == "Z"
        assert scene.story({"A": a}, {"holder": holder.pid})[-2:] == ["exit A exit holder", "destroy A"]


@pytest.mark.parametrize("zombie_leader", [False, True])
def test_the_last_task(scene: Scene, watch: Watch, zombie_leader: bool) -> None:
    """A child that merely inherited the namespace keeps it, also behind a parent that is dead and unreaped."""

    def play(self: Puppet) -> None:
        unshare(CLONE_NEWNET)
        self.say(cookie())
        if not os.fork():
            self.hear()
            os._exit(0)
        if not zombie_leader:
            self.hear()

    with Puppet(play) as parent:
        a = parent.hear()
        if zombie_leader:
            os.waitid(os.P_PID, parent.pid, os.WEXITED | os.WNOWAIT)
        _another_is_destroyed(watch)
        assert _alive(scene, a)
        parent.kill()
        if not zombie_leader:
            _another_is_destroyed(watch)
    watch.destroyed(a)
