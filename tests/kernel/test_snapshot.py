"""What existed before: found once, whoever or whatever holds it, and its end is told."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path

import pytest

from cni_collector import NetnsCreate, NetnsDestroy, NetnsFound

from ..support.actors import CLONE_FS, CLONE_NEWNET, Puppet, a_netns, bind_mount, cookie, unmount, unshare
from ..support.listing import listed_by_cookie
from ..support.watch import EMULATED, watching


def _a_mounted_netns(path: Path) -> int:
    """A namespace that only a mount holds: its cookie."""
    path.touch()
    with a_netns() as (holder, a):
        bind_mount(f"/proc/{holder.pid}/ns/net", str(path))
        holder.end()
    return a


def test_what_existed_is_found_once(tmp_path: Path) -> None:
    """With a task inside, held by a mount only (its path has a space), and held by a socket only."""
    mount = tmp_path / "a name"
    here, there = socket.socketpair()

    def lend_socket(self: Puppet) -> None:
        unshare(CLONE_NEWNET)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inside:
            socket.send_fds(there, [b"x"], [inside.fileno()])
        self.say(cookie())

    with here, there, a_netns() as (holder, tasks), Puppet(lend_socket) as lender:
        socket_only = lender.hear()
        _, [fd], _, _ = socket.recv_fds(here, 1, 1)
        lender.end()
        mount_only = _a_mounted_netns(mount)
        with watching() as watch:
            os.close(fd)
            unmount(str(mount))
            watch.destroyed(socket_only, mount_only)
            holder.end()
            watch.destroyed(tasks)
            watch.stop()
            mine = [e for e in watch.events if e.netns and e.netns.cookie in (tasks, mount_only, socket_only)]
            found = {e.netns.cookie: e for e in mine if isinstance(e, NetnsFound) and e.netns}
            assert [e.type for e in mine] == ["netns_found"] * 3 + ["netns_destroy"] * 3
            assert len(found) == 3
            assert (found[tasks].pid, found[tasks].members, found[tasks].name) == (holder.pid, 1, None)
            assert (found[mount_only].pid, found[mount_only].members) == (None, 0)
            assert found[mount_only].name == str(mount)
            assert found[socket_only].members == 0
            for event in mine:
                if isinstance(event, NetnsDestroy):
                    assert event.lifetime_ns is None  # the birth was not seen
                    assert event.teardown_ns


def test_a_namespace_born_while_starting_is_reported_once() -> None:
    """Namespaces are made without a pause while collectors start; each is told as found or as born, never as both."""

    def play(self: Puppet) -> list[int]:
        made = []
        self.say("ready")
        while not self.spoken_to():
            unshare(CLONE_NEWNET)
            made.append(cookie())
            if EMULATED:
                time.sleep(0.02)  # or there are thousands before the collector has started
        return made

    for _ in range(2 if EMULATED else 5):
        with Puppet(play) as maker:
            assert maker.hear() == "ready"
            with watching() as watch:
                watch.wait(lambda e: isinstance(e, NetnsCreate) and e.pid == maker.pid)
                made = maker.end()
                watch.destroyed(made[-1])
                watch.stop()
                told = [e for e in watch.events if isinstance(e, NetnsCreate | NetnsFound) and e.netns]
                cookies = [e.netns.cookie for e in told if e.netns]
                assert len(set(cookies)) == len(cookies)
                # From the first one told on, none is missing.
                ours = [a for a in made if a in set(cookies)]
                assert ours == made[made.index(ours[0]) :]
                gone = [e.netns.cookie for e in watch.events if isinstance(e, NetnsDestroy) and e.netns]
                assert set(ours) <= set(gone)
                assert len(set(gone)) == len(gone)


def test_what_goes_on_inside_while_starting_finds_nothing_twice() -> None:
    """A task that comes back from unsharing something else, in a namespace that is about to be found anyway."""

    def play(self: Puppet) -> int:
        unshare(CLONE_NEWNET)
        self.say(cookie())
        while not self.spoken_to():
            unshare(CLONE_FS)
        return 0

    with Puppet(play) as inside:
        a = inside.hear()
        for _ in range(1 if EMULATED else 5):
            with watching() as watch:
                watch.stop()
                assert [e.type for e in watch.events if e.netns and e.netns.cookie == a] == ["netns_found"]
        inside.end()


FOREIGN = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.mark.any_tier
def test_members_are_counted_only_where_all_tasks_are_seen() -> None:
    """The kernel lists the tasks of the pid namespace of whoever asks."""
    with a_netns() as (_, a):
        assert (listed_by_cookie()[a]["members"], "members" in listed_by_cookie(*FOREIGN)[a]) == (1, False)


def test_members_of_what_is_found_from_a_pid_namespace_of_its_own() -> None:
    with a_netns() as (_, a), watching(before=FOREIGN) as watch:
        found = watch.wait(lambda e: isinstance(e, NetnsFound) and e.netns.cookie == a)
        assert isinstance(found, NetnsFound)
        assert (found.members, found.pid) == (None, None)


@pytest.mark.any_tier
def test_list_names_the_thread_where_its_process_is_elsewhere() -> None:
    def play(self: Puppet) -> None:
        def move() -> None:
            unshare(CLONE_NEWNET)
            self.say([cookie(), threading.get_native_id()])
            self.hear()

        thread = threading.Thread(target=move)
        thread.start()
        thread.join()

    with Puppet(play) as process:
        a, tid = process.hear()
        listed = listed_by_cookie()[a]
        assert (listed["pid"], listed["tid"], listed["members"]) == (process.pid, tid, 1)
        process.end()


def test_what_goes_on_while_stopping_is_neither_found_nor_lost() -> None:
    """The hooks go one after the other: some system calls have an end that is seen, and no beginning."""

    def play(self: Puppet) -> int:
        while not self.spoken_to():
            unshare(CLONE_NEWNET)
            time.sleep(0.02 if EMULATED else 0)  # or there are thousands
        return 0

    with Puppet(play) as maker, watching() as watch:
        watch.wait(lambda e: isinstance(e, NetnsCreate) and e.pid == maker.pid)
        stop = watch.stop()
        maker.end()
    assert stop.lost == 0
    assert not [e for e in watch.events if isinstance(e, NetnsFound) and e.members is None]


@pytest.mark.any_tier
def test_list(tmp_path: Path) -> None:
    mount = tmp_path / "named"
    with a_netns() as (holder, a):
        b = _a_mounted_netns(mount)
        listed = listed_by_cookie()
        assert listed[a]["pid"] == holder.pid
        assert listed[a]["members"] == 1
        assert listed[a]["names"] == []
        assert listed[a]["inum"] == os.stat(f"/proc/{holder.pid}/ns/net").st_ino
        assert listed[b] == {
            "cookie": b,
            "inum": os.stat(mount).st_ino,
            "userns": os.stat("/proc/self/ns/user").st_ino,
            "members": 0,
            "names": [str(mount)],
        }
        unmount(str(mount))
