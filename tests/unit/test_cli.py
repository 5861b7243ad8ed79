"""The command: what it accepts, what it writes where, how it ends."""

from __future__ import annotations

import errno
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni_collector import cli
from cni_collector.cli.table import Column, printable, row
from cni_collector.errors import AttachError, CollectorError, LoadError, PrivilegeError
from cni_collector.events import (
    AnyEvent,
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
)
from cni_collector.hooks import NAMESPACE_EVENTS, TIERS
from cni_collector.snapshot import Found
from cni_collector.version import VERSION

from .fake_session import FakeSession

# The packages' attributes of these names are the commands.
watch = importlib.import_module("cni_collector.cli.watch")
list_ = importlib.import_module("cni_collector.cli.list")
check = importlib.import_module("cni_collector.cli.check")

HELP = Path(__file__).with_name("help")
TIME = "2026-01-02T03:04:05.123456789Z"
A, B = Netns(4097, 4026532001), Netns(4098, 4026532002)
BY_10, BY_20 = NetnsEnter(TIME, A, pid=10), NetnsEnter(TIME, B, pid=20)
START, LOST, STOP = CollectorStart(TIME), Lost(TIME, count=3), CollectorStop(TIME, events=2, lost=3)
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
def run(capfd: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs the command as the shell does, with real descriptors: `watch` writes to them without a buffer.

    What it does to the signals of the process ends with the test.
    """

    def run_it(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments, prog_name="cni-collector", terminal_width=78)
        return Result(ended.value.code, *capfd.readouterr())

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
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


@pytest.mark.parametrize("command", ["main", "watch", "list", "check"])
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
        "watch --duration 0",
        "watch --coalesce 1001",
        "watch -o xml",
        "list -o xml",
        "list extra",
    ],
)
def test_wrong_usage_exits_with_2_before_anything_is_attached(run: Run, session: FakeSession, arguments: str) -> None:
    result = run(*arguments.split())
    assert (result.exit_code, result.stdout, session.arguments) == (2, "", ())
    assert "Error: " in result.stderr


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (PrivilegeError("cannot load"), "cni-collector: cannot load\n"),
        (AttachError("cannot attach", "cni_fork", "fork", errno.EPERM), "cni-collector: cannot attach\n"),
        (LoadError("refused"), "cni-collector: refused\n"),
        (LoadError("refused", "the verifier\nsays"), "cni-collector: refused\nthe verifier\nsays\n"),
    ],
)
def test_an_error_is_one_sentence_on_stderr_and_exits_with_1(
    session: FakeSession,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: CollectorError,
    told: str,
) -> None:
    session.start_error = error
    monkeypatch.setattr(sys, "argv", ["cni-collector", "watch"])
    with pytest.raises(SystemExit) as ended:
        cli.run()
    assert ended.value.code == 1
    assert capsys.readouterr() == ("", told)


@pytest.mark.parametrize("arguments", ["-o json", ""], ids=["asked for", "when piped"])
def test_watch_writes_json_lines_until_the_stop(run: Run, reported: FakeSession, arguments: str) -> None:
    events = run("watch", *arguments.split()).events()
    assert events == [START, BY_10, BY_20, CollectorStop("closing", events=2, lost=0)]
    assert reported.closed


@pytest.mark.parametrize(
    ("arguments", "kinds"),
    [
        ("", NAMESPACE_EVENTS),
        ("--type netns_create --type netns_destroy", {NetnsCreate, NetnsDestroy}),
        ("--failed", {NetnsCreateFailed, NetnsEnterFailed}),
        ("--no-failed", NAMESPACE_EVENTS - {NetnsCreateFailed, NetnsEnterFailed}),
        ("--failed --type netns_enter_failed --type netns_enter", {NetnsEnterFailed}),
    ],
)
def test_the_kernel_is_asked_only_for_the_types_that_are_wanted(
    run: Run, reported: FakeSession, arguments: str, kinds: frozenset[type[Event]]
) -> None:
    run("watch", *arguments.split())
    assert reported.arguments[0] == kinds


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
    reported.opening = [CollectorStart(TIME, tier="fentry", host_netns=Netns(1, 4026531840))]
    reported.script[0] = [
        NetnsEnter(TIME, A, Netns(1, 2), cause="setns", pid=10, tid=11, uid=0, comm="ip", container_id="1f" * 32),
        NetnsDestroy(TIME, A, lifetime_ns=1_540_000, teardown_ns=26_000_000_000),
        NetnsCreateFailed(TIME, cause="clone", error="ENOSPC", pid=10, tid=10, comm="unshare"),
    ]
    result = run("watch", "-o", "table")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:5] == [
        "TIME             EVENT                NETNS               CAUSE    PID      COMM             DETAIL",
        "03:04:05.123456  collector_start                                                             "
        "tier=fentry host_netns=1/4026531840",
        "03:04:05.123456  netns_enter          4097/4026532001     setns    10       ip               "
        "prev=1/2 tid=11 uid=0 container=1f1f1f1f1f1f",
        "03:04:05.123456  netns_destroy        4097/4026532001                                        "
        "lifetime=1.5ms teardown=26000.0ms",
        "03:04:05.123456  netns_create_failed                      clone    10       unshare          error=ENOSPC",
    ]


def test_nothing_that_a_terminal_would_obey_reaches_the_table(
    run: Run, reported: FakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    member = NetnsEnter(TIME, A, pid=10, comm=HOSTILE, cgroup=HOSTILE, pod_uid=HOSTILE)
    reported.script[0] = [member]
    monkeypatch.setattr(list_, "existing", lambda: [Found(A, 1, 1, member, (HOSTILE,))])
    for result, lines in ((run("watch", "-o", "table"), 4), (run("list"), 2)):
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
def test_chooser(pids: set[int], namespaces: set[int], chosen: list[Event]) -> None:
    choose = watch._chooser(frozenset(pids), frozenset(namespaces))
    about_none = NetnsCreateFailed(TIME, pid=30)
    events = [START, BY_10, BY_20, about_none, LOST, STOP]
    assert list(filter(choose, events)) == [START, *chosen, LOST, STOP]


def test_without_filters_there_is_no_chooser() -> None:
    assert watch._chooser(frozenset(), frozenset()) is None


@pytest.mark.parametrize(
    ("count", "kept"),
    [(0, [START, LOST, STOP]), (1, [START, BY_10, LOST, STOP]), (9, [START, BY_10, LOST, BY_20, STOP])],
)
def test_first_counts_only_events_about_namespaces(count: int, kept: list[Event]) -> None:
    assert watch._first([START, BY_10, LOST, BY_20, STOP], count) == kept


def test_list_as_json_has_the_fields_of_events(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    member = NetnsEnter(TIME, A, pid=10, comm="sh", cgroup="/c", container_id="i", pod_uid="p")
    found = [Found(A, 7, 2, member, ("/run/netns/a",)), Found(B, 7, 0, None, ())]
    monkeypatch.setattr(list_, "existing", lambda: found)
    result = run("list", "-o", "json")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"cookie": 4097, "inum": 4026532001, "userns": 7, "members": 2, "names": ["/run/netns/a"]}
        | {"pid": 10, "comm": "sh", "cgroup": "/c", "container_id": "i", "pod_uid": "p"},
        {"cookie": 4098, "inum": 4026532002, "userns": 7, "members": 0, "names": []},
    ]


def test_list_shows_a_namespace_that_nobody_is_in(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(list_, "existing", lambda: [Found(B, 7, 0, None, ("/run/netns/a", "/b"))])
    heading, line = run("list").stdout.splitlines()
    assert heading.split() == ["COOKIE", "INUM", "TASKS", "PID", "COMM", "CONTAINER", "POD", "UID", "NAMES"]
    assert line.split() == ["4098", "4026532002", "0", "-", "-", "-", "-", "/run/netns/a", "/b"]


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
    monkeypatch.setattr(check, "trial", lambda tier: None if tier == "tracepoint" else CollectorError("not on Sundays"))
    monkeypatch.setattr(check, "probe", lambda hook: CollectorError("no such hook") if hook is broken else None)
    result = run("check")
    assert result.exit_code == code
    assert all(words in result.stdout for words in told)
    assert result.stdout.count("not offered  not on Sundays") == 2
    assert all(hook.gives in result.stdout for hook in hooks)
    assert ("nothing can be collected" in result.stderr) == bool(code)
