"""Real pods, driven as a kubelet would: every CNI call and every namespace event, with the pod that it is for.

The truth comes from who drives containerd, and from the plugins' own log.
"""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import threading
import time
import uuid
from collections.abc import Collection, Iterator
from pathlib import Path

import grpc
import pytest

from cni_collector import CniEnd, CniStart, Event, NetnsCreate, NetnsDestroy, NetnsEnter, NetnsFound
from cni_collector import Pod as TheirPod

from ..support.actors import a_netns, bind_mount, unmount
from ..support.containerd import NETNS, Containerd, Pod
from ..support.listing import listed
from ..support.plugins import Call
from ..support.watch import Watch, watching

CHURN = int(os.environ.get("CNI_TEST_PODS", 101))
"""Pods that come and go."""
WORKERS = 3


@pytest.fixture
def containerd() -> Iterator[Containerd]:
    with Containerd() as running:
        yield running


@pytest.fixture
def watch() -> Iterator[Watch]:
    """One that sees all of the test."""
    with watching() as running:
        yield running


def _pod(containerd: Containerd, name: str = "web", *, host_network: bool = False, timeout: float = 60) -> Pod:
    return containerd.run_pod("shop", name, str(uuid.uuid4()), host_network=host_network, timeout=timeout)


def _told(pod: Pod) -> TheirPod:
    return TheirPod(pod.namespace, pod.name, pod.uid)


def _cookie(events: list[Event], pod: Pod) -> int:
    """The namespace that the calls for a pod are about."""
    cookies = {e.netns.cookie for e in _calls(events, pod.id) if e.netns}
    assert len(cookies) == 1
    return cookies.pop()


def _calls(events: list[Event], sandbox: str) -> list[CniStart | CniEnd]:
    return [e for e in events if isinstance(e, CniStart | CniEnd) and e.cni_container_id == sandbox]


def _compare(events: list[Event], log: list[Call], brief: Collection[str] = ()) -> None:
    """Each call in the plugins' log was told, once, with a beginning and an end; and no other call of a plugin was.

    Args:
        events: that were told.
        log: what the plugins have noted.
        brief: names of pods that were torn down as soon as a plugin had failed. The namespace may be gone when its path
            is looked at, and is then not told rather than guessed.
    """
    plugins = {os.path.dirname(call.path) for call in log}
    told = [e for e in events if isinstance(e, CniStart | CniEnd) and os.path.dirname(e.plugin or "") in plugins]
    by_call: dict[tuple[object, ...], list[Event]] = collections.defaultdict(list)
    for one in told:
        by_call[one.pid, one.cni_container_id, one.command].append(one)  # a pid alone may be used again
    for call in log:
        start, end = by_call[call.pid, call.container, call.command]
        assert isinstance(start, CniStart)
        assert isinstance(end, CniEnd)
        for event in (start, end):
            assert (event.command, event.plugin, event.parent) == (call.command, call.path, call.ppid)
            assert (event.cni_container_id, event.ifname) == (call.container, call.interface)
            assert (event.netns_path, event.environment) == (call.netns_path or None, None)
            arguments = call.arguments
            if event.netns or arguments["K8S_POD_NAME"] not in brief:
                assert (event.netns.inum if event.netns else 0) == call.netns
            named = TheirPod(*(arguments[f"K8S_POD_{key}"] for key in ("NAMESPACE", "NAME", "UID")))
            assert event.pod == named
        assert end.duration_ns
        assert end.duration_ns > 0
    assert sorted(e.pid or 0 for e in told if isinstance(e, CniStart)) == sorted(call.pid for call in log)


def _attributed(events: list[Event], cookie: int, pod: Pod) -> list[Event]:
    """The events about a namespace: none has a pod before the first ADD was told, all that come after it have."""
    about = [e for e in events if e.netns and e.netns.cookie == cookie]
    first = next(index for index, e in enumerate(about) if isinstance(e, CniStart) and e.command == "ADD")
    assert all(e.pod is None for e in about[:first])
    assert all(e.pod == _told(pod) for e in about[first:])
    return about


def _chain(events: list[Event]) -> list[str]:
    """Calls in their order: `ADD bridge > host-local`, with the exit code or the signal where it is not 0."""
    names = {e.pid: os.path.basename(e.plugin or "") for e in events if isinstance(e, CniStart)}
    lines = []
    for end in events:
        if isinstance(end, CniEnd):
            caller = f"{names[end.parent]} > " if end.parent in names else ""
            result = "" if end.exit_code == 0 else f" {end.signal or end.exit_code}"
            lines.append(f"{end.command} {caller}{names[end.pid]}{result}")
    return lines


ADD = ["ADD bridge", "ADD bridge > host-local", "ADD loopback", "ADD portmap"]
DEL = ["DEL loopback", "DEL portmap", "DEL bridge > host-local", "DEL bridge"]


def _plugins_only(containerd: Containerd, events: list[Event]) -> list[Event]:
    """Without the programs that plugins execute, which inherit the variables."""
    return [
        e
        for e in events
        if isinstance(e, CniStart | CniEnd) and Path(e.plugin or "").parent == containerd.plugins.binaries
    ]


def test_the_life_of_a_pod(containerd: Containerd, watch: Watch) -> None:
    """A sandbox, two containers, an exec, then the end, with both rounds of DEL."""
    pod = _pod(containerd)
    path = containerd.netns_path(pod)
    inum = os.stat(path).st_ino
    containers = [containerd.create_container(pod, name, ["sleep", "1000"]) for name in ("one", "two")]
    containerd.exec(containers[0], ["true"])
    containerd.stop_pod(pod)
    containerd.remove_pod(pod)
    watch.settle()
    cookie = _cookie(watch.events, pod)
    watch.destroyed(cookie)
    log = containerd.plugins.log.calls(pod.id)
    _compare(watch.events, log)
    chain = _chain(_plugins_only(containerd, list(_calls(watch.events, pod.id))))
    assert sorted(chain[:4]) == ADD
    assert chain[4:] == DEL + DEL

    about = _attributed(watch.events, cookie, pod)
    assert [e.type for e in about if isinstance(e, NetnsCreate | NetnsDestroy)] == ["netns_create", "netns_destroy"]
    assert about[-1].type == "netns_destroy"
    assert {e.netns.inum for e in about if e.netns} == {inum}
    assert about[-1].name == path.replace("/var/run", "/run")
    inside = {e.container_id: e.pod_uid for e in about if isinstance(e, NetnsEnter) and e.container_id}
    assert inside == dict.fromkeys([pod.id, *containers], pod.uid)
    assert watch.stop().lost == 0


def test_a_pod_on_the_hosts_network(containerd: Containerd, watch: Watch) -> None:
    other = _pod(containerd, "other")
    pod = _pod(containerd, "host", host_network=True)
    containerd.create_container(pod, "main", ["sleep", "1000"])
    containerd.stop_pod(pod)
    containerd.remove_pod(pod)
    watch.settle()
    told = {e.pod for e in watch.events}
    assert _told(other) in told
    assert _told(pod) not in told
    assert not _calls(watch.events, pod.id)
    assert not [e for e in watch.events if e.pod_uid == pod.uid and e.netns]


def test_plugins_that_fail(containerd: Containerd, watch: Watch) -> None:
    plugins = containerd.plugins
    with plugins.fault("bridge", "ADD", "error"), pytest.raises(grpc.RpcError):
        _pod(containerd, "error")
    with plugins.fault("portmap", "ADD", "exit", 3), pytest.raises(grpc.RpcError):
        _pod(containerd, "exit")
    with plugins.fault("host-local", "ADD", "signal", signal.SIGSEGV), pytest.raises(grpc.RpcError):
        _pod(containerd, "signal")
    with plugins.fault("loopback", "ADD", "sleep", 0.5):
        slow = _pod(containerd, "slow")
    with plugins.fault("bridge", "DEL", "error"), pytest.raises(grpc.RpcError):
        containerd.stop_pod(slow)
    containerd.stop_pod(slow)
    containerd.remove_pod(slow)
    watch.settle()
    _compare(watch.events, plugins.log.calls(), ("error", "exit", "signal"))
    calls = _plugins_only(containerd, watch.events)
    chains = {
        name: _chain([e for e in calls if e.pod and e.pod.name == name]) for name in ("error", "exit", "signal", "slow")
    }
    assert "ADD bridge 1" in chains["error"]
    assert "ADD portmap 3" in chains["exit"]
    assert "ADD bridge > host-local SIGSEGV" in chains["signal"]
    assert "ADD bridge 1" in chains["signal"]
    assert "DEL bridge 1" in chains["slow"]
    assert chains["slow"][-4:] == DEL
    [sleeper] = [
        e
        for e in calls
        if isinstance(e, CniEnd) and (e.command, e.cni_container_id) == ("ADD", slow.id) and "loopback" in str(e.plugin)
    ]
    assert sleeper.duration_ns
    assert 500_000_000 < sleeper.duration_ns < 10_000_000_000


def test_a_plugin_that_hangs_until_the_runtime_gives_up(containerd: Containerd, watch: Watch) -> None:
    """Meanwhile it is listed. Its end is told when it comes: by SIGKILL."""
    failures = []

    def run() -> None:
        try:
            _pod(containerd, "hung", timeout=3)
        except grpc.RpcError as error:
            failures.append(error)

    with containerd.plugins.fault("bridge", "ADD", "hang"):
        thread = threading.Thread(target=run)
        thread.start()
        call = containerd.plugins.log.wait(lambda call: call.plugin == "bridge")
        under_way = listed("--cni")
        thread.join(60)
    assert failures
    assert [one["command"] for one in under_way if one["pid"] == call.pid] == ["ADD"]
    end = watch.wait(lambda e: isinstance(e, CniEnd) and e.pid == call.pid)
    assert isinstance(end, CniEnd)
    assert (end.signal, end.exit_code, end.pod and end.pod.name) == ("SIGKILL", None, "hung")
    assert end.duration_ns
    assert end.duration_ns > 2_000_000_000


def test_no_address_left(watch: Watch) -> None:
    with Containerd(addresses=2) as containerd:
        for name in ("one", "two"):
            _pod(containerd, name)
        with pytest.raises(grpc.RpcError, match="no IP addresses available"):
            _pod(containerd, "three")
        watch.settle()
        refused = _chain([e for e in _plugins_only(containerd, watch.events) if e.pod and e.pod.name == "three"])
        assert refused[:2] in (
            ["ADD loopback", "ADD bridge > host-local 1"],
            ["ADD bridge > host-local 1", "ADD loopback"],
        ) or ("ADD bridge > host-local 1" in refused and "ADD bridge 1" in refused)
        _compare(watch.events, containerd.plugins.log.calls(), ("three",))


def test_containerd_killed_and_restarted(containerd: Containerd, watch: Watch) -> None:
    pod = _pod(containerd)
    container = containerd.create_container(pod, "main", ["sleep", "1000"])
    containerd.kill()
    containerd.restart()
    containerd.exec(container, ["true"])
    containerd.stop_pod(pod)
    containerd.remove_pod(pod)
    watch.settle()
    cookie = _cookie(watch.events, pod)
    watch.destroyed(cookie)
    _compare(watch.events, containerd.plugins.log.calls())
    _attributed(watch.events, cookie, pod)


def test_a_collector_that_starts_after_the_pods(containerd: Containerd) -> None:
    """Libcni's cache names them; what it says is found on all later events, too."""
    pods = [_pod(containerd, f"web-{number}") for number in range(3)]
    inums = {os.stat(containerd.netns_path(pod)).st_ino: pod for pod in pods}
    by_inum = {one["inum"]: one for one in listed()}
    for inum, pod in inums.items():
        assert by_inum[inum]["pod"] == {"namespace": "shop", "name": pod.name, "uid": pod.uid}
        assert by_inum[inum]["pod_from"] == "cni_cache"
        assert by_inum[inum]["names"] == [containerd.netns_path(pod).replace("/var/run", "/run")]
    with watching() as watch:
        found = {e.netns.inum: e for e in watch.events if isinstance(e, NetnsFound) and e.netns}
        for inum, pod in inums.items():
            assert (found[inum].pod, found[inum].pod_uid) == (_told(pod), pod.uid)
        for pod in pods:
            containerd.stop_pod(pod)
        cookies = {e.netns.cookie: inums[inum] for inum, e in found.items() if e.netns and inum in inums}
        watch.destroyed(*cookies)
        about = [e for e in watch.events if e.netns and e.netns.cookie in cookies]
        assert all(e.netns and e.pod == _told(cookies[e.netns.cookie]) for e in about)
        _compare(watch.events, [call for call in containerd.plugins.log.calls() if call.command == "DEL"])


def test_a_node_in_a_container(watch: Watch) -> None:
    """As in kind: its own mounts, pids, network and cgroups. Meanwhile the same paths lead elsewhere on the machine."""
    with Containerd(node=True) as node, contextlib.ExitStack() as decoys:
        pods = [_pod(node, f"web-{number}") for number in range(3)]
        containers = [node.create_container(pod, "main", ["sleep", "1000"]) for pod in pods]
        NETNS.mkdir(exist_ok=True)
        for pod in pods:
            place = Path(node.netns_path(pod).replace("/var/run", "/run"))
            assert place.parent == NETNS
            assert not place.exists()
            holder, _ = decoys.enter_context(a_netns())
            place.touch()
            decoys.callback(place.unlink)
            bind_mount(f"/proc/{holder.pid}/ns/net", str(place))
            decoys.callback(unmount, str(place))
        watch.settle()
        for pod in pods:
            node.stop_pod(pod)
            node.remove_pod(pod)
        watch.settle()
        log = node.plugins.log.calls()
        for pod, container in zip(pods, containers, strict=True):
            told = [e for e in _plugins_only(node, watch.events) if isinstance(e, CniStart | CniEnd)]
            told = [e for e in told if e.cni_container_id == pod.id]
            for kind in (CniStart, CniEnd):
                ours = [
                    (e.command, e.plugin, e.netns_path or "", e.netns.inum if e.netns else 0)
                    for e in told
                    if isinstance(e, kind)
                ]
                theirs = [(c.command, c.path, c.netns_path, c.netns) for c in log if c.container == pod.id]
                assert sorted(ours) == sorted(theirs)
            assert {e.pod for e in told} == {_told(pod)}
            cookie = _cookie(watch.events, pod)
            watch.destroyed(cookie)
            about = _attributed(watch.events, cookie, pod)
            assert {e.name for e in about} == {None}
            inside = {e.container_id: e.pod_uid for e in about if isinstance(e, NetnsEnter) and e.pod_uid}
            assert inside == dict.fromkeys([pod.id, container], pod.uid)


@pytest.mark.timeout(600)  # it is work for both CPUs
def test_churn(containerd: Containerd, watch: Watch) -> None:
    """Pods by the hundred, several at once: no event has the wrong pod, no call lacks its end, nothing is lost."""
    pods: list[Pod] = []
    todo = collections.deque(range(CHURN))

    def work() -> None:
        while True:
            try:
                number = todo.popleft()
            except IndexError:
                return
            pod = _pod(containerd, f"web-{number}")
            pods.append(pod)
            containerd.stop_pod(pod)
            containerd.remove_pod(pod)

    workers = [threading.Thread(target=work) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        watch.settle()
        time.sleep(0.05)
    assert len(pods) == CHURN
    watch.settle()
    log = containerd.plugins.log.calls()
    by_sandbox: dict[str | None, list[Event]] = collections.defaultdict(list)
    for event in watch.events:
        if isinstance(event, CniStart | CniEnd):
            by_sandbox[event.cni_container_id].append(event)
    cookies = {_cookie(by_sandbox[pod.id], pod): pod for pod in pods}
    assert len(cookies) == CHURN
    watch.destroyed(*cookies)
    stop = watch.stop()
    assert stop.lost == 0
    _compare(watch.events, log)
    by_cookie: dict[int, list[Event]] = collections.defaultdict(list)
    uids = {pod.uid for pod in pods}
    for event in watch.events:
        if event.netns:
            by_cookie[event.netns.cookie].append(event)
            assert event.netns.cookie in cookies or not event.pod or event.pod.uid not in uids
    for cookie, pod in cookies.items():
        _attributed(by_cookie[cookie], cookie, pod)
    inums = collections.Counter(e.netns.inum for e in watch.events if isinstance(e, NetnsCreate) and e.netns)
    assert max(inums.values()) > 1, "no inode number was used twice: nothing is shown by this"
    for pod in pods:
        starts, ends = ({e.pid for e in by_sandbox[pod.id] if isinstance(e, kind)} for kind in (CniStart, CniEnd))
        assert starts == ends
