"""A pod of the manifests in words of podman: nothing that it says about its container is left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, NamedTuple

NODE: Final = "worker-7"
"""What the node is called."""
_OUTSIDE: Final = {"automountServiceAccountToken", "enableServiceLinks", "priorityClassName", "tolerations"}
"""What is between Kubernetes and the node, and does not reach the container."""
_AROUND: Final = {"name", "image", "imagePullPolicy", "ports", "readinessProbe", "livenessProbe"} | {
    "terminationMessagePolicy"
}
"""The same of the container's own fields."""
_PROFILE: Final = Path("/usr/share/containers/seccomp.json")
"""What podman takes by default."""
_ALLOWED_BY: Final = {"bpf": "CAP_BPF", "perf_event_open": "CAP_PERFMON"}


class Run(NamedTuple):
    """What `podman run` is to be told."""

    options: list[str]
    capabilities: list[str]
    """Those that are added; not yet in the options."""
    arguments: list[str]
    """Of the image's entry point."""


def run_of(pod: dict[str, Any], directory: Path) -> Run:
    """A pod with one container, as a kubelet and a runtime of today would run it; without a network.

    Args:
        pod: its spec.
        directory: for a file that must be there while it runs.

    Raises:
        ValueError: it says more than is known here.
    """
    pod = {key: value for key, value in pod.items() if key not in _OUTSIDE}
    (container,) = pod.pop("containers")
    container = {key: value for key, value in container.items() if key not in _AROUND}
    security = container.pop("securityContext")
    options = ["--network=none", f"--stop-timeout={pod.pop('terminationGracePeriodSeconds')}"]
    if pod.pop("hostPID", False):
        options.append("--pid=host")
    kind = pod["securityContext"].pop("seccompProfile").pop("type")
    options.append(f"--security-opt=seccomp={_seccomp(directory) if kind == 'RuntimeDefault' else kind.lower()}")
    options.append(f"--user={security.pop('runAsUser')}:{security.pop('runAsGroup')}")
    if not security.pop("allowPrivilegeEscalation", True):
        options.append("--security-opt=no-new-privileges")
    if security.pop("readOnlyRootFilesystem", False):
        options += ["--read-only", "--read-only-tmpfs=false"]
    capabilities = security.pop("capabilities")
    options += [f"--cap-drop={name}" for name in capabilities.pop("drop")]
    resources = container.pop("resources")
    options.append(f"--memory={resources['limits'].pop('memory').removesuffix('i').lower()}")
    resources["requests"].clear()  # they only say where there is room
    options += [f"--env={name}={value}" for name, value in _environment(container.pop("env")).items()]
    options += _volumes(pod.pop("volumes"), container.pop("volumeMounts"))
    run = Run(options, capabilities.pop("add"), container.pop("args"))
    if more := [*pod.pop("securityContext"), *pod, *container, *security, *capabilities, *resources["limits"]]:
        raise ValueError(f"not known here: {more}")
    return run


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


def _volumes(volumes: list[dict[str, Any]], mounts: list[dict[str, Any]]) -> list[str]:
    sources = {volume["name"]: volume["hostPath"] for volume in volumes}
    options = []
    for mount in mounts:
        source = sources.pop(mount["name"])
        match source["type"]:
            case "DirectoryOrCreate":
                Path(source["path"]).mkdir(parents=True, exist_ok=True)
            case "Directory":
                assert Path(source["path"]).is_dir()
            case other:
                raise ValueError(f"not known here: {other}")
        options.append(f"--volume={source['path']}:{mount['mountPath']}{':ro' if mount['readOnly'] else ''}")
    assert not sources, "volumes that are not mounted"
    return options


def _seccomp(directory: Path) -> Path:
    """The default profile of today's runtimes: that of this machine's podman, which may be too old to know CAP_BPF."""
    profile = json.loads(_PROFILE.read_text())
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name not in _ALLOWED_BY]
    for name, capability in _ALLOWED_BY.items():
        rule = {"names": [name], "action": "SCMP_ACT_ALLOW", "includes": {"caps": [capability]}}
        refusal = {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "excludes": {"caps": [capability]}}
        profile["syscalls"] += [rule, refusal]
    file = directory / "seccomp.json"
    file.write_text(json.dumps(profile))
    return file
