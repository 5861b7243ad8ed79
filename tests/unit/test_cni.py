"""CNI calls: what environments say, what libcni has kept, which calls are under way, and who is believed."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_collector.events import CniEnd, CniExec, CniStart, Netns, Pod, Task
from cni_collector.identity import cni, cni_cache, cni_environment, cni_running
from cni_collector.identity.cni import CniCalls, Ended, Executed
from cni_collector.identity.cni_environment import lies_in_cni_path, parse_args, parse_environment, read_environment
from cni_collector.identity.cni_running import RunningCniCall, running_cni_calls
from cni_collector.identity.namespaces import Namespaces

UID = "11111111-2222-3333-4444-555555555555"
PAIRS = ("IgnoreUnknown=1", "K8S_POD_NAMESPACE=shop", "K8S_POD_NAME=web-0", f"K8S_POD_UID={UID}")
ARGS = ";".join(PAIRS)
WEB = Pod("shop", "web-0", UID)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HOST, BLUE = Netns(1, 4026531840), Netns(4097, 4026532001)
GREEN, RED = Netns(4098, 4026532002), Netns(4099, 4026532003)
TASK = Task(2**22 + 1, 2**22 + 1, 7, 0, "bridge", "/runtime.slice")
"""No kernel gives a pid this high: nothing is found in /proc under it."""
LATER = msgspec.structs.replace(TASK, ppid=1)
STARTED = 5_000_000_000
SLEEP = str(shutil.which("sleep"))
TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def environment(**variables: str) -> list[bytes]:
    """Variables as they stand in an environment."""
    return [f"{name}={value}".encode() for name, value in variables.items()]


def text(path: str, *variables: str) -> bytes:
    """The text of a `struct cni_start_record`: each part closed by NUL."""
    return b"".join(part.encode() + b"\0" for part in (path, *variables))


def executed(task: Task, own: Netns | None, started: int, raw: bytes, cut: bool = False, **more: Any) -> Executed:
    """A program with these variables is executed at noon; its path led to `BLUE`."""
    return Executed(
        "12:00", task, started, raw, cut, own=own, **({"led": BLUE if b"CNI_NETNS=" in raw else None} | more)
    )


def ended(task: Task, started: int, duration: int, status: int = 0, unreadable: bool = False, **more: Any) -> Ended:
    """A process ends a minute later, `duration` nanoseconds after its first program with these variables."""
    return Ended("12:01", task, started, duration, status, unreadable, **more)


def process(pid: int) -> Task:
    """The only thread of a process."""
    return Task(pid, pid, 1, 0, "x")


def started(pid: int) -> int:
    """When a process was started, as the kernel's record has it: more precisely than /proc does."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return int(fields[22 - 3]) * TICK + TICK // 3


Spawn = Callable[..., int]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Starts a program that sleeps until the test is over, and gives its pid once it has its environment."""
    with contextlib.ExitStack() as stack:

        def start(*command: str | bytes, **variables: str) -> int:
            process = stack.enter_context(subprocess.Popen(command or (SLEEP, "600"), env=variables))
            stack.callback(process.kill)
            while not Path(f"/proc/{process.pid}/environ").read_bytes():  # empty until exec is through
                time.sleep(0.001)
            return process.pid

        yield start


@pytest.fixture(params=["as older kernels have it", "as it is here"])
def zombie(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A process that has ended, but that nobody has waited for: its entry in /proc is there still.

    Its memory is gone. Before Linux 6.16, or where that goes after the file is opened, /proc/PID/environ is empty.
    """
    process = subprocess.Popen("true", env={"CNI_COMMAND": "ADD"})
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    open_ = Path.open

    def empty(path: Path, *args: Any, **more: Any) -> Any:
        return io.BytesIO() if path == Path(f"/proc/{process.pid}/environ") else open_(path, *args, **more)

    with monkeypatch.context() as patch:
        if request.param != "as it is here":
            patch.setattr(Path, "open", empty)
        yield process.pid
    process.wait()


# What an environment says.


def test_a_whole_environment() -> None:
    variables = environment(
        PATH="/bin", CNI_COMMAND="ADD", CNI_CONTAINERID="c" * 64, CNI_NETNS="/run/netns/blue", CNI_IFNAME="eth0",
        CNI_ARGS=ARGS, CNI_PATH="/opt/cni/bin", TRACEPARENT=TRACE,
    )  # fmt: skip
    expected = {
        "command": "ADD",
        "cni_container_id": "c" * 64,
        "netns_path": "/run/netns/blue",
        "ifname": "eth0",
        "args": ARGS,
        "traceparent": TRACE,
    }
    for shuffled in (variables, variables[::-1]):
        assert parse_environment(shuffled) == expected


@pytest.mark.parametrize(
    ("variables", "fields"),
    [
        ([], {}),
        ([b"", b"=", b"=x", b"PATH=/bin"], {}),
        ([b"CNI_COMMAND=ADD", b"CNI_COMMAND=DEL"], {"command": "ADD"}),
        ([b"CNI_COMMAND=", b"CNI_COMMAND=DEL"], {"command": ""}),
        ([b"CNI_IFNAME=", b"CNI_ARGS=", b"CNI_NETNS="], {}),
        ([b"CNI_ARGS=A=1;B=2=3"], {"args": "A=1;B=2=3"}),
        ([b"CNI_IFNAME=my eth 0 "], {"ifname": "my eth 0 "}),
        ([b"CNI_IFNAME =a", b" CNI_IFNAME=b", b"cni_ifname=c", b"XCNI_IFNAME=d", b"CNI_IFNAMES=e"], {}),
        ([b"CNI_IFNAME=\xffeth\xc3\xbc"], {"ifname": "\\xffethü"}),
        ([b"\xff=1", b"\xffCNI_IFNAME=1", b"CNI_COMMAND\xff=ADD"], {}),
    ],
)
def test_environments(variables: list[bytes], fields: dict[str, str]) -> None:
    assert parse_environment(variables) == fields


@pytest.mark.parametrize(
    ("variables", "fields"),
    [
        ([b"CNI_COMMAND"], {}),
        ([b"CNI_COMMAND", b"CNI_COMMAND=ADD"], {"command": "ADD"}),
        ([b"CNI_IFNAME", b"CNI_IFNAME=eth0"], {"ifname": "eth0"}),
    ],
)
def test_what_has_no_sign_is_no_variable(variables: list[bytes], fields: dict[str, str]) -> None:
    assert parse_environment(variables) == fields


def test_the_first_counts_also_where_it_is_empty() -> None:
    """As for getenv(3): the plugin does not see the second one either."""
    assert parse_environment([b"CNI_ARGS=", f"CNI_ARGS={ARGS}".encode()]) == {}


@given(st.lists(st.binary() | st.binary().map(lambda raw: b"CNI_ARGS=" + raw)))
def test_any_environment_can_be_written_as_json(variables: list[bytes]) -> None:
    assert msgspec.json.encode(parse_environment(variables))


# What CNI_ARGS says.


@pytest.mark.parametrize("pairs", [*itertools.permutations(PAIRS)])
def test_pairs_come_in_any_order(pairs: tuple[str, ...]) -> None:
    assert parse_args(";".join(pairs)) == WEB


@pytest.mark.parametrize(
    ("args", "pod"),
    [
        ("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0", Pod("shop", "web-0")),
        ("K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=", Pod("shop", "web-0")),
        ("K8S_POD_NAMESPACE=a=b;K8S_POD_NAME==", Pod("a=b", "=")),
        (";;K8S_POD_NAMESPACE=shop;;;K8S_POD_NAME=web-0;junk;", Pod("shop", "web-0")),
        (f"{ARGS};{ARGS}", WEB),
        (f"{ARGS};K8S_POD_NAME=", WEB),
        (f"{ARGS};K8S_POD_NAME=web-1", None),
        (f"K8S_POD_NAMESPACE=evil;{ARGS}", None),
        (f"{ARGS};K8S_POD_UID=other", None),
        ("K8S_POD_NAME=web-0", None),
        ("K8S_POD_NAMESPACE=shop", None),
        (f"K8S_POD_UID={UID}", None),
        ("K8S_POD_NAMESPACE=;K8S_POD_NAME=web-0", None),
        ("K8S_POD_NAMESPACE;K8S_POD_NAME", None),
        ("K8S_POD_NAMESPACE=shop,K8S_POD_NAME=web-0", None),
        ("k8s_pod_namespace=shop;k8s_pod_name=web-0", None),
        ("", None),
        (";=;==;", None),
    ],
)
def test_args(args: str, pod: Pod | None) -> None:
    assert parse_args(args) == pod


def test_args_may_be_long() -> None:
    filler = ";".join(f"FILLER_{number}=x" for number in range(800))
    assert len(filler) > 8192
    assert parse_args(f"K8S_POD_NAMESPACE=shop;{filler};K8S_POD_NAME=web-0") == Pod("shop", "web-0")
    assert parse_args(f"K8S_POD_NAMESPACE=shop;K8S_POD_NAME={'n' * 8192}") == Pod("shop", "n" * 8192)


@pytest.mark.parametrize("size", range(len(ARGS) + 1))
def test_the_last_pair_is_never_believed_where_the_end_is_missing(size: int) -> None:
    """Wherever it was cut: no pod is told that is not there in full."""
    pod = parse_args(ARGS[:size], cut=True)
    assert pod == (Pod("shop", "web-0") if size > ARGS.index(";K8S_POD_UID") else None)
    assert parse_args(f"{ARGS[:size]};", cut=True) == parse_args(ARGS[:size])


@given(st.text() | st.lists(st.text() | st.sampled_from(PAIRS)).map(";".join), st.booleans())
def test_whatever_the_args_are_there_is_a_whole_pod_or_none(args: str, cut: bool) -> None:
    pod = parse_args(args, cut)
    if pod is not None:
        assert {f"K8S_POD_NAMESPACE={pod.namespace}", f"K8S_POD_NAME={pod.name}"} <= set(args.split(";"))


# The environment of a process.


def test_the_environment_of_a_child(spawn: Spawn) -> None:
    pid = spawn(CNI_COMMAND="ADD", CNI_ARGS=ARGS)
    raw = read_environment(pid, started(pid))
    assert raw is not None
    assert parse_environment(raw) == {"command": "ADD", "args": ARGS}


@pytest.mark.parametrize("ticks", [-1, 1, 10**9])
def test_another_process_with_the_same_id_is_not_taken_for_it(spawn: Spawn, ticks: int) -> None:
    pid = spawn(CNI_COMMAND="ADD")
    assert read_environment(pid, started(pid) + ticks * TICK) is None


def test_a_name_may_look_like_anything(spawn: Spawn, tmp_path: Path) -> None:
    """The name of a task stands in the middle of /proc/PID/stat, as it is."""
    hostile = tmp_path / "a) R 1 (b"
    shutil.copy("/bin/sleep", hostile)
    pid = spawn(str(hostile), "600", CNI_COMMAND="ADD")
    assert read_environment(pid, started(pid)) == [b"CNI_COMMAND=ADD", b""]


def test_a_process_that_is_gone_has_no_environment() -> None:
    assert read_environment(TASK.pid, STARTED) is None


def test_a_zombie_has_no_environment(zombie: int) -> None:
    """That nothing can be read does not say that it was no call."""
    assert read_environment(zombie, started(zombie)) is None


# Calls begin and end.


@pytest.fixture
def namespaces() -> Namespaces:
    """One namespace lives besides the host's, and is known by its name."""
    known = Namespaces()
    known.name({BLUE.cookie: ["/run/netns/blue"]})
    return known


@pytest.fixture
def calls(namespaces: Namespaces) -> CniCalls:
    return CniCalls(namespaces)


VARIABLES = ("CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0", "CNI_NETNS=/var/run/netns/blue")
TEXT = text("/opt/cni/bin/bridge", *VARIABLES, f"CNI_ARGS={ARGS}", f"TRACEPARENT={TRACE}")
TOLD: dict[str, Any] = {
    "netns": BLUE,
    "name": "/run/netns/blue",
    "pod": WEB,
    "command": "ADD",
    "plugin": "/opt/cni/bin/bridge",
    "parent": 7,
    "cni_container_id": "c1",
    "ifname": "eth0",
    "netns_path": "/var/run/netns/blue",
    "args": ARGS,
    "traceparent": TRACE,
}
WHO: dict[str, Any] = {"pid": TASK.pid, "tid": TASK.tid, "uid": 0, "comm": "bridge", "cgroup": "/runtime.slice"}


def test_a_call_begins_and_ends(calls: CniCalls) -> None:
    assert calls.begin(executed(TASK, HOST, STARTED, TEXT, False)) == CniStart("12:00", **TOLD, **WHO, ppid=7)
    assert calls.end(ended(LATER, STARTED, 123, 0x0100, False)) == CniEnd(
        "12:01", **TOLD, **WHO, ppid=1, duration_ns=123, exit_code=1
    )
    assert calls.unreadable == 0


def test_an_end_whose_beginning_was_lost_tells_what_it_can(calls: CniCalls) -> None:
    only_the_end = CniEnd("12:01", **WHO, ppid=1, duration_ns=123, exit_code=0)
    assert calls.end(ended(LATER, STARTED, 123, 0, False)) == only_the_end
    calls.begin(executed(TASK, HOST, STARTED, TEXT, False))
    assert calls.end(ended(LATER, STARTED + 1, 123, 0, False)) == only_the_end, "another process with the same id"


def test_an_end_is_told_once(calls: CniCalls) -> None:
    calls.begin(executed(TASK, HOST, STARTED, TEXT, False))
    assert calls.end(ended(LATER, STARTED, 1, 0, True)) is not None
    assert calls.end(ended(LATER, STARTED, 1, 0, True)) is None


def test_what_may_have_been_no_call_ends_in_silence(calls: CniCalls) -> None:
    assert calls.end(ended(LATER, STARTED, 123, 0, True)) is None


def test_no_process_begins_two_calls(calls: CniCalls) -> None:
    """Where the kernel could not read its environment, it looks again when the process executes another program."""
    assert calls.begin(executed(TASK, HOST, STARTED, TEXT, False)) is not None
    assert calls.begin(executed(TASK, HOST, STARTED, TEXT, False)) is None
    end = calls.end(ended(LATER, STARTED, 123, 0, False))
    assert isinstance(end, CniEnd)
    assert end.plugin == "/opt/cni/bin/bridge"


@pytest.mark.parametrize("variables", [[], ["CNI_ARGS=A=1"], ["CNI_COMMANDS=ADD"]])
def test_a_process_that_is_asked_for_nothing_is_no_call(calls: CniCalls, variables: list[str]) -> None:
    assert calls.begin(executed(TASK, HOST, STARTED, text("/bin/sh", *variables), False)) is None
    assert calls.unreadable == 0


def test_an_empty_command_makes_a_call_too(calls: CniCalls) -> None:
    assert calls.begin(executed(TASK, HOST, STARTED, text("/x", "CNI_COMMAND="), False)) == CniStart(
        "12:00", **WHO, ppid=7, parent=7, command="", plugin="/x"
    )


def test_a_path_that_is_no_text_is_escaped(calls: CniCalls) -> None:
    call = calls.begin(executed(TASK, HOST, STARTED, b"/opt/\xff\0CNI_COMMAND=\xfe\0", False))
    assert call is not None
    assert (call.plugin, call.command) == ("/opt/\\xff", "\\xfe")


def test_what_is_missing_comes_from_proc_while_the_process_lives(calls: CniCalls, spawn: Spawn) -> None:
    pid = spawn(CNI_COMMAND="DEL", CNI_ARGS=ARGS)
    task = process(pid)
    for raw in (text("/x"), text("/x", "CNI_COMMAND=DEL", "CNI_ARGS=K8S_POD_NAMESPACE=shop;K8S_POD_NAME=we")):
        fresh = CniCalls(Namespaces())
        call = fresh.begin(executed(task, HOST, started(pid), raw, True))
        assert call == CniStart(
            "12:00",
            **msgspec.structs.asdict(task),
            parent=1,
            command="DEL",
            plugin="/x",
            args=ARGS,
            pod=WEB,
            environment="proc",
        )


def test_a_process_whose_environment_turns_out_to_have_no_command_is_no_call(calls: CniCalls, spawn: Spawn) -> None:
    pid = spawn(CNI_ARGS=ARGS)
    assert calls.begin(executed(process(pid), HOST, started(pid), text("/x"), True)) is None
    assert calls.unreadable == 0
    assert calls.end(ended(process(pid), started(pid), 123, 0, True)) is None


def test_what_is_missing_stays_missing_where_the_process_has_gone(calls: CniCalls) -> None:
    raw = text("/x", *VARIABLES, "CNI_ARGS=K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=1111")
    call = calls.begin(executed(TASK, HOST, STARTED, raw, True))
    assert call is not None
    assert (call.environment, call.command, call.pod) == ("cut", "ADD", Pod("shop", "web-0"))
    end = calls.end(ended(LATER, STARTED, 123, 0, False))
    assert isinstance(end, CniEnd)
    assert end.environment == "cut"


def test_a_pods_name_that_may_be_cut_is_not_told(calls: CniCalls) -> None:
    raw = text("/x", *VARIABLES, "CNI_ARGS=K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1")  # of web-10, perhaps
    call = calls.begin(executed(TASK, HOST, STARTED, raw, True))
    assert call is not None
    assert call.pod is None


def test_a_pod_is_told_where_only_another_variable_is_cut(calls: CniCalls) -> None:
    """The kernel side keeps 4,095 bytes of a variable, and may have no room for the last ones."""
    whole, long = "CNI_ARGS=K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME="
    for number, args, pod in (
        (1, whole, Pod("shop", "web-1")),
        (2, f"CNI_ARGS={long}{'w' * (4094 - 9 - len(long))}", Pod("shop", "w" * (4094 - 9 - len(long)))),
        (3, f"CNI_ARGS={long}{'w' * (4095 - 9 - len(long))}", None),
    ):
        raw = text("/x", *VARIABLES, args, "CNI_JUNK=" + "x" * 4086)
        call = calls.begin(executed(process(2**22 + number), HOST, STARTED, raw, True))
        assert call is not None
        assert (call.environment, call.pod) == ("cut", pod)


def test_as_much_of_a_variable_is_kept_as_the_kernel_side_says() -> None:
    record = (Path(__file__).parents[2] / "bpf/record.h").read_text(encoding="utf-8")
    assert f"#define CNI_VARIABLE {cni_environment._KEPT + 1} " in record


@pytest.mark.parametrize("trusted", [True, False])
def test_the_end_of_what_could_not_be_told_is_not_told(
    calls: CniCalls, monkeypatch: pytest.MonkeyPatch, trusted: bool
) -> None:
    """Other variables left no room for CNI_COMMAND. What it runs are helpers of nobody knows what."""
    monkeypatch.setattr(cni, "_TRUSTED" if trusted else "_UNTRUSTED", 8)
    calls = CniCalls(Namespaces())
    junk = text("/x", *(f"CNI_J{number}={'x' * 4000}" for number in range(4)))
    for pid in range(1, 101):
        assert calls.begin(executed(process(2**22 + pid), HOST, STARTED, junk, True, trusted=trusted)) is None
    assert calls.unreadable == 100
    run(calls, 7, "/bin/tee", 2**22 + 100, trusted=trusted)
    helper = over(calls, 7)
    assert isinstance(helper, CniExec)
    assert helper.call is None
    ends = [over(calls, 2**22 + pid, nested=False, helper=False, trusted=trusted) for pid in range(1, 101)]
    assert [pid for pid, end in enumerate(ends, 1) if end is None] == list(range(94, 101)), "as many as are remembered"


def test_a_process_that_is_told_at_last_has_an_end(calls: CniCalls) -> None:
    """As the kernel looks again, when it executes another program."""
    assert calls.begin(executed(TASK, HOST, STARTED, text("/x"), True)) is None
    assert calls.begin(executed(TASK, HOST, STARTED, TEXT)) is not None
    end = calls.end(ended(LATER, STARTED, 1))
    assert isinstance(end, CniEnd)
    assert end.command == "ADD"


def test_what_nobody_can_tell_is_counted(calls: CniCalls) -> None:
    assert calls.begin(executed(TASK, HOST, STARTED, text("/x"), True)) is None
    assert calls.begin(executed(TASK, HOST, STARTED, text("/x", "CNI_ARGS=A=1"), True)) is None
    assert calls.unreadable == 2
    assert calls.end(ended(LATER, STARTED, 123, 0, True)) is None


def test_a_zombie_is_counted_or_told_from_what_the_kernel_saw(calls: CniCalls, zombie: int) -> None:
    task, when = process(zombie), started(zombie)
    assert calls.begin(executed(task, HOST, when, text("/x"), True)) is None
    assert calls.unreadable == 1
    call = calls.begin(executed(task, HOST, when, text("/x", "CNI_COMMAND=ADD"), True))
    assert call is not None
    assert (call.command, call.environment) == ("ADD", "cut")


def test_a_call_that_executes_something_else_at_once_is_still_a_call(calls: CniCalls, spawn: Spawn) -> None:
    """The kernel saw its command. What /proc has by now is another program's environment."""
    pid = spawn(PATH="/bin")
    call = calls.begin(executed(process(pid), HOST, started(pid), text("/x", *VARIABLES), True))
    assert call is not None
    assert (call.command, call.plugin, call.environment) == ("ADD", "/x", "cut")


@pytest.mark.parametrize(
    ("status", "exit_code", "name"),
    [
        (0, 0, None),
        (0x0100, 1, None),
        (0xFF00, 255, None),
        (9, None, "SIGKILL"),
        (11 | 0x80, None, "SIGSEGV"),
        (signal.SIGRTMIN, None, "SIGRTMIN"),
        (signal.SIGRTMIN + 6, None, f"SIG{signal.SIGRTMIN + 6}"),
        (32, None, "SIG32"),
    ],
)
def test_how_it_ended(calls: CniCalls, status: int, exit_code: int | None, name: str | None) -> None:
    end = calls.end(ended(LATER, STARTED, 123, status, False))
    assert end is not None
    assert (end.exit_code, end.signal) == (exit_code, name)


@given(st.integers(0, 2**16 - 1))
def test_whatever_the_status_is_there_is_a_code_or_a_signal(status: int) -> None:
    end = CniCalls(Namespaces()).end(ended(LATER, STARTED, 123, status, False))
    assert end is not None
    assert (end.exit_code is None) != (end.signal is None)


@pytest.mark.parametrize(
    ("trusted", "command", "believed"),
    [
        (True, "ADD", True),
        (False, "ADD", False),
        (True, "DEL", False),
        (True, "CHECK", False),
        (True, "", False),
        (True, "add", False),
    ],
)
@pytest.mark.parametrize("own", [HOST, GREEN, None])
@pytest.mark.parametrize("uid", [0, 1000])
def test_only_a_trusted_add_says_which_pod_a_namespace_is_for(
    calls: CniCalls, namespaces: Namespaces, trusted: bool, uid: int, own: Netns | None, command: str, believed: bool
) -> None:
    """Whoever it is otherwise, and wherever. One that is not trusted has no pod itself, and its path leads nowhere."""
    task = msgspec.structs.replace(TASK, uid=uid)
    raw = text("/x", f"CNI_COMMAND={command}", "CNI_NETNS=/run/netns/blue", f"CNI_ARGS={ARGS}")
    call = calls.begin(executed(task, own, STARTED, raw, trusted=trusted))
    assert call is not None
    assert (call.netns, call.pod, call.trusted) == ((BLUE, WEB, None) if trusted else (None, None, False))
    assert call.args == ARGS
    assert namespaces.remember(BLUE.cookie, BLUE.inum) == (BLUE, "/run/netns/blue", WEB if believed else None)


# Who is trusted.


def test_texts_of_one_that_is_not_trusted_have_256_bytes(calls: CniCalls) -> None:
    variables = (f"CNI_IFNAME={'i' * 257}", f"CNI_ARGS={'ä' * 300}", f"CNI_NETNS={'n' * 256}")
    raw = text("/" + "p" * 300, "CNI_COMMAND=" + "A" * 300, *variables)
    call = calls.begin(executed(TASK, HOST, STARTED, raw, trusted=False))
    assert call is not None
    texts = (call.plugin, call.command, call.ifname, call.args, call.netns_path)
    assert [len(one.encode()) for one in texts if one] == [256] * 5
    assert call.environment == "cut"
    whole = calls.begin(executed(process(5), HOST, STARTED, raw))
    assert whole is not None
    assert (whole.args, whole.environment) == ("ä" * 300, None)


def test_the_environment_of_one_that_is_not_trusted_is_never_read_from_proc(calls: CniCalls, spawn: Spawn) -> None:
    pid = spawn(CNI_COMMAND="ADD", CNI_ARGS=ARGS)
    told = executed(process(pid), HOST, started(pid), text("/x", "CNI_COMMAND=ADD"), True, trusted=False)
    call = calls.begin(told)
    assert call is not None
    assert (call.args, call.environment) == (None, "cut")


def test_those_that_are_not_trusted_displace_no_other(calls: CniCalls) -> None:
    calls.begin(executed(TASK, HOST, STARTED, TEXT))
    for pid in range(1, 20_000):
        calls.begin(executed(process(pid), HOST, STARTED, TEXT, trusted=False))
    end = calls.end(ended(LATER, STARTED, 1, unreadable=True))
    assert isinstance(end, CniEnd)
    assert (end.command, end.trusted) == ("ADD", None)
    first, last = (calls.end(ended(process(pid), STARTED, 1, unreadable=True, trusted=False)) for pid in (1, 19_999))
    assert first is None
    assert isinstance(last, CniEnd)
    assert last.trusted is False


def test_an_end_whose_beginning_was_lost_says_whether_it_was_trusted(calls: CniCalls) -> None:
    end = calls.end(ended(TASK, STARTED, 1, trusted=False, entered=BLUE))
    assert isinstance(end, CniEnd)
    assert (end.trusted, end.netns) == (False, BLUE)


# Plugin or helper.

PATH = "CNI_PATH=/opt/cni/bin:/usr/lib/cni"


@pytest.mark.parametrize(
    ("path", "cni_path", "lies"),
    [
        ("/opt/cni/bin/bridge", "/opt/cni/bin", True),
        ("/opt/cni/bin/bridge", "/usr/lib/cni:/opt/cni/bin", True),
        ("/opt/cni/bin/bridge", "/opt/cni/bin/", True),
        ("//opt/cni//bin/./bridge", "/opt/./cni/x/../bin", True),
        ("/opt/cni/bin/../bin/bridge", "/opt//cni/bin", True),
        ("bin/bridge", "./bin", True),
        ("bridge", ".", True),
        ("/opt/cni/bin/sub/bridge", "/opt/cni/bin", False),
        ("/opt/cni/bridge", "/opt/cni/bin", False),
        ("/opt/cni/binary/bridge", "/opt/cni/bin", False),
        ("/bin/bridge", "/opt/cni/bin", False),
        ("/bridge", "", False),
        ("bridge", "", False),
        ("/bridge", "::", False),
        ("/bridge", "/", True),
        ("bin/bridge", "/opt/cni/bin", False),
    ],
)
def test_what_lies_in_cni_path(path: str, cni_path: str, lies: bool) -> None:
    variables = [f"CNI_PATH={cni_path}".encode(), b"CNI_PATH=/bin:/:.:/opt/cni/bin"]
    assert lies_in_cni_path(path.encode(), variables) is lies


def test_without_cni_path_nothing_lies_in_it() -> None:
    assert not lies_in_cni_path(b"/opt/cni/bin/bridge", [b"CNI_PATHS=/opt/cni/bin", b"XCNI_PATH=/opt/cni/bin"])


def run(calls: CniCalls, pid: int, path: str, outer: int | None, **more: Any) -> CniStart | None:
    """A process executes a program with the variables of a call, out of a process that belongs to one, if any."""
    helper = outer is not None and not path.startswith(("/opt/cni/bin/", "/usr/lib/cni/"))
    told = {"outer": (outer, STARTED) if outer else None, "helper": helper} | more
    return calls.begin(executed(process(pid), told.pop("own", HOST), STARTED, text(path, *VARIABLES, PATH), **told))


def over(calls: CniCalls, pid: int, **more: Any) -> CniEnd | CniExec | None:
    """It ends, and is a helper if it is not known."""
    return calls.end(ended(process(pid), STARTED, 100, **({"nested": True, "helper": True} | more)))


def test_a_plugin_its_delegate_and_its_helpers(calls: CniCalls) -> None:
    """A helper's helper is one of the plugin, also when the helper has ended; so is one of what a plugin leaves."""
    assert run(calls, 1, "/opt/cni/bin/bridge", None)
    delegate = run(calls, 2, "/usr/lib/cni/host-local", 1)
    assert delegate
    assert (delegate.plugin, delegate.parent) == ("/usr/lib/cni/host-local", 1)
    assert run(calls, 3, "/usr/sbin/iptables", 1, args=b"iptables\0-t\0nat\0") is None
    assert run(calls, 4, "/usr/bin/tee", 2) is None
    assert run(calls, 5, "/sbin/modprobe", 3, trusted=False) is None
    helper = over(calls, 3, status=0x0100)
    assert helper == CniExec(
        "12:01", **msgspec.structs.asdict(process(3)), executable="/usr/sbin/iptables", call=1, args="iptables -t nat",
        duration_ns=100, exit_code=1,
    )  # fmt: skip
    assert isinstance(over(calls, 1, nested=False), CniEnd)
    assert run(calls, 6, "/usr/sbin/dnsmasq", 3) is None
    told = [over(calls, pid, status=9) for pid in (2, 4, 5, 6)]
    assert [(one and one.type, getattr(one, "call", None)) for one in told] == [
        ("cni_end", None), ("cni_exec", 2), ("cni_exec", 1), ("cni_exec", 1),
    ]  # fmt: skip
    assert [one.signal for one in told if isinstance(one, CniExec)] == ["SIGKILL"] * 3


def test_a_helper_that_executes_a_plugin_becomes_one(calls: CniCalls) -> None:
    """As chroot and nsenter do. It is told from then on, and never as a helper."""
    run(calls, 1, "/opt/cni/bin/multus", None)
    assert run(calls, 2, "/usr/sbin/chroot", 1) is None
    assert run(calls, 2, "/usr/bin/env", 1) is None
    told = executed(process(2), HOST, STARTED, text("/opt/cni/bin/bridge", *VARIABLES, PATH), outer=(1, STARTED))
    start = calls.begin(told)
    assert start
    assert start.plugin == "/opt/cni/bin/bridge"
    assert run(calls, 2, "/usr/bin/true", 1) is None
    end = over(calls, 2)
    assert isinstance(end, CniEnd)
    assert (end.plugin, end.duration_ns) == ("/opt/cni/bin/bridge", 100)


def test_of_what_began_inside_of_a_call_and_was_lost_only_a_plugins_end_is_told(calls: CniCalls) -> None:
    """And whose helper its helpers are is not known."""
    run(calls, 1, "/opt/cni/bin/bridge", None)
    assert run(calls, 3, "/usr/bin/tee", 2) is None
    assert over(calls, 2) is None
    assert isinstance(over(calls, 4, helper=False), CniEnd)
    helper = over(calls, 3)
    assert isinstance(helper, CniExec)
    assert helper.call is None


# Which namespace it is about.


def pod(namespaces: Namespaces, netns: Netns) -> Pod | None:
    return namespaces.remember(netns.cookie, netns.inum)[2]


@pytest.mark.parametrize("who", [1, 2, 3], ids=["the plugin", "a delegate", "a helper of the delegate"])
def test_a_call_is_about_the_namespace_that_it_enters(calls: CniCalls, namespaces: Namespaces, who: int) -> None:
    """Whatever its path says; and the pod goes there from then on. Its own is none that it enters."""
    for pid, path, outer in ((1, "/opt/cni/bin/a", None), (2, "/opt/cni/bin/b", 1), (3, "/bin/sh", 2)):
        run(calls, pid, path, outer, own=RED)
    more = text("/opt/cni/bin/c", *VARIABLES, f"CNI_ARGS={ARGS}", PATH)
    calls.begin(executed(process(4), RED, STARTED, more, outer=None))
    assert pod(namespaces, BLUE) == WEB
    for netns in (RED, GREEN, RED, GREEN):
        calls.entered((who, STARTED), netns)
        calls.entered((4, STARTED), netns)
    assert (pod(namespaces, BLUE), pod(namespaces, GREEN), pod(namespaces, RED)) == (None, WEB, None)
    ends = [over(calls, pid) for pid in (2, 1, 4)]
    assert [end and end.netns for end in ends] == [GREEN if who > 1 else BLUE, GREEN, GREEN]
    assert ends[1]
    assert ends[1].name is None, "the other one's name is not told"


def test_a_call_that_enters_two_namespaces_is_about_none(calls: CniCalls, namespaces: Namespaces) -> None:
    for pid in (1, 2):
        calls.begin(executed(process(pid), HOST, STARTED, TEXT))
    calls.entered((1, STARTED), BLUE)
    calls.entered((1, STARTED), GREEN)
    calls.entered((1, STARTED), BLUE)
    first = over(calls, 1)
    assert first
    assert (first.netns, first.name, first.pod) == (None, None, WEB)
    assert over(calls, 2, several=True) == msgspec.structs.replace(first, pid=2, tid=2), (
        "what the end says counts where it was lost before"
    )
    assert (pod(namespaces, BLUE), pod(namespaces, GREEN)) == (None, None)


def test_a_later_plugin_of_the_chain_does_not_take_the_pod_away(calls: CniCalls, namespaces: Namespaces) -> None:
    """The first one's ADD is over, and stands, whatever else the second one enters."""
    calls.begin(executed(process(1), HOST, STARTED, TEXT))
    calls.entered((1, STARTED), BLUE)
    over(calls, 1, nested=False, helper=False)
    calls.begin(executed(process(2), HOST, STARTED, TEXT))
    for netns in (BLUE, GREEN):
        calls.entered((2, STARTED), netns)
        assert (pod(namespaces, BLUE), pod(namespaces, GREEN)) == (WEB, None)
    over(calls, 2, several=True)
    assert pod(namespaces, BLUE) == WEB


def test_a_pod_that_is_taken_away_makes_room_for_that_of_the_oldest_call(
    calls: CniCalls, namespaces: Namespaces
) -> None:
    """Of those under way that are about the namespace: they had their say when it was another's."""
    for pid, name, command in ((1, "a", "ADD"), (2, "del", "DEL"), (3, "b", "ADD"), (4, "c", "ADD"), (5, "d", "ADD")):
        args = f"CNI_ARGS=K8S_POD_NAMESPACE=shop;K8S_POD_NAME={name}"
        raw = text("/x", f"CNI_COMMAND={command}", f"CNI_CONTAINERID={name}", "CNI_NETNS=/run/netns/blue", args)
        calls.begin(executed(process(pid), HOST, STARTED, raw))
    calls.entered((3, STARTED), RED)
    assert pod(namespaces, BLUE) == Pod("shop", "a")
    calls.entered((1, STARTED), GREEN)
    assert [pod(namespaces, one) for one in (BLUE, GREEN, RED)] == [Pod("shop", name) for name in "cab"]
    calls.entered((5, STARTED), BLUE)
    over(calls, 4, entered=GREEN)
    assert [pod(namespaces, one) for one in (BLUE, GREEN, RED)] == [Pod("shop", name) for name in "dab"]


def test_the_end_tells_what_was_entered_where_that_was_lost(calls: CniCalls, namespaces: Namespaces) -> None:
    calls.begin(executed(process(1), HOST, STARTED, TEXT))
    end = over(calls, 1, entered=GREEN)
    assert end
    assert (end.netns, pod(namespaces, GREEN), pod(namespaces, BLUE)) == (GREEN, WEB, None)


def test_one_that_is_not_trusted_is_about_what_it_enters_and_names_no_pod(
    calls: CniCalls, namespaces: Namespaces
) -> None:
    calls.begin(executed(process(1), HOST, STARTED, TEXT, trusted=False))
    calls.entered((1, STARTED), BLUE)
    end = over(calls, 1, trusted=False)
    assert isinstance(end, CniEnd)
    assert (end.netns, end.name, end.pod, end.trusted) == (BLUE, "/run/netns/blue", None, False)
    assert pod(namespaces, BLUE) is None


def test_what_enters_and_belongs_to_no_call_that_is_known_changes_nothing(calls: CniCalls) -> None:
    calls.begin(executed(process(1), HOST, STARTED, TEXT))
    calls.entered((2, STARTED), GREEN)
    calls.entered((1, STARTED + 1), GREEN)
    end = over(calls, 1)
    assert end
    assert end.netns == BLUE


@pytest.mark.parametrize(
    ("command", "status", "more", "deleted"),
    [
        ("DEL", 0, {}, True),
        ("DEL", 0x0100, {}, False),
        ("DEL", 9, {}, False),
        ("ADD", 0, {}, False),
        ("CHECK", 0, {}, False),
        ("DEL", 0, {"trusted": False}, False),
        ("DEL", 0, {"outer": (7, STARTED)}, False),
    ],
)
def test_a_finished_del_of_a_trusted_call_is_handed_on(
    calls: CniCalls, namespaces: Namespaces, monkeypatch: pytest.MonkeyPatch, command: str, status: int,
    more: dict[str, Any], deleted: bool,
) -> None:  # fmt: skip
    """Not that of a delegate: its caller has more to do."""
    told: list[tuple[Netns, str | None]] = []
    monkeypatch.setattr(namespaces, "delete_pod", lambda *what: told.append(what))
    raw = text("/opt/cni/bin/bridge", f"CNI_COMMAND={command}", *VARIABLES[1:], PATH)
    calls.begin(executed(process(1), HOST, STARTED, raw, **more))
    over(calls, 1, status=status, nested="outer" in more, trusted=more.get("trusted", True))
    assert told == ([(BLUE, "c1")] if deleted else [])


# Bounds, and who was here before.


def test_the_first_add_with_a_pod_is_believed(calls: CniCalls, namespaces: Namespaces) -> None:
    for args in ("", "K8S_POD_NAME=web-2", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1", ARGS, ""):
        raw = text("/x", "CNI_COMMAND=ADD", "CNI_NETNS=/run/netns/blue", f"CNI_ARGS={args}")
        calls.begin(executed(TASK, HOST, STARTED, raw, False))
        calls.end(ended(LATER, STARTED, 123, 0, False))
    assert namespaces.remember(BLUE.cookie, BLUE.inum)[2] == Pod("shop", "web-1")


def test_a_path_that_led_to_nothing_certain(calls: CniCalls) -> None:
    call = calls.begin(executed(TASK, HOST, STARTED, TEXT, False, led=None))
    assert call is not None
    assert (call.netns, call.name, call.netns_path, call.pod) == (None, None, "/var/run/netns/blue", WEB)


def test_calls_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cni, "_TRUSTED", 8)
    calls = CniCalls(Namespaces())
    for number in range(100):
        calls.begin(executed(TASK, HOST, number, TEXT, False))
    ends = [calls.end(ended(LATER, number, 1, 0, True)) for number in range(100)]
    assert [number for number, end in enumerate(ends) if end] == list(range(92, 100))


# What libcni has kept.


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """In place of the directory that libcni writes to."""
    monkeypatch.setattr(cni_cache, "CACHE", tmp_path)
    return tmp_path


def entry(netns: str, args: str = ARGS) -> bytes:
    """A file as libcni writes it."""
    return json.dumps(
        {
            "kind": "cniCacheV1",
            "containerId": "c1",
            "config": "e30=",
            "ifName": "eth0",
            "networkName": "net",
            "netns": netns,
            "cniArgs": [pair.split("=", 1) for pair in args.split(";")],
            "capabilityArgs": {"portMappings": [{"hostPort": 80}]},
            "result": {"cniVersion": "1.0.0", "ips": []},
        }
    ).encode()


def test_one_entry_names_a_pod(cache: Path) -> None:
    (cache / "net-c1-eth0").write_bytes(entry("/var/run/netns/cni-1"))
    (cache / "net-c2-eth0").write_bytes(entry("/run/netns/cni-2", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1"))
    assert cni_cache.cached_pods() == {"/run/netns/cni-1": WEB, "/run/netns/cni-2": Pod("shop", "web-1")}


def test_several_networks_of_one_pod_agree(cache: Path) -> None:
    for number, path in enumerate(("/var/run/netns/cni-1", "/run/netns/cni-1")):
        (cache / f"net{number}").write_bytes(entry(path))
    assert cni_cache.cached_pods() == {"/run/netns/cni-1": WEB}


def test_where_two_entries_disagree_neither_is_believed(cache: Path) -> None:
    (cache / "1").write_bytes(entry("/run/netns/cni-1"))
    (cache / "2").write_bytes(entry("/var/run/netns/cni-1", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1"))
    (cache / "3").write_bytes(entry("/run/netns/cni-3"))
    assert cni_cache.cached_pods() == {"/run/netns/cni-3": WEB}


def test_a_process_may_be_another_by_now(cache: Path) -> None:
    (cache / "1").write_bytes(entry("/proc/4242/ns/net"))
    assert cni_cache.cached_pods() == {}


@pytest.mark.parametrize(("before", "believed"), [(-60, True), (0, True), (60, False)])
def test_what_was_written_before_the_machine_was_booted_is_not_believed(
    cache: Path, before: int, believed: bool
) -> None:
    """No namespace is that old, and the path may be used anew. Nor does it contradict another."""
    (cache / "1").write_bytes(entry("/run/netns/cni-1", "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=long-gone"))
    written = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - before
    os.utime(cache / "1", (written, written))
    assert cni_cache.cached_pods() == ({"/run/netns/cni-1": Pod("shop", "long-gone")} if believed else {})
    (cache / "2").write_bytes(entry("/run/netns/cni-1"))
    assert cni_cache.cached_pods() == ({} if believed else {"/run/netns/cni-1": WEB})


@pytest.mark.parametrize(
    "rubbish",
    [
        b"",
        b"\0" * 4096,
        b"null",
        b"[]",
        b"{}",
        b'{"netns": 5}',
        b'{"netns": "/run/netns/x", "cniArgs": null}',
        b'{"netns": "/run/netns/x", "cniArgs": {"K8S_POD_NAME": "x"}}',
        b'{"netns": "/run/netns/x", "cniArgs": [["K8S_POD_NAME"], [], ["", ""], ["a", "b", "c"]]}',
        b'{"netns": "/run/netns/\xff", "cniArgs": [["K8S_POD_NAMESPACE", "a"], ["K8S_POD_NAME", "b"]]}',
        b'{"netns": "/run/netns/x", "cniArgs": [["K8S_POD_NAMESPACE", "\xff"], ["K8S_POD_NAME", "b"]]}',
        b'{"netns": "/run/netns/\\ud800", "cniArgs": [["K8S_POD_NAMESPACE", "a"], ["K8S_POD_NAME", "\\udfff"]]}',
        entry("/run/netns/x")[:-1],
        entry("/run/netns/x", "K8S_POD_NAME=web-0"),
    ],
)
def test_rubbish_in_the_cache_is_passed_over(cache: Path, rubbish: bytes) -> None:
    (cache / "1").write_bytes(rubbish)
    (cache / "2").write_bytes(entry("/run/netns/cni-1"))
    assert cni_cache.cached_pods() == {"/run/netns/cni-1": WEB}


def test_nesting_without_end_is_rubbish_too(cache: Path) -> None:
    (cache / "1").write_bytes(b'{"result": ' + b"[" * 1_000_000)
    assert cni_cache.cached_pods() == {}


def test_what_cannot_be_read_is_passed_over(cache: Path) -> None:
    (cache / "directory").mkdir()
    (cache / "nowhere").symlink_to(cache / "gone")
    (cache / "1").write_bytes(entry("/run/netns/cni-1"))
    assert cni_cache.cached_pods() == {"/run/netns/cni-1": WEB}


def test_a_cache_that_is_taken_away_just_now(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_path: object) -> NoReturn:
        raise FileNotFoundError

    monkeypatch.setattr(os, "scandir", gone)
    monkeypatch.setattr(os, "listdir", gone)
    assert cni_cache.cached_pods() == {}


@pytest.mark.parametrize("missing", ["gone", "file"])
def test_without_a_cache_there_are_no_pods(cache: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    (cache / "file").write_bytes(b"")
    monkeypatch.setattr(cni_cache, "CACHE", cache / missing)
    assert cni_cache.cached_pods() == {}


# The calls that are under way.


def running(*pids: int) -> list[RunningCniCall]:
    """Those of these processes: this machine may have calls of its own."""
    return [call for call in running_cni_calls() if call.pid in pids]


@pytest.fixture(autouse=True)
def privileges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who runs these tests may hold no CAP_SYS_ADMIN, and be in a user namespace."""
    monkeypatch.setattr(cni_running, "_effective", lambda _place: 1 << 21)
    monkeypatch.setattr(cni_running, "_INITIAL_USER_NAMESPACE", Path("/proc/self/ns/user").stat().st_ino)


def test_a_call_under_way_is_found_in_proc(spawn: Spawn) -> None:
    pid = spawn(CNI_COMMAND="ADD", CNI_ARGS=ARGS, CNI_IFNAME="eth0", CNI_NETNS="/run/netns/blue", CNI_CONTAINERID="c1")
    (call,) = running(pid)
    assert 0 <= call.age_ns < 600 * 10**9
    assert call == RunningCniCall(
        pid, os.getpid(), "ADD", call.age_ns, SLEEP, WEB,
        cni_container_id="c1", ifname="eth0", netns_path="/run/netns/blue", args=ARGS,
    )  # fmt: skip


def test_who_may_not_enter_a_namespace_makes_no_call(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = spawn(CNI_COMMAND="ADD")
    monkeypatch.setattr(cni_running, "_effective", lambda _place: ~(1 << 21))
    assert running(pid) == []


def test_who_was_given_that_right_by_the_exec_makes_no_call(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a set-user-ID program: the environment is that of whoever executed it."""
    pid = spawn(CNI_COMMAND="ADD")
    auxiliary = cni_running._auxiliary(Path(f"/proc/{pid}"))
    assert auxiliary[23] == 0
    monkeypatch.setattr(cni_running, "_auxiliary", lambda _place: auxiliary | {23: 1})
    assert running(pid) == []


@pytest.mark.parametrize("address", [0, 1, 2**64 - 1])
def test_where_memory_does_not_tell_the_path_it_is_that_of_the_file(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch, address: int
) -> None:
    pid = spawn(CNI_COMMAND="ADD")
    monkeypatch.setattr(cni_running, "_auxiliary", lambda _place: {23: 0, 31: address})
    assert [call.plugin for call in running(pid)] == [os.path.realpath(SLEEP)]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of files that are opened."""
    paths: list[str] = []
    open_ = Path.open

    def note(path: Path, *args: Any, **more: Any) -> Any:
        paths.append(str(path))
        return open_(path, *args, **more)

    monkeypatch.setattr(Path, "open", note)
    return paths


def test_the_memory_of_one_that_is_not_trusted_is_not_read(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    """It may lead into a file that never answers. A script has its interpreter's path then."""
    pid = spawn(CNI_COMMAND="ADD")
    for initial in (cni_running._INITIAL_USER_NAMESPACE, 1):
        monkeypatch.setattr(cni_running, "_INITIAL_USER_NAMESPACE", initial)
        opened.clear()
        (call,) = running(pid)
        assert call.plugin == (os.path.realpath(SLEEP) if initial == 1 else SLEEP)
        assert (f"/proc/{pid}/mem" in opened) is (initial != 1)


def test_the_environment_of_one_that_makes_no_call_is_not_read(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch, opened: list[str]
) -> None:
    pid = spawn(CNI_COMMAND="ADD")
    for effective in (1 << 21, 0):
        monkeypatch.setattr(cni_running, "_effective", lambda _place, effective=effective: effective)
        opened.clear()
        assert len(running(pid)) == bool(effective)
        assert (f"/proc/{pid}/environ" in opened) is bool(effective)


def test_an_environment_that_is_too_long_for_an_exec_is_read_so_far(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By prctl(PR_SET_MM) it has as many gigabytes as the process likes."""
    assert cni_running._ENVIRONMENT == 6 << 20
    pid = spawn(CNI_COMMAND="ADD", CNI_IFNAME="eth0")
    monkeypatch.setattr(cni_running, "_ENVIRONMENT", len("CNI_COMMAND=ADD\0"))
    assert [(call.command, call.ifname) for call in running(pid)] == [("ADD", None)]


def test_of_an_environment_only_the_variables_that_matter_are_taken_apart() -> None:
    """Six megabytes hold millions of others: that took seconds."""
    raw = b"CNI_A=1\0XCNI_B=2\0\0\0TRACEPARENT=3\0TRACEPARENTS=4\0CNI_COMMAND=ADD"
    assert cni_running._VARIABLE.findall(raw) == [b"CNI_A=1", b"TRACEPARENT=3", b"CNI_COMMAND=ADD"]
    assert cni_running._VARIABLE.findall(raw + b"\0")[-1] == b"CNI_COMMAND=ADD"


@pytest.mark.parametrize("looks", [1, 2])
@pytest.mark.parametrize("change", ["capabilities", "exec", "start", "AT_SECURE"])
def test_a_process_that_changes_between_two_looks_is_no_call(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch, change: str, looks: int
) -> None:
    """Such as a user's that executes a set-user-ID program: the rights are that one's, the environment the user's."""
    pid = spawn(CNI_COMMAND="ADD")
    state, left = cni_running._state, [looks]

    def changing(place: Path) -> cni_running._State:
        one = state(place)
        if place.name != str(pid) or left[0]:
            left[0] -= place.name == str(pid)
            return one
        return {
            "capabilities": one._replace(capable=False),
            "exec": one._replace(auxiliary=one.auxiliary | {25: 1}),
            "start": one._replace(started=one.started + 1),
            "AT_SECURE": one._replace(auxiliary=one.auxiliary | {23: 1}),
        }[change]

    monkeypatch.setattr(cni_running, "_state", changing)
    assert running(pid) == []


def test_where_the_kernel_has_not_said_yet_who_gave_the_rights_there_is_no_call(
    spawn: Spawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of an exec, the capabilities are the new ones, and AT_SECURE is still to come."""
    pid = spawn(CNI_COMMAND="ADD")
    monkeypatch.setattr(cni_running, "_auxiliary", lambda _place: {})
    assert running(pid) == []


def test_a_call_in_a_user_namespace_is_listed_as_such(spawn: Spawn, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = spawn(CNI_COMMAND="ADD", CNI_ARGS=ARGS)
    monkeypatch.setattr(cni_running, "_INITIAL_USER_NAMESPACE", 1)
    (call,) = running(pid)
    assert (call.trusted, call.pod, call.args) == (False, None, ARGS)


def test_a_script_and_a_deleted_one_are_listed_by_their_own_path(spawn: Spawn, tmp_path: Path) -> None:
    script = tmp_path / "a plugin"
    script.write_text("#!/bin/sh\nkill -STOP $$\n", encoding="ascii")
    script.chmod(0o755)
    pid = spawn(str(script), CNI_COMMAND="ADD")
    assert [call.plugin for call in running(pid)] == [str(script)]
    script.unlink()
    assert [call.plugin for call in running(pid)] == [str(script)]


def _child(parent: int, begins: bytes) -> int:
    """A child of a process, once its command line begins so."""
    while True:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="utf-8").split()
        for one in children:
            if Path(f"/proc/{one}/cmdline").read_bytes().startswith(begins):
                return int(one)
        time.sleep(0.001)


@pytest.mark.parametrize(("directory", "listed"), [("/nowhere", False), (None, True)], ids=["helper", "delegate"])
def test_a_delegate_is_listed_after_its_parent_and_a_helper_is_not(
    spawn: Spawn, directory: str | None, listed: bool
) -> None:
    parent = spawn(
        "sh", "-c", f"{SLEEP} 600 & wait", CNI_COMMAND="DEL", CNI_PATH=directory or os.path.dirname(SLEEP),
    )  # fmt: skip
    child = _child(parent, SLEEP.encode())
    try:
        told = [(call.pid, call.parent) for call in running(parent, child)]
        assert told == [(parent, os.getpid()), (child, parent)][: 1 + listed]
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_plugin_that_forks_is_listed_once(spawn: Spawn) -> None:
    parent = spawn("sh", "-c", "(sleep 600 & wait) & wait", CNI_COMMAND="DEL", PATH=os.environ["PATH"])
    child = _child(parent, b"sh")
    grandchild = _child(child, b"sleep")
    assert [call.pid for call in running(parent, child)] == [parent]
    for pid in (child, grandchild):
        os.kill(pid, signal.SIGKILL)


def test_what_a_plugin_has_left_behind_is_no_call(spawn: Spawn) -> None:
    """Whoever has become its parent did not start it."""
    pid = spawn("setsid", "sleep", "600", CNI_COMMAND="ADD", PATH=os.environ["PATH"])
    while Path(f"/proc/{pid}/cmdline").read_bytes()[:5] != b"sleep":
        time.sleep(0.001)
    assert running(pid) == []


def test_older_calls_come_first(spawn: Spawn) -> None:
    first = spawn(CNI_COMMAND="ADD")
    time.sleep(3 * TICK / 1e9)
    second = spawn(CNI_COMMAND="ADD")
    assert [call.pid for call in running(second, first)] == [first, second]


def test_processes_without_a_command_are_no_calls(spawn: Spawn) -> None:
    assert running(spawn(CNI_ARGS=ARGS), os.getpid()) == []


def test_a_zombie_is_no_call_any_more(zombie: int) -> None:
    assert running(zombie) == []


def test_a_plugin_whose_path_is_no_text_can_be_written_as_json(spawn: Spawn, tmp_path: Path) -> None:
    plugin = os.fsencode(tmp_path) + b"/\xff"
    shutil.copy(b"/bin/sleep", plugin)
    (call,) = running(spawn(plugin, b"600", CNI_COMMAND="ADD"))
    assert json.loads(msgspec.json.encode(call))["plugin"] == f"{tmp_path}/\\xff"
