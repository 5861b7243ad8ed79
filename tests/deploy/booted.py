"""A container that systemd has booted: a machine to start services on, and to install packages."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..support.podman import Podman
from ..support.watch import PATIENCE


class Machine(NamedTuple):
    """It runs."""

    podman: Podman
    id: str

    def __call__(self, *command: str) -> str:
        """Runs a command in it: what it wrote."""
        return self.podman("exec", self.id, *command)

    def ask(self, unit: str, about: str) -> str:
        """What systemd knows of a unit."""
        return self("systemctl", "show", f"--property={about}", "--value", unit)

    def write(self, path: str, text: str) -> None:
        """Writes a file."""
        self("sh", "-c", 'printf %s "$1" > "$0"', path, text)

    def copy(self, file: Path, path: str) -> None:
        """Copies a file of the checkout's into it."""
        self.podman("cp", str(file), f"{self.id}:{path}")


@contextlib.contextmanager
def booted(podman: Podman, image: str) -> Iterator[Machine]:
    """One of an image that has systemd. It has no network."""
    machine = Machine(podman, f"systemd-{secrets.token_hex(4)}")
    # All capabilities, but not --privileged: /proc/sys and the devices are the machine's.
    allowed = ["--systemd=always", "--cap-add=all", "--security-opt=seccomp=unconfined"]
    tracing = "--volume=/sys/kernel/tracing:/sys/kernel/tracing:ro"
    where = ["--network=none", f"--cgroup-parent=/{podman.name}", f"--name={machine.id}"]
    podman("run", "--detach", *where, *allowed, tracing, image)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            machine("systemctl", "is-active", "basic.target")
            break
        except subprocess.CalledProcessError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    yield machine
    with contextlib.suppress(subprocess.CalledProcessError):  # it is removed with podman itself, at the latest
        podman("rm", "--force", "--time=0", machine.id)
