"""CNI calls: what environments say, what libcni has kept, which calls are under way, and who is believed."""

from __future__ import annotations

import contextlib
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

from cni_collector.events import CniEnd, CniStart, Netns, Pod, Task
from cni_collector.identity import cni, cni_cache
from cni_collector.identity.cni import (
    CniCalls,
    RunningCniCall,
    parse_args,
    parse_environment,
    read_environment,
    running_cni_calls,
)
from cni_collector.identity.namespaces import Namespaces

UID = "11111111-2222-3333-4444-555555555555"
PAIRS = ("IgnoreUnknown=1", "K8S_POD_NAMESPACE=shop", "K8S_POD_NAME=web-0", f"K8S_POD_UID={UID}")
ARGS = ";".join(PAIRS)
WEB = Pod("shop", "web-0", UID)
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
HOST, BLUE = Netns(1, 4026531840), Netns(4097, 4026532001)
TASK = Task(2**22 + 1, 2**22 + 1, 7, 0, "bridge", "/runtime.slice")
"""No kernel gives a pid this high: nothing is found in /proc under it."""
LATER = msgspec.structs.replace(TASK, ppid=1)
STARTED = 5_000_000_000
TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")


def environment(**variables: str) -> list[bytes]:
    """Variables as they stand in an environment."""
    return [f"{name}={value}".encode() for name, value in variables.items()]


def text(path: str, *variables: str) -> bytes:
    """The text of a `struct cni_start_record`: each part closed by NUL."""
    return b"".join(part.encode() + b"\0" for part in (path, *variables))


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
            process = stack.enter_context(subprocess.Popen(command or ("sleep", "600"), env=variables))
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
    read_bytes = Path.read_bytes

    def empty(path: Path) -> bytes:
        return b"" if path == Path(f"/proc/{process.pid}/environ") else read_bytes(path)

    with monkeypatch.context() as patch:
        if request.param != "as it is here":
            patch.setattr(Path, "read_bytes", empty)
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
    known.host_inum = HOST.inum
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
    assert calls.begin("12:00", TASK, HOST, BLUE, STARTED, TEXT, False) == CniStart("12:00", **TOLD, **WHO, ppid=7)
    assert calls.end("12:01", LATER, STARTED, 123, 0x0100, False) == CniEnd(
        "12:01", **TOLD, **WHO, ppid=1, duration_ns=123, exit_code=1
    )
    assert calls.unreadable == 0


def test_an_end_whose_beginning_was_lost_tells_what_it_can(calls: CniCalls) -> None:
    only_the_end = CniEnd("12:01", **WHO, ppid=1, duration_ns=123, exit_code=0)
    assert calls.end("12:01", LATER, STARTED, 123, 0, False) == only_the_end
    calls.begin("12:00", TASK, HOST, BLUE, STARTED, TEXT, False)
    assert calls.end("12:01", LATER, STARTED + 1, 123, 0, False) == only_the_end, "another process with the same id"


def test_an_end_is_told_once(calls: CniCalls) -> None:
    calls.begin("12:00", TASK, HOST, BLUE, STARTED, TEXT, False)
    assert calls.end("12:01", LATER, STARTED, 1, 0, True) is not None
    assert calls.end("12:01", LATER, STARTED, 1, 0, True) is None


def test_what_may_have_been_no_call_ends_in_silence(calls: CniCalls) -> None:
    assert calls.end("12:01", LATER, STARTED, 123, 0, True) is None


def test_no_process_begins_two_calls(calls: CniCalls) -> None:
    """Where the kernel could not read its environment, it looks again when the process executes another program."""
    assert calls.begin("12:00", TASK, HOST, BLUE, STARTED, TEXT, False) is not None
    assert calls.begin("12:00", TASK, HOST, BLUE, STARTED, TEXT, False) is None
    end = calls.end("12:01", LATER, STARTED, 123, 0, False)
    assert end is not None
    assert end.plugin == "/opt/cni/bin/bridge"


@pytest.mark.parametrize("variables", [[], ["CNI_ARGS=A=1"], ["CNI_COMMANDS=ADD"]])
def test_a_process_that_is_asked_for_nothing_is_no_call(calls: CniCalls, variables: list[str]) -> None:
    assert calls.begin("12:00", TASK, HOST, None, STARTED, text("/bin/sh", *variables), False) is None
    assert calls.unreadable == 0


def test_an_empty_command_makes_a_call_too(calls: CniCalls) -> None:
    assert calls.begin("12:00", TASK, HOST, None, STARTED, text("/x", "CNI_COMMAND="), False) == CniStart(
        "12:00", **WHO, ppid=7, parent=7, command="", plugin="/x"
    )


def test_a_path_that_is_no_text_is_escaped(calls: CniCalls) -> None:
    call = calls.begin("12:00", TASK, HOST, None, STARTED, b"/opt/\xff\0CNI_COMMAND=\xfe\0", False)
    assert call is not None
    assert (call.plugin, call.command) == ("/opt/\\xff", "\\xfe")


def test_what_is_missing_comes_from_proc_while_the_process_lives(calls: CniCalls, spawn: Spawn) -> None:
    pid = spawn(CNI_COMMAND="DEL", CNI_ARGS=ARGS)
    task = process(pid)
    for raw in (text("/x"), text("/x", "CNI_COMMAND=DEL", "CNI_ARGS=K8S_POD_NAMESPACE=shop;K8S_POD_NAME=we")):
        fresh = CniCalls(Namespaces())
        call = fresh.begin("12:00", task, HOST, None, started(pid), raw, True)
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
    assert calls.begin("12:00", process(pid), HOST, None, started(pid), text("/x"), True) is None
    assert calls.unreadable == 0
    assert calls.end("12:01", process(pid), started(pid), 123, 0, True) is None


def test_what_is_missing_stays_missing_where_the_process_has_gone(calls: CniCalls) -> None:
    raw = text("/x", *VARIABLES, "CNI_ARGS=K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=1111")
    call = calls.begin("12:00", TASK, HOST, None, STARTED, raw, True)
    assert call is not None
    assert (call.environment, call.command, call.pod) == ("cut", "ADD", Pod("shop", "web-0"))
    end = calls.end("12:01", LATER, STARTED, 123, 0, False)
    assert end is not None
    assert end.environment == "cut"


def test_a_pods_name_that_may_be_cut_is_not_told(calls: CniCalls) -> None:
    raw = text("/x", *VARIABLES, "CNI_ARGS=K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1")  # of web-10, perhaps
    call = calls.begin("12:00", TASK, HOST, None, STARTED, raw, True)
    assert call is not None
    assert call.pod is None


def test_what_nobody_can_tell_is_counted(calls: CniCalls) -> None:
    assert calls.begin("12:00", TASK, HOST, None, STARTED, text("/x"), True) is None
    assert calls.begin("12:00", TASK, HOST, None, STARTED, text("/x", "CNI_ARGS=A=1"), True) is None
    assert calls.unreadable == 2
    assert calls.end("12:01", LATER, STARTED, 123, 0, True) is None


def test_a_zombie_is_counted_or_told_from_what_the_kernel_saw(calls: CniCalls, zombie: int) -> None:
    task, when = process(zombie), started(zombie)
    assert calls.begin("12:00", task, HOST, None, when, text("/x"), True) is None
    assert calls.unreadable == 1
    call = calls.begin("12:00", task, HOST, None, when, text("/x", "CNI_COMMAND=ADD"), True)
    assert call is not None
    assert (call.command, call.environment) == ("ADD", "cut")


def test_a_call_that_executes_something_else_at_once_is_still_a_call(calls: CniCalls, spawn: Spawn) -> None:
    """The kernel saw its command. What /proc has by now is another program's environment."""
    pid = spawn(PATH="/bin")
    call = calls.begin("12:00", process(pid), HOST, None, started(pid), text("/x", *VARIABLES), True)
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
    end = calls.end("12:01", LATER, STARTED, 123, status, False)
    assert end is not None
    assert (end.exit_code, end.signal) == (exit_code, name)


@given(st.integers(0, 2**16 - 1))
def test_whatever_the_status_is_there_is_a_code_or_a_signal(status: int) -> None:
    end = CniCalls(Namespaces()).end("12:01", LATER, STARTED, 123, status, False)
    assert end is not None
    assert (end.exit_code is None) != (end.signal is None)


@pytest.mark.parametrize(
    ("uid", "own", "command", "believed"),
    [
        (0, HOST, "ADD", True),
        (1000, HOST, "ADD", False),
        (0, BLUE, "ADD", False),
        (0, Netns(5, 4026532999), "ADD", False),
        (0, None, "ADD", False),
        (None, HOST, "ADD", False),
        (0, HOST, "DEL", False),
        (0, HOST, "CHECK", False),
        (0, HOST, "", False),
        (0, HOST, "add", False),
    ],
)
def test_only_root_in_the_hosts_namespace_says_which_pod_a_namespace_is_for(
    calls: CniCalls, namespaces: Namespaces, uid: int | None, own: Netns | None, command: str, believed: bool
) -> None:
    task = msgspec.structs.replace(TASK, uid=uid)
    raw = text("/x", f"CNI_COMMAND={command}", "CNI_NETNS=/run/netns/blue", f"CNI_ARGS={ARGS}")
    call = calls.begin("12:00", task, own, BLUE, STARTED, raw, False)
    assert call is not None
    assert (call.netns, call.pod) == (BLUE, WEB), "the call's own event says what it was told, whoever it is"
    assert namespaces.remember(BLUE.cookie, BLUE.inum) == (BLUE, "/run/netns/blue", WEB if believed else None)


def test_the_first_add_is_believed_and_one_without_a_pod_changes_nothing(
    calls: CniCalls, namespaces: Namespaces
) -> None:
    for args in ("", "K8S_POD_NAME=web-2", ARGS, "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-1", ""):
        raw = text("/x", "CNI_COMMAND=ADD", "CNI_NETNS=/run/netns/blue", f"CNI_ARGS={args}")
        calls.begin("12:00", TASK, HOST, BLUE, STARTED, raw, False)
        calls.end("12:01", LATER, STARTED, 123, 0, False)
    assert namespaces.remember(BLUE.cookie, BLUE.inum)[2] == WEB


def test_a_path_that_leads_nowhere_for_certain(calls: CniCalls) -> None:
    """Though a namespace is known by that very name: it may be another's, or elsewhere by now."""
    call = calls.begin("12:00", TASK, HOST, None, STARTED, TEXT, False)
    assert call is not None
    assert (call.netns, call.name, call.netns_path, call.pod) == (None, None, "/var/run/netns/blue", WEB)


def test_calls_under_way_are_bounded(calls: CniCalls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cni, "_BOUND", 8)
    for number in range(100):
        calls.begin("12:00", TASK, HOST, BLUE, number, TEXT, False)
    ends = [calls.end("12:01", LATER, number, 1, 0, True) for number in range(100)]
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


def test_a_call_under_way_is_found_in_proc(spawn: Spawn) -> None:
    pid = spawn(CNI_COMMAND="ADD", CNI_ARGS=ARGS, CNI_IFNAME="eth0", CNI_NETNS="/run/netns/blue", CNI_CONTAINERID="c1")
    (call,) = running(pid)
    assert 0 <= call.age_ns < 600 * 10**9
    assert call == RunningCniCall(
        pid, os.getpid(), "ADD", call.age_ns, os.path.realpath(shutil.which("sleep") or ""), WEB,
        cni_container_id="c1", ifname="eth0", netns_path="/run/netns/blue", args=ARGS,
    )  # fmt: skip


def test_parents_come_before_their_children(spawn: Spawn) -> None:
    parent = spawn("sh", "-c", "sleep 600 & wait", CNI_COMMAND="DEL", PATH=os.environ["PATH"])
    child = 0
    while not child:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="utf-8").split()
        child = next((int(one) for one in children if Path(f"/proc/{one}/cmdline").read_bytes()[:5] == b"sleep"), 0)
    try:
        assert [(call.pid, call.parent) for call in running(parent, child)] == [
            (parent, os.getpid()),
            (child, parent),
        ]
    finally:
        os.kill(child, signal.SIGKILL)


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
