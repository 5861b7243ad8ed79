"""libcni's result cache: which pods were set up before anybody watched."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import msgspec

from ..events import Pod
from .cni_environment import pod_of
from .mounts import real_path

CACHE: Final = Path("/var/lib/cni/results")
"""Where libcni keeps the results of ADD, unless told otherwise."""
_SLACK: Final = 1.0
"""Seconds: the clock is read twice, and set a little now and then."""


class _Interface(msgspec.Struct):
    sandbox: str = ""


class _Result(msgspec.Struct):
    interfaces: list[_Interface] = []


class _Entry(msgspec.Struct, rename="camel"):
    """What is kept of a call that succeeded (libcni/api.go, cachedInfo). `netns` came with libcni 1.2."""

    netns: str | None = None
    cni_args: list[tuple[str, str]] | None = None
    result: _Result = msgspec.field(default_factory=_Result)

    def paths(self) -> set[str]:
        """The namespace's path. Interfaces on the host's side have none."""
        return ({self.netns} if self.netns else {one.sandbox for one in self.result.interfaces}) - {""}


def cached_pods() -> dict[str, Pod]:
    """The pods of the sandboxes that libcni has set up, by the path of their namespace.

    Where two entries name different pods for one path, neither is believed. `/proc/PID/ns/net` is not: the process may
    be another by now. Nor is what was written before the machine was booted, as no namespace is that old: the directory
    outlives it, while paths are used anew.
    """
    found: dict[str, set[Pod]] = {}
    try:
        files = list(CACHE.iterdir())
    except OSError:  # also where the last one to use it takes it away just now
        files = []
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - _SLACK
    for file in files:
        try:
            if file.stat().st_mtime < booted:
                continue
            entry = msgspec.json.decode(file.read_bytes(), type=_Entry)
        except (OSError, ValueError, RecursionError, msgspec.MsgspecError):
            continue
        paths, pod = entry.paths(), pod_of(entry.cni_args or ())
        if pod and len(paths) == 1:
            found.setdefault(real_path(paths.pop()), set()).add(pod)
    return {path: pods.pop() for path, pods in found.items() if len(pods) == 1 and not path.startswith("/proc/")}
