"""These tests need root. Without it they fail: nothing here is skipped."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.overlays import overlays_work
from ..support.podman import Podman
from .booted import Machine, booted
from .building import build, build_systemd


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            if os.geteuid():
                pytest.exit("tests/deploy needs root (tests/unit does not): sudo make test", 1)
            item.add_marker(pytest.mark.timeout(300))  # whichever is first waits until the image is built


@pytest.fixture(scope="session")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """One for all tests: what takes time is the image."""
    overlays = overlays_work(tmp_path_factory.mktemp("overlay"))
    with Podman(loaded={}, driver="overlay" if overlays else "vfs") as own:
        yield own


@pytest.fixture(scope="session")
def image(podman: Podman, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The collector's image, as `make image` builds it."""
    return build(podman, tmp_path_factory.mktemp("fetching"))


@pytest.fixture(scope="session")
def machine(podman: Podman, image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """One that has the collector's service, which is not started."""
    with booted(podman, build_systemd(podman, tmp_path_factory.mktemp("systemd"))) as running:
        yield running
