"""Fixtures that several subjects share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from cni_collector import collector

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
