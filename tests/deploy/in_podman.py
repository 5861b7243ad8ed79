"""A container of the manifests in podman's words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from .pods import Container

_PROFILE: Final = Path("/usr/share/containers/seccomp.json")
"""What podman takes by default."""
_ALLOWED_BY: Final = {"bpf": "CAP_BPF", "perf_event_open": "CAP_PERFMON"}


def options(container: Container, directory: Path) -> list[str]:
    """Options of `podman run`; without a network. What is to be mounted is made, if need be.

    Args:
        container: what it is.
        directory: for a file that must be there while it runs.
    """
    for mount in container.mounts:
        mount.prepare()
    seccomp = str(_profile(directory)) if container.seccomp == "RuntimeDefault" else "unconfined"
    return [
        "--network=none",
        f"--user={container.user}:{container.group}",
        *(f"--cap-add={name}" for name in container.added),
        *(f"--cap-drop={name}" for name in container.dropped),
        *(["--security-opt=no-new-privileges"] if container.no_new_privileges else []),
        *(["--read-only", "--read-only-tmpfs=false"] if container.read_only else []),
        f"--security-opt=seccomp={seccomp}",
        *(["--pid=host"] if container.host_pids else []),
        *(f"--volume={one.source}:{one.place}{':ro' if one.read_only else ''}" for one in container.mounts),
        *(f"--env={name}={value}" for name, value in container.environment.items()),
        f"--memory={container.memory}",
        f"--stop-timeout={container.grace}",
    ]


def _profile(directory: Path) -> Path:
    """The default seccomp profile of today's runtimes: this machine's podman may be too old to know CAP_BPF."""
    profile = json.loads(_PROFILE.read_text())
    for rule in profile["syscalls"]:
        rule["names"] = [name for name in rule["names"] if name not in _ALLOWED_BY]
    for name, capability in _ALLOWED_BY.items():
        rule = {"names": [name], "action": "SCMP_ACT_ALLOW", "includes": {"caps": [capability]}}
        refusal = {"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": 1, "excludes": {"caps": [capability]}}
        profile["syscalls"] += [rule, refusal]
    profile["syscalls"] = [rule for rule in profile["syscalls"] if rule["names"]]
    file = directory / "seccomp.json"
    file.write_text(json.dumps(profile))
    return file
