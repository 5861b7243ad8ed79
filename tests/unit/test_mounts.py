"""Where namespaces are mounted, and when that changes."""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

import pytest

from cni_collector.identity.mounts import Mount, MountWatch, mounted, parse, real_path

from .mountinfo import ROOT, mount


def test_only_network_namespaces_are_taken_from_the_mounts(mountinfo: Path) -> None:
    others = mount(b"/run/x", root=b"mnt:[4026532001]") + mount(b"/run/y", root=b"/net:[1]", kind=b"ext4")
    mountinfo.write_bytes(ROOT + others + mount(b"/run/netns/a") + mount(b"/run/netns/b", 41, b"net:[7]"))
    assert mounted() == {Mount("40", 4026532001, "/run/netns/a"), Mount("41", 7, "/run/netns/b")}


def test_optional_fields_may_be_none_or_many(mountinfo: Path) -> None:
    mountinfo.write_bytes(
        b"1 2 0:4 net:[5] /a rw - nsfs nsfs rw\n" + b"2 2 0:4 net:[6] /b rw shared:1 master:2 - nsfs nsfs rw\n"
    )
    assert {one.path for one in mounted()} == {"/a", "/b"}


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        (rb"/a\040b\011c\012d\134e", "/a b\tc\nd\\e"),
        (rb"/back\134slash\134040", "/back\\slash\\040"),
        ("/netz/grün".encode(), "/netz/grün"),
        (b"/not-\xff-text", "/not-\\xff-text"),
        (b"/carriage\rre\rturn", "/carriage\rre\rturn"),
    ],
)
def test_paths_are_read_as_they_are(mountinfo: Path, raw: bytes, path: str) -> None:
    mountinfo.write_bytes(ROOT + mount(raw))
    assert mounted() == {Mount("40", 4026532001, path)}


@pytest.mark.parametrize(
    "line",
    [
        b"40 22 0:4 net:[4026532001]",
        b"40 22 0:4 net:[4026532001] /run/x rw shared:2 - nsfs",
        b"40 22 0:4 net:[] /run/x rw shared:2 - nsfs nsfs rw",
        b"40 22 0:4 net:[%s] /run/x rw - nsfs nsfs rw" % (b"9" * 5000),
        b"x 22 0:4 net:[4026532001] /run/x rw - nsfs nsfs rw",
        b" net:[ nsfs",
    ],
)
def test_a_line_that_makes_no_sense_is_passed_over(line: bytes) -> None:
    assert parse(line + b"\n" + mount(b"/run/netns/a")) == {Mount("40", 4026532001, "/run/netns/a")}


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("/var/run/netns/blue", "/run/netns/blue"),
        ("/run/netns/blue", "/run/netns/blue"),
        ("/var/running/blue", "/var/running/blue"),
        ("/x/var/run/netns/blue", "/x/var/run/netns/blue"),
        ("/var/run/var/run/blue", "/run/var/run/blue"),
        ("", ""),
    ],
)
def test_runtimes_write_the_link(path: str, real: str) -> None:
    assert real_path(path) == real


def test_this_machines_mounts_can_be_read() -> None:
    assert all(one.path.startswith("/") and one.inum > 0 for one in mounted())


def test_the_first_answer_is_yes_and_then_no_while_nothing_changes(mountinfo: Path) -> None:
    with contextlib.closing(MountWatch()) as watch:
        assert [watch.changed() for _ in range(3)] == [True, False, False]


def test_the_kernel_is_asked_without_waiting() -> None:
    """Others may mount while this runs: but not all the time."""
    with contextlib.closing(MountWatch()) as watch:
        assert watch.changed()
        assert not all(watch.changed() for _ in range(1000))


def test_who_waits_and_who_asks_have_files_of_their_own() -> None:
    with contextlib.closing(MountWatch()) as watch, select.epoll() as epoll:
        assert watch.fileno() == watch.fileno()
        assert os.readlink(f"/proc/self/fd/{watch.fileno()}").endswith("/mountinfo")
        epoll.register(watch, select.EPOLLPRI)
        assert not all(epoll.poll(0) for _ in range(1000))
        assert watch.changed()


def test_a_watch_closes_its_files_and_may_be_closed_again(mountinfo: Path) -> None:
    def held() -> int:
        links = (Path("/proc/self/fd") / number for number in os.listdir("/proc/self/fd"))
        return sum(os.path.exists(link) and os.path.samefile(link, mountinfo) for link in links)

    watch = MountWatch()
    assert held() == 2
    watch.close()
    watch.close()
    assert held() == 0
