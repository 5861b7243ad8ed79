"""The systemd unit, under a systemd of its own: it is let do what it must, and little else."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Final

import pytest

from cni_collector import CollectorStop, NetnsFound

from ..support.watch import LARGE, PATIENCE, Watch
from .booted import Machine
from .identity import ORDINARY, identity_of

UNIT: Final = "cni-collector.service"
MOST_EXPOSURE: Final = 2.5
"""Of 10, as `systemd-analyze security` counts; what is above 5 it calls medium."""
JOURNAL: Final = f"exec journalctl --quiet --follow --lines=all --output=cat _SYSTEMD_UNIT={UNIT}"


@pytest.fixture(scope="module")
def watch(machine: Machine) -> Iterator[Watch]:
    """The service's events, by the options that it has by itself, and a larger ring.

    The namespace `old` is there before it is started.
    """
    assert machine.ask(UNIT, "Environment") == '"CNI_COLLECTOR_OPTIONS=-o json"'
    machine("ip", "netns", "add", "old")
    machine.write("/etc/default/cni-collector", f"CNI_COLLECTOR_OPTIONS=-o json {' '.join(LARGE)}\n")
    machine("systemctl", "start", UNIT)
    journal = machine.podman.command("exec", machine.id, "sh", "-c", JOURNAL)
    with Watch(command=journal) as running:
        yield running


def test_nothing_in_it_is_unknown(machine: Machine) -> None:
    assert machine("systemd-analyze", "verify", f"/etc/systemd/system/{UNIT}") == ""


def test_its_exposure(machine: Machine) -> None:
    told = machine("systemd-analyze", "security", "--offline=true", f"/etc/systemd/system/{UNIT}")
    exposure = re.search(r"exposure level for \S+: ([0-9.]+)", told)
    assert exposure
    assert float(exposure[1]) <= MOST_EXPOSURE


def test_it_is_an_ordinary_user(machine: Machine, watch: Watch) -> None:
    assert identity_of(machine("cat", f"/proc/{machine.ask(UNIT, 'MainPID')}/status")) == ORDINARY
    assert watch.start.missing == []


def test_it_sees_names_and_holds_nothing(machine: Machine, watch: Watch) -> None:
    """It has mounts of its own, in which the machine's come and go: or a namespace would not end with its name."""
    assert machine("readlink", f"/proc/{machine.ask(UNIT, 'MainPID')}/ns/mnt") != machine("readlink", "/proc/1/ns/mnt")
    found = watch.wait(lambda e: isinstance(e, NetnsFound) and e.name == "/run/netns/old")
    machine("ip", "netns", "add", "new")
    watch.settle()
    watch.settle()
    machine("ip", "netns", "exec", "new", "true")
    born = watch.wait(lambda e: e.name == "/run/netns/new")
    for name, event in {"old": found, "new": born}.items():
        machine("ip", "netns", "del", name)
        assert event.netns
        watch.destroyed(event.netns.cookie)
    types = [e.type.removeprefix("netns_") for e in watch.events if e.netns and e.netns == born.netns]
    assert types == ["create", "enter", "exit", "enter", "exit", "destroy"]


def test_it_does_what_its_options_say(machine: Machine, watch: Watch) -> None:
    """It ends in order, and does something else when it is started again."""
    machine("systemctl", "stop", UNIT)
    watch.wait(lambda e: isinstance(e, CollectorStop))
    assert (machine.ask(UNIT, "Result"), machine.ask(UNIT, "ExecMainStatus")) == ("success", "0")
    machine.write("/etc/default/cni-collector", "CNI_COLLECTOR_OPTIONS=-o none --prometheus :9464\n")
    machine("systemctl", "start", UNIT)
    fetch = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9464/metrics').read().decode())"
    deadline = time.monotonic() + PATIENCE
    while "cni_collector_healthy 1.0" not in machine("sh", "-c", f'python3 -c "{fetch}" 2>/dev/null || true'):
        assert time.monotonic() < deadline
