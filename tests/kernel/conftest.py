"""These tests need root and a kernel with BTF: without them they fail.

Left out is only what is about a thing that the machine cannot have: cgroup v1, 32-bit programs, kprobes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from cni_collector import Collector, CollectorStart

from ..support.watch import TIER, Scene, Watch, watching


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if any(Path(__file__).parent in item.path.parents for item in items):
        if os.geteuid():
            pytest.exit("tests/kernel needs root (tests/unit does not): sudo make test", 1)
        if not Path("/sys/kernel/btf/vmlinux").exists():
            pytest.exit("tests/kernel needs a kernel with BTF: /sys/kernel/btf/vmlinux is missing", 1)


@pytest.fixture(scope="package")
def watch() -> Iterator[Watch]:
    """One `watch` for all tests that only look. Nothing may be lost to it."""
    with watching() as running:
        yield running
        stop = running.stop()
        assert stop.lost == 0


@pytest.fixture(scope="session")
def tier() -> str:
    """The tier that is tested, or else the one that is best here."""
    with Collector(tier=TIER) as collector:
        pass
    start = next(iter(collector.events()))
    assert isinstance(start, CollectorStart)
    return start.tier


@pytest.fixture
def scene(watch: Watch) -> Scene:
    """What happens from here on."""
    watch.settle()
    return Scene(watch)
