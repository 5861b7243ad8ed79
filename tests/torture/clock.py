"""The system's time is set forward and back: times follow it, order and durations do not care.

`python -m tests.torture.clock` does it to the machine that it runs on. So the fault runs it in an emulated one.
"""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from cni_collector import CniEnd, Event, NetnsDestroy

from ..support.actors import CLONE_NEWNET, Puppet, cookie, execute, refused, setns, unshare
from ..support.outcome import Counts, Outcome, count, lost
from ..support.watch import CHECKOUT, LARGE, Watch, mark

MACHINE: Final = ("6.12", "amd64")
STEPS: Final = (3600.0, -7200.0, 90_000.0, -86_400.0, 0.5, -0.5)
"""Seconds by which the time is set forward or back."""
NEAR: Final = 1.0
"""Seconds by which a time may be off."""


class Acted(NamedTuple):
    """Something that was done, between two moments of the system's time."""

    tid: int
    before: float
    after: float


def clock(_home: Path) -> Outcome:
    """Runs this module in an emulated machine."""
    version, arch = MACHINE
    command = [sys.executable, "-m", "tests.machines", "run", version, arch, "--", "python", "-m", __spec__.name]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=900)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    outcome = Outcome()
    if done.returncode or not lines:
        outcome.check(False, f"the machine ended with {done.returncode}: {done.stderr[-2000:]}")
        return outcome
    told: dict[str, Any] = json.loads(lines[-1])
    for field in ("happened", "arrived", "lost"):
        setattr(outcome, field, Counts(told[field]))
    outcome.notes, outcome.wrong = told["notes"], told["wrong"]
    return outcome


def steps(home: Path, set_time: Callable[[float], None], idle: float) -> Outcome:
    """Sets the time again and again, and acts before and after.

    Args:
        home: an empty directory.
        set_time: moves the system's time by so many seconds.
        idle: seconds in which nothing happens, after each step: the events that come then are the first after it.
    """
    acted: list[Acted] = []
    began = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    with Watch(*LARGE, home=home, name="watch") as watch:
        mark(watch)
        lives, calls = [], []
        for step in STEPS:
            with Puppet(_live) as life:
                born = life.hear()
                call = execute([b"CNI_COMMAND=ADD"], "/bin/sleep", str(idle + 1))
                time.sleep(0.2)
                set_time(step)
                time.sleep(idle)
                acted += [_act() for _ in range(20)]
                os.waitpid(call, 0)
                life.end()
            lives.append(born)
            calls.append(call)
        watch.destroyed(*lives)
        mark(watch)
        watch.stop()
    took = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - began
    events = watch.between()
    outcome = Outcome(lost=lost(watch.events))
    _check_times(outcome, events, acted)
    durations = [e.duration_ns or 0 for e in events if isinstance(e, CniEnd) and e.pid in calls]
    outcome.same("durations of calls", [idle + 1 <= d / 1e9 < idle + 60 for d in durations], [True] * len(calls))
    ends = [e for e in events if isinstance(e, NetnsDestroy) and e.netns and e.netns.cookie in lives]
    lifetimes = [(e.lifetime_ns or 0) / 1e9 for e in ends]
    outcome.same("lifetimes", [idle <= one <= took / 1e9 for one in lifetimes], [True] * len(lives))
    outcome.check(all((e.teardown_ns or 0) > 0 for e in ends), "a tear-down took no time, or less")
    outcome.happened.update({"netns_enter_failed": len(acted), "cni_end": len(calls), "netns_destroy": len(lives)})
    outcome.arrived.update(Counts({"cni_end": len(durations), "netns_destroy": len(ends)}))
    outcome.balance()
    outcome.notes.append(
        f"{len(STEPS)} steps of up to {max(map(abs, STEPS)) / 3600:.0f} hours, "
        "each in the lives of a CNI call and a netns"
    )
    return outcome


def _live(self: Puppet) -> None:
    unshare(CLONE_NEWNET)
    self.say(cookie())
    self.hear()


def _act() -> Acted:
    """A refusal, by a process of its own."""
    before = time.time()
    pid = os.fork()
    if not pid:
        refused(lambda: setns(-1, CLONE_NEWNET))
        os._exit(0)
    os.waitpid(pid, 0)
    return Acted(pid, before, time.time())


def _check_times(outcome: Outcome, events: list[Event], acted: list[Acted]) -> None:
    pids = [one.tid for one in acted]
    told = [e for e in events if e.tid in set(pids) and e.type == "netns_enter_failed"]
    outcome.same("the order", [e.tid for e in told], pids)
    off = [
        max(one.before - at, at - one.after, 0)
        for event, one in zip(told, acted, strict=False)
        for at in [datetime.datetime.fromisoformat(f"{event.time[:26]}+00:00").timestamp()]
    ]
    outcome.arrived.update(count(told))
    worst = max(off, default=0)
    outcome.check(worst < NEAR, f"times are off by up to {worst:.3f} s, {sum(o >= NEAR for o in off)} of {len(off)}")
    outcome.notes.append(f"times were off by {worst:.3f} s at most, also of the first event after a step")


def main() -> None:
    """Does it here, and prints what it came to as JSON."""

    def set_time(by: float) -> None:
        time.clock_settime(time.CLOCK_REALTIME, time.time() + by)

    with tempfile.TemporaryDirectory(prefix="clock-") as home:
        outcome = steps(Path(home), set_time, 1.5)
    fields = ("happened", "arrived", "lost", "notes", "wrong")
    print(json.dumps({field: getattr(outcome, field) for field in fields}), flush=True)


if __name__ == "__main__":
    main()
