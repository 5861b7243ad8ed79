"""The real plugins, called as libcni calls them: which of their processes are CNI calls, and which are helpers."""

from __future__ import annotations

import collections
import json
import os
import subprocess
from pathlib import Path
from typing import Any

from cni_collector import CniEnd, CniExec, CniStart, Pod

from ..support.actors import CLONE_NEWNET, a_netns, act, setns
from ..support.plugins import PLUGINS
from ..support.watch import Watch, watching

CHAIN = ("bridge", "portmap", "firewall")


def _call(command: str, name: str, home: Path, previous: dict[str, Any] | None) -> dict[str, Any] | None:
    """One command of a chain that masquerades, forwards a port and opens the firewall: the result of its ADD."""
    ipam = {"type": "host-local", "subnet": "10.88.253.0/24", "dataDir": str(home)}
    networks: dict[str, dict[str, Any]] = {
        "bridge": {"bridge": name, "isGateway": True, "ipMasq": True, "ipam": ipam},
        "portmap": {
            "capabilities": {"portMappings": True},
            "runtimeConfig": {"portMappings": [{"hostPort": 48253, "containerPort": 80, "protocol": "tcp"}]},
        },
        "firewall": {"backend": "iptables"},
    }
    environment = os.environ | {
        "CNI_COMMAND": command,
        "CNI_PATH": f"/nowhere:{PLUGINS}/",
        "CNI_CONTAINERID": name,
        "CNI_NETNS": f"/run/netns/{name}",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0",
    }
    for plugin in CHAIN if command == "ADD" else CHAIN[::-1]:
        network = {"cniVersion": "0.4.0", "name": name, "type": plugin, **networks[plugin]}
        if previous:
            network["prevResult"] = previous
        written = subprocess.run(
            [PLUGINS / plugin], input=json.dumps(network).encode(), stdout=subprocess.PIPE, env=environment, check=True
        ).stdout
        previous = json.loads(written) if command == "ADD" else previous
    return previous


def _life(node: int, name: str, home: Path) -> None:
    """An ADD and a DEL on a node that has its own network: what the plugins leave in its firewall goes with it."""
    setns(os.open(f"/proc/{node}/ns/net", os.O_RDONLY), CLONE_NEWNET)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    _call("DEL", name, home, _call("ADD", name, home, None))


def _watched(home: Path, name: str) -> Watch:
    """A watch that has seen that, and has stopped."""
    with watching() as watch, a_netns() as (node, _):
        subprocess.run(["ip", "netns", "add", name], check=True)
        try:
            act(lambda: _life(node.pid, name, home))
        finally:
            subprocess.run(["ip", "netns", "delete", name], check=True)
        assert watch.stop().lost == 0
    return watch


def test_one_bridge_with_masquerading_is_eight_calls_and_many_helpers(tmp_path: Path) -> None:
    """No helper that fails in the course of things, as `iptables -C` does, is a call that failed."""
    name = f"cni{os.getpid()}"
    watch = _watched(tmp_path, name)
    starts = [e for e in watch.events if isinstance(e, CniStart) and e.cni_container_id == name]
    ends = [e for e in watch.events if isinstance(e, CniEnd) and e.cni_container_id == name]
    pids = {event.pid for event in starts}
    helpers = [e for e in watch.events if isinstance(e, CniExec) and e.call in pids]
    told = collections.Counter((event.command, os.path.basename(event.plugin)) for event in starts)
    assert told == {(command, plugin): 1 for command in ("ADD", "DEL") for plugin in (*CHAIN, "host-local")}
    assert {(event.exit_code, event.signal) for event in ends} == {(0, None)}
    assert len(ends) == len(starts) == 8
    assert len(helpers) > 40
    assert {os.path.basename(event.executable) for event in helpers} >= {"iptables"}
    assert {event.exit_code for event in helpers} >= {0, 1}
    assert {event.pod for event in starts + ends} == {Pod("shop", "web-0")}
    born = next(e.netns for e in watch.events if e.type == "netns_create" and e.comm == "ip" and e.netns)
    assert {event.netns for event in ends} == {born}
