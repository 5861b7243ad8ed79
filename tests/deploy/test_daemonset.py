"""The DaemonSet's container, run with exactly what the manifests allow it, sees what happens on the machine."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from cni_collector import CniEnd, CniStart, NetnsDestroy, NetnsFound, Pod
from cni_collector.exporters.outputs import FLUSH

from ..support.actors import CLONE_NEWNET, NOBODY, act, execute, inum, setns
from ..support.actors import cookie as own_cookie
from ..support.plugins import RESULTS
from ..support.podman import Podman
from ..support.watch import LARGE, PATIENCE, Scene, Watch
from .identity import ORDINARY, Identity, identity_of
from .in_podman import options
from .manifests import BASE, variants
from .metrics import page
from .pods import NODE, Container, container_of

POD = Pod("shop", "web-0", "11111111-2222-3333-4444-555555555555")
ARGS = [("K8S_POD_NAMESPACE", "shop"), ("K8S_POD_NAME", "web-0"), ("K8S_POD_UID", str(POD.uid))]


class Running(NamedTuple):
    """A running container of the DaemonSet's, whose events are read."""

    watch: Watch
    id: str
    podman: Podman

    @property
    def pid(self) -> int:
        return self.podman.pid(self.id)

    @property
    def identity(self) -> Identity:
        """The collector's, as the machine sees it."""
        return identity_of(Path(f"/proc/{self.pid}/status").read_text())

    def stop(self) -> None:
        """Stops it as runtimes do. It must end in order, with all that it has seen told."""
        with subprocess.Popen(self.podman.command("stop", self.id), stdout=subprocess.DEVNULL) as stopping:
            assert self.watch.ended().lost == 0  # meanwhile: it cannot end before somebody reads what it writes
            assert stopping.wait(PATIENCE) == 0
        assert self.podman.inspect(self.id)["State"]["ExitCode"] == 0


def _command(podman: Podman, image: str, container: Container, place: Path, *more: str) -> list[str]:
    """What runs it, with more options of podman; `place` is for a file."""
    group = f"--cgroup-parent=/{podman.name}"
    return podman.command("run", group, *more, *options(container, place), image, *container.arguments, *LARGE)


@contextlib.contextmanager
def _running(podman: Podman, image: str, container: Container, place: Path) -> Iterator[Running]:
    """A container that must end in order when it is not needed any more, if it has not ended before."""
    name = f"collector-{secrets.token_hex(4)}"
    try:
        with Watch(command=_command(podman, image, container, place, f"--name={name}")) as watch:
            running = Running(watch, name, podman)
            yield running
            running.stop()
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):  # it is removed with podman itself, at the latest
            podman("rm", "--force", name)


class Named:
    """A namespace that `ip netns` makes."""

    def __init__(self) -> None:
        self.name = f"cni-deploy-{secrets.token_hex(4)}"
        self.path = f"/run/netns/{self.name}"

    def add(self) -> int:
        """Returns the pid of the `ip` that makes it."""
        return self._ip("add", self.name)

    def exec(self, *command: str) -> int:
        """The same of the `ip` that becomes the command."""
        return self._ip("exec", self.name, *command)

    def delete(self) -> None:
        """Takes the name away, by which the namespace ends if nothing else holds it."""
        self._ip("del", self.name)

    def visit(self) -> tuple[int, tuple[int, int]]:
        """Goes in and out again: the pid that did, and the namespace's cookie and inode number."""

        def play() -> tuple[int, int]:
            home = os.open("/proc/self/ns/net", os.O_RDONLY)
            setns(os.open(self.path, os.O_RDONLY), CLONE_NEWNET)
            inside = own_cookie(), inum()
            setns(home, CLONE_NEWNET)
            return inside

        return act(play)

    def _ip(self, *arguments: str) -> int:
        with subprocess.Popen(["ip", "netns", *arguments]) as process:
            assert process.wait(PATIENCE) == 0
        return process.pid


@pytest.fixture(scope="module")
def old() -> Iterator[Named]:
    """A namespace that is there before the collector, of a pod that only libcni remembers."""
    namespace = Named()
    namespace.add()
    entry = RESULTS / f"{namespace.name}-eth0"
    entry.touch(mode=0o600)
    entry.write_text(json.dumps({"kind": "cniCacheV1", "netns": namespace.path, "cniArgs": ARGS}))
    yield namespace
    entry.unlink()
    if Path(namespace.path).exists():
        namespace.delete()


@pytest.fixture(scope="module")
def container(podman: Podman, image: str, old: Named, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with _running(podman, image, container_of(BASE), tmp_path_factory.mktemp("seccomp")) as started:
        yield started


@pytest.fixture
def scene(container: Running) -> Scene:
    container.watch.settle()
    return Scene(container.watch)


def test_it_knows_where_it_is(container: Running) -> None:
    start = container.watch.start
    assert (start.node, start.missing) == (NODE, [])
    _, (cookie, number) = act(lambda: (own_cookie(), inum()))
    assert start.host_netns
    assert (start.host_netns.cookie, start.host_netns.inum) == (cookie, number)


def test_it_is_an_ordinary_user(container: Running) -> None:
    assert container.identity == ORDINARY


def test_what_was_there_before(container: Running, old: Named) -> None:
    """The end comes when the name goes: nothing in the container holds the namespace."""
    watch = container.watch
    _, (cookie, _) = old.visit()
    found = watch.wait(lambda e: isinstance(e, NetnsFound) and e.netns is not None and e.netns.cookie == cookie)
    assert (found.name, found.pod) == (old.path, POD)
    old.delete()
    watch.destroyed(cookie)
    (end,) = (e for e in watch.events if isinstance(e, NetnsDestroy) and e.netns and e.netns.cookie == cookie)
    assert (end.name, end.pod) == (old.path, POD)


def test_the_life_of_a_namespace(container: Running, scene: Scene) -> None:
    watch = container.watch
    new = Named()
    maker = new.add()
    watch.settle()  # or the mount might be looked at only when it is gone
    watch.settle()
    visitor, (cookie, _) = new.visit()
    inside = new.exec("true")
    refused = subprocess.Popen(["nsenter", f"--net={new.path}", "true"], user=NOBODY, stderr=subprocess.DEVNULL)
    assert refused.wait(PATIENCE)
    plugin = execute(
        [
            b"CNI_COMMAND=ADD",
            f"CNI_NETNS={new.path}".encode(),
            f"CNI_ARGS={';'.join('='.join(pair) for pair in ARGS)}".encode(),
        ],
        "/bin/sh",
        "-c",
        "exit 3",
    )
    os.waitpid(plugin, 0)
    new.delete()
    watch.destroyed(cookie)
    who = {"ip": maker, "visitor": visitor, "inside": inside, "refused": refused.pid, "plugin": plugin}
    story = scene.story({"A": cookie}, who)
    tries = story.count("enter_failed A setns refused prev=host EPERM")  # nsenter tries twice, or once
    assert story == [
        "create A unshare ip prev=host",
        "enter A unshare ip prev=host",
        "exit A setns ip next=host",
        "enter A setns visitor prev=host",
        "exit A setns visitor next=host",
        "enter A setns inside prev=host",
        "exit A exit inside",
        *(["enter_failed A setns refused prev=host EPERM"] * max(tries, 1)),
        "cni_start A plugin",
        "cni_end A plugin",
        "destroy A",
    ]
    events = scene.events({"A": cookie}, {})
    assert {e.name for e in events[3:]} == {new.path}
    start, end, destroy = events[-3:]
    assert isinstance(start, CniStart)
    assert isinstance(end, CniEnd)
    assert (start.command, start.pod, start.plugin, start.environment) == ("ADD", POD, "/bin/sh", None)
    assert end.exit_code == 3
    assert destroy.pod == POD


def test_metrics_for_whoever_is_in_the_pods_network(container: Running) -> None:
    lines = page(container.pid)
    assert "cni_collector_healthy 1.0" in lines
    assert any(line.startswith('cni_events_total{type="netns_found"}') for line in lines)


def test_it_ends_in_order(podman: Podman, image: str, tmp_path: Path) -> None:
    """Long before the runtime would kill it, and with its last event told."""
    with _running(podman, image, container_of(BASE), tmp_path) as container:
        before = time.monotonic()
        container.stop()
        assert time.monotonic() - before < FLUSH


@pytest.mark.parametrize("directory", variants(), ids=lambda directory: directory.name)
def test_each_variant_sees_and_keeps_nothing(podman: Podman, image: str, directory: Path, tmp_path: Path) -> None:
    allowed = container_of(directory)
    with _running(podman, image, allowed, tmp_path) as container:
        container.watch.settle()
        assert container.watch.start.missing == []
        assert container.identity == ORDINARY._replace(filtered=allowed.seccomp != "Unconfined")


@pytest.mark.parametrize("capability", container_of(BASE).added)
def test_each_capability_is_needed(podman: Podman, image: str, capability: str, tmp_path: Path) -> None:
    allowed = container_of(BASE)
    allowed.added.remove(capability)
    command = [*_command(podman, image, allowed, tmp_path, "--rm"), "--duration=1"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    reason = f"without CAP_{capability}" if capability in ("BPF", "PERFMON") else "cannot go on as user 65532"
    assert (done.returncode, reason in done.stderr) == (1, True), done.stderr
