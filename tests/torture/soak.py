"""Mixed work for a long time: nothing is lost, each thing is told once, and the collector's memory stays flat."""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import signal
import statistics
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cni_collector import CniEnd, CniStart, Event, NetnsCreate, NetnsDestroy, NetnsEnter, NetnsExit

from ..support.actors import Puppet, a_netns
from ..support.loads import Amount, Done, done, work
from ..support.outcome import Counts, Outcome, lost
from ..support.overflow import weigh
from ..support.watch import LARGE, Watch, mark, several_marks

FLAT = 2.0
"""Megabytes by which the median RSS of the last third may be above that of the second; the first third warms up."""
SAMPLES = 0.5
"""Seconds between two samples of the RSS."""
ROUND = Amount(pairs=97, refusals=23, births=3, calls=5, denials=7)
"""What a worker does before it rests."""
REST = 0.5
"""Seconds."""


def soak(home: Path, seconds: float, pods: bool, say: Callable[[str], None]) -> Outcome:
    """Works for so long.

    Args:
        home: an empty directory.
        seconds: how long.
        pods: also with pods, by a containerd of its own.
        say: told how it goes.
    """
    with contextlib.ExitStack() as stack:
        witness = stack.enter_context(Watch(*LARGE, home=home, name="witness"))
        watch = stack.enter_context(Watch(home=home, name="watch"))
        holder, _ = stack.enter_context(a_netns())
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        stack.callback(os.close, fd)
        podder = stack.enter_context(Puppet(_pods)) if pods else None
        if podder:
            stack.callback(_give_up, podder)
            podder.hear()
        several_marks(watch, witness)
        workers = [stack.enter_context(Puppet(lambda self: _work(self, fd))) for _ in range(2)]
        if podder:
            podder.say("go")
        rss = _sample(watch, seconds, say)
        made = Done(Counts())
        for worker in workers:
            worker.say("enough")
        for worker in workers:
            made = made.join(done(worker.end()))
        calls: list[list[Any]] = []
        if podder:
            podder.say("enough")
            calls, number = podder.hear()
            say(f"{number} pods have come and gone")
        mark(watch, witness)
        witness.destroyed(*made.cookies)
        several_marks(watch, witness)
        if podder:
            podder.end()
        stop = watch.stop()
        witness.stop()
    outcome = weigh(watch, witness, made)
    outcome.same("lost, in collector_stop", stop.lost, lost(watch.events).total())
    events = witness.between(0, -1)
    _once_each(outcome, events, made)
    if pods:
        _as_the_plugins_say(outcome, events, calls)
        outcome.notes.append(f"{number} pods, {len(calls)} CNI calls")
    _flat(outcome, rss)
    outcome.notes.append(f"{seconds:.0f} s")
    return outcome


def _work(self: Puppet, fd: int) -> dict[str, Any]:
    total = Done(Counts())
    while not self.spoken_to():
        total = total.join(done(work(ROUND, fd)))
        time.sleep(REST)
    return {what: value if what == "counts" else list(value) for what, value in total._asdict().items()}


def _pods(self: Puppet) -> None:
    """Pods come and go, every fifth fails, until it is enough; says what their plugins have noted, and how many."""
    import grpc  # here: it must not be forked

    from ..support.containerd import Containerd

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # containerd is ended on the way out
    with Containerd() as containerd:
        self.say("ready")
        self.hear()
        number = 0
        while not self.spoken_to():
            name, number = f"web-{number}", number + 1
            if number % 5 == 0:
                with containerd.plugins.fault("portmap", "ADD", "error"), contextlib.suppress(grpc.RpcError):
                    containerd.run_pod("torture", name, str(uuid.uuid4()))
                continue
            pod = containerd.run_pod("torture", name, str(uuid.uuid4()))
            if number % 2 == 0:
                containerd.create_container(pod, "main", ["sleep", "1000"])
            containerd.stop_pod(pod)
            containerd.remove_pod(pod)
        self.hear()
        log = containerd.plugins.log.calls()
        self.say([[[call.pid, call.command, call.path, call.container] for call in log], number])
        self.hear()


def _give_up(podder: Puppet) -> None:
    """Whatever happened, containerd is to be ended by who has started it."""
    if podder._reaped:
        return
    os.kill(podder.pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if os.waitpid(podder.pid, os.WNOHANG)[0]:
            podder._reaped = True
            return
        time.sleep(0.1)


def _sample(watch: Watch, seconds: float, say: Callable[[str], None]) -> list[float]:
    """The collector's RSS in megabytes, again and again for so long."""
    rss = []
    begun = told = time.monotonic()
    while (now := time.monotonic()) - begun < seconds:
        rss.append(_rss(watch.pid))
        if now - told > 60:
            told = now
            say(f"{now - begun:.0f} s, RSS {rss[-1]:.1f} MB")
        time.sleep(SAMPLES)
    return rss


def _rss(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0


def _flat(outcome: Outcome, rss: list[float]) -> None:
    third = len(rss) // 3
    first, second, last = (statistics.median(part) for part in (rss[:third], rss[third:-third], rss[-third:]))
    outcome.check(last - second <= FLAT, f"RSS grows: {second:.1f} MB, then {last:.1f} MB")
    outcome.notes.append(
        f"RSS, medians of three thirds: {first:.1f}, {second:.1f}, {last:.1f} MB; highest {max(rss):.1f} MB"
    )


def _once_each(outcome: Outcome, events: list[Event], made: Done) -> None:
    """Births, deaths and the truth are the same; who enters leaves once; each call has one start and one end."""
    for kind in (NetnsCreate, NetnsDestroy):
        told = Counts(str(e.netns.cookie) for e in events if isinstance(e, kind) and e.netns)
        outcome.check(max(told.values(), default=0) <= 1, f"some {kind.__name__} was told twice")
        missing = made.cookies - {int(one) for one in told}
        outcome.check(not missing, f"{len(missing)} namespaces without {kind.__name__}")
    for begins, ends in ((NetnsEnter, NetnsExit), (CniStart, CniEnd)):
        for pid, group in itertools.groupby(
            sorted(filter(made.mine, events), key=lambda e: e.pid or 0), lambda e: e.pid
        ):
            kinds = [type(e) for e in group if isinstance(e, begins | ends)]
            good = kinds == [begins, ends] * (len(kinds) // 2)
            outcome.check(good or not pid, f"{begins.__name__} and {ends.__name__} of {pid} do not alternate")


def _as_the_plugins_say(outcome: Outcome, events: list[Event], calls: list[list[Any]]) -> None:
    """Each call that a plugin has noted has one start and one end, and no other call of a plugin was told."""
    noted = collections.Counter((pid, command, path, container) for pid, command, path, container in calls)
    folders = {os.path.dirname(path) for _, _, path, _ in calls}
    for kind in (CniStart, CniEnd):
        told = collections.Counter(
            (e.pid, e.command, e.plugin, e.cni_container_id)
            for e in events
            if isinstance(e, kind) and os.path.dirname(e.plugin or "") in folders
        )
        outcome.check(told == noted, f"{kind.__name__} of plugins: {told.total()} told, {noted.total()} noted")
        outcome.happened[f"{kind.__struct_config__.tag} of pods"] = noted.total()
        outcome.arrived[f"{kind.__struct_config__.tag} of pods"] = (told & noted).total()
    sandboxes = {container for _, _, _, container in calls}
    pods = {e.netns.cookie for e in events if isinstance(e, CniStart) and e.netns and e.cni_container_id in sandboxes}
    lives: tuple[type[Event], ...] = (NetnsCreate, NetnsDestroy)
    for life in lives:
        told_pods = sum(isinstance(e, life) and e.netns is not None and e.netns.cookie in pods for e in events)
        outcome.happened[f"{life.__struct_config__.tag} of pods"] = len(pods)
        outcome.arrived[f"{life.__struct_config__.tag} of pods"] = told_pods
    outcome.balance()
