"""A cgroup of its own with a limit, in version 1 or 2, whichever has the controller here."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from ..support.leftovers import hierarchies


def _root(controller: str) -> tuple[Path, bool]:
    """Where a controller's cgroups are, and whether that is version 2."""
    for root in hierarchies():
        if (root / "cgroup.controllers").exists():
            if controller in (root / "cgroup.controllers").read_text().split():
                return root, True
        elif controller in root.name.split(","):
            return root, False
    raise RuntimeError(f"no cgroup controller {controller} here")


@contextlib.contextmanager
def _group(controller: str) -> Iterator[tuple[Path, bool]]:
    root, unified = _root(controller)
    enable = root / "cgroup.subtree_control"
    enabled = unified and controller not in enable.read_text().split()
    if enabled:
        enable.write_text(f"+{controller}")
    group = root / f"cni-torture-{os.getpid()}-{time.monotonic_ns()}"
    group.mkdir()
    try:
        yield group, unified
    finally:
        for pid in (group / "cgroup.procs").read_text().split():
            (root / "cgroup.procs").write_text(pid)
        deadline = time.monotonic() + 10
        while group.exists():
            try:
                group.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        if enabled:
            with contextlib.suppress(OSError):  # somebody else uses it by now
                enable.write_text(f"-{controller}")


@contextlib.contextmanager
def cpu_quota(percent: int) -> Iterator[Path]:
    """A cgroup that gets so much of one CPU."""
    with _group("cpu") as (group, unified):
        if unified:
            (group / "cpu.max").write_text(f"{percent * 1000} 100000")
        else:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text(str(percent * 1000))
        yield group


@contextlib.contextmanager
def memory_limit(size: int) -> Iterator[Path]:
    """A cgroup that may take so many bytes."""
    with _group("memory") as (group, unified):
        (group / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(size))
        if unified and (group / "memory.swap.max").exists():
            (group / "memory.swap.max").write_text("0")
        yield group


def move(pid: int, group: Path) -> None:
    """Puts a process into a cgroup."""
    (group / "cgroup.procs").write_text(str(pid))
