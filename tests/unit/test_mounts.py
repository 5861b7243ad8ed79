"""When mounts change, and how their paths are written."""

from __future__ import annotations

import contextlib
import os
import select
from pathlib import Path

import pytest

from cni_collector.identity.mounts import MountWatch, real_path


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
