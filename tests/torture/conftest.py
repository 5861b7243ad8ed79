"""These tests need root. Without it they fail: nothing here is skipped."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.geteuid() and any(Path(__file__).parent in item.path.parents for item in items):
        pytest.exit("tests/torture needs root (tests/unit does not): sudo make test", 1)
