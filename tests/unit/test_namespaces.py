"""What is known of namespaces: whose an inode number is and when, their names, their pods."""

from __future__ import annotations

import builtins
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_collector.events import Netns, Pod
from cni_collector.identity import namespaces
from cni_collector.identity.mounts import MountWatch
from cni_collector.identity.namespaces import Known, Namespaces

from .mountinfo import ROOT, mount

INUM, OTHER = 4026532001, 4026532002
OLD, YOUNG, ELSE = Netns(10, INUM), Netns(11, INUM), Netns(12, OTHER)
WEB = Pod("shop", "web-0")


@pytest.fixture
def known() -> Namespaces:
    return Namespaces()


class Mounts:
    """The mounts of a machine whose clock the test sets.

    Attributes:
        known: what is under test.
    """

    def __init__(self, file: Path, patch: pytest.MonkeyPatch) -> None:
        self.known = Namespaces()
        self.known.watch = MountWatch()
        self._file = file
        self._patch = patch

    def read(self, when: int, *lines: bytes) -> None:
        """The mounts have changed, and are read anew at a time."""
        self._file.write_bytes(ROOT + b"".join(lines))
        self._patch.setattr(self.known.watch, "changed", lambda: True)
        self._patch.setattr(time, "clock_gettime_ns", lambda _clock: when)
        self.known.refresh()
        self._patch.setattr(self.known.watch, "changed", lambda: False)

    def name_of(self, netns: Netns) -> str | None:
        """What it is called, all that happened before the reading being known."""
        self.known.name()
        return self.known.remember(netns.cookie, netns.inum)[1]


@pytest.fixture
def mounts(mountinfo: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mounts]:
    with monkeypatch.context() as patch:
        made = Mounts(mountinfo, patch)
        yield made
    assert made.known.watch is not None
    made.known.watch.close()


def line(path: str, inum: int = INUM, ident: int = 40) -> bytes:
    return mount(path.encode(), ident, b"net:[%d]" % inum)


# Inode numbers.


def test_an_inode_number_is_nobodys_before_a_birth_and_after_the_end(known: Namespaces) -> None:
    assert known.alive(INUM, 100) is None
    known.born(OLD, 10)
    assert [known.alive(INUM, when) for when in (9, 10, 11)] == [None, OLD, OLD]
    known.gone(OLD)
    assert known.alive(INUM, 11) is None


def test_an_inode_number_that_is_used_again(known: Namespaces) -> None:
    known.born(OLD, 10)
    known.gone(OLD)
    known.born(YOUNG, 20)
    assert [known.alive(INUM, when) for when in (10, 19, 20)] == [None, None, YOUNG]


def test_an_end_that_is_told_late_does_not_take_the_number_from_the_newcomer(known: Namespaces) -> None:
    known.born(OLD, 10)
    known.born(YOUNG, 20)
    known.gone(OLD)
    assert known.alive(INUM, 20) == YOUNG
    known.gone(YOUNG)
    assert known.alive(INUM, 20) is None


def test_what_was_there_before_all_else_was_always_there(known: Namespaces) -> None:
    known.born(OLD, 0)
    assert known.alive(INUM, 0) == OLD


def test_the_end_of_what_nobody_knew(known: Namespaces) -> None:
    known.gone(OLD)
    known.born(YOUNG, 20)
    known.gone(ELSE)
    assert known.alive(INUM, 20) == YOUNG


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=40), st.integers(0, 40))
def test_whoever_is_told_has_the_number_and_had_it_then(steps: list[tuple[bool, int]], when: int) -> None:
    """Compared with a list of all lives: each step bears or ends one of four inode numbers' namespaces."""
    known, lives = Namespaces(), dict[int, tuple[Netns, int]]()
    for now, (birth, inum) in enumerate(steps):
        if birth and inum not in lives:
            lives[inum] = Netns(1000 + now, inum), now
            known.born(*lives[inum])
        elif not birth and inum in lives:
            known.gone(lives.pop(inum)[0])
    for inum in range(4):
        netns, since = lives.get(inum, (None, 0))
        assert known.alive(inum, when) == (netns if since <= when else None)


# Facts that hang on the cookie.


def test_a_name_and_a_pod_are_told_until_the_end(known: Namespaces) -> None:
    looked_up: list[Known] = [known.remember(10, INUM), known[10]]
    assert looked_up == [(OLD, None, None)] * 2
    known.set_name(OLD, "/run/netns/blue")
    looked_up = [known.remember(10, INUM), known[10]]
    assert looked_up == [(OLD, "/run/netns/blue", None)] * 2
    known.set_pod(OLD, WEB)
    looked_up = [known.remember(10, INUM), known[10]]
    assert looked_up == [(OLD, "/run/netns/blue", WEB)] * 2
    assert known.remember(11, INUM) == (YOUNG, None, None)
    known.gone(OLD)
    assert 10 not in known
    assert known.remember(10, INUM) == (OLD, None, None)


def test_a_fact_that_changes_is_not_told_from_memory(known: Namespaces) -> None:
    for name, pod in (("/a", WEB), ("/b", Pod("shop", "web-1"))):
        known.remember(10, INUM)
        known.set_name(OLD, name)
        assert 10 not in known
        known.remember(10, INUM)
        known.set_pod(OLD, pod)
        assert 10 not in known
        assert known.remember(10, INUM)[1:] == (name, pod)


def test_what_is_remembered_is_bounded(known: Namespaces, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(namespaces, "_BOUND", 8)
    for number in range(1, 100):
        netns = Netns(number, number)
        known.born(netns, number)
        known.set_name(netns, f"/{number}")
        known.set_pod(netns, WEB)
        assert known.remember(number, number) == (netns, f"/{number}", WEB)
        assert known.alive(number, number) == netns
    assert [len(facts) for facts in (known._alive, known._names, known._pods)] == [8, 8, 8]
    assert 0 < len(known) <= 8
    assert known.alive(91, 100) is None
    assert known.alive(92, 100) == Netns(92, 92)
    assert known.remember(91, 91) == (Netns(91, 91), None, None)
    assert known.remember(92, 92) == (Netns(92, 92), "/92", WEB)


# Names.


def test_a_mount_names_who_lived_when_it_was_read(mounts: Mounts) -> None:
    mounts.known.born(OLD, 10)
    mounts.read(15, line("/run/netns/blue"))
    assert mounts.known.mounts_read == 15
    assert mounts.name_of(OLD) == "/run/netns/blue"


def test_a_mount_that_was_read_before_a_birth_does_not_name_the_newcomer(mounts: Mounts) -> None:
    mounts.known.born(OLD, 10)
    mounts.read(15, line("/run/netns/blue"))
    mounts.known.gone(OLD)
    mounts.known.born(YOUNG, 16)
    assert mounts.name_of(YOUNG) is None
    assert mounts.name_of(YOUNG) is None, "nor later"


def test_a_mount_whose_namespace_is_not_known_yet_names_it_as_soon_as_it_is(mounts: Mounts) -> None:
    mounts.read(15, line("/run/netns/blue"))
    assert mounts.name_of(OLD) is None
    mounts.known.born(OLD, 14)  # its record was in the ring still
    assert mounts.name_of(OLD) == "/run/netns/blue"


def test_the_newcomer_gets_its_own_name_when_the_mounts_are_read_again(mounts: Mounts) -> None:
    mounts.known.born(OLD, 10)
    mounts.read(15, line("/run/netns/blue"))
    mounts.known.gone(OLD)
    mounts.known.born(YOUNG, 16)
    mounts.read(20, line("/run/netns/red", ident=41))
    assert mounts.name_of(YOUNG) == "/run/netns/red"


def test_the_hosts_mount_names_nobody(mounts: Mounts) -> None:
    mounts.known.host_inum = INUM
    mounts.known.born(ELSE, 10)
    mounts.read(15, line("/run/netns/host"), line("/run/netns/blue", OTHER, 41))
    assert mounts.name_of(ELSE) == "/run/netns/blue"
    assert mounts.name_of(Netns(1, INUM)) is None
    assert mounts.known.at_path("/run/netns/host", 15) is None
    mounts.known.born(YOUNG, 0)  # what never happens while the host has the number
    assert mounts.name_of(YOUNG) is None


def test_a_name_is_kept_after_the_unmount_until_the_end(mounts: Mounts) -> None:
    mounts.known.born(OLD, 10)
    mounts.read(15, line("/run/netns/blue"))
    assert mounts.name_of(OLD) == "/run/netns/blue"
    mounts.read(20)
    assert mounts.name_of(OLD) == "/run/netns/blue"
    mounts.known.gone(OLD)
    assert mounts.name_of(OLD) is None


def test_a_namespace_that_is_mounted_elsewhere_is_called_by_its_new_path(mounts: Mounts) -> None:
    mounts.known.born(OLD, 10)
    mounts.read(15, line("/run/netns/a"))
    assert mounts.name_of(OLD) == "/run/netns/a"
    mounts.read(20, line("/run/netns/b", ident=41))
    assert mounts.name_of(OLD) == "/run/netns/b"


def test_of_several_paths_the_first_in_order_is_the_name_as_in_a_snapshot(mounts: Mounts) -> None:
    mounts.known.born(OLD, 10)
    mounts.read(15, *(line(f"/run/netns/{name}", ident=ident) for ident, name in enumerate("bac", 40)))
    assert mounts.name_of(OLD) == "/run/netns/a"


def test_the_mounts_are_read_only_when_they_have_changed(known: Namespaces, mountinfo: Path) -> None:
    known.refresh()
    assert known.mounts_read == 0, "nobody watches"
    known.watch = MountWatch()
    known.refresh()
    first = known.mounts_read
    assert first > 0
    mountinfo.unlink()
    known.refresh()
    assert known.mounts_read == first
    known.watch.close()


# Paths in environments.


def test_a_path_leads_to_what_is_mounted_there(mounts: Mounts) -> None:
    mounts.known.born(OLD, 10)
    mounts.known.born(ELSE, 12)
    mounts.read(15, line("/run/netns/blue"), line("/run/netns/red", OTHER, 41))
    for path in ("/run/netns/blue", "/var/run/netns/blue"):
        assert mounts.known.at_path(path, 15) == OLD
    assert mounts.known.at_path("/run/netns/red", 15) == ELSE
    assert mounts.known.at_path("/run/netns/red", 11) is None, "it was not born then"
    mounts.known.gone(OLD)
    assert mounts.known.at_path("/run/netns/blue", 15) is None


def test_a_mount_does_not_lead_to_a_newcomer_with_the_same_inode_number(mounts: Mounts) -> None:
    mounts.known.born(OLD, 10)
    mounts.read(15, line("/run/netns/blue"))
    mounts.known.gone(OLD)
    mounts.known.born(YOUNG, 20)
    assert mounts.known.at_path("/run/netns/blue", 18) is None


def test_a_path_leads_to_the_namespace_of_that_name_also_after_the_unmount(mounts: Mounts) -> None:
    """As when DEL is called: the runtime has unmounted it by the time that this is looked up."""
    mounts.known.born(OLD, 10)
    mounts.read(15, line("/run/netns/blue"))
    assert mounts.name_of(OLD) == "/run/netns/blue"
    mounts.read(20)
    for path in ("/run/netns/blue", "/var/run/netns/blue"):
        assert mounts.known.at_path(path, 18) == OLD
    mounts.known.gone(OLD)
    assert mounts.known.at_path("/run/netns/blue", 18) is None


def test_a_name_leads_to_nobody_who_was_not_born_then(known: Namespaces) -> None:
    known.born(OLD, 10)
    known.set_name(OLD, "/run/netns/blue")
    assert known.at_path("/run/netns/blue", 10) == OLD
    assert known.at_path("/run/netns/blue", 9) is None


def test_of_two_that_had_the_name_the_later_one_is_meant(known: Namespaces) -> None:
    """The first was unmounted, and lives on because a task is in it; then the second was unmounted, too.

    Cookies are no help: CPUs hand them out of batches of their own, so the later one may have the smaller.
    """
    assert ELSE.cookie > OLD.cookie
    for first, second in ((OLD, ELSE), (ELSE, OLD)):
        known.born(first, 10)
        known.set_name(first, "/run/netns/blue")
        known.born(second, 20)
        known.set_name(second, "/run/netns/blue")
        assert known.at_path("/run/netns/blue", 25) == second
        known.gone(first)
        known.gone(second)


def test_a_path_that_others_mounted_over_meanwhile_leads_to_the_one_of_that_time(mounts: Mounts) -> None:
    mounts.known.born(OLD, 10)
    mounts.read(15, line("/run/netns/blue"))
    assert mounts.name_of(OLD) == "/run/netns/blue"
    mounts.known.born(ELSE, 20)
    mounts.read(25, line("/run/netns/blue", OTHER, 41))
    assert mounts.known.at_path("/run/netns/blue", 18) == OLD


@pytest.mark.parametrize("path", ["/proc/7/ns/net", "/proc/6/task/7/ns/net"])
def test_a_path_of_a_task_leads_to_where_it_is(known: Namespaces, path: str) -> None:
    known.where = {7: OLD}.get
    assert known.at_path(path, 10) is None, "the host's, or not known"
    known.born(YOUNG, 5)
    assert known.at_path(path, 10) is None, "another has its inode number"
    known.born(OLD, 10)
    assert known.at_path(path, 10) == OLD
    assert known.at_path(path, 9) is None
    assert known.at_path("/proc/8/ns/net", 10) is None, "there is no such task"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "relative",
        "\0",
        "/run/netns/unknown",
        "/var/run/netns/unknown",
        "/proc/self/ns/net",
        "/proc/thread-self/ns/net",
        "/proc/1/ns/mnt",
        "/proc/1/ns/net/",
        "/proc/1/ns/net\n",
        "/proc/1/root/run/hangs",
        "/proc/1/ns/../root/run/hangs",
        "/proc/1/fd/3",
        "/proc//1/ns/net",
        "/x/proc/1/ns/net",
        "fifo",
    ],
)
def test_what_else_stands_in_an_environment_is_never_touched(
    mounts: Mounts, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
) -> None:
    """Whoever set it may have chosen a path whose reading takes forever."""
    if path == "fifo":
        path = str(tmp_path / "fifo")
        os.mkfifo(path)
    mounts.known.born(OLD, 10)
    mounts.read(15, line("/run/netns/blue"))

    def touched(*arguments: Any, **_options: Any) -> Any:
        raise AssertionError(f"touched: {arguments}")

    with monkeypatch.context() as patch:
        for module, name in ((os, "stat"), (os, "lstat"), (os, "open"), (os, "readlink"), (builtins, "open")):
            patch.setattr(module, name, touched)
        found = mounts.known.at_path(path, 20)
    assert found is None
