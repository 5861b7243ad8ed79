"""A pod of the DaemonSet's under containerd, whose own seccomp profile is the default that the manifest asks for."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from cni_collector import CniStart, CollectorStop, NetnsDestroy
from cni_collector.exporters.outputs import FLUSH

from ..support.containerd import Containerd
from ..support.podman import Podman
from ..support.watch import LARGE, Watch
from .identity import ORDINARY, identity_of
from .in_cri import config
from .manifests import BASE
from .metrics import page
from .pods import NODE, container_of

UID: Final = "dae30000-0000-4000-8000-000000000001"
OTHER: Final = "dae30000-0000-4000-8000-000000000002"
_LINES: Final = """exec tail --pid=$$ --follow --lines=+1 "$0" | sed --quiet --unbuffered 's/^[^ ]* stdout F //p'"""
"""What a container has written, out of a log as containerd writes it."""


@pytest.fixture
def containerd(podman: Podman, image: str) -> Iterator[Containerd]:
    archive = podman.home / "collector.tar"
    with Containerd() as own:
        podman.unnoticed("save", "--quiet", "--output", str(archive), image)
        own.load(image, archive.read_bytes())
        archive.unlink()
        yield own


def test_it_runs_as_the_manifest_says(containerd: Containerd, image: str) -> None:
    container = container_of(BASE)
    container = container._replace(arguments=[*container.arguments, "-o", "json", *LARGE])
    pod = containerd.run_pod("cni-collector", "cni-collector-x7k2p", UID, host_pids=container.host_pids)
    ident = containerd.start_container(pod, config(container, image, pod.config, "log"))
    log = containerd.logs / "log"
    with Watch(command=["sh", "-c", _LINES, str(log)]) as watch:
        assert (watch.start.node, watch.start.missing) == (NODE, [])
        assert watch.start.host_netns
        assert watch.start.host_netns.inum == os.stat("/proc/self/ns/net").st_ino
        pid = containerd.container_pid(ident)
        assert identity_of(Path(f"/proc/{pid}/status").read_text()) == ORDINARY
        assert "cni_collector_healthy 1.0" in page(pid)
        _another_pod_is_seen(containerd, watch)
        before = time.monotonic()
        assert containerd.stop_container(ident, container.grace) == 0
        assert time.monotonic() - before < FLUSH
        stop = watch.wait(lambda e: isinstance(e, CollectorStop))
        assert isinstance(stop, CollectorStop)
        assert stop.lost == 0


def _another_pod_is_seen(containerd: Containerd, watch: Watch) -> None:
    """Its CNI calls, and its namespace's end: nothing holds that."""
    other = containerd.run_pod("shop", "web-0", OTHER)
    path = containerd.netns_path(other)
    call = watch.wait(lambda e: isinstance(e, CniStart) and e.pod is not None and e.pod.uid == OTHER)
    assert isinstance(call, CniStart)
    assert (call.command, call.netns_path) == ("ADD", path)
    containerd.stop_pod(other)
    containerd.remove_pod(other)
    end = watch.wait(lambda e: isinstance(e, NetnsDestroy) and e.netns == call.netns)
    assert end.pod == call.pod
