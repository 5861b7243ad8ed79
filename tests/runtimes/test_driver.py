"""The driver itself works: it runs pods, tells what plugins were asked, lets them fail, and leaves nothing behind."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from ..support import leftovers
from ..support.containerd import NETNS, SHIM_SOCKETS, Containerd, Pod
from ..support.plugins import RESULTS, Call


@contextlib.contextmanager
def _containerd(*, addresses: int | None = None) -> Iterator[Containerd]:
    """One of which nothing must be left."""
    with Containerd(addresses=addresses) as containerd:
        yield containerd
        calls, processes = containerd.plugins.log.calls(), containerd.processes
        links = [containerd.plugins.name, *containerd.plugins.veths()]
        shims = _shim_sockets(containerd)
        uids = {call.arguments["K8S_POD_UID"] for call in calls}
    assert not containerd.home.exists()
    assert not [mount for mount in leftovers.mounts_below(Path("/")) if mount.is_relative_to(containerd.home)]
    assert not containerd.processes
    assert not [pid for pid in processes if str(containerd.home) in _command_line(pid)]
    assert not [call for call in calls if call.netns_path and Path(call.netns_path).exists()]
    assert not set(NETNS.glob("cni-*")) & {NETNS / Path(call.netns_path).name for call in calls}
    assert not [link for link in links if Path("/sys/class/net", link).exists()]
    assert not [group for root in leftovers.hierarchies() for uid in uids for group in root.glob(f"**/pod{uid}")]
    assert not [socket for socket in shims if socket.exists()]
    assert not [call for call in calls for _ in RESULTS.glob(f"*{call.container}*")]


def _shim_sockets(containerd: Containerd) -> list[Path]:
    addresses = containerd.home.glob("state/io.containerd.runtime.v2.task/k8s.io/*/address")
    sockets = [Path(address.read_text().removeprefix("unix://")) for address in addresses]
    assert all(socket.parent == SHIM_SOCKETS and socket.exists() for socket in sockets)
    return sockets


def _command_line(pid: int) -> str:
    try:
        return Path("/proc", str(pid), "cmdline").read_text(errors="replace")
    except OSError:
        return ""


def _run_pod(containerd: Containerd, name: str = "web", *, host_network: bool = False, timeout: float = 60) -> Pod:
    return containerd.run_pod("default", name, str(uuid.uuid4()), host_network=host_network, timeout=timeout)


def _chain(calls: list[Call]) -> list[str]:
    """What was called, with the caller of what is called by another plugin."""
    plugins = {call.pid: call.plugin for call in calls}
    names = [f"{plugins[call.ppid]} > {call.plugin}" if call.ppid in plugins else call.plugin for call in calls]
    return [f"{call.command} {name}" for call, name in zip(calls, names, strict=True)]


DEL = ["DEL loopback", "DEL portmap", "DEL bridge", "DEL bridge > host-local"]


def test_the_life_of_a_pod() -> None:
    with _containerd() as containerd:
        pod = _run_pod(containerd)
        log = containerd.plugins.log
        container = containerd.create_container(pod, "main", ["sleep", "1000"])
        assert b"inet 10.88." in containerd.exec(container, ["ip", "addr", "show", "eth0"])
        with pytest.raises(subprocess.CalledProcessError):
            containerd.exec(container, ["false"])
        path = Path(containerd.netns_path(pod))
        inum = Path("/proc", str(containerd.pause_pid(pod)), "ns/net").stat().st_ino
        assert path.stat().st_ino == inum
        added = log.calls(pod.id)
        assert sorted(_chain(added)) == ["ADD bridge", "ADD bridge > host-local", "ADD loopback", "ADD portmap"]
        assert {(call.netns, call.netns_path) for call in added} == {(inum, str(path))}

        containerd.stop_pod(pod)
        stopped = log.calls(pod.id)[len(added) :]
        assert _chain(stopped) == DEL
        assert {(call.netns, call.netns_path) for call in stopped} == {(inum, str(path))}
        assert not path.exists()

        containerd.remove_pod(pod)
        removed = log.calls(pod.id)[len(added) + len(stopped) :]
        assert _chain(removed) == DEL
        assert {(call.netns, call.netns_path) for call in removed} == {(0, "")}
        assert not containerd.pods()

        for call in log.calls():
            assert call.path == str(containerd.plugins.binaries / call.plugin)
            assert call.interface == ("lo" if call.plugin == "loopback" else "eth0")
            expected = {"K8S_POD_NAMESPACE": "default", "K8S_POD_NAME": "web", "K8S_POD_UID": pod.uid}
            assert call.arguments.items() >= expected.items()
        assert time.clock_gettime_ns(time.CLOCK_BOOTTIME) > log.calls()[-1].time > 0


def test_a_pod_on_the_hosts_network() -> None:
    with _containerd() as containerd:
        pod = _run_pod(containerd, host_network=True)
        assert containerd.netns_path(pod) == ""
        containerd.stop_pod(pod)
        containerd.remove_pod(pod)
        assert not containerd.plugins.log.calls()


def test_faults() -> None:
    with _containerd() as containerd:
        plugins = containerd.plugins
        with plugins.fault("bridge", "ADD", "error"), pytest.raises(grpc.RpcError, match="refused by the test"):
            _run_pod(containerd)
        with plugins.fault("portmap", "ADD", "exit", 3), pytest.raises(grpc.RpcError, match="exit status 3"):
            _run_pod(containerd)
        with plugins.fault("host-local", "ADD", "signal", signal.SIGKILL), pytest.raises(grpc.RpcError, match="killed"):
            _run_pod(containerd)
        with plugins.fault("loopback", "ADD", "sleep", 0.5):
            began = time.monotonic()
            pod = _run_pod(containerd)
            assert time.monotonic() - began > 0.5
        # The two ends of the call have the same time limit: either may notice first.
        too_late = "DEADLINE_EXCEEDED|signal: killed"
        with plugins.fault("bridge", "DEL", "hang"), pytest.raises(grpc.RpcError, match=too_late):
            containerd.stop_pod(pod, timeout=2)
        containerd.stop_pod(pod)
        containerd.remove_pod(pod)
        assert not containerd.pods()


def test_the_addresses_run_out() -> None:
    with _containerd(addresses=2) as containerd:
        for name in "one", "two":
            _run_pod(containerd, name)
        with pytest.raises(grpc.RpcError, match="no IP addresses available"):
            _run_pod(containerd, "three")


def test_killed_and_restarted() -> None:
    with _containerd() as containerd:
        pod = _run_pod(containerd)
        container = containerd.create_container(pod, "main", ["sleep", "1000"])
        before = containerd.pid
        containerd.kill()
        with pytest.raises(AssertionError, match="does not run"):
            containerd.pods()
        assert containerd.processes
        containerd.restart()
        assert containerd.pid != before
        assert containerd.pods() == {pod.id: True}
        assert containerd.exec(container, ["echo", "still here"]) == b"still here\n"


@pytest.mark.parametrize("plugin", ["bridge", "host-local"])
def test_left_while_a_plugin_hangs(plugin: str) -> None:
    with _containerd() as containerd, containerd.plugins.fault(plugin, "ADD", "hang"):  # type: ignore[arg-type]
        errors = []

        def run() -> None:
            try:
                _run_pod(containerd)
            except Exception as error:
                errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        containerd.plugins.log.wait(lambda call: call.plugin == plugin)
        containerd.kill()
        thread.join(30)
        assert not thread.is_alive()
        assert errors


def test_names_that_are_in_no_log() -> None:
    """A namespace that no plugin was told of goes too, unless somebody is in it, who then is not ours."""
    stray, strange = (NETNS / f"cni-{uuid.uuid4()}" for _ in range(2))
    with _containerd() as containerd:
        for name in stray, strange:
            subprocess.run(["ip", "netns", "add", name.name], check=True, timeout=30)
        sleeper = subprocess.Popen(["ip", "netns", "exec", strange.name, "sleep", "100"])
        while leftovers.netns_inums().isdisjoint({strange.stat().st_ino}):
            time.sleep(0.01)
        containerd.kill()
    try:
        assert not stray.exists()
        assert strange.exists()
    finally:
        sleeper.kill()
        sleeper.wait()
        subprocess.run(["ip", "netns", "delete", strange.name], check=True, timeout=30)
