"""A file that `watch -o json` has written, shown again: its lines are events, or are counted."""

from __future__ import annotations

import datetime
import io
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import click
import msgspec
import pytest

from cni_collector.cli.options import moment
from cni_collector.errors import CollectorError
from cni_collector.events import CollectorStop, Event, Lost, Netns, NetnsDestroy
from cni_collector.sources.file import FileSource
from cni_collector.views.lines import JsonLines, TableLines

from ..support.made import made

TIME = "2026-01-02T03:04:05.123456789Z"
A = Netns(4097, 4026532001)
GOOD = made(NetnsDestroy, TIME, A, lifetime_ns=2_000_000_000)


def shown(path: Path, content: bytes) -> tuple[list[Event], int]:
    """The events of a file with this content, and how many lines are none."""
    path.write_bytes(content)
    replay = FileSource(str(path))
    events: list[Event] = []
    try:
        for batch in replay.batches():
            events += batch
        assert not replay.bad
    except CollectorError as error:
        assert str(error).startswith(f"{replay.bad} lines of {path} are no events")  # noqa: PT017 - or there is none
    return events, replay.bad


def line(number: str = "1", moment: str = TIME) -> bytes:
    """A line with this number in it, and this time."""
    netns = '{"cookie":4097,"inum":4026532001}'
    return f'{{"type":"netns_destroy","time":"{moment}","netns":{netns},"userns":7,"lifetime_ns":{number}}}\n'.encode()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    events = [GOOD, Lost(TIME, count=3, by_type={"netns_enter": 3}), made(CollectorStop, TIME, events=1, lost=3)]
    assert shown(tmp_path / "file", JsonLines().form(events * 400)) == (events * 400, 0)


def test_stdin_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(msgspec.json.encode(GOOD))))
    assert list(FileSource("-").batches()) == [[GOOD]]


@pytest.mark.parametrize(
    "bad",
    [
        *(b"\n", b"{}\n", b"null\n", b"\xff\n", b"\0" * 4096 + b"\n", b"[" * 100_000 + b"\n", line()[:-2] + b"\n"),
        *(b'{"type":"netns_destroy"}\n', b'{"type":"Event","time":"%s"}\n' % TIME.encode(), line(moment="\\ud800")),
        *(b'{"type":"newer"}\n', b'{"type":"newer","time":"now"}\n', b'{"type":"lost","missed":1}\n'),
        b'{"type":"lost","missed":"1","time":"%s"}\n' % TIME.encode(),
    ],
)
def test_lines_that_are_no_events_are_counted(tmp_path: Path, bad: bytes) -> None:
    good = msgspec.json.encode(GOOD)
    assert shown(tmp_path / "file", bad + good + b"\n" + bad + good) == ([GOOD, GOOD], 2)


@pytest.mark.parametrize(
    ("number", "fits"),
    [
        *((str(2**64 - 1), True), (str(2**64), False), ("9" * 310, False), ("9" * 5000, False)),
        *((str(-(2**63)), True), (str(-(2**63) - 1), False), ("1.5", False), ("1e3", False)),
    ],
)
def test_a_number_that_no_event_has_is_no_event(tmp_path: Path, number: str, fits: bool) -> None:
    events, bad = shown(tmp_path / "file", line(number))
    assert (len(events), bad) == (fits, not fits)
    assert TableLines().form(events).count(b"\n") == fits


@pytest.mark.parametrize(
    "wrong",
    [
        *("", "12:00", "2026-01-02", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123Z", TIME + "\\n", TIME[:-1]),
        *("2026-01-02 03:04:05.123456789Z", "2026-13-02T03:04:05.123456789Z", "0000-01-02T03:04:05.123456789Z"),
        *("2026-01-02T24:04:05.123456789Z", "\u0662026-01-02T03:04:05.123456789Z"),
    ],
)
def test_a_time_that_is_none_is_no_event(tmp_path: Path, wrong: str) -> None:
    assert shown(tmp_path / "file", line(moment=wrong)) == ([], 1)


def test_events_of_types_that_are_not_known_are_counted_and_no_failure(tmp_path: Path) -> None:
    """A newer version may have written the file."""
    path = tmp_path / "file"
    newer = [b'{"type":"%s","time":"%s","a":[1]}\n' % (kind, TIME.encode()) for kind in (b"throttled", b"netns_named")]
    path.write_bytes(newer[0] + line() + newer[1] + newer[0])
    source = FileSource(str(path))
    [batch] = source.batches()
    assert [event.type for event in batch] == ["netns_destroy"]
    assert source.unknown == {"throttled": 2, "netns_named": 1}


def test_unknown_types_without_end_do_not_fill_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"".join(b'{"type":"a%d","time":"%s"}\n' % (number, TIME.encode()) for number in range(1000)))
    source = FileSource(str(path))
    assert list(source.batches()) == []
    assert sum(source.unknown.values()) == 1000
    assert len(source.unknown) <= 65


def test_what_schema_1_called_missed_is_read_as_skipped(tmp_path: Path) -> None:
    time = TIME.encode()
    content = b"".join(
        b'{"type":"%s","time":"%s",%s"missed":7}\n' % (kind, time, more)
        for kind, more in (
            (b"lost", b'"count":1,"by_type":{"netns_enter":1},'),
            (b"collector_stop", b'"events":2,"lost":1,'),
        )
    )
    assert shown(tmp_path / "file", content) == (
        [
            Lost(TIME, count=1, by_type={"netns_enter": 1}, skipped=7),
            made(CollectorStop, TIME, events=2, lost=1, skipped=7),
        ],
        0,
    )


def test_it_begins_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "file"
    times = [f"2026-01-02T03:04:05.{number:09}Z" for number in range(20)]
    path.write_bytes(b"".join(line(moment=one) for one in times))
    [batch] = FileSource(str(path), since=times[7]).batches()
    assert [event.time for event in batch] == times[7:]


def test_it_can_be_stopped(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(line() * 2000)
    replay = FileSource(str(path))
    batches = replay.batches()
    first = next(batches)
    replay.stop()
    assert list(batches) == []
    assert 0 < len(first) < 2000


def test_a_file_that_cannot_be_read() -> None:
    with pytest.raises(CollectorError, match="cannot read /nonexistent: No such file"):
        list(FileSource("/nonexistent").batches())


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("2026-01-31T12:00:00Z", "2026-01-31T12:00:00.000000000Z"),
        ("2026-01-31T12:00:00.25+01:00", "2026-01-31T11:00:00.250000000Z"),
        ("2026-01-31T12:00:00.123456789Z", "2026-01-31T12:00:00.123456000Z"),
    ],
)
def test_times_are_meant_as_events_have_them(given: str, meant: str) -> None:
    assert moment(click.Context(click.Command("replay")), click.Option(["--since"]), given) == meant


def test_a_time_may_be_given_by_how_long_ago_it_was() -> None:
    now = time.time()
    for given, seconds in (("90s", 90), ("2m", 120), ("3h", 10800), ("1d", 86400)):
        told = moment(click.Context(click.Command("replay")), click.Option(["--since"]), given)
        assert told
        assert abs(now - seconds - datetime.datetime.fromisoformat(told).timestamp()) < 30
