"""Development dependencies are pinned, indirect ones too: a check that passed yesterday passes today."""

from __future__ import annotations

import importlib.metadata as metadata
import tomllib
from collections.abc import Iterable

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from .pages import ROOT


def _pinned() -> dict[str, str]:
    """The versions in requirements-dev.txt that are for this machine."""
    lines = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8").splitlines()
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    pins: dict[str, str] = {}
    for requirement in requirements:
        only, *others = requirement.specifier
        assert only.operator == "==", requirement
        assert not others, requirement
        if not requirement.marker or requirement.marker.evaluate():
            pins[canonicalize_name(requirement.name)] = only.version
    return pins


def _needed(names: Iterable[str]) -> dict[str, str]:
    """The installed versions of these distributions, and of all that they need in turn."""
    found: dict[str, str] = {}
    ahead = [Requirement(name) for name in names]
    while ahead:
        requirement = ahead.pop()
        name = canonicalize_name(requirement.name)
        if name not in found:
            found[name] = metadata.version(name)
            for text in metadata.requires(name) or ():
                needed = Requirement(text)
                extras = ({"extra": extra} for extra in ("", *requirement.extras))
                if not needed.marker or any(map(needed.marker.evaluate, extras)):
                    ahead.append(needed)
    return found


def test_everything_that_is_needed_is_pinned_as_it_is_installed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = [name for extra in project["optional-dependencies"].values() for name in extra]
    installed = _needed([*_pinned(), *project["dependencies"], *optional])
    assert sorted(_pinned().items()) == sorted(installed.items())
