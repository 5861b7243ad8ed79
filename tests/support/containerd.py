"""A containerd of the tests' own, told what to do as a kubelet would tell it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import cri_api as cri
import grpc

from . import images, leftovers
from .overlays import overlays_work
from .plugins import Plugins

PATIENCE: Final = 60.0
"""Seconds after which containerd is taken not to get ready or not to end, and the usual time limit of a call."""
STRAY: Final = 2.0
"""Seconds for which a namespace that no plugin was told of must be of no use to anybody."""
NETNS: Final = Path("/run/netns")
"""Where containerd's CRI plugin puts the names of namespaces, by way of /var/run."""
SHIM_SOCKETS: Final = Path("/run/containerd/s")
"""Where shims listen. No configuration of containerd's says otherwise."""

_IMPORTED: Final = {images.PAUSE: images.pause, images.BUSYBOX: images.busybox}

_NAME: Final = r"cni-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
"""How it calls them."""
_SOON: Final = [
    ("grpc.use_local_subchannel_pool", 1),  # or a channel would wait as long as an earlier one to the same socket
    *((f"grpc.{which}_reconnect_backoff_ms", 50) for which in ("initial", "min", "max")),
]
"""For a socket that is there in a moment."""

_CONFIG: Final = """\
version = 2
root = "{home}/root"
state = "{home}/state"
temp = "{home}/temp"
disabled_plugins = [
    "io.containerd.internal.v1.opt",
    "io.containerd.internal.v1.restart",
    "io.containerd.snapshotter.v1.aufs",
    "io.containerd.snapshotter.v1.btrfs",
    "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "{home}/socket"

[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
sandbox_image = "{pause}"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{plugins.binaries}"
conf_dir = "{plugins.configuration}"

[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "{snapshotter}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{home}/runc"
SystemdCgroup = false
"""


_NODE: Final = """\
set -e
node=docker/$1
shift
for tree in $TREES; do
    place=${tree%%:*}
    mkdir -p "$place/$node"
    if [ "$tree" = "$place:cpuset" ]; then  # they are empty at first
        for file in cpuset.cpus cpuset.mems; do
            cat "$place/$file" > "$place/docker/$file"
            cat "$place/$file" > "$place/$node/$file"
        done
    fi
    echo $$ > "$place/$node/cgroup.procs"
done
exec unshare --mount --net --pid --cgroup --fork --kill-child --mount-proc sh -ec '
    mount -t tmpfs none /run
    mkdir /run/netns
    ip link set lo up
    for tree in $TREES; do
        place=${tree%%:*}
        umount "$place"
        if [ "$tree" = "$place:" ]; then
            mount -t cgroup2 none "$place"
            mkdir "$place/init"  # where there are processes, there are no controllers for what is below
            echo 0 > "$place/init/cgroup.procs"
        else
            mount -t cgroup -o "${tree#*:}" none "$place"
        fi
    done
    exec "$@"' sh "$@"
"""
"""Makes a node of a command, as kind's container is: with its own mounts, /run, network, pids, and tree of cgroups."""


class Pod(NamedTuple):
    """A pod whose sandbox runs, or has run."""

    id: str
    """The sandbox's."""
    namespace: str
    name: str
    uid: str
    config: cri.PodSandboxConfig


class Containerd:
    """A running containerd with the CRI plugin. On leaving the context it is gone, with all that it started.

    What CRI refuses is raised as grpc.RpcError, also when a time limit has passed.

    Args:
        addresses: how many pods can have an address at once; many if None.
        subnet: the third number of the pods' network, 10.88.n.0/24.
        node: it runs in a container of its own, as in a node of kind. `pid` is not the daemon's then.
    """

    def __init__(self, *, addresses: int | None = None, subnet: int = 88, node: bool = False) -> None:
        self.home: Final = Path(tempfile.mkdtemp(prefix="containerd-"))
        self.socket: Final = self.home / "socket"
        self.logs: Final = self.home / "logs"
        """Where what containers write is, if they were told a file."""
        self._mark: Final = f"TEST_CONTAINERD={self.home}"
        self._node: Final = secrets.token_hex(32) if node else None
        self._uids: set[str] = set()
        self._strays: set[Path] = set()
        self._names_before: Final = _names()
        self._groups_before: Final = {group for group in _outer_groups() if group.exists()}
        self._sockets_existed = SHIM_SOCKETS.exists(), SHIM_SOCKETS.parent.exists()
        self._daemon: subprocess.Popen[bytes] | None = None
        self._channel: grpc.Channel | None = None
        try:
            self.plugins: Final = Plugins(self.home / "cni", addresses=addresses, subnet=subnet)
            snapshotter = "overlayfs" if overlays_work(self.home / "overlay") else "native"
        except BaseException:
            shutil.rmtree(self.home)
            raise
        config = _CONFIG.format(home=self.home, pause=images.PAUSE, plugins=self.plugins, snapshotter=snapshotter)
        (self.home / "config.toml").write_text(config)

    def __enter__(self) -> Self:
        try:
            self._start()
            self._import_images()
        except BaseException:
            self._clean_up()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._clean_up()

    @property
    def pid(self) -> int:
        """Of the daemon; it changes with a restart."""
        assert self._daemon
        return self._daemon.pid

    @property
    def processes(self) -> set[int]:
        """All that runs because of this containerd: daemon, shims, plugins, containers."""
        return leftovers.marked(self._mark) | leftovers.members(self._groups())

    def run_pod(
        self,
        namespace: str,
        name: str,
        uid: str,
        *,
        host_network: bool = False,
        host_pids: bool = False,
        timeout: float = PATIENCE,
    ) -> Pod:
        """Runs a pod's sandbox, with a network unless it is to have the host's.

        What its containers write is in `logs`, if they were told a file there.
        """
        labels = {
            "io.kubernetes.pod.namespace": namespace,
            "io.kubernetes.pod.name": name,
            "io.kubernetes.pod.uid": uid,
        }
        network = cri.NODE if host_network else cri.POD
        security = cri.LinuxSandboxSecurityContext(
            namespace_options=cri.NamespaceOption(
                network=network, pid=cri.NODE if host_pids else cri.CONTAINER, ipc=cri.POD
            )
        )
        config = cri.PodSandboxConfig(
            metadata=cri.PodSandboxMetadata(name=name, namespace=namespace, uid=uid),
            hostname="" if host_network else name,
            labels=labels,
            log_directory=str(self.logs),
            linux=cri.LinuxPodSandboxConfig(cgroup_parent=f"/kubepods/burstable/pod{uid}", security_context=security),
        )
        self._uids.add(uid)
        answer: cri.RunPodSandboxResponse = self._runtime.RunPodSandbox(
            cri.RunPodSandboxRequest(config=config), timeout=timeout
        )
        return Pod(answer.pod_sandbox_id, namespace, name, uid, config)

    def create_container(self, pod: Pod, name: str, command: list[str], *, timeout: float = PATIENCE) -> str:
        """Starts a command of busybox's in a container, and returns the container's id."""
        config = cri.ContainerConfig(
            metadata=cri.ContainerMetadata(name=name),
            image=cri.ImageSpec(image=images.BUSYBOX),
            command=command,
            labels={**pod.config.labels, "io.kubernetes.container.name": name},
            linux=cri.LinuxContainerConfig(
                resources=cri.LinuxContainerResources(cpu_shares=2),
                security_context=cri.LinuxContainerSecurityContext(
                    namespace_options=pod.config.linux.security_context.namespace_options
                ),
            ),
        )
        return self.start_container(pod, config, timeout=timeout)

    def start_container(self, pod: Pod, config: cri.ContainerConfig, *, timeout: float = PATIENCE) -> str:
        """Starts a container as it is described, and returns its id."""
        request = cri.CreateContainerRequest(pod_sandbox_id=pod.id, config=config, sandbox_config=pod.config)
        answer: cri.CreateContainerResponse = self._runtime.CreateContainer(request, timeout=timeout)
        self._runtime.StartContainer(cri.StartContainerRequest(container_id=answer.container_id), timeout=timeout)
        return answer.container_id

    def exec(self, container: str, command: list[str], *, timeout: float = PATIENCE) -> bytes:
        """Runs a command in a container, and returns what it wrote to its standard output.

        Raises:
            subprocess.CalledProcessError: it did not exit with 0.
        """
        request = cri.ExecSyncRequest(container_id=container, cmd=command, timeout=int(timeout))
        answer: cri.ExecSyncResponse = self._runtime.ExecSync(request, timeout=timeout)
        if answer.exit_code:
            raise subprocess.CalledProcessError(answer.exit_code, command, answer.stdout, answer.stderr)
        return answer.stdout

    def stop_container(self, container: str, grace: int) -> int:
        """Ends a container, by SIGKILL after so many seconds, and returns its exit code."""
        request = cri.StopContainerRequest(container_id=container, timeout=grace)
        self._runtime.StopContainer(request, timeout=grace + PATIENCE)
        asking = cri.ContainerStatusRequest(container_id=container)
        answer: cri.ContainerStatusResponse = self._runtime.ContainerStatus(asking, timeout=PATIENCE)
        return int(answer.status.exit_code)

    def container_pid(self, container: str) -> int:
        """The first process in a container."""
        request = cri.ContainerStatusRequest(container_id=container, verbose=True)
        answer: cri.ContainerStatusResponse = self._runtime.ContainerStatus(request, timeout=PATIENCE)
        return int(json.loads(answer.info["info"])["pid"])

    def stop_pod(self, pod: Pod, *, timeout: float = PATIENCE) -> None:
        """Ends a pod's processes, then its network."""
        self._runtime.StopPodSandbox(cri.StopPodSandboxRequest(pod_sandbox_id=pod.id), timeout=timeout)

    def remove_pod(self, pod: Pod, *, timeout: float = PATIENCE) -> None:
        """Forgets a pod, which makes containerd run the plugins' DEL once more."""
        self._runtime.RemovePodSandbox(cri.RemovePodSandboxRequest(pod_sandbox_id=pod.id), timeout=timeout)

    def pods(self, *, timeout: float = PATIENCE) -> dict[str, bool]:
        """The ids of all sandboxes that containerd knows, and whether each is ready."""
        answer: cri.ListPodSandboxResponse = self._runtime.ListPodSandbox(cri.ListPodSandboxRequest(), timeout=timeout)
        return {item.id: item.state == cri.SANDBOX_READY for item in answer.items}

    def netns_path(self, pod: Pod) -> str:
        """The name of a pod's network namespace, as containerd knows it; empty if that is the host's."""
        for namespace in self._status(pod)["runtimeSpec"]["linux"]["namespaces"]:
            if namespace["type"] == "network":
                return str(namespace.get("path", ""))
        return ""

    def pause_pid(self, pod: Pod) -> int:
        """The process that holds a pod's namespaces."""
        return int(self._status(pod)["pid"])

    def _status(self, pod: Pod) -> Any:
        request = cri.PodSandboxStatusRequest(pod_sandbox_id=pod.id, verbose=True)
        return json.loads(self._runtime.PodSandboxStatus(request, timeout=PATIENCE).info["info"])

    def kill(self) -> None:
        """Kills the daemon alone, by SIGKILL; what it started goes on."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Starts the daemon again, and waits until it has taken over what it finds. Ends it before, if need be."""
        self._end(signal.SIGTERM)
        self._start()

    @property
    def _runtime(self) -> cri.RuntimeServiceStub:
        assert self._channel, "containerd does not run"
        return cri.RuntimeServiceStub(self._channel)

    def _start(self) -> None:
        name, _, value = self._mark.partition("=")
        before = ["sh", "-c", _NODE, "sh", self._node] if self._node else []
        with open(self.home / "containerd.log", "ab") as log:
            self._daemon = subprocess.Popen(
                [*before, "containerd", "--config", self.home / "config.toml"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, name: value, "TREES": " ".join(leftovers.trees_in_use())},
            )
        self._channel = grpc.insecure_channel(f"unix://{self.socket}", _SOON)
        deadline = time.monotonic() + PATIENCE
        while not self._ready():
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                last = (self.home / "containerd.log").read_text(errors="replace").splitlines()[-20:]
                raise RuntimeError("\n".join(["containerd does not get ready; the end of its log:", *last]))
            time.sleep(0.02)

    def _ready(self) -> bool:
        try:
            answer: cri.StatusResponse = self._runtime.Status(cri.StatusRequest(), timeout=PATIENCE)
        except grpc.RpcError:
            return False
        return all(condition.status for condition in answer.status.conditions)

    def _end(self, number: signal.Signals) -> None:
        if self._channel:
            self._channel.close()
            self._channel = None
        if self._daemon:
            self._daemon.send_signal(number)
            try:
                self._daemon.wait(PATIENCE)
            finally:
                self._daemon.kill()
                self._daemon.wait()
                self._daemon = None
            self._strays |= self._unused_names()

    def _import_images(self) -> None:
        for name, make in _IMPORTED.items():
            self.load(name, make())

    def load(self, name: str, archive: bytes) -> None:
        """Brings an image: an archive such as `docker save` writes, and the name it has there."""
        subprocess.run(
            ["ctr", "--address", self.socket, "--namespace", "k8s.io", "image", "import", "--no-unpack", "-"],
            input=archive,
            check=True,
            timeout=PATIENCE,
            stdout=subprocess.DEVNULL,
        )
        # The CRI plugin learns of images by events.
        service = cri.ImageServiceStub(self._channel)
        deadline = time.monotonic() + PATIENCE
        request = cri.ImageStatusRequest(image=cri.ImageSpec(image=name))
        while not service.ImageStatus(request, timeout=PATIENCE).HasField("image"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"containerd does not find the image {name}")
            time.sleep(0.02)

    def _groups(self) -> list[Path]:
        """The pods' cgroups, or the node's, in every tree."""
        if self._node:
            return [root / "docker" / self._node for root in leftovers.hierarchies()]
        burstable = [root / "kubepods/burstable" for root in leftovers.hierarchies()]
        return [group / f"pod{uid}" for uid in self._uids for group in burstable]

    def _unused_names(self) -> set[Path]:
        """Names of namespaces that came up since this containerd began, and that nobody is in or works on."""
        used = leftovers.netns_inums()
        worked_on = {Path(value).name for value in leftovers.values("CNI_NETNS")}
        found = set()
        for name in _names() - self._names_before:
            with contextlib.suppress(FileNotFoundError):  # it was another containerd's
                if name.stat().st_ino not in used and name.name not in worked_on:
                    found.add(name)
        return found

    def _names_left(self) -> set[Path]:
        """The names of this containerd's namespaces that are still there.

        One that dies between naming a namespace and the first plugin leaves a name that is in no log. Others run pods
        too: what was unused at its death is taken for its own only if it still is when they had time to go on.
        """
        logged = {NETNS / Path(call.netns_path).name for call in self.plugins.log.calls() if call.netns_path}
        strays = {name for name in self._strays - logged if name.exists()}
        if strays:
            time.sleep(STRAY)
            strays &= self._unused_names()
        return {name for name in logged if name.exists()} | strays

    def _clean_up(self) -> None:
        """Does not ask containerd for anything: whatever has happened to it, this is how it ends."""
        self._end(signal.SIGKILL)
        leftovers.kill(self._mark, self._groups())
        self.plugins.remove()
        for name in self._names_left():
            if leftovers.mounted(name):
                leftovers.unmount(name)
            name.unlink(missing_ok=True)
        self._remove_sockets()
        for mount in leftovers.mounts_below(self.home):
            leftovers.unmount(mount)
        leftovers.remove_groups(self._groups())
        for group in _outer_groups():
            if group not in self._groups_before:
                with contextlib.suppress(OSError):  # not there, or somebody else uses it by now
                    group.rmdir()
        shutil.rmtree(self.home)

    def _remove_sockets(self) -> None:
        """Shims that are killed leave their sockets, whose names are made of what each serves."""
        for bundle in (self.home / "state/io.containerd.runtime.v2.task/k8s.io").glob("*"):
            sandbox = bundle.name.lstrip(".")  # a bundle that is being deleted has been renamed
            served = hashlib.sha256(f"{self.socket}/k8s.io/{sandbox}".encode()).hexdigest()
            (SHIM_SOCKETS / served).unlink(missing_ok=True)
        for existed, directory in zip(self._sockets_existed, (SHIM_SOCKETS, SHIM_SOCKETS.parent), strict=True):
            if not existed:
                with contextlib.suppress(OSError):  # somebody else uses it by now
                    directory.rmdir()


def _names() -> set[Path]:
    return {name for name in NETNS.glob("cni-*") if re.fullmatch(_NAME, name.name)}


def _outer_groups() -> list[Path]:
    """The cgroups around those of pods, the inner first."""
    return [root / group for root in leftovers.hierarchies() for group in ("kubepods/burstable", "kubepods", "docker")]
