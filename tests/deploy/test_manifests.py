"""The manifests for Kubernetes say what they are meant to, in words that Kubernetes knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest

from cni_collector.exporters.outputs import FLUSH
from cni_collector.version import VERSION

from .manifests import BASE, KUBERNETES, daemonset, render, variants

CHANGED = {
    "base": {},
    "perf-restricted": {
        "containers/0/securityContext/allowPrivilegeEscalation": (False, None),
        "containers/0/securityContext/capabilities/add/4": (None, "SYS_ADMIN"),
    },
    "seccomp-unconfined": {"securityContext/seccompProfile/type": ("RuntimeDefault", "Unconfined")},
}
"""Where the pods of a variant differ from the base's: what is there, and what becomes of it."""


@pytest.mark.parametrize("directory", variants(), ids=lambda directory: directory.name)
@pytest.mark.parametrize("version", ["1.25", kubernetes_validate.latest_version()])
def test_kubernetes_knows_every_field(directory: Path, version: str) -> None:
    """From the first version on that has levels of pod security for everybody."""
    for resource in render(directory):
        kubernetes_validate.validate(resource, version, strict=True)


def test_a_field_that_is_unknown_is_told() -> None:
    """Or the test above would be worth nothing."""
    resource = daemonset(BASE)
    resource["spec"]["template"]["spec"]["hostPid"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("directory", variants(), ids=lambda directory: directory.name)
def test_a_variant_changes_what_it_says(directory: Path) -> None:
    base, pod = _leaves(_pod(BASE)), _leaves(_pod(directory))
    changed = {path for path in base.keys() | pod.keys() if base.get(path) != pod.get(path)}
    assert {path: (base.get(path), pod.get(path)) for path in changed} == CHANGED[directory.name]


def test_all_files_are_used() -> None:
    used = {"kustomization.yaml", "namespace.yaml", "daemonset.yaml"}
    assert {path.name for path in BASE.iterdir()} == used
    assert {path.name for path in KUBERNETES.iterdir()} == CHANGED.keys()


def test_it_is_this_version() -> None:
    assert _container()["image"] == f"cni-collector:{VERSION}"


def test_there_is_time_to_deliver_what_waits() -> None:
    assert _pod(BASE)["terminationGracePeriodSeconds"] > FLUSH


def test_probes_and_annotations_lead_to_the_metrics() -> None:
    container = _container()
    (port,) = container["ports"]
    listening = container["args"][container["args"].index("--prometheus") + 1]
    assert listening == f"0.0.0.0:{port['containerPort']}"
    for probe in container["readinessProbe"], container["livenessProbe"]:
        assert probe["httpGet"] == {"path": "/metrics", "port": port["name"]}
    annotations = daemonset(BASE)["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(port["containerPort"])


def _pod(directory: Path) -> dict[str, Any]:
    pod: dict[str, Any] = daemonset(directory)["spec"]["template"]["spec"]
    return pod


def _container() -> dict[str, Any]:
    (container,) = _pod(BASE)["containers"]
    found: dict[str, Any] = container
    return found


def _leaves(value: Any, path: str = "") -> dict[str, object]:
    """Everything in nested lists and objects, by its path."""
    if not isinstance(value, dict | list):
        return {path: value}
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    return {k: v for name, inner in pairs for k, v in _leaves(inner, f"{path}/{name}".lstrip("/")).items()}
