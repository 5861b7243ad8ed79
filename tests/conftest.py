"""How tests run side by side: what may not do so is one group, the longest groups begin first.

Each file is a group, so that its tests share what it has set up. Tests that are marked `alone` are about the whole
machine: they change its settings, or take all that it has of something. They run when no others do.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Generator
from pathlib import PurePath
from typing import Any, Final

import pytest

from .support.shared import kept

GROUPS: Final = {
    "tests/runtimes/test_driver.py": "containerd",
    "tests/runtimes/test_pods.py": "containerd",
    "tests/runtimes/test_podman.py": "podman",
    "tests/deploy": "podman",  # also because one image is built for all
}
"""By file or directory. There is one containerd at a time, and one podman, whose storage and rules are shared."""
APART: Final = ("tests/torture", "tests/fuzz")
"""Directories of which each test is a group."""
LONGEST: Final = (
    *("containerd", "podman", "tests/kernel/test_threads.py", "tests/destinations/test_nats.py"),
    "tests/kernel/test_watch.py",
    *("tests/kernel/test_collector.py", "tests/destinations/test_otlp.py", "tests/destinations/test_file.py"),
    *("tests/kernel/test_snapshot.py", "tests/docs/test_examples.py", "tests/destinations/test_prometheus.py"),
    *APART,
)
"""Groups that take more than five seconds, and directories of such; the longest first."""


def _group(nodeid: str) -> str:
    """The group of a test."""
    path = PurePath(nodeid.partition("::")[0])
    for place in map(str, (path, *path.parents)):
        if place in GROUPS:
            return GROUPS[place]
        if place in APART:
            return nodeid
    return str(path)


def _rank(nodeid: str) -> int:
    group = _group(nodeid)
    return next((rank for rank, one in enumerate(LONGEST) if group.startswith(one)), len(LONGEST))


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """All of it; where there are several processes, in the one that the others are for."""
    with contextlib.nullcontext() if os.geteuid() or hasattr(session.config, "workerinput") else kept():
        return (yield)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Files whose tests look through the `watch` of their directory come last: it need not see what the others make.
    looking = {item.path for item in items if "watch" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: (_rank(item.nodeid), item.path in looking))


@pytest.hookimpl(optionalhook=True)  # in emulated machines there is no xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> object:
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
        def _split_scope(self, nodeid: str) -> str:
            return _group(nodeid)

    config.option.loadscopereorder = False
    return Groups(config, log)
