"""What a pod of the manifests says about its container; nothing that it says is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from .manifests import daemonset

NODE: Final = "worker-7"
"""What the node is called."""
_OUTSIDE: Final = {"automountServiceAccountToken", "enableServiceLinks", "priorityClassName", "tolerations"}
"""What is between Kubernetes and the node, and does not reach the container."""
_AROUND: Final = {
    *("name", "image", "imagePullPolicy", "ports"),
    *("readinessProbe", "livenessProbe", "terminationMessagePolicy"),
}
"""The same of the container's own fields."""
_UNITS: Final = {"Mi": 1 << 20, "Gi": 1 << 30}


class Mount(NamedTuple):
    """A directory of the node's."""

    source: str
    place: str
    read_only: bool
    may_be_made: bool
    """Whether the kubelet makes it where it is missing."""

    def prepare(self) -> None:
        """What a kubelet does before the container is made."""
        if self.may_be_made:
            Path(self.source).mkdir(parents=True, exist_ok=True)
        assert Path(self.source).is_dir()


class Container(NamedTuple):
    """A container, and what its pod allows it."""

    arguments: list[str]
    environment: dict[str, str]
    user: int
    group: int
    added: list[str]
    """Capabilities, without `CAP_`."""
    dropped: list[str]
    no_new_privileges: bool
    read_only: bool
    seccomp: Literal["RuntimeDefault", "Unconfined"]
    host_pids: bool
    mounts: list[Mount]
    memory: int
    """Bytes it may have."""
    grace: int
    """Seconds from SIGTERM to SIGKILL."""


def container_of(directory: Path) -> Container:
    """The one of the DaemonSet that a directory of manifests renders.

    Raises:
        ValueError: the manifest says more than is known here.
    """
    pod: dict[str, Any] = daemonset(directory)["spec"]["template"]["spec"]
    pod = {key: value for key, value in pod.items() if key not in _OUTSIDE}
    (container,) = pod.pop("containers")
    container = {key: value for key, value in container.items() if key not in _AROUND}
    security, resources = container.pop("securityContext"), container.pop("resources")
    capabilities = security.pop("capabilities")
    memory = resources["limits"].pop("memory")
    resources["requests"].clear()  # they only say where there is room
    found = Container(
        arguments=container.pop("args"),
        environment=_environment(container.pop("env")),
        user=security.pop("runAsUser"),
        group=security.pop("runAsGroup"),
        added=capabilities.pop("add"),
        dropped=capabilities.pop("drop"),
        no_new_privileges=not security.pop("allowPrivilegeEscalation", True),
        read_only=security.pop("readOnlyRootFilesystem", False),
        seccomp=pod["securityContext"].pop("seccompProfile").pop("type"),
        host_pids=pod.pop("hostPID", False),
        mounts=_mounts(pod.pop("volumes"), container.pop("volumeMounts")),
        memory=int(memory[:-2]) * _UNITS[memory[-2:]],
        grace=pod.pop("terminationGracePeriodSeconds"),
    )
    if more := [*pod.pop("securityContext"), *pod, *container, *security, *capabilities, *resources["limits"]]:
        raise ValueError(f"not known here: {more}")
    return found


def _environment(variables: list[dict[str, Any]]) -> dict[str, str]:
    found = {}
    for variable in variables:
        match variable["valueFrom"]:
            case {"fieldRef": {"fieldPath": "spec.nodeName"}}:
                found[variable["name"]] = NODE
            case {"secretKeyRef": {"optional": True}}:  # there is none
                pass
            case other:
                raise ValueError(f"not known here: {other}")
    return found


def _mounts(volumes: list[dict[str, Any]], mounts: list[dict[str, Any]]) -> list[Mount]:
    sources = {volume["name"]: volume["hostPath"] for volume in volumes}
    found = []
    for mount in mounts:
        source = sources.pop(mount["name"])
        made = {"Directory": False, "DirectoryOrCreate": True}[source["type"]]
        found.append(Mount(source["path"], mount["mountPath"], mount.get("readOnly", False), made))
    assert not sources, "volumes that are not mounted"
    return found
