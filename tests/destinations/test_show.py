"""The show, small: every destination holds every event, in every scene."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.alone  # each of its nodes sees the whole machine, and has five seconds at its end to send what waits
@pytest.mark.timeout(900)
def test_every_destination_holds_every_event() -> None:
    command = [sys.executable, "-m", "tests.destinations", "--pods", "1", "--moves", "1000"]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as show:
        try:
            told, _ = show.communicate(timeout=800)
        finally:
            show.send_signal(signal.SIGTERM)  # it ends what it has started
            show.wait(60)
    assert show.returncode == 0, told
    assert told.count("\nequal, 3 nodes") == 4
