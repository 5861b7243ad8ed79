"""Ordinary users who try to have the collector say something false: all stays true, and harmless to read."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from cni_collector import CniEnd, CniStart, Event, Pod
from cni_collector.identity.cgroups import CgroupPaths

from ..support.actors import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWUSER,
    NOBODY,
    a_netns,
    act,
    become_root_of_a_user_namespace,
    bind_mount,
    cookie,
    execute,
    reap,
    refused,
    setns,
    unmount,
    unshare,
)
from ..support.leftovers import hierarchies, remove_groups
from ..support.loads import TRUE
from ..support.outcome import Counts, Outcome, count, lost
from ..support.watch import CHECKOUT, LARGE, Watch, mark

POD: Final = Pod("shop", "web-0", str(uuid.UUID(int=1)))
_ARGS: Final = f"K8S_POD_NAMESPACE={POD.namespace};K8S_POD_NAME={POD.name};K8S_POD_UID={POD.uid}".encode()
COMMS: Final = (
    b"new\nline",
    b"\x1b[2J\x1b[31mred",
    b"\xff\xfe\x80bad",
    b"123456789012345",
    "äöü€€€".encode()[:15],
    b'"},{"type":"x"',
    b"\\x41\\u0041",
    b"\r\t\x07\x08\x7f",
    "\u202eevil\u200b".encode(),
    b" ",
    b"",
)
"""Names of tasks. The fifth is cut in the middle of a character."""
NAMES: Final = (
    b"\x1b]0;title\x07",
    b"\xff\xfe",
    b'quo"te\\back',
    "\u202egnp".encode(),
    b"...",
    b"pod" + str(POD.uid).encode() + b"x",
    b"crio-" + b"a" * 63 + b"g",
    b"x" * 255,
    b"kubepods",
    b"pod" + str(uuid.UUID(int=2)).encode(),
    b"f" * 64,
)
"""Names of cgroups, each below the one before it."""

_PR_SET_DUMPABLE: Final = 4
_PR_SET_NAME: Final = 15
_libc = ctypes.PyDLL(None, use_errno=True)


def hostile(home: Path, repeats: int) -> Outcome:
    """Everything that they try, so many times; beside a pod that must stay what it is."""
    outcome = Outcome()
    named = home / "victim"
    named.touch()
    with contextlib.ExitStack() as stack:
        watch = stack.enter_context(Watch(*LARGE, home=home, name="watch"))
        privileged = stack.enter_context(Watch(*LARGE, "--user", "root", home=home, name="privileged"))
        holder, victim = stack.enter_context(a_netns())
        path = f"/proc/{holder.pid}/ns/net"
        bind_mount(path, str(named))
        stack.callback(unmount, str(named))
        mark(watch, privileged)
        reap(execute([b"CNI_COMMAND=ADD", b"CNI_NETNS=" + path.encode(), b"CNI_ARGS=" + _ARGS], TRUE))
        mark(watch, privileged)
        group = stack.enter_context(_delegated())
        attempts = [
            attempt
            for _ in range(repeats)
            for attempt in (
                _odd_comms(outcome),
                _no_calls(outcome, path),
                _odd_environments(outcome, path),
                _own_namespaces(outcome, path, named),
                _itself_again(outcome),
                _names_that_change(outcome),
                _odd_groups(outcome, group),
            )
        ]
        _listed(outcome, path)
        reap(execute([b"CNI_COMMAND=CHECK", b"CNI_NETNS=" + path.encode()], TRUE))
        mark(watch, privileged)
        for one in (watch, privileged):
            one.stop()
    pids = {pid for attempt in attempts for pid in attempt.pids}
    for one in (watch, privileged):
        events = one.between(1, 2)
        for attempt in attempts:
            attempt.check(events)
        about = [e for e in events if e.netns and e.netns.cookie == victim]
        wrong = [e for e in about if not isinstance(e, CniStart | CniEnd) and e.pod != POD]
        outcome.check(not wrong, f"the victim is told to be another's: {wrong[:2]}")
        named_wrong = [e for e in about if e.name != str(named)]
        outcome.check(not named_wrong, f"the victim is told to have another name: {named_wrong[:2]}")
        others = [e for e in events if e.pod and e not in about and not isinstance(e, CniStart | CniEnd)]
        mine = [e for e in others if e.pod and (e.pod.uid in (POD.uid, "evil") or e.pid in pids)]
        outcome.check(not mine, f"others are told to be of the victim's pod, or of one that they named: {mine[:2]}")
        _readable(outcome, one.path)
    outcome.arrived = count(e for e in watch.between(1, 2) if e.pid in pids)
    for attempt in attempts:
        outcome.happened.update(attempt.counts)
    outcome.lost = lost([*watch.events, *privileged.events])
    outcome.balance()
    return outcome


class Attempt(NamedTuple):
    """What one of them has done.

    Attributes:
        counts: the facts that it has made.
        pids: by which processes.
        check: notes what was told wrong of it.
    """

    counts: Counts
    pids: set[int]
    check: Callable[[list[Event]], None]


def _as_nobody(play: Callable[[], Any]) -> tuple[int, Any]:
    """Runs it in a child process of an ordinary user's."""

    def become() -> Any:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        _libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # or /proc/self would be root's
        return play()

    return act(become)


def _text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("utf-8", "backslashreplace")


def _set_name(name: bytes) -> None:
    _libc.prctl(_PR_SET_NAME, name, 0, 0, 0)


def _odd_comms(outcome: Outcome) -> Attempt:
    """Refusals by tasks with odd names."""

    def play() -> None:
        for name in COMMS:
            _set_name(name)
            refused(lambda: setns(-1, CLONE_NEWNET))

    pid, _ = _as_nobody(play)

    def check(events: list[Event]) -> None:
        told = [(e.comm, e.uid) for e in events if e.pid == pid]
        outcome.same("odd names of tasks", told, [(_text(name), NOBODY) for name in COMMS])

    return Attempt(Counts(netns_enter_failed=len(COMMS)), {pid}, check)


def _environments(path: str) -> list[list[bytes]]:
    start, netns = b"CNI_COMMAND=ADD", b"CNI_NETNS=" + path.encode()
    other = b"CNI_ARGS=K8S_POD_NAMESPACE=evil;K8S_POD_NAME=evil;K8S_POD_UID=evil"
    mine = b"CNI_ARGS=" + _ARGS
    return [
        [start, netns, other],
        [start, netns, mine],
        [start, netns, other, mine],
        [start, netns, mine + b";K8S_POD_NAME=other"],
        [start, b"CNI_NETNS=/proc/self/ns/net", mine],
        [start, b"CNI_NETNS=/proc/1/ns/net", mine],
        [start, netns, b"CNI_ARGS=K8S_POD_NAMESPACE=\x1b[31m;K8S_POD_NAME=\n\xff\r\x07"],
        [start, netns, b"CNI_IFNAME=\x1b]0;x\x07", b"CNI_CONTAINERID=\xff\xfe\n", b"TRACEPARENT=\x00"],
        [b"CNI_COMMAND=\x1b[2J\n{}", netns, other],
        [b"CNI_COMMAND=", netns, other],
        [start, b"CNI_COMMAND=DEL", netns, other],
        [start, *(b"CNI_%d=x" % number for number in range(3000)), netns, mine],
        [*(b"V%d=x" % number for number in range(3000)), start, netns, mine],
        [start, b"CNI_ARGS=" + b"X" * 120_000, netns],
        [start, netns, b"CNI_ARGS=" + b";" * 3000],
    ]


def _no_calls(outcome: Outcome, path: str) -> Attempt:
    """Environments of CNI calls, by who can make none."""
    _, pids = _as_nobody(lambda: [_run(environment) for environment in _environments(path)])

    def check(events: list[Event]) -> None:
        outcome.same("events of an ordinary user's programs", [e.type for e in events if e.pid in pids], [])

    return Attempt(Counts(), set(), check)


def _run(environment: list[bytes]) -> int:
    pid = execute(environment, TRUE)
    os.waitpid(pid, 0)
    return pid


def _odd_environments(outcome: Outcome, path: str) -> Attempt:
    """CNI calls that say what is not so, in a user namespace."""
    environments = _environments(path)

    def play() -> list[int]:
        become_root_of_a_user_namespace()
        pids = []
        for environment in environments:
            pid = execute(environment, TRUE)
            os.waitpid(pid, 0)
            pids.append(pid)
        return pids

    _, pids = _as_nobody(play)

    def check(events: list[Event]) -> None:
        for pid, environment in zip(pids, environments, strict=True):
            calls = [e for e in events if e.pid == pid]
            outcome.same(f"events of {environment[0]!r}...", [e.type for e in calls], ["cni_start", "cni_end"])
            for event in calls:
                assert isinstance(event, CniStart | CniEnd)
                values: dict[bytes, bytes] = {}
                for variable in environment:
                    key, _, value = variable.partition(b"=")
                    values.setdefault(key, value.partition(b"\0")[0])
                args = _text(values.get(b"CNI_ARGS", b""))
                outcome.same("command", event.command, _text(values[b"CNI_COMMAND"]))
                outcome.same("uid", event.uid, NOBODY)
                outcome.same("who is trusted", (event.trusted, event.netns, event.pod), (False, None, None))
                if event.environment is None:
                    outcome.same("args", event.args or "", args)
                    outcome.same("ifname", event.ifname or "", _text(values.get(b"CNI_IFNAME", b"")))
                else:
                    outcome.check(args.startswith(event.args or ""), f"args were made up: {event.args!r:.80}")

    return Attempt(Counts(cni_start=len(pids), cni_end=len(pids)), set(pids), check)


def _own_namespaces(outcome: Outcome, path: str, named: Path) -> Attempt:
    """In a user namespace they are root, may make namespaces and mounts, and still are nobody."""

    def play() -> tuple[int, int]:
        unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {NOBODY} 1")
        bind_mount("/proc/self/ns/net", str(named))  # in their own mount namespace, over the victim's name
        call = execute([b"CNI_COMMAND=ADD", b"CNI_NETNS=" + path.encode(), b"CNI_ARGS=" + _ARGS], TRUE)
        os.waitpid(call, 0)
        mine = execute([b"CNI_COMMAND=ADD", b"CNI_NETNS=" + bytes(named), b"CNI_ARGS=" + _ARGS], TRUE)
        os.waitpid(mine, 0)
        refused(lambda: setns(os.open(path, os.O_RDONLY), CLONE_NEWNET))
        return cookie(), call

    pid, (own, call) = _as_nobody(play)

    def check(events: list[Event]) -> None:
        about = [e for e in events if e.netns and e.netns.cookie == own]
        outcome.same("life of their own", [e.type for e in about][:3], ["netns_create", "netns_enter", "netns_exit"])
        outcome.same("its names and pods", {(e.name, e.pod) for e in about}, {(None, None)})
        outcome.same("who they are", {e.uid for e in events if e.pid in (pid, call)}, {NOBODY})

    # Without the right to open the victim's namespace its refusal is one of open(2), not of setns(2).
    return Attempt(Counts(netns_create=1, netns_enter=1, netns_exit=1), {pid}, check)


def _itself_again(outcome: Outcome) -> Attempt:
    """A process that executes itself again and again, each time with another environment, too large for the record.

    It is root of a user namespace: else it would be no CNI call.
    """
    times = 20

    def play() -> list[str]:
        script = (
            'n=$((${N:-0} + 1)); [ $n -gt 20 ] && exit 7; export N=$n CNI_ARGS="$n;$BIG"; exec /bin/sh -c "$SCRIPT"'
        )
        environment = {"SCRIPT": script, "BIG": "y" * 20_000, "CNI_COMMAND": "ADD", "CNI_ARGS": "0"}
        os.execve("/bin/sh", ["sh", "-c", script], environment)
        return []

    def start() -> list[int]:
        become_root_of_a_user_namespace()
        pids = []
        for _ in range(3):
            pid = os.fork()
            if not pid:
                play()
            os.waitpid(pid, 0)
            pids.append(pid)
        return pids

    _, pids = _as_nobody(start)

    def check(events: list[Event]) -> None:
        for pid in pids:
            calls = [e for e in events if e.pid == pid and isinstance(e, CniStart | CniEnd)]
            outcome.same("a process is one call", [e.type for e in calls], ["cni_start", "cni_end"])
            outcome.same("its exit code", [e.exit_code for e in calls if isinstance(e, CniEnd)], [7])
            for event in calls:
                first = (event.args or "0").split(";")[0]
                outcome.check(first.isdecimal() and int(first) <= times, f"args it never had: {event.args!r:.80}")

    return Attempt(Counts(cni_start=len(pids), cni_end=len(pids)), set(pids), check)


def _names_that_change(outcome: Outcome) -> Attempt:
    """A thread renames another while that is being told of."""
    names, times = (b"aaaaaaaaaaaaaaa", b"bbb"), 300

    def play() -> int:
        main, over = threading.get_native_id(), threading.Event()

        def rename() -> None:
            comm = f"/proc/self/task/{main}/comm"
            while not over.is_set():
                for name in names:
                    fd = os.open(comm, os.O_WRONLY)
                    os.write(fd, name)
                    os.close(fd)

        renamer = threading.Thread(target=rename)
        renamer.start()
        for _ in range(times):
            refused(lambda: setns(-1, CLONE_NEWNET))
            time.sleep(0)
        over.set()
        renamer.join()
        return main

    pid, _ = _as_nobody(play)

    def check(events: list[Event]) -> None:
        told = [e.comm or "" for e in events if e.pid == pid]
        outcome.same("refusals of a task that is being renamed", len(told), times)
        first = Path("/proc/self/comm").read_text().strip()
        odd = [comm for comm in told if len(comm) > 15 or set(comm) - set("ab") - set(first)]
        outcome.check(not odd, f"names that it never had: {odd[:3]}")

    return Attempt(Counts(netns_enter_failed=times), {pid}, check)


@contextlib.contextmanager
def _delegated() -> Iterator[Path]:
    """A cgroup that is an ordinary user's to make others below; of version 2, where that is mounted."""
    roots = hierarchies()
    root = next((one for one in roots if (one / "cgroup.controllers").exists()), roots[0])
    group = root / f"cni-torture-{os.getpid()}"
    group.mkdir()
    try:
        for path in (group, group / "cgroup.procs"):
            os.chown(path, NOBODY, NOBODY)
        yield group
    finally:
        remove_groups([group])


def _odd_groups(outcome: Outcome, group: Path) -> Attempt:
    """Cgroups with odd names, each made by the user, who moves there and is refused a join."""

    def play() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))  # root puts it there
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
        at = os.fsencode(group)
        for name in NAMES:
            at += b"/" + name
            os.makedirs(at, exist_ok=True)
            procs = os.open(at + b"/cgroup.procs", os.O_WRONLY)
            os.write(procs, b"0")
            os.close(procs)
            refused(lambda: setns(-1, CLONE_NEWNET))

    pid, _ = act(play)

    def check(events: list[Event]) -> None:
        told = [(e.cgroup, e.container_id, e.pod_uid) for e in events if e.pid == pid]
        paths = [
            "/".join(["", group.name, *(name.decode("utf-8", "backslashreplace") for name in NAMES[: number + 1])])
            for number in range(len(NAMES))
        ]
        outcome.same("odd names of cgroups", told, [(path, *CgroupPaths().identify(path)) for path in paths])

    return Attempt(Counts(netns_enter_failed=len(NAMES)), {pid}, check)


def _listed(outcome: Outcome, path: str) -> None:
    """`list` and `list --cni`, while a user's call with an odd environment is under way."""

    def play() -> int:
        become_root_of_a_user_namespace()
        _set_name(COMMS[1])
        return execute(
            [b"CNI_COMMAND=\x1b[2J", b"CNI_NETNS=" + path.encode(), b"CNI_IFNAME=\x1b]0;x\x07\n", b"CNI_ARGS=" + _ARGS],
            "/bin/sleep",
            "1000",
        )

    _, pid = _as_nobody(play)
    try:
        for options in ([], ["--cni"]):
            for output in ("table", "json"):
                command = [sys.executable, "-m", "cni_collector", "list", *options, "-o", output]
                done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=False)
                outcome.same(f"list {options} {output}", (done.returncode, done.stderr), (0, b""))
                _harmless(outcome, " ".join(command[3:]), done.stdout)
                if output == "json":
                    for line in done.stdout.splitlines():
                        json.loads(line)
    finally:
        os.kill(pid, signal.SIGKILL)


def _readable(outcome: Outcome, path: Path) -> None:
    """Each line is JSON, and the table that is made of them has nothing that a terminal would obey."""
    for line in path.read_bytes().splitlines():
        json.loads(line)
    command = [sys.executable, "-m", "cni_collector", "replay", str(path), "-o", "table"]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, check=False)
    outcome.same("replay", (done.returncode, done.stderr), (0, b""))
    _harmless(outcome, "the table", done.stdout)


def _harmless(outcome: Outcome, what: str, output: bytes) -> None:
    text = output.decode("utf-8")
    bad = {c for c in text if not c.isprintable()} - {"\n"}
    outcome.check(not bad, f"{what} has characters that a terminal obeys: {sorted(bad)!r}")
