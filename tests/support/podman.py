"""A podman of the tests' own: storage, state, networks and cgroups are nobody else's, and all of it goes away again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Literal, Self

from . import images, leftovers
from .plugins import PLUGINS, RESULTS

PATIENCE: Final = 60.0
"""Seconds after which a command of podman's is taken to hang."""
ADDRESSES: Final = Path("/run/containers/networks/ipam.db")
"""Where podman notes which addresses netavark has given away. No configuration of podman's says otherwise."""
NETNS: Final = Path("/run/netns")
"""Where podman puts the names of namespaces."""
FORWARDING: Final = Path("/proc/sys/net/ipv4/ip_forward")

_NETNS: Final = rb"/run/netns/netns-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
"""How it calls them."""
_NETWORK: Final = "cni-collector-test"
"""The same each time: podman remembers the names of netavark's networks for ever."""
_IMAGES: Final = {images.PAUSE: images.pause, images.BUSYBOX: images.busybox}
_UNNOTICED: Final = 'mount -t tmpfs none /var/lib && exec "$0" "$@"'
"""What podman keeps of all images that it has ever seen is in /var/lib, whatever its configuration says."""

_CONFIG: Final = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
log_driver = "k8s-file"

[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
image_copy_tmp_dir = "{home}/tmp"
infra_image = "{pause}"
lock_type = "file"
runtime = "runc"
static_dir = "{home}/root/libpod"
tmp_dir = "{home}/tmp"
volume_path = "{home}/root/volumes"

[engine.runtimes]
runc = ["{home}/runc"]

[network]
cni_plugin_dirs = ["{plugins}"]
network_backend = "{backend}"
network_config_dir = "{home}/networks"
"""
_STORAGE: Final = """\
[storage]
driver = "{driver}"
graphroot = "{home}/root"
runroot = "{home}/run"
"""
_RUNC: Final = """\
#!/bin/sh
exec runc --root {home}/containers "$@"
"""


class Podman:
    """Podman, and a bridge network for its containers. On leaving the context all that it started is gone.

    With netavark the network is an internal one, so that neither routes nor the packet filter change. With CNI it is
    what podman makes by default, and changes the packet filter.

    Args:
        backend: who sets up networks.
        loaded: images to begin with, and what makes their archives.
        driver: how layers become a file system: `overlay` is fast, `vfs` works everywhere.
    """

    def __init__(
        self,
        backend: Literal["netavark", "cni"] = "netavark",
        loaded: Mapping[str, Callable[[], bytes]] = _IMAGES,
        driver: Literal["vfs", "overlay"] = "vfs",
    ) -> None:
        self.name: Final = f"pm{secrets.token_hex(4)}"
        """Of the network's bridge, and of the cgroup that everything is in."""
        self.network: Final = self.name if backend == "cni" else _NETWORK
        """The network's name, for `--network`."""
        self.subnet: Final = f"198.18.{secrets.randbelow(256)}."
        """How the addresses in the network begin."""
        self._backend: Final = backend
        self._loaded: Final = loaded
        self._before: Final = {path for path in _shared() if path.exists()}
        self._mounted_before: Final = leftovers.mounted(NETNS)
        self._forwarding: Final = FORWARDING.read_text()
        self._chains: Final = _chains()
        self.home: Final = Path(tempfile.mkdtemp(prefix="podman-"))
        self.plugins: Final = self.home / "plugins"
        """The path that CNI plugins are executed by: nobody else's, so that it tells whose calls they are."""
        configuration = self.home / "containers.conf"
        self._mark: Final = f"CONTAINERS_CONF={configuration}"
        self._environment: Final = {
            **os.environ,
            "CONTAINERS_CONF": str(configuration),
            "CONTAINERS_STORAGE_CONF": str(self.home / "storage.conf"),
            "TMPDIR": str(self.home / "tmp"),
        }
        for directory in "networks", "tmp":
            (self.home / directory).mkdir()
        self.plugins.symlink_to(PLUGINS)
        configuration.write_text(
            _CONFIG.format(home=self.home, pause=images.PAUSE, plugins=self.plugins, backend=backend)
        )
        (self.home / "storage.conf").write_text(_STORAGE.format(home=self.home, driver=driver))
        (self.home / "runc").write_text(_RUNC.format(home=self.home))
        (self.home / "runc").chmod(0o755)
        file, network = self._cni() if backend == "cni" else self._netavark()
        (self.home / "networks" / file).write_text(json.dumps(network))

    def _netavark(self) -> tuple[str, dict[str, Any]]:
        """What `podman network create --internal --disable-dns` makes, with a name for the bridge."""
        return f"{self.network}.json", {
            "name": self.network,
            "id": secrets.token_hex(32),
            "driver": "bridge",
            "network_interface": self.name,
            "created": "2026-01-01T00:00:00Z",
            "subnets": [{"subnet": f"{self.subnet}0/24", "gateway": f"{self.subnet}1"}],
            "ipv6_enabled": False,
            "internal": True,
            "dns_enabled": False,
            "ipam_options": {"driver": "host-local"},
        }

    def _cni(self) -> tuple[str, dict[str, Any]]:
        """What podman brings as its default network (cni/87-podman-bridge.conflist)."""
        bridge = {
            "type": "bridge",
            "bridge": self.name,
            "isGateway": True,
            "ipMasq": True,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(self.home / "addresses"),
                "routes": [{"dst": "0.0.0.0/0"}],
                "ranges": [[{"subnet": f"{self.subnet}0/24", "gateway": f"{self.subnet}1"}]],
            },
        }
        others = [
            {"type": "portmap", "capabilities": {"portMappings": True}},
            {"type": "firewall"},
            {"type": "tuning"},
        ]
        return f"{self.network}.conflist", {"cniVersion": "0.4.0", "name": self.network, "plugins": [bridge, *others]}

    def __enter__(self) -> Self:
        try:
            for image, make in self._loaded.items():
                archive = self.home / "image.tar"
                archive.write_bytes(make())
                assert image in self.unnoticed("load", "--quiet", "--input", str(archive))
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._clean_up()

    def __call__(self, *arguments: str) -> str:
        """Runs a command of podman's, and returns what it wrote to its standard output.

        Raises:
            subprocess.CalledProcessError: it did not exit with 0; what it wrote to its standard error is in a note.
        """
        return self._run("podman", *arguments)

    def command(self, *arguments: str) -> list[str]:
        """The same as a command that somebody else runs."""
        own = ("CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "TMPDIR")
        return ["env", *(f"{name}={self._environment[name]}" for name in own), "podman", *arguments]

    def unnoticed(self, *arguments: str, program: str = "podman", timeout: float = PATIENCE) -> str:
        """Runs a command that brings images, without anything being kept of them elsewhere.

        Args:
            arguments: of the command.
            program: what to run; it may be something that calls podman.
            timeout: seconds after which it is taken to hang.
        """
        return self._run("unshare", "--mount", "sh", "-c", _UNNOTICED, program, *arguments, timeout=timeout)

    def _run(self, *command: str, timeout: float = PATIENCE) -> str:
        process = subprocess.run(command, env=self._environment, timeout=timeout, capture_output=True, text=True)
        try:
            process.check_returncode()
        except subprocess.CalledProcessError as error:
            error.add_note(process.stderr)
            raise
        return process.stdout.strip()

    def run(self, *options: str, command: str = "exec sleep 1000") -> str:
        """Starts a container with a command of busybox's shell, and returns the container's id.

        Args:
            options: of `podman run`; say either `--network` or `--pod`.
            command: what it is to do.
        """
        parent = () if "--pod" in options else ("--cgroup-parent", f"/{self.name}")
        return self("run", "--detach", *parent, *options, images.BUSYBOX, "-c", command)

    def make_pod(self, *options: str) -> str:
        """Makes a pod with nothing in it, and returns its id."""
        return self("pod", "create", "--cgroup-parent", f"/{self.name}", *options)

    def inspect(self, container: str) -> dict[str, Any]:
        """What podman knows of a container."""
        found: list[dict[str, Any]] = json.loads(self("inspect", container))
        return found[0]

    def pid(self, container: str) -> int:
        """The first process in a container."""
        return int(self.inspect(container)["State"]["Pid"])

    def netns_path(self, container: str) -> str:
        """The name of a container's network namespace, as podman knows it; empty if it has none."""
        return str(self.inspect(container)["NetworkSettings"]["SandboxKey"])

    def _groups(self) -> list[Path]:
        return [root / self.name for root in leftovers.hierarchies()]

    def _clean_up(self) -> None:
        """Asks podman to do it, and then does what that has left undone, without asking anybody."""
        for command in ("pod rm --all", "rm --all", f"network rm {self.network}"):
            with contextlib.suppress(subprocess.SubprocessError):
                self("--log-level=error", *command.split(), "--force", "--time=0")
        leftovers.kill(self._mark, self._groups())
        self._remove_network()
        for name in self._netns_names():
            if leftovers.mounted(name):
                leftovers.unmount(name)
            name.unlink(missing_ok=True)
        if not self._mounted_before:  # on itself; this fails where somebody else has a namespace there
            subprocess.run(["umount", NETNS], timeout=PATIENCE, stderr=subprocess.DEVNULL)
        for mount in leftovers.mounts_below(self.home):
            leftovers.unmount(mount)
        leftovers.remove_groups(self._groups())
        shutil.rmtree(self.home)

    def _netns_names(self) -> Iterator[Path]:
        """The names of namespaces that podman has noted and that are still there."""
        database = self.home / "root/libpod/bolt_state.db"
        for name in set(re.findall(_NETNS, database.read_bytes())) if database.exists() else ():
            if (path := Path(os.fsdecode(name))).exists():
                yield path

    def _remove_network(self) -> None:
        """Takes away what is left outside of the directory."""
        ports = Path("/sys/class/net", self.name, "brif")
        for link in [*(os.listdir(ports) if ports.exists() else ()), self.name]:
            if Path("/sys/class/net", link).exists():  # it may go by itself, with the container's namespace
                subprocess.run(["ip", "link", "delete", link], timeout=PATIENCE, stderr=subprocess.DEVNULL)
        if self._backend == "cni":
            self._remove_rules()
            if FORWARDING.read_text() != self._forwarding:
                FORWARDING.write_text(self._forwarding)
        for result in RESULTS.glob(f"{self.network}-*"):
            result.unlink(missing_ok=True)
        for path in _shared():
            if path not in self._before:
                with contextlib.suppress(OSError):  # not there, or somebody else uses it by now
                    path.rmdir() if path.is_dir() else path.unlink()

    def _remove_rules(self) -> None:
        """Takes this network's rules out of the packet filter, and chains that plugins made for all networks."""
        for table in "nat", "filter":
            for rule in _rules(table):
                if any(self.network in word or word.startswith(self.subnet) for word in rule):
                    _iptables(table, "--delete", *rule[1:])
                    _remove_chain(table, rule[-1])  # of one network and container alone
        chains = _chains()
        if "CNI-FORWARD" in chains - self._chains and not any(
            rule[1] == "CNI-FORWARD" and rule[-1] != "CNI-ADMIN" for rule in _rules("filter")
        ):
            for rule in _rules("filter"):
                if rule[-1] == "CNI-FORWARD":
                    _iptables("filter", "--delete", *rule[1:])
            for chain in "CNI-FORWARD", "CNI-ADMIN":
                _remove_chain("filter", chain)


def _shared() -> list[Path]:
    """What podman keeps outside of its directories, and the directories for that, the innermost first."""
    return [path for file in (RESULTS, ADDRESSES) for path in (file, *file.parents)]


def _iptables(table: str, *arguments: str) -> None:
    subprocess.run(
        ["iptables", "--wait", "--table", table, *arguments], timeout=PATIENCE, stderr=subprocess.DEVNULL
    )  # somebody else may have been faster


def _remove_chain(table: str, chain: str) -> None:
    if chain.startswith("CNI-"):
        _iptables(table, "--flush", chain)
        _iptables(table, "--delete-chain", chain)


def _saved(table: str) -> list[str]:
    command = ["iptables-save", "--table", table]
    return subprocess.run(command, check=True, timeout=PATIENCE, capture_output=True, text=True).stdout.splitlines()


def _rules(table: str) -> list[list[str]]:
    """The rules of a table: `-A`, the chain, and the rest."""
    return [shlex.split(line) for line in _saved(table) if line.startswith("-A")]


def _chains() -> set[str]:
    """The chains of the table `filter`."""
    return {line[1:].split()[0] for line in _saved("filter") if line.startswith(":")}
