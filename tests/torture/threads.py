"""One namespace, entered by very many threads of one process at once, who leave by moving or by ending."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from cni_collector import NetnsEnter, NetnsExit

from ..support.actors import CLONE_NEWNET, Puppet, a_netns, setns
from ..support.outcome import Outcome, count, lost
from ..support.watch import LARGE, Watch, mark

STACK = 64 << 10


def threads(home: Path, number: int) -> Outcome:
    """So many of them; every second one moves back, the others end inside."""
    with Watch(*LARGE, home=home, name="watch") as watch, a_netns() as (holder, cookie):
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)

        def play(_: Puppet) -> list[int]:
            threading.stack_size(STACK)
            home_fd = os.open("/proc/self/ns/net", os.O_RDONLY)
            gate, inside = threading.Barrier(number), threading.Barrier(number)
            tids = []

            def enter(index: int) -> None:
                tids.append(threading.get_native_id())
                gate.wait()
                setns(fd, CLONE_NEWNET)
                inside.wait()
                if index % 2:
                    setns(home_fd, CLONE_NEWNET)

            crowd = [threading.Thread(target=enter, args=[index]) for index in range(number)]
            for one in crowd:
                one.start()
            for one in crowd:
                one.join()
            return tids

        mark(watch)
        with Puppet(play) as process:
            tids = process.end()
        os.close(fd)
        mark(watch)
        watch.stop()
    about = [e for e in watch.between() if e.pid == process.pid]
    enters, exits = ([e for e in about if isinstance(e, kind)] for kind in (NetnsEnter, NetnsExit))
    moved = number // 2
    outcome = Outcome(arrived=count(about), lost=lost(watch.events))
    outcome.happened.update({"netns_enter": number, "netns_exit": number})
    outcome.balance()
    outcome.same("threads that entered", sorted(e.tid or 0 for e in enters), sorted(tids))
    outcome.same("threads that left", sorted(e.tid or 0 for e in exits), sorted(tids))
    outcome.same("threads that moved", sum(e.cause == "setns" for e in exits), moved)
    outcome.same("threads that ended", sum(e.cause == "exit" for e in exits), number - moved)
    outcome.same("namespaces", {e.netns.cookie for e in about if e.netns}, {cookie})
    return outcome
