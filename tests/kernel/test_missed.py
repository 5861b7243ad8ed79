"""Return probes can be missed: what is told and what is counted as lost add up all the same."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest

from cni_collector import Lost, NetnsCreateFailed

from ..support.actors import CLONE_NEWNET, NOBODY, Puppet, act, clone, reap, refused
from ..support.watch import watching


@pytest.mark.alone  # the places of return probes are the machine's
@pytest.mark.parametrize("options", [[], ["--type", "netns_create_failed"]], ids=["all types", "refusals alone"])
def test_refusals_are_told_or_counted_while_many_calls_are_under_way(tmp_path: Path, options: list[str]) -> None:
    """Parents of vfork() wait inside the kernel's clone: enough of them keep all places of a return probe."""
    attempts = 13
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def wait_in_vfork(_: Puppet) -> None:
        # The child opens the fifo before it may execute its program, and the call ends after that.
        child = os.posix_spawn(
            "/bin/true", ["true"], os.environ, file_actions=[(os.POSIX_SPAWN_OPEN, 0, fifo, os.O_RDONLY, 0)]
        )
        reap(child)

    def attempt() -> None:
        os.setuid(NOBODY)
        for _ in range(attempts):
            assert refused(lambda: clone(CLONE_NEWNET))

    with watching(*options) as mine, ExitStack() as stack:
        crowd = [stack.enter_context(Puppet(wait_in_vfork)) for _ in range(2 * (os.cpu_count() or 1) + 11)]
        while not all(_waits(one.pid) for one in crowd):
            pass
        pid, _ = act(attempt)
        with fifo.open("wb"):
            for one in crowd:
                one.end()
        mine.stop()
    told = sum(isinstance(event, NetnsCreateFailed) and event.pid == pid for event in mine.events)
    lost = sum(event.by_type.get("netns_create_failed", 0) for event in mine.events if isinstance(event, Lost))
    assert told + lost == attempts
    assert (lost > 0) == (mine.start.tier == "kprobe")


def _waits(pid: int) -> bool:
    """Whether a process is in a wait that only its end interrupts."""
    return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] == "D"
