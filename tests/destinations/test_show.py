"""The show, small: every destination holds every event, in every scene."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_every_destination_holds_every_event() -> None:
    command = [sys.executable, "-m", "tests.destinations", "--pods", "1", "--moves", "1000"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("\nequal, 3 nodes") == 4
