"""No file descriptors left: at the start one clear error, later it goes on with those that it has."""

from __future__ import annotations

import contextlib
import resource
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from cni_collector import CniStart, Pod

from ..support.actors import a_netns, execute, reap
from ..support.exporting import read_events
from ..support.loads import TRUE, Amount
from ..support.outcome import Outcome
from ..support.overflow import beside_a_witness
from ..support.watch import CHECKOUT, Watch

POD = Pod("shop", "web-0")


def descriptors(home: Path, limits: Sequence[int], amount: Amount, *options: str) -> Outcome:
    """Starts it with each of these limits, then takes all that are free from one that runs."""
    about: list[int] = []
    holders: list[int] = []

    @contextlib.contextmanager
    def none_left(victim: Watch) -> Iterator[None]:
        before = resource.prlimit(victim.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(victim.pid, resource.RLIMIT_NOFILE, (1, before[1]))
        try:
            for last in (False, True):
                holder, call = _call()
                holders.append(holder)
                about.append(call)
                if not last:
                    yield
        finally:
            resource.prlimit(victim.pid, resource.RLIMIT_NOFILE, before)

    outcome = Outcome()
    works = [limit for limit in limits if starts(outcome, f"{limit} descriptors", "--nofile", limit)]
    outcome.notes.append(
        f"started with {len(limits)} limits from {limits[0]} to {limits[-1]} descriptors: "
        f"{len(limits) - len(works)} times one error, attached from {min(works, default=0)} on"
    )
    running = beside_a_witness(home, none_left, amount, *options)
    told = read_events(home / "victim.json")
    calls = [e for e in told if isinstance(e, CniStart) and e.pid in about]
    outcome.same("pods that calls were told for", [e.pod for e in calls], [POD, POD])
    theirs = {e.netns.cookie for e in told if e.netns and e.pid in holders}
    others = [e for e in told if e.netns and e.netns.cookie in theirs and e.pod not in (None, POD)]
    outcome.check(not others, f"events with a pod that nobody named: {others[:3]}")
    told_of = [e.netns and e.netns.cookie in theirs for e in calls]
    outcome.same("CNI calls by /proc/PID/ns/net with their namespace, with no descriptor left", told_of, [True, True])
    outcome.add(running)
    return outcome


def _call() -> tuple[int, int]:
    """Who sits in a namespace, and a CNI call about it: where that task is, the kernel side finds."""
    with a_netns() as (holder, _):
        arguments = b"CNI_ARGS=K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0"
        path = f"CNI_NETNS=/proc/{holder.pid}/ns/net".encode()
        pid = execute([b"CNI_COMMAND=ADD", b"CNI_CONTAINERID=descriptors", path, arguments], TRUE)
        reap(pid)
        holder.end()
    return holder.pid, pid


def starts(outcome: Outcome, what: str, option: str, limit: int) -> bool:
    """Whether it starts with a limit of prlimit's; what is wrong with the way in which it does not is noted."""
    watch = [sys.executable, "-m", "cni_collector", "watch", "-o", "json", "--duration", "0.05"]
    command = ["prlimit", f"{option}={limit}", *watch]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=60)
    errors = done.stderr.splitlines()
    if done.returncode == 0:
        outcome.same(f"{what}: stderr", errors, [])
        outcome.check("collector_stop" in done.stdout, f"{what}: it ended without collector_stop")
        outcome.check('"missing"' not in done.stdout, f"{what}: it goes on without some hooks")
        return True
    sentence = len(errors) == 1 and errors[0].startswith("cni-collector: ")
    outcome.check(done.returncode == 1 and sentence, f"{what}: status {done.returncode}, {errors[-1:]} ")
    return False
