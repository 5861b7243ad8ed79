"""The commands that people and runtimes use, told in full."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cni_collector import Event, NetnsCreate

from ..support.actors import NOBODY, a_netns, reap
from ..support.watch import Scene, Watch


def _run(*command: str) -> int:
    """Runs a command that must end well, and returns the pid it had."""
    with subprocess.Popen(command) as process:
        assert process.wait() == 0
        return process.pid


@contextlib.contextmanager
def _named_netns(name: str) -> Iterator[int]:
    """`ip netns add`, and whatever happens `ip netns del`; the pid of the first."""
    pid = _run("ip", "netns", "add", name)
    try:
        yield pid
    finally:
        _run("ip", "netns", "del", name)


def _born(watch: Watch, pid: int) -> Event:
    """The birth that this process gave: the latest, as its pid may have been another's before."""
    watch.settle()
    return next(event for event in reversed(watch.events) if isinstance(event, NetnsCreate) and event.pid == pid)


def _cookie(event: Event) -> int:
    assert event.netns
    return event.netns.cookie


def test_ip_netns(scene: Scene, watch: Watch) -> None:
    name = f"cni-test-{os.getpid()}"
    with _named_netns(name) as add:
        executed = _run("ip", "netns", "exec", name, "true")
    a = _cookie(_born(watch, add))
    watch.destroyed(a)
    story = scene.story({"A": a}, {"add": add, "exec": executed})
    back = [] if story[2] == "exit A exit add" else ["exit A setns add next=host"]  # iproute2 6.0 saves and restores
    assert story == [
        "create A unshare add prev=host",
        "enter A unshare add prev=host",
        *(back or ["exit A exit add"]),
        "enter A setns exec prev=host",
        "exit A exit exec",
        "destroy A",
    ]
    assert [event.comm for event in scene.events({}, {"exec": executed})] == ["ip", "true"]


def test_nsenter(scene: Scene) -> None:
    with a_netns() as (holder, a):
        entered = _run("nsenter", f"--net=/proc/{holder.pid}/ns/net", "true")
        by_target = _run("nsenter", "-n", "-t", str(holder.pid), "true")
        holder.end()
        assert scene.story({"A": a}, {"holder": holder.pid, "path": entered, "target": by_target})[2:6] == [
            "enter A setns path prev=host",
            "exit A exit path",
            "enter A setns target prev=host",
            "exit A exit target",
        ]


def test_unshare_as_an_ordinary_user(scene: Scene, watch: Watch) -> None:
    pid = os.fork()
    if not pid:
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        os.execvp("unshare", ["unshare", "-Urn", "true"])
    reap(pid)
    birth = _born(watch, pid)
    a = _cookie(birth)
    watch.destroyed(a)
    assert scene.story({"A": a}, {"main": pid}) == [
        "create A unshare main prev=host",
        "enter A unshare main prev=host",
        "exit A exit main",
        "destroy A",
    ]
    assert birth.uid == NOBODY
    assert birth.userns != os.stat("/proc/self/ns/user").st_ino


def test_a_container_by_runc(scene: Scene, watch: Watch, tmp_path: Path) -> None:
    """The second stage unshares; the container's process is its child, born inside, and says nothing of its own."""
    _make_bundle(tmp_path)
    ident = f"cni-test-{os.getpid()}"
    runc = _run("runc", "--root", str(tmp_path / "state"), "run", "--bundle", str(tmp_path), ident)
    watch.settle()
    birth = next(event for event in reversed(watch.events) if isinstance(event, NetnsCreate) and event.ppid == runc)
    a = _cookie(birth)
    watch.destroyed(a)
    assert (birth.comm or "").startswith("runc:[1:")
    assert scene.story({"A": a}, {"runc": runc, "stage": birth.tid or 0}) == [
        "create A unshare stage prev=host",
        "enter A unshare stage prev=host",
        "exit A exit stage",
        "destroy A",
    ]


def _make_bundle(bundle: Path) -> None:
    """A container that runs busybox's `true` and has a network namespace of its own."""
    busybox = shutil.which("busybox")
    assert busybox, "busybox (busybox-static) is needed"
    (bundle / "rootfs" / "bin").mkdir(parents=True)
    shutil.copy(busybox, bundle / "rootfs" / "bin" / "busybox")
    (bundle / "rootfs" / "bin" / "true").symlink_to("busybox")
    subprocess.run(["runc", "spec"], cwd=bundle, check=True)
    path = bundle / "config.json"
    config = json.loads(path.read_text())
    config["process"] |= {"terminal": False, "args": ["/bin/true"]}
    del config["process"]["rlimits"]  # raising them takes a capability that test machines may lack
    path.write_text(json.dumps(config))
