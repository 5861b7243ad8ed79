"""No memory left: at the start one clear error; later it ends, or goes on, and what it has told is true."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cni_collector import Event

from ..support import loads
from ..support.loads import Amount, Done
from ..support.outcome import Outcome, count
from ..support.overflow import Trouble, weigh
from ..support.watch import CHECKOUT, LARGE, PATIENCE, Watch, mark, several_marks
from . import groups
from .descriptors import starts
from .disk import small_disk

MB = 1 << 20
_DEATHS = {
    signal.SIGKILL: "the kernel's choice, of which nobody is told beforehand",
    signal.SIGABRT: "the C library cannot load what ends a thread",
    signal.SIGSEGV: "msgspec does not look whether it was given memory",
}
"""By which it may end."""


def address_space_at_start(sizes: Sequence[int]) -> Outcome:
    """Starts it with so many megabytes of address space; where Python itself cannot start, that shows nothing."""
    outcome = Outcome()
    enough = [size for size in sizes if _python_starts((size - 2) * MB)]
    works = [size for size in enough if starts(outcome, f"{size} MB of address space", "--as", size * MB)]
    outcome.notes.append(
        f"started with {len(enough)} limits from {enough[0]} to {enough[-1]} MB of address space: "
        f"{len(enough) - len(works)} times one error, attached from {min(works, default=0)} MB on"
    )
    return outcome


def _python_starts(size: int) -> bool:
    command = ["prlimit", f"--as={size}", sys.executable, "-c", "import cni_collector.cli"]
    return subprocess.run(command, cwd=CHECKOUT, stderr=subprocess.DEVNULL, check=False).returncode == 0


def address_space(home: Path, amount: Amount, *options: str) -> Outcome:
    """Takes all that is free from one that runs, and has a full ring to read."""

    @contextlib.contextmanager
    def none_left(victim: Watch) -> Iterator[None]:
        os.kill(victim.pid, signal.SIGSTOP)
        try:
            yield
            resource.prlimit(victim.pid, resource.RLIMIT_AS, (1, resource.RLIM_INFINITY))
        finally:
            os.kill(victim.pid, signal.SIGCONT)

    return _survives_or_not(home, "no address space", none_left, amount, *options)


def growing_queue(home: Path, amount: Amount, *options: str) -> Outcome:
    """Takes all that is free from one whose queue grows, because its disk is full."""
    with small_disk(home / "disk", "16k") as disk:

        @contextlib.contextmanager
        def none_left(victim: Watch) -> Iterator[None]:
            resource.prlimit(victim.pid, resource.RLIMIT_AS, (1, resource.RLIM_INFINITY))
            yield

        return _survives_or_not(home, "no address space", none_left, amount, *_queue(disk), *options)


def _queue(disk: Path) -> tuple[str, ...]:
    """What makes it keep all that happens."""
    return "--file", str(disk / "events.json"), "--queue", "1000000"


def group_limit(home: Path, size: int, amount: Amount, *options: str) -> Outcome:
    """Lets it have so many bytes more, while its queue grows, because its disk is full."""
    with groups.memory_limit(size) as group, small_disk(home / "disk", "16k") as disk:

        @contextlib.contextmanager
        def limit(victim: Watch) -> Iterator[None]:
            groups.move(victim.pid, group)
            yield

        return _survives_or_not(home, f"{size >> 20} MB of its cgroup", limit, amount, *_queue(disk), *options)


def _survives_or_not(home: Path, name: str, trouble: Trouble, amount: Amount, *options: str) -> Outcome:
    with Watch(*LARGE, home=home, name="witness") as witness, Watch(*options, home=home, name="victim") as victim:
        several_marks(victim, witness)
        with trouble(victim):
            made = loads.run(amount)
            mark(witness)
            witness.destroyed(*made.cookies)
        try:
            several_marks(victim, witness)
            victim.stop()
        except (TimeoutError, RuntimeError):
            status = victim.process.wait(PATIENCE)
            mark(witness)
            witness.stop()
            victim.read()
            return _ended(victim, witness, made, f"{name}: ", status)
        witness.stop()
        outcome = weigh(victim, witness, made)
        outcome.notes.append(f"{name}: it went on")
        return outcome


def _ended(victim: Watch, witness: Watch, made: Done, name: str, status: int) -> Outcome:
    """It has ended: each process' part of what it told must be the beginning of what there was to tell."""
    truth = list(filter(made.mine, witness.between(0, -1)))
    told = list(filter(made.mine, victim.events))
    outcome = Outcome(count(truth), count(told), ended=True)
    outcome.same("the load, as the witness saw it", count(truth), made.counts)
    for pid in made.pids:
        part = [_fact(e) for e in told if e.pid == pid]
        outcome.same(f"{name}told of {pid}", part, [_fact(e) for e in truth if e.pid == pid][: len(part)])
    killed = status == -signal.SIGKILL  # the kernel may end a write in the middle then
    outcome.check(killed or victim.path.read_bytes().endswith(b"\n"), f"{name}its last line is torn")
    of_the_queue = ("events wait until it works again", "events were dropped")
    errors = [line for line in victim.said().splitlines() if not any(part in line for part in of_the_queue)]
    if status < 0:
        number = signal.Signals(-status)
        outcome.check(number in _DEATHS, f"{name}ended by {number.name}")
        outcome.notes.append(f"{name}ended by {number.name}: {_DEATHS.get(number)}")
    else:
        outcome.check(status == 1 and len(errors) == 1, f"{name}status {status}, {errors[-3:]}")
        outcome.notes.append(f"{name}ended with: {errors[-1:]}")
    return outcome


def _fact(event: Event) -> tuple[object, ...]:
    return event.type, event.tid, event.cause, event.error, event.netns, event.prev, event.next
