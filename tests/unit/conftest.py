"""Fixtures that several subjects share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from cni_collector import collector
from cni_collector.identity import mounts

from .fake_session import FakeSession

settings.register_profile("unit", deadline=None)  # a busy machine is no failure
settings.load_profile("unit")


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSession]:
    """What a collector attaches to in place of the kernel."""
    fake = FakeSession()
    monkeypatch.setattr(collector, "Session", fake.start)
    yield fake
    fake.dispose()


@pytest.fixture
def mountinfo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A file to be read in place of /proc/1/mountinfo."""
    path = tmp_path / "mountinfo"
    path.write_bytes(b"22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n")
    monkeypatch.setattr(mounts, "_MOUNTINFO", (str(path),))
    return path
