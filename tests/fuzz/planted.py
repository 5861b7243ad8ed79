"""Targets that must be found to fail: whoever finds nothing may only have looked the wrong way."""

from __future__ import annotations

from typing import Final

from cni_collector.identity.cni_environment import parse_args

from .targets import Target


def raises(raw: bytes) -> None:
    """A promise that is broken once a pod has a name, which takes two pairs."""
    assert parse_args(raw.decode("latin-1")) is None, "a pod"


def hangs(raw: bytes) -> None:
    """Something without end, for some inputs."""
    while raw.startswith(b"a"):
        pass


TARGETS: Final = {
    "raises": Target(raises, [b"K8S_POD_NAME=a"], [b";K8S_POD_NAMESPACE="]),
    "hangs": Target(hangs, [b"b"]),
}
