"""Container id and pod UID from the path of a cgroup, for every runtime and driver known to write them there."""

from __future__ import annotations

import re

_ID = "([0-9a-f]{64})"
_CONTAINER = re.compile(
    rf"(?:(?:cri-containerd|crio|docker|libpod|nerdctl)-{_ID}\.scope"  # systemd driver
    rf"|.*:cri-containerd:{_ID}"  # containerd set to systemd below a kubelet set to cgroupfs, or the reverse
    rf"|(?:crio-|libpod-|libpod-payload-)?{_ID})"  # cgroupfs driver
)
_POD = re.compile(r"pod([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice|\Z|:)")


def identify(path: str) -> tuple[str | None, str | None]:
    """The innermost container and pod that a cgroup's path names.

    Args:
        path: absolute path of a cgroup, as in `/kubepods.slice/...`.

    Returns:
        The container's id (64 hex digits) and the pod's UID (with dashes, or 32 hex digits for static pods);
        None for what the path does not say in a form that is known.
    """
    container = pod = None
    *names, leaf = path.split("/")
    monitor = leaf == "conmon"  # podman's, of a pod of its own, whose directory looks like a container's
    for name in (leaf, *reversed(names)):
        if container is None and not monitor and (match := _CONTAINER.fullmatch(name)):
            container = next(group for group in match.groups() if group)
        if match := _POD.search(name):
            pod = match[1].replace("_", "-")
            break
    return container, pod
