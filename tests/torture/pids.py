"""Process ids that are used again at once, and all of them used up: nothing is told of another process."""

from __future__ import annotations

import collections
import os
import threading
import time
from pathlib import Path

from cni_collector import CniEnd, CniStart, Event, NetnsEnter, NetnsExit

from ..support.actors import CLONE_NEWNET, Puppet, a_netns, clone3, execute, setns
from ..support.outcome import Counts, Outcome, count, lost
from ..support.watch import LARGE, Watch, mark

WRAPS_UP_TO = 1 << 16
"""Where there are more pids than these, using all of them up would take too long."""


def pids(home: Path, rounds: int, wraps: int) -> Outcome:
    """One pid is used again and again, then all are used up.

    Args:
        home: an empty directory.
        rounds: how often one pid serves: in turns for a task that enters a namespace and ends there, one that does
            nothing, a CNI call, and a program that is none.
        wraps: how often all pids are used up, where the machine has few enough of them, while calls go on.
    """
    outcome = Outcome()
    with Watch(*LARGE, home=home, name="watch") as watch, a_netns() as (holder, cookie):
        fd = os.open(f"/proc/{holder.pid}/ns/net", os.O_RDONLY)
        mark(watch)
        with Puppet(lambda _: _one_pid(fd, rounds)) as process:
            pid, expected = process.end()
        mark(watch)
        told = [_word(e, cookie) for e in watch.between() if e.pid == pid]
        outcome.same("what was told of the pid", told, expected)
        outcome.happened.update(_types(expected))
        outcome.arrived.update(count(e for e in watch.between() if e.pid == pid))
        outcome.notes.append(f"one pid served {rounds} processes")
        if int(Path("/proc/sys/kernel/pid_max").read_text()) <= WRAPS_UP_TO:
            with Puppet(lambda _: _all_pids(fd, wraps)) as process:
                wrapped, truth = process.end()
            mark(watch)
            _check_wrap(outcome, watch.between(1, 2), truth, cookie)
            outcome.notes.append(f"all pids were used up {wrapped} times, by threads that did nothing else")
        else:
            outcome.notes.append("the machine has too many pids to use all of them up")
        watch.stop()
        os.close(fd)
    outcome.lost = lost(watch.events)
    outcome.balance()
    return outcome


def _types(words: list[str]) -> Counts:
    return Counts(word.split()[0] for word in words)


def _word(event: Event, cookie: int) -> str:
    if isinstance(event, CniStart):
        return f"cni_start {event.cni_container_id}"
    if isinstance(event, CniEnd):
        return f"cni_end {event.cni_container_id} {event.exit_code}"
    inside = event.netns is not None and event.netns.cookie == cookie
    return f"{event.type} {event.cause} {inside} {event.comm}"


def _comm(name: str) -> None:
    Path("/proc/self/comm").write_text(name)


def _one_pid(fd: int, rounds: int) -> tuple[int, list[str]]:
    """The pid, and what must be told of it, in this order."""
    expected: list[str] = []
    reused = os.fork()
    if not reused:
        os._exit(0)
    os.waitpid(reused, 0)
    for number in range(rounds):
        child = _again(reused)
        if not child:
            _be(number, fd)
        status = os.waitpid(child, 0)[1]
        if number % 4 == 0:
            expected += [
                f"netns_{what} {cause} True p{number}" for what, cause in (("enter", "setns"), ("exit", "exit"))
            ]
        elif number % 4 == 2:
            expected += [f"cni_start c{number}", f"cni_end c{number} {os.waitstatus_to_exitcode(status)}"]
    return reused, expected


def _again(pid: int) -> int:
    """A fork whose child has this pid, once it is nobody's: somebody else may have got it."""
    while True:
        try:
            return clone3(0, pid)
        except FileExistsError:
            time.sleep(0.01)


def _be(number: int, fd: int) -> None:
    """One of the four kinds of process. Does not return."""
    status = number % 7
    try:
        if number % 4 == 0:
            _comm(f"p{number}")
            setns(fd, CLONE_NEWNET)
        elif number % 4 == 2:
            environment = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": f"c{number}"}
            os.execve("/bin/sh", ["sh", "-c", f"exit {status}"], environment)
        elif number % 4 == 3:
            os.execve("/bin/sh", ["sh", "-c", f"exit {status}"], {"PATH": "/bin"})
    finally:
        os._exit(status)


def _all_pids(fd: int, wraps: int) -> tuple[int, list[list[object]]]:
    """How often the pids began anew, and what was done meanwhile: pid, container, exit status; or pid, comm."""
    threading.stack_size(64 << 10)
    truth: list[list[object]] = []
    wrapped = before = number = 0
    lasting = None
    while wrapped < wraps:
        for _ in range(499):
            thread = threading.Thread(target=int)
            thread.start()
            thread.join()
        now = thread.native_id or 0
        wrapped += now < before
        before = now
        number += 1
        status = number % 5
        environment = [b"CNI_COMMAND=DEL", f"CNI_CONTAINERID=w{number}".encode()]
        pid = execute(environment, "/bin/sh", "-c", f"exit {status}")
        os.waitpid(pid, 0)
        truth.append([pid, f"w{number}", status])
        pid = os.fork()
        if not pid:
            _comm(f"w{number}")
            setns(fd, CLONE_NEWNET)
            os._exit(0)
        os.waitpid(pid, 0)
        truth.append([pid, f"w{number}"])
        lasting = lasting or execute([*environment[:1], b"CNI_CONTAINERID=lasting"], "/bin/sleep", "1000")
    if lasting:  # it has seen all of that
        os.kill(lasting, 9)
        os.waitpid(lasting, 0)
        truth.append([lasting, "lasting", None])
    return wrapped, truth


def _check_wrap(outcome: Outcome, events: list[Event], truth: list[list[object]], cookie: int) -> None:
    calls = {name: (pid, status) for pid, name, *rest in truth for status in rest}
    tasks = {name: pid for pid, name, *rest in truth if not rest}
    told = [e for e in events if isinstance(e, CniStart | CniEnd) and e.cni_container_id in calls]
    moved = [e for e in events if isinstance(e, NetnsEnter | NetnsExit) and e.netns and e.netns.cookie == cookie]
    outcome.happened.update(
        {"cni_start": len(calls), "cni_end": len(calls), "netns_enter": len(tasks), "netns_exit": len(tasks)}
    )
    outcome.arrived.update(count([*told, *moved]))
    outcome.same(
        "ends of calls",
        sorted((str(e.cni_container_id), e.pid, e.exit_code) for e in told if isinstance(e, CniEnd)),
        sorted((name, *facts) for name, facts in calls.items()),
    )
    starts = collections.Counter((e.cni_container_id, e.pid) for e in told if isinstance(e, CniStart))
    outcome.same("beginnings of calls", starts, collections.Counter((name, pid) for name, (pid, _) in calls.items()))
    for kind in (NetnsEnter, NetnsExit):
        who = sorted((str(e.comm), e.pid) for e in moved if isinstance(e, kind))
        outcome.same(f"who told {kind.__name__}", who, sorted(tasks.items()))
