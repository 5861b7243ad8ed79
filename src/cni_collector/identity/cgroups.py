"""Container id and pod UID from the path of a cgroup, for every runtime and driver known to write them there.

Whoever is given a part of the tree may make cgroups of any name in it. So a name is a pod's only where a kubelet puts
pods; a container's is taken wherever it stands.
"""

from __future__ import annotations

import re
from collections.abc import Collection

_ID = "([0-9a-f]{64})"
_CONTAINER = re.compile(
    rf"(?:(?:cri-containerd|crio|docker|libpod|nerdctl)-{_ID}\.scope"  # systemd driver
    rf"|.*:cri-containerd:{_ID}"  # containerd set to systemd below a kubelet set to cgroupfs, or the reverse
    rf"|(?:crio-|libpod-|libpod-payload-)?{_ID})"  # cgroupfs driver
)
_NODE = (
    r"/docker/[0-9a-f]{64}",
    r"/(?:system|machine)\.slice/(?:cri-containerd|crio|docker|libpod|nerdctl)-[0-9a-f]{64}\.scope(?:/container)?",
)
"""Nodes that are containers, as kind's. Podman puts what runs in one into `container`."""
_UID = "[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32}"
_QOS = "(?:burstable|besteffort)"
_LEVEL = rf"/(?:kubelet(?:\.slice)?|(?:[^/]+-)?kubepods(?:-{_QOS})?\.slice|kubepods|{_QOS})"
"""What kubelets make above pods: /kubepods/burstable, /kubelet.slice/kubelet-kubepods.slice ..."""
_SLICE = rf"(?:[^/]+-)?kubepods(?:-{_QOS})?-pod"
_BELOW = rf"(?:{_LEVEL}){{0,4}}/(?:{_SLICE}(?P<slice>{_UID})\.slice|pod(?P<directory>{_UID}))(?=[/:]|\Z)"
_MIXED = rf"/system\.slice/containerd\.service/{_SLICE}(?P<mixed>{_UID})\.slice(?=:cri-containerd:)"
"""Where containerd is set to cgroupfs below a kubelet set to systemd."""

Identity = tuple[str | None, str | None]
"""A container's id (64 hex digits), and a pod's UID (with dashes, or 32 hex digits for static pods)."""


class CgroupPaths:
    """Reads the paths of cgroups.

    Args:
        kubelet_roots: cgroups below which a kubelet makes those of pods, besides the root of all and containers that
            are nodes, as kind's: absolute paths, as `/system.slice/k3s.service`.

    Raises:
        ValueError: a path that is not absolute.
    """

    def __init__(self, kubelet_roots: Collection[str] = ()) -> None:
        if isinstance(kubelet_roots, str) or not all(
            isinstance(path, str) and re.fullmatch("(?:/[^/]+)+/?", path) for path in kubelet_roots
        ):
            raise ValueError(f"kubelet_roots must be absolute paths of cgroups, not {kubelet_roots!r}: ['/foo.slice']")
        places = "|".join(["", *_NODE, *(re.escape(path.rstrip("/")) for path in kubelet_roots)])
        self._pod = re.compile(f"(?:(?:{places}){_BELOW}|{_MIXED})")

    def identify(self, path: str) -> Identity:
        """The pod that a cgroup's path names, and its container; or the innermost container that is in no pod.

        Of pods within pods the outermost counts, and the first container in it.

        Args:
            path: absolute path of a cgroup, as in `/kubepods.slice/...`. One that was cut, and begins with `/...`, says
                nothing.

        Returns:
            The container and the pod; None for what the path does not say in a form that is known.
        """
        if path.startswith("/.../"):
            return None, None
        container = None
        pod = self._pod.match(path)
        names = path[pod.start(pod.lastgroup or "") :].split("/") if pod else path.split("/")[::-1]
        if not path.endswith("/conmon"):  # podman's monitor, of a pod of its own, in what looks like a container's
            matches = filter(None, map(_CONTAINER.fullmatch, names))
            container = next((group for match in matches for group in match.groups() if group), None)
        return container, pod[pod.lastgroup or ""].replace("_", "-") if pod else None
