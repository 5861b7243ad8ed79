"""The container image has what the collector needs, and nothing that only building it needs."""

from __future__ import annotations

import hashlib
import json

import pytest

from cni_collector.version import VERSION

from ..machines.cache import CHECKOUT
from ..support.podman import Podman
from .building import BASE

MOST_BYTES = 60_000_000
"""What may be added to the base."""


def _run(podman: Podman, *arguments: str) -> str:
    return podman("run", "--rm", "--network=none", f"--cgroup-parent=/{podman.name}", *arguments)


def _in(podman: Podman, image: str, script: str, *options: str) -> str:
    return _run(podman, *options, "--entrypoint=sh", image, "-c", script)


def test_its_command(podman: Podman, image: str) -> None:
    assert _run(podman, image, "--version").endswith(VERSION)
    config = json.loads(podman("image", "inspect", image))[0]["Config"]
    assert (config["Entrypoint"], config["Cmd"]) == (["cni-collector"], ["watch", "-o", "json"])


def test_it_is_small(podman: Podman, image: str) -> None:
    sizes = {name: json.loads(podman("image", "inspect", name))[0]["Size"] for name in (BASE, image)}
    assert sizes[image] - sizes[BASE] < MOST_BYTES, sizes


def test_no_tools_and_no_sources(podman: Podman, image: str) -> None:
    assert _in(podman, image, "command -v pip pip3 gcc cc ld make git; true") == ""
    assert _in(podman, image, "ls /var/lib/apt/lists") == ""
    assert _in(podman, image, "find / -xdev -name pip -o -xdev -name .git -o -xdev -name 'test_cni*'") == ""


def test_the_package_is_this_checkouts(podman: Podman, image: str) -> None:
    find = "find lib/python*/site-packages/cni_collector -type f ! -name '*.pyc' -exec sha256sum {} +"
    told = _in(podman, image, f"cd /opt/cni-collector; {find}").splitlines()
    package = CHECKOUT / "src"
    here = [path for path in (package / "cni_collector").rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert {line.partition("site-packages/")[2]: line.split()[0] for line in told} == {
        str(path.relative_to(package)): hashlib.sha256(path.read_bytes()).hexdigest() for path in here
    }


@pytest.mark.parametrize("module", ["prometheus_client", "nats", "opentelemetry.exporter.otlp.proto.http"])
def test_the_extras_are_there(podman: Podman, image: str, module: str) -> None:
    """Also for the user that it becomes."""
    _in(podman, image, f"python -c 'import {module}'", "--user=65532", "--read-only")
