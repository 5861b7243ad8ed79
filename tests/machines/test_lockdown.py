"""On a machine booted with lockdown=confidentiality nothing can be collected, and every command says why.

Not part of `make test`: the suite of emulated machines runs it in such a machine.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

SECURITYFS = Path("/sys/kernel/security")


@pytest.fixture(params=[True, False], ids=["the kernel tells its mode", "the mode cannot be read"])
def securityfs(request: pytest.FixtureRequest) -> Iterator[None]:
    if request.param:
        subprocess.run(["mount", "-t", "securityfs", "none", SECURITYFS], check=True)
        assert "[confidentiality]" in (SECURITYFS / "lockdown").read_text(encoding="ascii")
    yield
    if request.param:
        subprocess.run(["umount", SECURITYFS], check=True)


@pytest.mark.usefixtures("securityfs")
@pytest.mark.parametrize("command", ["watch", "list", "check"])
def test_every_command_says_so(command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cni_collector", command], capture_output=True, text=True, check=False, timeout=120
    )
    told = done.stdout if command == "check" else done.stderr
    assert done.returncode == 1
    assert "locked down for confidentiality" in told
    assert "lockdown=integrity" in told
    if command != "check":
        assert told.count("\n") == 1
