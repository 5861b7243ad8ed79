"""Names and pods of namespaces: on every event from when they are known, never on another's."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from cni_collector import CniStart, Event, NetnsDestroy, NetnsFound, Pod

from ..support.actors import (
    CAP_SYS_ADMIN,
    CLONE_NEWNET,
    NOBODY,
    Puppet,
    a_netns,
    act,
    bind_mount,
    cookie,
    drop_capability,
    execute,
    inum,
    refused,
    setns,
    unmount,
    unshare,
)
from ..support.listing import listed_by_cookie
from ..support.plugins import RESULTS
from ..support.watch import Watch, watching

UID = "11111111-2222-3333-4444-555555555555"
POD = Pod("shop", "web-0", UID)
NETNS_DIRECTORY = Path("/run/netns")
PODS, MOST = 5, 2000
"""Pods that end, and namespaces after them, of which one must have the inode number of one of those."""


@pytest.fixture
def path() -> Iterator[Path]:
    """A place where a namespace can be mounted, below /run as runtimes have it."""
    NETNS_DIRECTORY.mkdir(exist_ok=True)
    place = NETNS_DIRECTORY / f"cni-test-{os.getpid()}"
    place.touch()
    yield place
    with contextlib.suppress(OSError):
        unmount(str(place))
    place.unlink()


def _plugin(command: str, netns: Path | str, namespace: str = "shop", name: str = "web-0") -> int:
    """A CNI call that does nothing: its pid."""
    pid = execute(
        [
            f"CNI_COMMAND={command}".encode(),
            f"CNI_NETNS={netns}".encode(),
            f"CNI_ARGS=K8S_POD_UID={UID};K8S_POD_NAME={name};K8S_POD_NAMESPACE={namespace}".encode(),
        ],
        "/bin/true",
    )
    os.waitpid(pid, 0)
    return pid


def _visit(pid: int) -> None:
    """Goes into the namespace of a process, and out by ending."""

    def play() -> None:
        setns(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), CLONE_NEWNET)

    act(play)


def _mounts_seen(watch: Watch) -> None:
    """Waits until the collector has looked at the mounts as they are now: it does so at the beginning of a batch."""
    watch.settle()
    watch.settle()


def _facts(watch: Watch, about: int, since: int) -> list[tuple[str, str | None, Pod | None]]:
    watch.settle()
    return [(e.type, e.name, e.pod) for e in watch.events[since:] if e.netns and e.netns.cookie == about]


def test_a_pods_namespace_from_its_set_up_to_its_end(watch: Watch, path: Path) -> None:
    """Named once it is mounted, and a pod's once the call is told; it keeps both when the mount is gone."""
    since = len(watch.events)
    with a_netns() as (holder, a):
        bind_mount(f"/proc/{holder.pid}/ns/net", str(path))
        _mounts_seen(watch)
        _visit(holder.pid)
        pid = _plugin("ADD", f"/var{path}")
        _visit(holder.pid)
        unmount(str(path))
        _mounts_seen(watch)
        _visit(holder.pid)
        holder.end()
    watch.destroyed(a)
    call = watch.wait(lambda e: isinstance(e, CniStart) and e.pid == pid, since)
    assert call.netns
    assert (call.netns.cookie, call.name, call.pod) == (a, str(path), POD)
    assert _facts(watch, a, since) == [
        ("netns_create", None, None),
        ("netns_enter", None, None),
        ("netns_enter", str(path), None),
        ("netns_exit", str(path), None),
        ("cni_start", str(path), POD),
        ("cni_end", str(path), POD),
        ("netns_enter", str(path), POD),
        ("netns_exit", str(path), POD),
        ("netns_enter", str(path), POD),
        ("netns_exit", str(path), POD),
        ("netns_exit", str(path), POD),
        ("netns_destroy", str(path), POD),
    ]


def test_an_inode_number_used_again_is_no_pods(watch: Watch) -> None:
    """Also for a path by process: the next namespace with the same inode number is another one."""
    numbers = {}
    with ExitStack() as stack:
        for _ in range(PODS):
            holder, a = stack.enter_context(a_netns())
            _plugin("ADD", f"/proc/{holder.pid}/ns/net")
            numbers[a] = os.stat(f"/proc/{holder.pid}/ns/net").st_ino
        watch.settle()
    watch.destroyed(*numbers)
    ends = [e for e in watch.events if isinstance(e, NetnsDestroy) and e.netns and e.netns.cookie in numbers]
    assert {e.pod for e in ends} == {POD}

    def play() -> list[tuple[int, int]]:
        seen: list[tuple[int, int]] = []
        while len(seen) < MOST and (not seen or seen[-1][1] not in numbers.values()):
            unshare(CLONE_NEWNET)
            seen.append((cookie(), inum()))
        return seen

    _, seen = act(play)
    assert seen[-1][1] in numbers.values(), "no number was used again: nothing is shown by this"
    watch.destroyed(*(one for one, _ in seen))
    strangers = {one for one, _ in seen}
    assert all(e.pod is None for e in watch.events if e.netns and e.netns.cookie in strangers)


@pytest.mark.any_tier
@pytest.mark.parametrize("command", ["DEL", "CHECK", "GC"])
def test_only_add_tells_whose_namespace_it_is(watch: Watch, command: str) -> None:
    since = len(watch.events)
    with a_netns() as (holder, a):
        pid = _plugin(command, f"/proc/{holder.pid}/ns/net")
        _visit(holder.pid)
        facts = _facts(watch, a, since)
    assert facts[2:] == [
        ("cni_start", None, POD),
        ("cni_end", None, POD),
        ("netns_enter", None, None),
        ("netns_exit", None, None),
    ]
    assert pid


def test_who_is_no_call_tells_nothing_about_namespaces(watch: Watch) -> None:
    """Whoever may set variables could say so of any namespace: a user, or root without CAP_SYS_ADMIN."""
    since = len(watch.events)
    with a_netns() as (victim, a):
        path = f"/proc/{victim.pid}/ns/net"

        def as_a_user() -> None:
            os.setresuid(NOBODY, NOBODY, NOBODY)
            _plugin("ADD", path, name="evil")

        def in_a_pod() -> None:
            drop_capability(CAP_SYS_ADMIN)
            _plugin("ADD", path, name="evil")

        act(as_a_user)
        act(in_a_pod)
        _visit(victim.pid)
        facts = _facts(watch, a, since)
    assert [kind for kind, _, _ in facts] == ["netns_create", "netns_enter", "netns_enter", "netns_exit"]
    assert {pod for _, _, pod in facts} == {None}


@pytest.mark.any_tier
def test_the_hosts_namespace_is_nobodys(watch: Watch) -> None:
    since = len(watch.events)
    name = f"host-{os.getpid()}"
    pid = _plugin("ADD", "/proc/self/ns/net", name=name)
    pid2 = _plugin("ADD", f"/proc/{os.getpid()}/ns/net", name=name)

    def try_to_get_out() -> None:
        home = os.open("/proc/self/ns/net", os.O_RDONLY)
        unshare(CLONE_NEWNET)
        os.setuid(NOBODY)
        assert refused(lambda: setns(home, CLONE_NEWNET))

    act(try_to_get_out)
    watch.settle()
    assert {e.pod for e in watch.events[since:] if e.netns == watch.start.host_netns} == {None}
    told = [e for e in watch.events[since:] if e.pid in (pid, pid2)]
    assert [(e.type, e.netns) for e in told] == [("cni_start", None), ("cni_end", None)] * 2
    assert all(e.type.startswith("cni_") for e in watch.events[since:] if e.pod and e.pod.name == name)


@pytest.mark.any_tier
def test_a_path_that_is_no_namespace(watch: Watch, tmp_path: Path) -> None:
    """One that nobody answers at is not even looked at."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for odd in (fifo, tmp_path, "/proc/self/ns/../ns/net", "relative", "/proc/1/ns/uts", "x" * 4000):
        since = len(watch.events)
        pid = _plugin("ADD", odd)
        watch.settle()
        [start, end] = [e for e in watch.events[since:] if e.pid == pid]
        assert (start.netns, end.netns, start.pod) == (None, None, POD)


@pytest.mark.any_tier
def test_a_late_reader_still_knows_the_path(path: Path) -> None:
    """The collector stands still while the pod is set up and torn down: the name is what it saw before."""
    with watching() as watch, a_netns() as (holder, a):
        bind_mount(f"/proc/{holder.pid}/ns/net", str(path))
        _mounts_seen(watch)
        os.kill(watch.pid, signal.SIGSTOP)
        pid = _plugin("ADD", path)
        unmount(str(path))
        os.kill(watch.pid, signal.SIGCONT)
        start = watch.wait(lambda e: isinstance(e, CniStart) and e.pid == pid)
        assert start.netns
        assert start.netns.cookie == a


@pytest.mark.any_tier
def test_filters_by_pod_and_what_they_need() -> None:
    """`--type` may leave out what attribution is made from: it is known all the same."""
    name = f"filtered-{os.getpid()}"
    options = ("--pod", f"shop/{name}", "--type", "netns_enter", "--type", "netns_destroy")
    with watching(*options) as watch, a_netns() as (holder, a), a_netns() as (other, b):
        _plugin("ADD", f"/proc/{holder.pid}/ns/net", name=name)
        _plugin("ADD", f"/proc/{other.pid}/ns/net", namespace="elsewhere", name=name)
        for one in (holder, other):
            _visit(one.pid)
        other.end()
        holder.end()
        watch.destroyed(a)
        watch.stop()
    assert [e.type for e in watch.events[1:-1]] == ["netns_enter", "netns_destroy"]
    assert {e.pod for e in watch.events[1:-1]} == {Pod("shop", name, UID)}
    assert b


@contextlib.contextmanager
def _cached(path: Path, **arguments: str) -> Iterator[None]:
    """What libcni leaves behind after an ADD."""
    file = RESULTS / f"cni-test-{os.getpid()}-eth0"
    entry = {
        "kind": "cniCacheV1", "containerId": "0123", "ifName": "eth0", "networkName": "cni-test", "netns": str(path),
        "cniArgs": [list(pair) for pair in arguments.items()], "config": "e30=", "result": {"interfaces": []},
    }  # fmt: skip
    file.write_text(json.dumps(entry), encoding="utf-8")
    try:
        yield
    finally:
        file.unlink()


def _attributed(a: int) -> tuple[Event, dict[str, Any]]:
    """What a collector that starts now, and `list`, say of a namespace."""
    with watching() as watch:
        found = watch.wait(lambda e: isinstance(e, NetnsFound) and e.netns is not None and e.netns.cookie == a)
        watch.stop()
    return found, listed_by_cookie()[a]


@pytest.mark.any_tier
def test_pods_older_than_the_collector(path: Path) -> None:
    """Libcni's cache tells, by the path that is mounted."""
    arguments = {"K8S_POD_NAMESPACE": "shop", "K8S_POD_NAME": "web-0", "K8S_POD_UID": UID}
    with a_netns() as (holder, a), _cached(path, **arguments):
        bind_mount(f"/proc/{holder.pid}/ns/net", str(path))
        found, listed = _attributed(a)
        assert (found.name, found.pod) == (str(path), POD)
        assert listed["pod"] == {"namespace": "shop", "name": "web-0", "uid": UID}
        assert (listed["pod_from"], listed["names"]) == ("cni_cache", [str(path)])


@pytest.mark.any_tier
def test_a_stale_entry_of_the_cache_names_nobody(path: Path) -> None:
    """The path is not mounted any more."""
    with a_netns() as (_, a), _cached(path, K8S_POD_NAMESPACE="shop", K8S_POD_NAME="web-0"):
        found, listed = _attributed(a)
        assert (found.name, found.pod, listed.get("pod")) == (None, None, None)


@pytest.mark.any_tier
def test_events_of_a_pod_found(path: Path) -> None:
    with a_netns() as (holder, a), _cached(path, K8S_POD_NAMESPACE="shop", K8S_POD_NAME="web-0"):
        bind_mount(f"/proc/{holder.pid}/ns/net", str(path))
        with watching() as watch:
            _visit(holder.pid)
            unmount(str(path))
            holder.end()
            watch.destroyed(a)
            facts = _facts(watch, a, 0)
    assert {fact[1:] for fact in facts} == {(str(path), Pod("shop", "web-0"))}
    assert facts[0][0] == "netns_found"
    assert facts[-1][0] == "netns_destroy"


def test_two_names_and_a_puppet_that_moves(watch: Watch, path: Path, tmp_path: Path) -> None:
    """The first name by the alphabet; a task that goes from one pod to another leaves one and enters the other."""
    second = tmp_path / "other"
    second.touch()
    with a_netns() as (one, a), a_netns() as (two, b):
        bind_mount(f"/proc/{one.pid}/ns/net", str(path))
        bind_mount(f"/proc/{one.pid}/ns/net", str(second))
        _plugin("ADD", path)
        _plugin("ADD", f"/proc/{two.pid}/ns/net", name="web-1")

        def play(self: Puppet) -> None:
            for pid in (one.pid, two.pid):
                setns(os.open(f"/proc/{pid}/ns/net", os.O_RDONLY), CLONE_NEWNET)

        _mounts_seen(watch)
        since = len(watch.events)
        with Puppet(play) as mover:
            mover.end()
        watch.settle()
        moves = [e for e in watch.events[since:] if e.pid == mover.pid]
        unmount(str(second))
    assert [(e.type, e.netns and e.netns.cookie, e.name, e.pod and e.pod.name) for e in moves] == [
        ("netns_enter", a, min(str(path), str(second)), "web-0"),
        ("netns_exit", a, min(str(path), str(second)), "web-0"),
        ("netns_enter", b, None, "web-1"),
        ("netns_exit", b, None, "web-1"),
    ]
