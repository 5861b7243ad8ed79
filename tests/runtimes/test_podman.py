"""Podman's containers and pods: whose namespaces are born how, who goes in and out, and which CNI calls there are."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from cni_collector import CniEnd, CniExec, CniStart, Event, NetnsCreate, NetnsEnter, NetnsExit, NetnsFound

from ..support.podman import Podman
from ..support.watch import Watch, watching

Fact = tuple[str, str | None, str | None]
"""Type, cause, and who: the container's id where there is one, or else the thread's name."""


@pytest.fixture
def podman() -> Iterator[Podman]:
    with Podman() as own:
        yield own


@pytest.fixture
def watch() -> Iterator[Watch]:
    """One that sees all of the test, and loses nothing."""
    with watching() as running:
        yield running
        assert running.stop().lost == 0


def _cookie(watch: Watch, podman: Podman, container: str) -> int:
    """The namespace that a container's first process is in: the youngest that has this inode number."""
    inum = os.stat(f"/proc/{podman.pid(container)}/ns/net").st_ino
    watch.settle()
    births = (e.netns for e in watch.events if isinstance(e, NetnsCreate))
    return [netns.cookie for netns in births if netns and netns.inum == inum][-1]


def _end(watch: Watch, podman: Podman, container: str, cookie: int) -> None:
    """Kills a container, which leaves its network to conmon and the podman that this calls, and removes it."""
    podman("kill", container)
    podman("wait", container)
    watch.destroyed(cookie)
    podman("rm", container)
    watch.settle()


def _moves(watch: Watch, cookie: int) -> list[Event]:
    """The births, entries, exits and end of a namespace that is no pod's; all come from the host and go back."""
    moves = [e for e in watch.events if e.netns and e.netns.cookie == cookie and e.type.startswith("netns_")]
    host = watch.start.host_netns
    assert all(e.prev == host for e in moves if isinstance(e, NetnsCreate | NetnsEnter))
    assert all(e.next == (host if e.cause == "setns" else None) for e in moves if isinstance(e, NetnsExit))
    assert len({e.netns for e in moves}) == 1
    assert {(e.pod, e.pod_uid) for e in moves} == {(None, None)}
    return moves


def _facts(moves: list[Event]) -> list[Fact]:
    return [(e.type, e.cause, e.container_id or e.comm) for e in moves]


def _names(moves: list[Event]) -> list[str | None]:
    """A birth has no name; once there is one, all that follows has it."""
    names = [e.name for e in moves]
    named = [name is not None for name in names]
    assert not named[0]
    assert named == sorted(named)
    return names


def _mounts_seen(watch: Watch) -> None:
    """Waits until the collector has looked at the mounts as they are now: it does so at the beginning of a batch."""
    watch.settle()
    watch.settle()


def _visits(who: str, times: int = 1) -> list[Fact]:
    """In and out, so many times."""
    return [("netns_enter", "setns", who), ("netns_exit", "setns", who)] * times


def _joins(who: str) -> list[Fact]:
    """By runc's first stage, which ends. What it leaves behind has inherited the namespace."""
    return [("netns_enter", "setns", who), ("netns_exit", "exit", who)]


BIRTH: list[Fact] = [
    ("netns_create", "unshare", "podman"),
    ("netns_enter", "unshare", "podman"),
    ("netns_exit", "setns", "podman"),
]
"""By one of podman's threads, which mounts the namespace and goes back to the host."""
DESTRUCTION: list[Fact] = [("netns_destroy", None, None)]


def _born_by_one_thread(moves: list[Event]) -> None:
    assert len({(e.pid, e.tid) for e in moves[: len(BIRTH)]}) == 1


def _no_calls(watch: Watch, podman: Podman, moves: list[Event]) -> None:
    """No program that podman has executed, or whatever is in its containers or about them, was taken for a plugin."""
    pids = {e.pid for e in moves if e.pid}
    for e in watch.events:
        if isinstance(e, CniStart | CniEnd):
            assert e.netns != moves[0].netns
            assert not {e.pid, e.parent} & pids
            assert not (e.cgroup or "").startswith(f"/{podman.name}/")
            assert not (e.plugin or "").startswith(str(podman.home))


def test_a_container_on_a_bridge_by_netavark(podman: Podman, watch: Watch) -> None:
    container = podman.run("--network", podman.network)
    cookie, path = _cookie(watch, podman, container), podman.netns_path(container)
    assert os.stat(path).st_ino == os.stat(f"/proc/{podman.pid(container)}/ns/net").st_ino
    _mounts_seen(watch)
    set_up = len(_moves(watch, cookie))
    podman("exec", container, "true")
    _end(watch, podman, container, cookie)
    moves = _moves(watch, cookie)
    assert _facts(moves) == [
        *BIRTH,
        *_visits("netavark", 2),
        *_joins(container),
        *_joins("runc:[1:CHILD]"),  # by exec: runc puts it into the container's cgroup only after that
        *_visits("netavark"),
        *DESTRUCTION,
    ]
    assert {e.comm for e in moves if e.container_id} == {"runc:[1:CHILD]"}
    _born_by_one_thread(moves)
    names = _names(moves)
    assert set(names) == {None, path}
    assert None not in names[set_up:]
    _no_calls(watch, podman, moves)


def test_a_container_without_a_network(podman: Podman, watch: Watch) -> None:
    """Runc makes its namespace, which is mounted nowhere."""
    container = podman.run("--network", "none")
    cookie = _cookie(watch, podman, container)
    assert podman.netns_path(container) == ""
    _end(watch, podman, container, cookie)
    moves = _moves(watch, cookie)
    assert _facts(moves) == [
        ("netns_create", "unshare", container),
        ("netns_enter", "unshare", container),
        ("netns_exit", "exit", container),
        *DESTRUCTION,
    ]
    assert {(e.comm, e.name) for e in moves[:-1]} == {("runc:[1:CHILD]", None)}
    assert moves[-1].name is None
    _no_calls(watch, podman, moves)


def test_a_pod_of_two_containers(podman: Podman, watch: Watch) -> None:
    """Podman's pods are no Kubernetes pods: theirs is one namespace, the infra container's."""
    pod = podman.make_pod("--network", podman.network)
    containers = [podman.run("--pod", pod) for _ in range(2)]
    infra = json.loads(podman("pod", "inspect", pod))["InfraContainerID"]
    cookies = {_cookie(watch, podman, one) for one in (infra, *containers)}
    assert len(cookies) == 1
    path = podman.netns_path(infra)
    _mounts_seen(watch)
    set_up = len(_moves(watch, *cookies))
    podman("pod", "kill", pod)
    watch.destroyed(*cookies)
    watch.settle()
    moves = _moves(watch, *cookies)
    assert [(e.type, e.cause, e.comm) for e in moves] == [
        *BIRTH,
        *_visits("netavark", 2),
        *_joins("runc:[1:CHILD]") * 3,
        *_visits("netavark"),
        *DESTRUCTION,
    ]
    _born_by_one_thread(moves)
    joined = [e.container_id for e in moves if e.comm == "runc:[1:CHILD]"]
    assert joined == [infra, infra, containers[0], containers[0], containers[1], containers[1]]
    names = _names(moves)
    assert set(names) == {None, path}
    assert None not in names[set_up:]
    _no_calls(watch, podman, moves)


PROBE = ["VERSION bridge", "VERSION portmap", "VERSION firewall", "VERSION tuning"]
"""What every podman asks that has to do with networks."""
ADD = ["ADD bridge", "ADD bridge > host-local", "ADD portmap", "ADD firewall", "ADD tuning"]
DEL = ["DEL tuning", "DEL firewall", "DEL portmap", "DEL bridge", "DEL bridge > host-local"]


INHERITED = ("command", "cni_container_id", "ifname", "netns_path", "netns", "args", "pod")
"""What a plugin is told in its environment."""


def _pairs(events: list[Event]) -> dict[int, tuple[CniStart, CniEnd]]:
    """The calls among these, by process: each has one beginning, and after it one end, which say the same of it."""
    calls: dict[int, tuple[CniStart, CniEnd]] = {}
    for start in events:
        if isinstance(start, CniStart):
            assert start.pid
            assert start.pid not in calls
            [first, end] = [e for e in events if isinstance(e, CniStart | CniEnd) and e.pid == start.pid]
            assert first is start
            assert isinstance(end, CniEnd)
            for field in ("parent", "plugin", *INHERITED):
                assert getattr(start, field) == getattr(end, field)
            calls[start.pid] = start, end
    assert {e.pid for e in events} == calls.keys()
    return calls


def test_a_container_on_a_bridge_by_cni(watch: Watch) -> None:
    with Podman("cni") as podman:
        container = podman.run("--network", podman.network, "--name", "web-0")
        cookie, path = _cookie(watch, podman, container), podman.netns_path(container)
        _mounts_seen(watch)
        before = _moves(watch, cookie)
        set_up, birth = len(before), before[0].netns
        with watching() as late:
            found = late.wait(lambda e: isinstance(e, NetnsFound) and e.netns == birth)
        assert (found.name, found.pod) == (path, None)  # though libcni's cache has the name of a pod
        _end(watch, podman, container, cookie)
    moves = _moves(watch, cookie)
    assert _facts(moves) == [
        *BIRTH,
        *_visits("podman"),
        *_visits("bridge", 2),
        *_visits("tuning"),
        *_joins(container),
        *_visits("tuning"),
        *_visits("bridge"),
        *DESTRUCTION,
    ]
    _born_by_one_thread(moves)
    names = _names(moves)
    assert set(names) == {None, path}
    assert None not in names[set_up:]

    calls = [e for e in watch.events if isinstance(e, CniStart | CniEnd)]
    plugins = _pairs([e for e in calls if os.path.dirname(e.plugin or "") == str(podman.plugins)])
    callers: dict[int | None, list[str]] = {}
    for start, end in plugins.values():
        above, caller = "", start.parent
        if caller in plugins:
            outer = plugins[caller][0]
            above, caller = f"{os.path.basename(outer.plugin or '')} > ", outer.parent
        callers.setdefault(caller, []).append(f"{start.command} {above}{os.path.basename(start.plugin or '')}")
        assert (end.exit_code, end.signal, start.pod) == (0, None, None)
        if start.command == "VERSION":
            assert (start.netns, start.name, start.cni_container_id, start.args) == (None, None, None, None)
        else:
            assert (start.netns, start.netns_path, start.ifname) == (moves[0].netns, path, "eth0")
            assert start.cni_container_id == container
            assert set((start.args or "").split(";")) == {"IgnoreUnknown=1", "K8S_POD_NAME=web-0"}
            assert start.name == path or (start.command == "ADD" and start.name is None)  # perhaps not yet seen
    assert list(callers.values()) == [PROBE + ADD, PROBE + DEL]
    assert next(iter(callers)) == moves[0].pid

    # What plugins execute inherits the variables: helpers, each told before its plugin ends.
    helpers = [e for e in watch.events if isinstance(e, CniExec) and e.call in plugins]
    whose = set()
    for helper in helpers:
        assert helper.call
        start, end = plugins[helper.call]
        whose.add((start.command, os.path.basename(start.plugin)))
        assert watch.events.index(start) < watch.events.index(helper) < watch.events.index(end)
        assert helper.netns is None
    assert whose == {("ADD", "bridge"), ("ADD", "firewall"), ("DEL", "bridge"), ("DEL", "firewall")}
    assert "iptables" in {os.path.basename(helper.executable) for helper in helpers}
    assert {e.pid for e in calls if e.cni_container_id == container} == plugins.keys() - _probes(plugins)


def _probes(plugins: dict[int, tuple[CniStart, CniEnd]]) -> set[int]:
    """Those that are asked for their versions only."""
    return {pid for pid, (start, _) in plugins.items() if start.command == "VERSION"}
