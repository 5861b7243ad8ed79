"""The manifests for Kubernetes as kustomize renders them, as far as they use it; anything else is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

from ..machines.cache import CHECKOUT

KUBERNETES: Final = CHECKOUT / "deploy" / "kubernetes"
BASE: Final = KUBERNETES / "base"

Resource = dict[str, Any]


def variants() -> list[Path]:
    """The directories that can be applied."""
    return sorted(file.parent for file in KUBERNETES.glob("*/kustomization.yaml"))


def render(directory: Path) -> list[Resource]:
    """What `kubectl kustomize` makes of a directory.

    Raises:
        ValueError: it uses more of kustomize than is known here.
        FileNotFoundError: what it names is not there.
    """
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text())
    known = {"apiVersion", "kind", "resources", "patches"}
    if kustomization["kind"] != "Kustomization" or not kustomization.keys() <= known:
        raise ValueError(f"more than is known here: {kustomization.keys() - known}")
    resources: list[Resource] = []
    for name in kustomization["resources"]:
        path = (directory / name).resolve()
        resources += render(path) if path.is_dir() else yaml.safe_load_all(path.read_text())
    for patch in kustomization.get("patches", ()):
        (target,) = (resource for resource in resources if _is(resource, patch["target"]))
        for operation in yaml.safe_load(patch["patch"]):
            _apply(target, **operation)
    return resources


def daemonset(directory: Path) -> Resource:
    """The one that is rendered."""
    (found,) = (resource for resource in render(directory) if resource["kind"] == "DaemonSet")
    return found


def _is(resource: Resource, target: dict[str, str]) -> bool:
    return {"kind": resource["kind"], "name": resource["metadata"]["name"]} == target


def _apply(resource: Resource, *, op: str, path: str, value: Any = None) -> None:
    """One operation of a JSON patch (RFC 6902)."""
    *way, last = path.removeprefix("/").split("/")
    place: Any = resource
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    match op:
        case "add" if isinstance(place, list) and last == "-":
            place.append(value)
        case "replace" if last in place:
            place[last] = value
        case "remove" if last in place:
            del place[last]
        case _:
            raise ValueError(f"cannot {op} {path}")
