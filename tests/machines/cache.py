"""The folder where everything that was fetched stays, and what goes wrong while fetching or running."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]


class MachineError(Exception):
    """A machine could not be made, or did not get as far as an exit status: one sentence, then what it said."""


def folder() -> Path:
    """$CNI_MACHINES, or the place where a user's caches are."""
    if place := os.environ.get("CNI_MACHINES"):
        return Path(place).absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "cni-collector", "machines")


@contextlib.contextmanager
def locked() -> Iterator[None]:
    """One at a time changes the folder; readers need no lock, for what has its final name is complete."""
    folder().mkdir(parents=True, exist_ok=True)
    with open(folder() / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def making(final: Path) -> Iterator[Path]:
    """A directory to fill, which gets its final name when the block has ended without an error."""
    final.parent.mkdir(parents=True, exist_ok=True)
    growing = Path(tempfile.mkdtemp(prefix=".making-", dir=final.parent))
    try:
        growing.chmod(0o755)
        yield growing
        growing.rename(final)
    except BaseException:
        shutil.rmtree(growing)
        raise


def call(command: Sequence[str | Path], directory: Path | None = None) -> str:
    """Run a program to its end: what it wrote to stdout."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=directory)
    except FileNotFoundError as error:
        raise MachineError(f"{error.filename} is not installed") from None
    if done.returncode:
        raise MachineError(f"{command[0]} failed:\n{done.stderr or done.stdout}")
    return done.stdout


def say(what: str) -> None:
    """One line of progress."""
    print(f"machines: {what}", file=sys.stderr, flush=True)
