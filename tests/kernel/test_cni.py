"""CNI plugin calls: every process with CNI_COMMAND in its environment, however that looks, and no other."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cni_collector import CniEnd, CniStart, Event, Pod

from ..support.actors import execute
from ..support.listing import listed
from ..support.watch import EMULATED, Watch, watching

TRUE, SH, SLEEP = (str(shutil.which(name)) for name in ("true", "sh", "sleep"))
ARGS = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=11111111-2222-3333-4444-555555555555"
POD = Pod("shop", "web-0", "11111111-2222-3333-4444-555555555555")
CALL = [
    b"CNI_COMMAND=ADD",
    b"CNI_CONTAINERID=0123456789ab",
    b"CNI_NETNS=/nowhere",
    b"CNI_IFNAME=eth0",
    b"CNI_PATH=/opt/cni/bin",
    b"CNI_ARGS=" + ARGS.encode(),
    b"TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
]


def _calls(watch: Watch, pid: int, since: int) -> list[Event]:
    """The events of a process that has ended; `since` is before it began, as its pid was another's before."""
    watch.settle()
    return [event for event in watch.events[since:] if event.pid == pid and isinstance(event, CniStart | CniEnd)]


def _run(environment: list[bytes], *command: str) -> int:
    """Runs a program to its end: its pid."""
    pid = execute(environment, *(command or (TRUE,)))
    os.waitpid(pid, 0)
    return pid


def _call(watch: Watch, environment: list[bytes], *command: str) -> tuple[CniStart, CniEnd]:
    """Runs a program that must be seen as one call."""
    since = len(watch.events)
    start, end = _calls(watch, _run(environment, *command), since)
    assert isinstance(start, CniStart)
    assert isinstance(end, CniEnd)
    return start, end


def test_a_call_from_beginning_to_end(watch: Watch) -> None:
    before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    start, end = _call(watch, CALL, SH, "-c", "exit 3")
    took = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - before
    assert (start.command, start.plugin, start.parent, start.uid) == ("ADD", SH, os.getpid(), 0)
    assert (start.cni_container_id, start.ifname, start.netns_path) == ("0123456789ab", "eth0", "/nowhere")
    assert (start.args, start.pod, start.netns, start.environment) == (ARGS, POD, None, None)
    assert start.traceparent == "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    assert (end.exit_code, end.signal) == (3, None)
    assert end.duration_ns
    assert 0 < end.duration_ns < took
    same = ("pid", "parent", "command", "plugin", "cni_container_id", "ifname", "netns_path", "args", "pod")
    assert all(getattr(start, field) == getattr(end, field) for field in same)


@pytest.mark.any_tier
def test_the_order_of_the_variables_does_not_matter(watch: Watch) -> None:
    others = [b"A=1", b"PATH=/bin:/usr/bin", b"CNI_COMMANDER=no", b"XCNI_COMMAND=no", b"EMPTY="]
    for turn in range(len(CALL)):
        start, _ = _call(watch, [*CALL[turn:], *others, *CALL[:turn]])
        assert (start.command, start.ifname, start.pod) == ("ADD", "eth0", POD)


@pytest.mark.parametrize(
    "environment",
    [
        [],
        [b"PATH=/bin"],
        [b"CNI_COMMANDO=ADD", b"XCNI_COMMAND=ADD", b"CNI_COMMAND", b"cni_command=ADD"],
        [b"A=CNI_COMMAND=ADD", b"B= CNI_COMMAND=ADD", b"CNI_CNI_COMMAND=ADD"],
        [b"CNI_CONTAINERID=1", b"CNI_NETNS=/nowhere", b"CNI_IFNAME=eth0"],
    ],
    ids=["empty", "usual", "similar names", "in values", "other variables of CNI"],
)
def test_other_programs_are_no_calls(watch: Watch, environment: list[bytes]) -> None:
    since = len(watch.events)
    assert _calls(watch, _run(environment), since) == []


@pytest.mark.any_tier
def test_wherever_the_variable_begins(watch: Watch) -> None:
    """At each offset within a word, and at the edges of the parts that the kernel side reads."""
    edges = [1024, 2048] if EMULATED else [1024, 2048, 4096]
    paddings = [*range(3, 20), *(edge + offset for edge in edges for offset in range(-16, 4))]
    since = len(watch.events)
    pids = [_run([b"P=" + b"x" * (padding - 3), b"CNI_COMMAND=DEL"]) for padding in paddings]
    watch.settle()
    told = [event.pid for event in watch.events[since:] if isinstance(event, CniStart) and event.command == "DEL"]
    assert [pid for pid in told if pid in pids] == pids


@pytest.mark.any_tier
def test_thousands_of_variables(watch: Watch) -> None:
    many = [f"VARIABLE_{number}=value".encode() for number in range(2000)]
    start, end = _call(watch, [*many[:1000], *CALL, *many[1000:]])
    assert (start.pod, start.environment, end.exit_code) == (POD, None, 0)
    start, _ = _call(watch, [*many, *CALL])
    assert start.pod == POD


@pytest.mark.any_tier
def test_more_variables_than_a_loop_has_steps(watch: Watch) -> None:
    """Not all are kept, and that is said."""
    start, end = _call(watch, [*CALL[:1], *[b"A=1"] * 70_000, *CALL[1:]])
    assert (start.command, start.ifname, start.environment, end.environment) == ("ADD", None, "cut", "cut")


@pytest.mark.any_tier
def test_a_long_variable(watch: Watch) -> None:
    long = b"LONG=" + b"CNI_" * 25_000
    for environment in ([long, *CALL], [*CALL, long], [*CALL[:1], long, *CALL[1:]]):
        start, _ = _call(watch, environment)
        assert (start.pod, start.environment) == (POD, None)


@pytest.mark.any_tier
def test_names_and_values_of_any_bytes(watch: Watch) -> None:
    odd = [b"A NAME WITH SPACES=1", b"\xff\xfe=\xff", b"=", b"", b"CNI_\xff=1", b"NEW\nLINE=1"]
    start, _ = _call(watch, [*odd, b"CNI_COMMAND=AD\xff\x1b[31m", b"CNI_IFNAME=eth 0\n", b"CNI_ARGS=;;=;K8S_POD_NAME"])
    assert (start.command, start.ifname, start.pod) == ("AD\\xff\x1b[31m", "eth 0\n", None)
    assert start.args == ";;=;K8S_POD_NAME"


@pytest.mark.any_tier
def test_of_variables_given_twice_the_first_counts(watch: Watch) -> None:
    start, _ = _call(watch, [b"CNI_COMMAND=ADD", b"CNI_COMMAND=DEL", b"CNI_IFNAME=a", b"CNI_IFNAME=b"])
    assert (start.command, start.ifname) == ("ADD", "a")


@pytest.mark.any_tier
def test_empty_variables_say_nothing(watch: Watch) -> None:
    start, _ = _call(watch, [b"CNI_COMMAND=GC", b"CNI_CONTAINERID=", b"CNI_NETNS=", b"CNI_IFNAME=", b"CNI_ARGS="])
    assert (start.command, start.cni_container_id, start.netns_path, start.args) == ("GC", None, None, None)


@pytest.mark.any_tier
def test_arguments_too_long_for_the_kernel_side_come_from_proc(watch: Watch) -> None:
    """While it lives, for who may look there; otherwise what was cut is said, and the cut pair not believed."""
    args = b"CNI_ARGS=X=" + b"x" * 8000 + b";" + ARGS.encode()
    with watching("--user", "root") as privileged:
        since = len(watch.events)
        pid = execute([*CALL[:5], args], SLEEP, "100")
        start, ordinary = (
            one.wait(lambda event: isinstance(event, CniStart) and event.pid == pid, at)
            for one, at in ((privileged, 0), (watch, since))
        )
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert isinstance(start, CniStart)
    assert (start.environment, start.pod) == ("proc", POD)
    assert start.args == args.decode().removeprefix("CNI_ARGS=")
    assert isinstance(ordinary, CniStart)
    assert (ordinary.environment, ordinary.pod) == ("cut", None)
    since = len(watch.events)
    os.kill(watch.pid, signal.SIGSTOP)
    pid = _run([*CALL[:5], b"CNI_ARGS=" + ARGS.encode() + b";X=" + b"x" * 8000])
    os.kill(watch.pid, signal.SIGCONT)
    start, end = _calls(watch, pid, since)
    assert isinstance(start, CniStart)
    assert isinstance(end, CniEnd)
    assert (start.environment, start.pod, end.environment) == ("cut", POD, "cut")
    assert start.args
    assert start.args.startswith(ARGS)


def test_how_a_call_ends(watch: Watch) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGSEGV):
        _, end = _call(watch, CALL, SH, "-c", f"ulimit -c 0; kill -{int(number)} $$")
        assert (end.exit_code, end.signal) == (None, number.name)
    _, end = _call(watch, CALL, SH, "-c", "exit 255")
    assert (end.exit_code, end.signal) == (255, None)


def test_threads_make_one_call(watch: Watch) -> None:
    """It ends with the last thread, also where the first has ended long before; with the status of the process."""
    script = """if True:
        import ctypes, os, threading, time
        def last():
            time.sleep(0.3)
            {}
        threading.Thread(target=last).start()
        ctypes.CDLL(None).pthread_exit(0)
    """
    python = sys.executable
    for ending, expected in (("os._exit(7)", (7, None)), ("os.kill(os.getpid(), 9)", (None, "SIGKILL"))):
        start, end = _call(watch, [*CALL, b"LC_ALL=C.UTF-8"], python, "-c", script.format(ending))
        assert (end.exit_code, end.signal) == expected
        assert (start.pid, end.pid, end.tid) == (start.pid, start.pid, start.pid)
        assert end.duration_ns
        assert end.duration_ns > 300_000_000


def test_threads_that_end_at_once(watch: Watch) -> None:
    """Several see that they are the last: one tells. None sees it too early."""
    script = """if True:
        import os, threading
        barrier = threading.Barrier(8)
        def wait():
            barrier.wait()
            if threading.current_thread().name == "7":
                os._exit(9)
            while True:
                pass
        for name in range(8):
            threading.Thread(target=wait, name=str(name)).start()
    """
    for _ in range(3 if EMULATED else 11):
        _, end = _call(watch, [*CALL, b"LC_ALL=C.UTF-8"], sys.executable, "-c", script)
        assert (end.exit_code, end.signal) == (9, None)


def test_a_process_is_one_call_whatever_it_executes(watch: Watch) -> None:
    """A wrapper that becomes the plugin; also one that drops the variables."""
    for last in (f"exec {TRUE}", f"unset CNI_COMMAND; exec {TRUE}", f"CNI_COMMAND=DEL exec {TRUE}"):
        start, end = _call(watch, CALL, SH, "-c", last)
        assert (start.plugin, start.comm, end.plugin, end.comm) == (SH, "sh", SH, "true")
        assert (start.command, end.command) == ("ADD", "ADD")


def test_a_thread_that_executes_a_program_goes_on_as_the_process(watch: Watch) -> None:
    """With the process' id, and in the call that the process is; with the variables or without."""
    for last in ("os.execv", "lambda *program: os.execve(*program, {})"):
        script = f"""if True:
            import os, threading, time
            execute = {last}
            threading.Thread(target=lambda: execute({SH!r}, ['sh', '-c', 'exit 5'])).start()
            time.sleep(100)
        """
        start, end = _call(watch, [*CALL, b"LC_ALL=C.UTF-8"], sys.executable, "-c", script)
        assert (start.plugin, end.plugin, end.comm, end.exit_code) == (sys.executable, sys.executable, "sh", 5)
        assert end.duration_ns


def test_a_call_that_begins_with_a_later_program(watch: Watch) -> None:
    start, end = _call(watch, [b"PATH=/bin:/usr/bin"], SH, "-c", f"CNI_COMMAND=CHECK exec {TRUE}")
    assert (start.command, start.plugin, end.command) == ("CHECK", TRUE, "CHECK")


def test_many_at_once(watch: Watch) -> None:
    """A prime number of calls, some at the same time: each is told once, and ends once."""
    since = len(watch.events)
    pids = []
    for _ in range(23 if EMULATED else 101):
        under_way = [execute(CALL, TRUE) for _ in range(3)]
        pids += under_way
        for pid in under_way:
            os.waitpid(pid, 0)
    watch.settle()
    told = [e for e in watch.events[since:] if isinstance(e, CniStart | CniEnd) and e.pid in pids]
    assert sorted(e.pid for e in told if isinstance(e, CniStart)) == sorted(pids)
    assert sorted(e.pid for e in told if isinstance(e, CniEnd)) == sorted(pids)


@pytest.mark.any_tier
def test_a_script_is_told_by_its_own_path(watch: Watch, tmp_path: Path) -> None:
    script = tmp_path / "a plugin"
    script.write_text("#!/bin/sh\nexit 0\n", encoding="ascii")
    script.chmod(0o755)
    start, end = _call(watch, CALL, str(script))
    assert (start.plugin, start.comm, end.exit_code) == (str(script), "a plugin", 0)


def test_what_is_not_asked_for_is_not_told() -> None:
    with watching("--type", "netns_create") as quiet, watching("--cni") as calls:
        pid = _run(CALL)
        calls.wait(lambda event: isinstance(event, CniEnd) and event.pid == pid)
        assert calls.stop().lost == 0
        quiet.stop()
        assert pid not in {event.pid for event in quiet.events}
        assert not {event.type for event in quiet.events} & {"cni_start", "cni_end", "netns_destroy"}
        told = {event.type for event in calls.events} - {"cni_exec"}  # of others' helpers
        assert told == {"collector_start", "cni_start", "cni_end", "collector_stop"}


@pytest.mark.any_tier
def test_a_call_under_way_is_listed() -> None:
    pid = execute(CALL, SLEEP, "100")
    try:
        told = _listed(pid)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert (told["command"], told["plugin"], told["parent"]) == ("ADD", SLEEP, os.getpid())
    assert (told["ifname"], told["pod"]["name"], told["netns_path"]) == ("eth0", "web-0", "/nowhere")
    assert 0 <= told["age_ns"] < 60e9


def _listed(pid: int) -> dict[str, Any]:
    """What `list --cni` says of a process, once it has become what it shall be."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for call in listed("--cni"):
            if call["pid"] == pid:
                return call
    raise AssertionError("the call was not listed")
