"""The command: what it accepts, what it writes where, how it ends."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_collector.cli import main as cli
from cni_collector.errors import AttachError, CollectorError, LoadError, PrivilegeError
from cni_collector.events import (
    AnyEvent,
    Checkpoint,
    CniEnd,
    CniExec,
    CniStart,
    CollectorStart,
    CollectorStop,
    Event,
    Lost,
    Netns,
    NetnsCreate,
    NetnsCreateFailed,
    NetnsDestroy,
    NetnsEnter,
    NetnsEnterFailed,
    Pod,
    Task,
)
from cni_collector.identity.cni_running import RunningCniCall
from cni_collector.kernel.hooks import ALL, TIERS
from cni_collector.stream.snapshot import ExistingNetns
from cni_collector.version import VERSION
from cni_collector.views import lines as forms
from cni_collector.views.filters import Filters, first
from cni_collector.views.table import Column, printable, row

from ..support.made import made
from .fake_session import FakeSession

# The packages' attributes of these names are the commands.
watch = importlib.import_module("cni_collector.cli.watch")
list_ = importlib.import_module("cni_collector.cli.list")
check = importlib.import_module("cni_collector.cli.check")

HELP = Path(__file__).with_name("help")
TIME = "2026-01-02T03:04:05.123456789Z"
A, B = Netns(4097, 4026532001), Netns(4098, 4026532002)
BY_10, BY_20 = made(NetnsEnter, TIME, A, pid=10), made(NetnsEnter, TIME, B, pid=20)
START, LOST, STOP = made(CollectorStart, TIME), Lost(TIME, count=3), made(CollectorStop, TIME, events=2, lost=3)
SANDBOX = "1f" * 32
ADD = made(CniStart,
    TIME, A, pid=40, tid=40, ppid=4, uid=0, comm="bridge", name="/run/netns/a", pod=Pod("shop", "web-0", "u-1"),
    command="ADD", plugin="/opt/cni/bin/bridge", parent=4, cni_container_id=SANDBOX, ifname="eth0",
    netns_path="/run/netns/a", args="K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0;K8S_POD_UID=u-1",
)  # fmt: skip
BRIDGE = "sandbox=1f1f1f1f1f1f ifname=eth0"
IN_WEB_0 = made(NetnsEnter, TIME, A, pid=10, container_id=SANDBOX, pod=Pod("shop", "web-0", "u-1"))
IN_WEB_1 = made(NetnsEnter, TIME, B, pid=20, container_id="2e" * 32, pod=Pod("blog", "web-1"))
HOSTILE = "\x1b]0;title\x07\x1b[31m\n\u202e"


class Result(NamedTuple):
    """How the command ended, and what it wrote."""

    exit_code: int
    stdout: str
    stderr: str

    def events(self) -> list[Event]:
        assert (self.exit_code, self.stderr) == (0, "")
        return [msgspec.json.decode(line, type=AnyEvent) for line in self.stdout.splitlines()]


Run = Callable[..., Result]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Runs the command as the shell does, with real descriptors: `watch` writes to them without a buffer.

    What it does to the signals of the process ends with the test.
    """
    monkeypatch.setattr(watch, "drop", lambda _user: None)  # the tests' own process is to keep its privileges

    def run_it(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments, prog_name="cni-collector", terminal_width=78)
        code = ended.value.code
        assert isinstance(code, int)
        return Result(code, *capfd.readouterr())

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGUSR1)
    handlers = {number: signal.getsignal(number) for number in numbers}
    yield run_it
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def reported(session: FakeSession) -> FakeSession:
    """What `watch` attaches to. It has two events to report; then the time is over."""
    session.opening = [START]

    def interrupted() -> list[Event]:
        signal.raise_signal(signal.SIGTERM)
        return []

    session.script.extend([[BY_10, BY_20], interrupted])
    return session


@pytest.mark.parametrize("command", ["main", "watch", "replay", "list", "check"])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_is_as_pinned(run: Run, command: str, option: str) -> None:
    result = run(*([] if command == "main" else [command]), option)
    assert result.exit_code == 0
    assert result.stdout == (HELP / f"{command}.txt").read_text(encoding="utf-8")


def test_version(run: Run) -> None:
    assert run("--version").stdout == f"cni-collector, version {VERSION}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        "nonsense",
        "watch --type netns_lost",
        "watch --type netns_create --failed",
        "watch --type netns_create_failed --no-failed",
        "watch --pid 0",
        "watch --pid x",
        "watch --netns 0",
        "watch --tier best",
        "watch --count 0",
        "watch --kubelet-root foo.slice",
        "watch --kubelet-root /foo.slice --kubelet-root /",
        "list --kubelet-root foo.slice",
        "watch --duration 0",
        "watch --coalesce 1001",
        "watch --audit 0.5",
        "watch --audit nan",
        "watch --audit inf",
        "watch --audit 1e300",
        "watch --audit 86401",
        "watch --cni --failed",
        "watch --cni --type netns_create",
        "watch --cni --type cni_start --failed",
        "watch --pod /web-0",
        "watch --pod shop/",
        "watch --pod /",
        "watch --pod //web-0",
        "watch --pod shop/web/0",
        "watch --pod web-0 --pod shop/",
        "watch --container -1f",
        "watch --container 1f/2",
        "watch --container 1f*",
        "watch --container ./1f",
        "watch --container grün",
        "watch -o xml",
        "watch --ring 3",
        "watch --queue 10",
        "watch --since 10m",
        "watch --from x",
        "watch --from x --since 10m",
        "watch --from nats://127.0.0.1:4222 --user nobody",
        "replay",
        "replay x y",
        "replay x --since yesterday",
        "replay x --since 10w",
        "replay x --since 99999999999d",
        "replay x --user nobody",
        "replay x --tier fentry",
        "replay x --prometheus :0",
        "replay x --cni --failed",
        "replay x -o none",
        "watch --prometheus 9464",
        "watch --prometheus :99999",
        "list -o xml",
        "list extra",
        "list --cni -o xml",
        "list --cni --cni=yes",
    ],
)
def test_wrong_usage_exits_with_2_before_anything_is_attached(run: Run, session: FakeSession, arguments: str) -> None:
    result = run(*arguments.split())
    assert (result.exit_code, result.stdout, session.arguments) == (2, "", ())
    assert "Error: " in result.stderr


@pytest.mark.parametrize("arguments", ["--from file", "--from=nats://127.0.0.1:4222 --since 10m", "--since 10m"])
def test_the_old_spelling_names_the_new_command(run: Run, session: FakeSession, arguments: str) -> None:
    result = run("watch", *arguments.split())
    assert (result.exit_code, result.stdout, session.arguments) == (2, "", ())
    assert "cni-collector replay SOURCE [--since TIME]" in result.stderr


@pytest.mark.parametrize(
    ("option", "value"), [("--pod", ""), ("--container", ""), ("--container", " "), ("--container", "1f\n")]
)
def test_a_value_that_says_nothing_is_wrong_usage(run: Run, reported: FakeSession, option: str, value: str) -> None:
    result = run("watch", option, value)
    assert (result.exit_code, result.stdout, reported.arguments) == (2, "", ())
    assert repr(value) in result.stderr


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PrivilegeError("cannot load"), "cni-collector: cannot load\n"),
        (AttachError("cannot attach", "cni_fork", "fork", errno.EPERM), "cni-collector: cannot attach\n"),
        (LoadError("refused"), "cni-collector: refused\n"),
        (LoadError("refused", "the verifier\nsays"), "cni-collector: refused\nthe verifier\nsays\n"),
        (
            OSError(errno.EMFILE, "Too many open files"),
            "cni-collector: cannot start collecting: Too many open files\n",
        ),
        (MemoryError(), "cni-collector: cannot go on: there is no memory left\n"),
        (
            RuntimeError("can't start new thread"),
            "cni-collector: cannot start a thread: too little memory, or too many threads\n",
        ),
    ],
)
def test_an_error_is_one_sentence_on_stderr_and_exits_with_1(
    session: FakeSession,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    told: str,
) -> None:
    session.start_error = error
    monkeypatch.setattr(sys, "argv", ["cni-collector", "watch"])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == 1
    assert capsys.readouterr() == ("", told)


@pytest.mark.usefixtures("run")
def test_a_failure_while_reading_is_one_sentence_too(
    session: FakeSession, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    session.script.append(OSError(errno.ENOSPC, "No space left on device"))
    monkeypatch.setattr(sys, "argv", ["cni-collector", "watch", "-o", "none"])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == 1
    assert capfd.readouterr() == ("", "cni-collector: cannot go on: No space left on device\n")


@pytest.mark.parametrize("arguments", ["-o json", ""], ids=["asked for", "when piped"])
def test_watch_writes_json_lines_until_the_stop(run: Run, reported: FakeSession, arguments: str) -> None:
    events = run("watch", *arguments.split()).events()
    assert events == [START, BY_10, BY_20, made(CollectorStop, "closing", events=2, lost=0)]
    assert reported.closed


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        ("", ALL),
        ("--type netns_create --type netns_destroy", {NetnsCreate, NetnsDestroy}),
        ("--failed", {NetnsCreateFailed, NetnsEnterFailed}),
        ("--no-failed", ALL - {NetnsCreateFailed, NetnsEnterFailed}),
        ("--failed --type netns_enter_failed --type netns_enter", {NetnsEnterFailed}),
        ("--cni", {CniStart, CniEnd, CniExec}),
        ("--cni --no-failed", {CniStart, CniEnd, CniExec}),
        ("--cni --type cni_end --type netns_exit", {CniEnd}),
    ],
)
def test_the_kernel_is_asked_only_for_the_types_that_are_wanted(
    run: Run, reported: FakeSession, arguments: str, kinds: frozenset[type[Event]]
) -> None:
    run("watch", *arguments.split())
    assert reported.arguments[0] == kinds


def test_where_kubelets_put_pods_reaches_the_session(run: Run, reported: FakeSession) -> None:
    run("watch", "--kubelet-root", "/a.slice", "--kubelet-root", "/b/c")
    paths = reported.arguments[4]
    told = [paths.identify(f"{root}/kubepods/pod{'6d' * 16}")[1] for root in ("", "/a.slice", "/b/c", "/d")]
    assert told == ["6d" * 16, "6d" * 16, "6d" * 16, None]


def test_a_signal_asks_for_an_audit_and_stops_nothing(run: Run, reported: FakeSession) -> None:
    def asked() -> list[Event]:
        signal.raise_signal(signal.SIGUSR1)
        deadline = time.monotonic() + 30
        while not reported.audits and time.monotonic() < deadline:
            time.sleep(0.001)  # a thread does it
        return [BY_20]

    reported.script[0] = [BY_10]
    reported.script.insert(1, asked)
    events = run("watch", "-o", "json", "--audit", "60").events()
    assert (reported.audits, reported.arguments[5]) == (1, 60)
    assert [event for event in events if event in (BY_10, BY_20)] == [BY_10, BY_20]


def test_a_signal_that_comes_while_it_starts_or_ends_does_nothing(run: Run, reported: FakeSession) -> None:
    reported.attaching = reported.detaching = lambda: signal.raise_signal(signal.SIGUSR1)
    before = signal.signal(signal.SIGUSR1, lambda *_: pytest.fail("the signal would end it"))
    try:
        assert run("watch", "-o", "json").exit_code == 0
        assert reported.audits == 0
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_a_checkpoint_passes_every_filter(run: Run, reported: FakeSession) -> None:
    checkpoint = made(Checkpoint, TIME, namespaces=3, members=5, healed=0)
    reported.script.insert(1, [checkpoint])
    assert checkpoint in run("watch", "-o", "json", "--pid", "10", "--type", "netns_exit").events()


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ("--pid 10", [BY_10]),
        ("--pid 10 --pid 20", [BY_10, BY_20]),
        ("--netns 4098", [BY_20]),
        ("--netns 4026532001", [BY_10]),
        ("--pid 10 --netns 4098", []),
        ("--count 1", [BY_10]),
        ("--pid 20 --count 1", [BY_20]),
    ],
)
def test_watch_writes_what_is_asked_for_and_how_it_ended(
    run: Run, reported: FakeSession, arguments: str, chosen: list[Event]
) -> None:
    reported.script.insert(1, [LOST])
    events = run("watch", "-o", "json", *arguments.split()).events()
    assert [event for event in events if event in (BY_10, BY_20)] == chosen
    assert [event.type for event in events if event not in chosen] == ["collector_start", "lost", "collector_stop"]


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        ("--pod web-0", [ADD, IN_WEB_0]),
        ("--pod shop/web-0", [ADD, IN_WEB_0]),
        ("--pod shop/web-0 --pod blog/web-1", [ADD, IN_WEB_0, IN_WEB_1]),
        ("--pod blog/web-0", []),
        ("--container 1f", [ADD, IN_WEB_0]),
        ("--container 1F", []),
        ("--container 2e --pod web-1", [IN_WEB_1]),
        ("--container 1f --container 2e --pid 10", [IN_WEB_0]),
    ],
)
def test_watch_writes_what_is_about_pods_and_containers(
    run: Run, reported: FakeSession, arguments: str, chosen: list[Event]
) -> None:
    reported.script[0] = [ADD, IN_WEB_0, IN_WEB_1, BY_10]
    assert run("watch", "-o", "json", *arguments.split()).events()[1:-1] == chosen


def test_watch_detaches_as_soon_as_it_has_its_count(run: Run, reported: FakeSession) -> None:
    detached: list[int] = []

    def drain() -> list[Event]:
        detached.append(reported.detached)
        return []

    reported.script.insert(1, drain)
    run("watch", "--count", "2")
    assert detached == [1]


def test_watch_ends_after_its_duration(run: Run, session: FakeSession) -> None:
    events = run("watch", "-o", "json", "--duration", "0.01").events()
    assert [event.type for event in events] == ["collector_start", "collector_stop"]


def test_a_reader_that_goes_away_is_no_failure(
    run: Run, reported: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        assert run("watch", "-o", "json") == (0, "", "")
    assert reported.closed


def test_the_table_says_what_matters(run: Run, reported: FakeSession) -> None:
    reported.opening = [made(CollectorStart, TIME, tier="fentry", host_netns=Netns(1, 4026531840))]
    reported.script[0] = [
        made(NetnsEnter, TIME, A, Netns(1, 2), cause="setns", pid=10, tid=11, uid=0, comm="ip", container_id="1f" * 32),
        made(NetnsDestroy, TIME, A, lifetime_ns=1_540_000, teardown_ns=26_000_000_000),
        made(NetnsCreateFailed, TIME, cause="clone", error="ENOSPC", pid=10, tid=10, comm="unshare"),
    ]
    result = run("watch", "-o", "table")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:5] == [
        "TIME             EVENT                NETNS               CAUSE    PID      COMM             DETAIL",
        "03:04:05.123456  collector_start                                                             "
        "tier=fentry host_netns=1/4026531840",
        "03:04:05.123456  netns_enter          4097/4026532001     setns    10       ip               "
        "prev=1/2 tid=11 container=1f1f1f1f1f1f",
        "03:04:05.123456  netns_destroy        4097/4026532001                                        "
        "lifetime=1.5ms teardown=26000.0ms",
        "03:04:05.123456  netns_create_failed                      clone    10       unshare          "
        "prev=1/4026531840 error=ENOSPC",
    ]


def test_a_call_in_the_table_stands_below_the_call_that_made_it(run: Run, reported: FakeSession) -> None:
    def begins(pid: int, parent: int, plugin: str) -> CniStart:
        return made(CniStart, TIME, pid=pid, tid=pid, command="ADD", plugin=plugin, parent=parent, comm="x")

    def ends(pid: int, parent: int, plugin: str, **how: Any) -> CniEnd:
        return made(
            CniEnd, TIME, pid=pid, tid=pid, command="ADD", plugin=plugin, parent=parent, duration_ns=1_500_000, **how
        )

    reported.script[0] = [
        ADD,
        begins(41, 40, "/opt/cni/bin/flannel"),
        begins(42, 41, "/opt/cni/bin/host-local"),
        begins(50, 4, "portmap"),
        ends(42, 41, "/opt/cni/bin/host-local", exit_code=0),
        made(CniExec, TIME, pid=45, tid=45, call=41, args="iptables -t nat", duration_ns=1_500_000, exit_code=1),
        begins(43, 41, "/opt/cni/bin/dhcp"),
        ends(43, 41, "/opt/cni/bin/dhcp", signal="SIGKILL"),
        ends(41, 40, "/opt/cni/bin/flannel", exit_code=1),
        ends(40, 4, "/opt/cni/bin/bridge", exit_code=1),
        begins(44, 40, "/opt/cni/bin/loopback"),
        made(CniEnd, TIME, pid=60, tid=60, comm="unseen", duration_ns=1_500_000, exit_code=0),
        made(
            CniStart,
            TIME,
            pid=70,
            tid=71,
            comm="",
            plugin="",
            pod=Pod("shop", "web-0"),
            command="",
            netns_path="/n",
            environment="cut",
            trusted=False,
        ),
    ]
    columns = "{:15}  {:19}  {:18}  {:7}  {:7}  {:15}  {}"
    told = [
        ("cni_start", "4097/4026532001", "ADD", 40, "bridge", f"pod=shop/web-0 {BRIDGE}"),
        ("cni_start", "", "ADD", 41, "  flannel", ""),
        ("cni_start", "", "ADD", 42, "    host-local", ""),
        ("cni_start", "", "ADD", 50, "portmap", ""),
        ("cni_end", "", "ADD", 42, "    host-local", "duration=1.5ms exit=0"),
        ("cni_exec", "", "", 45, "    iptables", "call=41 args=iptables -t nat duration=1.5ms exit=1"),
        ("cni_start", "", "ADD", 43, "    dhcp", ""),
        ("cni_end", "", "ADD", 43, "    dhcp", "duration=1.5ms signal=SIGKILL"),
        ("cni_end", "", "ADD", 41, "  flannel", "duration=1.5ms exit=1"),
        ("cni_end", "", "ADD", 40, "bridge", "duration=1.5ms exit=1"),
        ("cni_start", "", "ADD", 44, "loopback", ""),
        ("cni_end", "", "", 60, "unseen", "duration=1.5ms exit=0"),
        ("cni_start", "", "", 70, "", "tid=71 pod=shop/web-0 netns_path=/n environment=cut trusted=False"),
    ]
    lines = [columns.format("03:04:05.123456", *map(str, line)).rstrip() for line in told]
    assert run("watch", "-o", "table").stdout.splitlines()[2:-1] == lines


@pytest.mark.parametrize(
    ("event", "told"),
    [
        (IN_WEB_0, "container=1f1f1f1f1f1f pod=shop/web-0"),
        (made(NetnsEnter, TIME, A, pod=Pod(uid="u-1"), pod_uid="u-1"), "pod=u-1"),
        (made(NetnsEnter, TIME, A, pod_uid="u-1"), "pod_uid=u-1"),
    ],
)
def test_a_pod_is_told_once_and_by_its_name(run: Run, reported: FakeSession, event: Event, told: str) -> None:
    reported.script[0] = [event]
    line = run("watch", "-o", "table").stdout.splitlines()[2]
    assert line.split("prev=1/4026531840")[1].strip() == told


def test_nothing_that_a_terminal_would_obey_reaches_the_table(
    run: Run, reported: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = Task(10, 10, 1, 0, HOSTILE, HOSTILE, None, HOSTILE)
    event = made(NetnsEnter, TIME, A, **msgspec.structs.asdict(member), name=HOSTILE)
    pod = Pod(HOSTILE, HOSTILE)
    reported.script[0] = [event]
    call = RunningCniCall(1, 2, HOSTILE, 3, HOSTILE, pod, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    monkeypatch.setattr(list_, "running_cni_calls", lambda: [call])
    monkeypatch.setattr(
        list_, "existing", lambda _roots: [ExistingNetns(A, 1, 1, member, (HOSTILE,), pod, "cni_cache")]
    )
    for result, lines in ((run("watch", "-o", "table"), 4), (run("list"), 2), (run("list", "--cni"), 2)):
        assert result.exit_code == 0
        assert len(result.stdout.split("\n")) == lines + 1
        assert result.stdout.replace("\n", "").isprintable()
        assert r"\x1b]0;title\x07\x1b[31m\n\u202e" in result.stdout


@given(st.binary().map(lambda raw: raw.decode("utf-16", "replace")), st.integers(0, 20))
def test_a_cell_is_always_printable_and_as_wide_as_its_column(text: str, width: int) -> None:
    assert printable(text).isprintable()
    line = row((Column("A", width), Column("B", 0)), [text, "|"])
    assert line.isprintable()
    assert line.index("  |") >= width


@pytest.mark.parametrize("text", ["bash", "grün", "a b", ""])
def test_what_is_printable_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_colour_goes_around_a_cell_not_into_its_width() -> None:
    columns = (Column("A", 4), Column("B", 4))
    coloured = row(columns, ["a", "b"], "red", 0)
    assert coloured != row(columns, ["a", "b"]) == click.unstyle(coloured)


@pytest.mark.parametrize(
    ("pids", "namespaces", "chosen"),
    [
        ({10}, set(), [BY_10]),
        (set(), {4097}, [BY_10]),
        (set(), {4026532002}, [BY_20]),
        ({10, 20}, {4097, 4098}, [BY_10, BY_20]),
        ({10}, {4098}, []),
        (set(), {1}, []),
    ],
)
def test_filters_by_process_and_namespace(pids: set[int], namespaces: set[int], chosen: list[Event]) -> None:
    filters = Filters(frozenset(pids), frozenset(namespaces), frozenset(), ())
    about_none = made(NetnsCreateFailed, TIME, pid=30)
    events = [START, BY_10, BY_20, about_none, LOST, STOP]
    assert list(filter(filters.matches, events)) == [START, *chosen, LOST, STOP]


PODS = [
    made(NetnsEnter, TIME, A, pod=Pod("shop", "web-0", "u-1")),
    made(NetnsDestroy, TIME, A, pod=Pod("blog", "web-0")),
    made(CniStart, TIME, pod=Pod("shop", "web-1")),
    made(CniEnd, TIME, pod=Pod("shop", "web-01")),
    made(NetnsEnter, TIME, A, pod=Pod(uid="web-0"), pod_uid="web-0"),
    made(NetnsEnter, TIME, A, name="web-0"),
]


@pytest.mark.parametrize(
    ("pods", "chosen"),
    [
        ({(None, "web-0")}, [0, 1]),
        ({("shop", "web-0")}, [0]),
        ({("shop", "web-1")}, [2]),
        ({("shop", "web-0"), (None, "web-01")}, [0, 3]),
        ({("blog", "web-1")}, []),
        ({(None, "web")}, []),
        ({(None, "shop")}, []),
    ],
)
def test_filters_by_pod(pods: set[tuple[str | None, str]], chosen: list[int]) -> None:
    filters = Filters(frozenset(), frozenset(), frozenset(pods), ())
    assert list(filter(filters.matches, [START, *PODS, STOP])) == [START, *(PODS[number] for number in chosen), STOP]


CONTAINERS = [
    made(NetnsEnter, TIME, A, container_id="1f2e" * 16),
    made(CniStart, TIME, cni_container_id="1f3d" * 16),
    made(CniEnd, TIME, container_id="1f2e" * 16, cni_container_id="1f3d" * 16),
    made(CniStart, TIME, command="VERSION"),
    made(NetnsDestroy, TIME, A),
]


@pytest.mark.parametrize(
    ("prefixes", "chosen"),
    [
        (["1"], [0, 1, 2]),
        (["1f2e"], [0, 2]),
        (["1f3d" * 16], [1, 2]),
        (["1f3d" * 16 + "1"], []),
        (["0", "1f3"], [1, 2]),
        (["f2e"], []),
    ],
)
def test_filters_by_container(prefixes: list[str], chosen: list[int]) -> None:
    filters = Filters(frozenset(), frozenset(), frozenset(), tuple(prefixes))
    expected = [START, *(CONTAINERS[number] for number in chosen), LOST]
    assert list(filter(filters.matches, [START, *CONTAINERS, LOST])) == expected


def test_all_filters_must_let_an_event_pass() -> None:
    asked: list[Any] = [frozenset({40}), frozenset({4097}), frozenset({("shop", "web-0")}), ("1f",)]
    others: list[Any] = [frozenset({41}), frozenset({4098}), frozenset({("shop", "web-1")}), ("2e",)]
    assert Filters(*asked).matches(ADD)
    for number, other in enumerate(others):
        assert not Filters(*[*asked[:number], other, *asked[number + 1 :]]).matches(ADD)


def test_without_filters_everything_passes() -> None:
    nothing_asked = Filters(frozenset(), frozenset(), frozenset(), ())
    assert not any(nothing_asked)
    assert all(
        map(nothing_asked.matches, [START, BY_10, made(NetnsCreateFailed, TIME), made(CniStart, TIME), LOST, STOP])
    )


@pytest.mark.parametrize(
    ("count", "kept"),
    [(0, [START, LOST, STOP]), (1, [START, BY_10, LOST, STOP]), (9, [START, BY_10, LOST, BY_20, STOP])],
)
def test_first_counts_only_events_about_namespaces(count: int, kept: list[Event]) -> None:
    assert first([START, BY_10, LOST, BY_20, STOP], count) == kept


def test_list_as_json_has_the_fields_of_events(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    member = Task(10, 10, 1, 0, "sh", "/c", "i", "p")
    found = [
        ExistingNetns(A, 7, 2, member, ("/run/netns/a",), None, None),
        ExistingNetns(B, 7, 0, None, (), None, None),
    ]
    monkeypatch.setattr(list_, "existing", lambda _roots: found)
    result = run("list", "-o", "json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"cookie": 4097, "inum": 4026532001, "userns": 7, "members": 2, "names": ["/run/netns/a"]}
        | {"pid": 10, "comm": "sh", "cgroup": "/c", "container_id": "i", "pod_uid": "p"},
        {"cookie": 4098, "inum": 4026532002, "userns": 7, "members": 0, "names": []},
    ]


def test_list_says_which_thread_it_is_where_the_process_is_elsewhere(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    member = Task(10, 11, 1, 0, "sh")
    monkeypatch.setattr(list_, "existing", lambda _roots: [ExistingNetns(A, 7, 1, member, (), None, None)])
    listed = json.loads(run("list", "-o", "json").stdout)
    assert (listed["pid"], listed["tid"], listed["members"]) == (10, 11, 1)


def test_list_does_not_count_tasks_that_it_cannot_see(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_, "existing", lambda _roots: [ExistingNetns(A, 7, None, None, (), None, None)])
    assert run("list").stdout.splitlines()[1].split()[2] == "-"
    assert "members" not in json.loads(run("list", "-o", "json").stdout)


def test_list_shows_a_namespace_that_nobody_is_in(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        list_, "existing", lambda _roots: [ExistingNetns(B, 7, 0, None, ("/run/netns/a", "/b"), None, None)]
    )
    heading, line = run("list").stdout.splitlines()
    assert heading.split() == ["COOKIE", "INUM", "TASKS", "PID", "COMM", "CONTAINER", "POD", "NAMES"]
    assert line.split() == ["4098", "4026532002", "0", "-", "-", "-", "-", "/run/netns/a", "/b"]


@pytest.mark.parametrize(
    ("pod", "pod_from", "uid", "told", "as_json"),
    [
        (
            Pod("shop", "web-0", "u-1"),
            "cni_cache",
            "u-1",
            "shop/web-0 (CNI)",
            {"namespace": "shop", "name": "web-0", "uid": "u-1"},
        ),
        (Pod("shop", "web-0"), "cni_cache", None, "shop/web-0 (CNI)", {"namespace": "shop", "name": "web-0"}),
        (Pod(uid="u-1"), "cgroup", "u-1", "u-1 (cgroup)", {"uid": "u-1"}),
        (None, None, "u-1", "u-1", None),
        (None, None, None, "-", None),
    ],
)
def test_list_says_which_pod_and_how_that_is_known(
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    pod: Pod | None,
    pod_from: str | None,
    uid: str | None,
    told: str,
    as_json: dict[str, str] | None,
) -> None:
    member = Task(10, 10, 1, 0, "sh", pod_uid=uid)
    monkeypatch.setattr(list_, "existing", lambda _roots: [ExistingNetns(A, 7, 1, member, ("/a",), pod, pod_from)])
    heading, line = run("list").stdout.splitlines()
    column = heading.index("POD")
    assert line[column : heading.index("NAMES")].rstrip() == told
    listed = json.loads(run("list", "-o", "json").stdout)
    assert listed.get("pod_from") == pod_from
    assert listed.get("pod_uid") == uid
    assert listed.get("pod") == as_json


RUNNING = [
    RunningCniCall(
        40, 4, "ADD", 1_260_000_000, "/cni/bridge", Pod("shop", "web-0"), "c1", "eth0", "/run/netns/a", "A=1"
    ),
    RunningCniCall(41, 40, "ADD", 40_000_000, "/cni/host-local", Pod("shop", "web-0")),
    RunningCniCall(50, 4, "GC", 0),
]


def test_list_shows_the_calls_under_way_below_those_that_made_them(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_, "running_cni_calls", lambda: RUNNING)
    columns = "{:7}  {:7}  {:15}  {:8}  {:36}  {:8}  {}"
    assert run("list", "--cni").stdout.splitlines() == [
        columns.format(*line).rstrip()
        for line in (
            ("PID", "COMMAND", "PLUGIN", "AGE", "POD", "IFNAME", "NETNS"),
            ("40", "ADD", "bridge", "1.3s", "shop/web-0", "eth0", "/run/netns/a"),
            ("41", "ADD", "  host-local", "0.0s", "shop/web-0", "-", "-"),
            ("50", "GC", "-", "0.0s", "-", "-", "-"),
        )
    ]


def test_calls_that_are_nested_without_end_do_not_fill_the_screen(
    run: Run, reported: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = range(100, 1000)
    reported.script[0] = [made(CniStart, TIME, pid=pid, tid=pid, plugin="/x/deep", parent=pid - 1) for pid in pids]
    monkeypatch.setattr(
        list_, "running_cni_calls", lambda: [RunningCniCall(pid, pid - 1, "ADD", 0, "/x/deep") for pid in pids]
    )
    for arguments in (("watch", "-o", "table"), ("list", "--cni")):
        lines = [line for line in run(*arguments).stdout.splitlines() if "deep" in line]
        assert len(lines) == len(pids)
        assert [line.index("deep") - lines[0].index("deep") for line in lines[:4]] == [0, 2, 4, 6]
        assert {len(line) for line in lines[8:]} == {len(lines[8])}


def test_calls_whose_end_was_lost_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "_BOUND", 8)
    table = forms.TableLines()
    table.form([made(CniStart, TIME, pid=pid, tid=pid) for pid in range(100)])
    assert len(table._nesting._depths) == 8


def test_list_of_calls_as_json(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_, "running_cni_calls", lambda: RUNNING)
    pod = {"namespace": "shop", "name": "web-0"}
    assert [json.loads(line) for line in run("list", "--cni", "-o", "json").stdout.splitlines()] == [
        {"pid": 40, "parent": 4, "command": "ADD", "age_ns": 1_260_000_000, "plugin": "/cni/bridge", "pod": pod}
        | {"cni_container_id": "c1", "ifname": "eth0", "netns_path": "/run/netns/a", "args": "A=1"},
        {"pid": 41, "parent": 40, "command": "ADD", "age_ns": 40_000_000, "plugin": "/cni/host-local", "pod": pod},
        {"pid": 50, "parent": 4, "command": "GC", "age_ns": 0},
    ]


def test_listing_calls_needs_nothing_of_the_kernel(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_, "existing", lambda _roots: pytest.fail("namespaces were looked for"))
    assert run("list", "--cni").exit_code == 0


@pytest.mark.parametrize(
    ("fails", "code", "told"),
    [
        (None, 0, ["tier tracepoint: works", "watch will use: tracepoint"]),
        (False, 0, ["lost by it", "no such hook", "tier tracepoint: works"]),
        (True, 1, ["needed", "no such hook", "tier tracepoint: does not work"]),
    ],
    ids=["everything works", "an optional hook is missing", "a required hook is missing"],
)
def test_check(run: Run, monkeypatch: pytest.MonkeyPatch, fails: bool | None, code: int, told: list[str]) -> None:
    hooks = TIERS["tracepoint"]
    broken = next((hook for hook in hooks if hook.required is fails), None)
    monkeypatch.setattr(
        check, "try_tier", lambda tier: None if tier == "tracepoint" else CollectorError("not on Sundays")
    )
    monkeypatch.setattr(check, "try_hook", lambda hook: CollectorError("no such hook") if hook is broken else None)
    result = run("check")
    assert result.exit_code == code
    assert all(words in result.stdout for words in told)
    assert result.stdout.count("not offered  not on Sundays") == 2
    assert all(hook.fact in result.stdout for hook in hooks)
    assert ("nothing can be collected" in result.stderr) == bool(code)
