"""Container and pod from cgroup paths, as the runtimes write them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_collector.identity.cgroups import CgroupPaths

ID = "1f" * 32
OUTER = "2e" * 32
POD = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9"
POD_ = POD.replace("-", "_")
STATIC = "6d" * 16

BURSTABLE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{POD_}.slice"
GUARANTEED = f"/kubepods.slice/kubepods-pod{POD_}.slice"
CGROUPFS = f"/kubepods/burstable/pod{POD}"
VICTIM = "99999999-4e5f-6071-8293-a4b5c6d7e8f9"
VICTIM_SLICE = f"kubepods-burstable-pod{VICTIM.replace('-', '_')}.slice"
BEST_EFFORT = "kubelet-kubepods-besteffort"
KIND = f"kubelet.slice/kubelet-kubepods.slice/{BEST_EFFORT}.slice/{BEST_EFFORT}-pod{POD_}.slice"
PODMAN_POD = f"/machine.slice/machine-libpod_pod_{OUTER}.slice"
ROOTLESS = "/user.slice/user-1000.slice/user@1000.service"

PATHS: dict[str, tuple[str | None, str | None]] = {
    # cgroupfs driver: containerd, cri-dockerd
    f"/kubepods/pod{POD}/{ID}": (ID, POD),
    f"{CGROUPFS}/{ID}": (ID, POD),
    f"/kubepods/besteffort/pod{STATIC}/{ID}": (ID, STATIC),
    CGROUPFS: (None, POD),
    # systemd driver, containerd
    f"{BURSTABLE}/cri-containerd-{ID}.scope": (ID, POD),
    f"{GUARANTEED}/cri-containerd-{ID}.scope": (ID, POD),
    f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{STATIC}.slice/cri-containerd-{ID}.scope": (
        ID,
        STATIC,
    ),
    BURSTABLE: (None, POD),
    # CRI-O
    f"{BURSTABLE}/crio-{ID}.scope": (ID, POD),
    f"{CGROUPFS}/crio-{ID}": (ID, POD),
    # docker, cri-dockerd
    f"{BURSTABLE}/docker-{ID}.scope": (ID, POD),
    f"/system.slice/docker-{ID}.scope": (ID, None),
    f"/docker/{ID}": (ID, None),
    f"{ROOTLESS}/user.slice/docker-{ID}.scope": (ID, None),
    # drivers of containerd and kubelet that do not match
    f"/system.slice/containerd.service/kubepods-burstable-pod{POD_}.slice:cri-containerd:{ID}": (ID, POD),
    f"/system.slice/containerd.service/kubepods-pod{STATIC}.slice:cri-containerd:{ID}": (ID, STATIC),
    # containerd without CRI
    f"/default/{ID}": (ID, None),
    f"/system.slice/nerdctl-{ID}.scope": (ID, None),
    # podman
    f"/machine.slice/libpod-{ID}.scope": (ID, None),
    f"{PODMAN_POD}/libpod-{ID}.scope": (ID, None),
    f"/libpod_parent/libpod-{ID}": (ID, None),
    f"/system.slice/web.service/libpod-payload-{ID}": (ID, None),
    f"{ROOTLESS}/user.slice/libpod-{ID}.scope": (ID, None),
    f"{ROOTLESS}/user.slice/user-libpod_pod_{OUTER}.slice/libpod-{ID}.scope": (ID, None),
    # kind: the pod inside, not the node around it
    f"/docker/{OUTER}/{KIND}/cri-containerd-{ID}.scope": (ID, POD),
    f"/system.slice/docker-{OUTER}.scope/{KIND}/cri-containerd-{ID}.scope": (ID, POD),
    f"/machine.slice/libpod-{OUTER}.scope/container/{KIND}/cri-containerd-{ID}.scope": (ID, POD),
    f"/docker/{OUTER}/kubelet{CGROUPFS}/{ID}": (ID, POD),
    f"/docker/{OUTER}/kubelet.slice/kubelet.service": (OUTER, None),
    f"/docker/{OUTER}/{KIND}": (None, POD),
    # what runs in a pod's container is the pod's, and that container's, whatever it makes of its part of the tree
    f"{BURSTABLE}/cri-containerd-{OUTER}.scope/docker/{ID}": (OUTER, POD),
    f"{CGROUPFS}/{OUTER}/kubepods/pod{VICTIM}/{ID}": (OUTER, POD),
    f"{BURSTABLE}/{VICTIM_SLICE}/cri-containerd-{ID}.scope": (ID, POD),
    f"/docker/{OUTER}/{KIND}/cri-containerd-{ID}.scope/kubepods/pod{VICTIM}/{OUTER}": (ID, POD),
    # nobody's pod: where no kubelet puts one
    f"{ROOTLESS}/kubepods.slice/{VICTIM_SLICE}/cri-containerd-{ID}.scope": (ID, None),
    f"{ROOTLESS}/kubepods/pod{VICTIM}/{ID}": (ID, None),
    f"{ROOTLESS}/user.slice/docker-{OUTER}.scope/{KIND}/cri-containerd-{ID}.scope": (ID, None),
    f"/system.slice/evil.service/kubepods/pod{VICTIM}/{ID}": (ID, None),
    f"/system.slice/evil.service/{VICTIM_SLICE}:cri-containerd:{ID}": (ID, None),
    f"/system.slice/containerd.service/x/{VICTIM_SLICE}:cri-containerd:{ID}": (ID, None),
    f"/system.slice/containerd.service/{VICTIM_SLICE}/{ID}": (ID, None),
    f"/demo/kubepods/pod{VICTIM}/{ID}": (ID, None),
    f"/kubepods/x/pod{VICTIM}/{ID}": (ID, None),
    f"/kubepods/burstable/x-pod{VICTIM}": (None, None),
    f"/kubepods.slice/x{VICTIM_SLICE}/{ID}": (ID, None),
    f"/docker/{OUTER}/docker/{ID}/kubepods/pod{VICTIM}": (ID, None),
    f"/docker/x/{OUTER}/kubepods/pod{VICTIM}": (OUTER, None),
    f"/system.slice/system-x.slice/docker-{OUTER}.scope/kubepods/pod{VICTIM}": (OUTER, None),
    f"/lxc.payload.web/kubepods/pod{VICTIM}/{ID}": (ID, None),
    # nothing is certain in what was cut
    f"/...{BURSTABLE}/cri-containerd-{ID}.scope": (None, None),
    f"/.../docker/{ID}": (None, None),
    "/...": (None, None),
    # levels below the container's
    f"{BURSTABLE}/crio-{ID}.scope/container": (ID, POD),
    f"{BURSTABLE}/crio-{ID}.scope/container/exec": (ID, POD),
    f"/machine.slice/libpod-{ID}.scope/container/init.scope": (ID, None),
    f"{BURSTABLE}/cri-containerd-{ID}.scope/a/b/c/d/system.slice/x.service": (ID, POD),
    # monitors are no part of the container that they watch
    f"{BURSTABLE}/crio-conmon-{ID}.scope": (None, POD),
    f"{CGROUPFS}/crio-conmon-{ID}": (None, POD),
    f"/machine.slice/libpod-conmon-{ID}.scope": (None, None),
    f"/libpod_parent/{ID}/conmon": (None, None),
    f"{PODMAN_POD}/libpod-conmon-{ID}.scope": (None, None),
    # what names neither
    "/lxc.payload.web/init.scope": (None, None),
    "/lxc.monitor.web": (None, None),
    "/machine.slice/machine-web.scope/payload": (None, None),
    "/machine.slice/machine-web.scope/supervisor": (None, None),
    f"/kata_{ID}": (None, None),
    f"{BURSTABLE}/kata_{ID}": (None, POD),
    f"{ROOTLESS}/app.slice/run-u1.scope": (None, None),
    "/": (None, None),
    "": (None, None),
    # nearly a name
    f"/docker/{ID}0": (None, None),
    f"/docker/{ID[:-1]}": (None, None),
    f"/docker/{ID.upper()}": (None, None),
    f"/system.slice/docker-{ID}.service": (None, None),
    f"/kubepods/pod{POD}0/x": (None, None),
    f"/kubepods/pod{POD}\n": (None, None),
    f"/docker/{ID}\n": (None, None),
}

TEXT = st.binary().map(lambda raw: raw.decode("utf-8", "replace"))
LIKELY = st.sampled_from(
    [ID, "docker-", ".scope", ":cri-containerd:", "pod", POD, POD_, STATIC, ".slice", "/", "\n", "crio-"]
)


@pytest.mark.parametrize("path", PATHS)
def test_identities(path: str) -> None:
    assert CgroupPaths().identify(path) == PATHS[path]


@pytest.mark.parametrize(
    "path",
    [
        f"/system.slice/k3s.service/kubepods-burstable-pod{POD_}.slice:cri-containerd:{ID}",
        f"/system.slice/k3s.service/kubepods/burstable/pod{POD}/{ID}",
        f"/foo.slice/foo-kubepods.slice/foo-kubepods-pod{POD_}.slice/cri-containerd-{ID}.scope",
        f"{BURSTABLE}/cri-containerd-{ID}.scope",
        f"/docker/{OUTER}/{KIND}/cri-containerd-{ID}.scope",
    ],
)
def test_a_kubelet_may_be_told_to_put_pods_elsewhere(path: str) -> None:
    paths = CgroupPaths(["/system.slice/k3s.service", "/foo.slice/"])
    assert paths.identify(path) == (ID, POD)
    assert paths.identify(f"/user.slice{path}") == (ID, None)


@pytest.mark.parametrize("roots", ["/foo.slice", ["foo.slice"], [""], ["/"], ["/a//b"], [5]])
def test_a_root_that_makes_no_sense(roots: Any) -> None:
    with pytest.raises(ValueError, match=r"^kubelet_roots must be absolute paths of cgroups, not "):
        CgroupPaths(roots)


@given(st.one_of(TEXT, st.lists(st.one_of(LIKELY, TEXT)).map("".join)))
def test_any_text_gives_ids_of_the_documented_shape_or_none(path: str) -> None:
    container, pod = CgroupPaths().identify(path)
    assert container is None or re.fullmatch("[0-9a-f]{64}", container)
    assert pod is None or re.fullmatch("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}", pod)
