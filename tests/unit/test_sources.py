"""A file that `watch -o json` has written, shown again: its lines are events, or are counted."""

from __future__ import annotations

import asyncio
import datetime
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pytest

from cni_collector import replay
from cni_collector.errors import CollectorError
from cni_collector.events import CollectorStart, CollectorStop, Event, Lost, Netns, NetnsDestroy
from cni_collector.sources.file import FileSource
from cni_collector.sources.since import moment
from cni_collector.views.lines import JsonLines, TableLines

from ..support.made import made

TIME = "2026-01-02T03:04:05.123456789Z"
A = Netns(4097, 4026532001)
GOOD = made(NetnsDestroy, TIME, A, lifetime_ns=2_000_000_000)


def shown(path: Path, content: bytes) -> tuple[list[Event], int]:
    """The events of a file with this content, and how many lines are none."""
    path.write_bytes(content)
    source = FileSource(str(path))
    events: list[Event] = []
    try:
        for batch in source.batches():
            events += batch
        assert not source._lines.bad
    except CollectorError as error:
        told = f"{source._lines.bad} lines of {path} are no events"
        assert str(error).startswith(told)  # noqa: PT017 - or there is none
    return events, source._lines.bad


def line(number: str = "1", moment: str = TIME) -> bytes:
    """A line with this number in it, and this time."""
    netns = '{"cookie":4097,"inum":4026532001}'
    return f'{{"type":"netns_destroy","time":"{moment}","netns":{netns},"userns":7,"lifetime_ns":{number}}}\n'.encode()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    events = [GOOD, Lost(TIME, count=3, by_type={"netns_enter": 3}), made(CollectorStop, TIME, events=1, lost=3)]
    assert shown(tmp_path / "file", JsonLines().form(events * 400)) == (events * 400, 0)


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> Iterator[BinaryIO]:
    """What writes to stdin."""
    reading, writing = os.pipe()
    with os.fdopen(reading) as stdin, os.fdopen(writing, "wb", buffering=0) as writer:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield writer


def test_stdin_is_read_too(pipe: BinaryIO) -> None:
    pipe.write(msgspec.json.encode(GOOD))
    pipe.close()
    assert list(FileSource("-").batches()) == [[GOOD]]


def test_what_comes_down_a_pipe_is_there_at_once_and_waiting_for_more_can_be_stopped(pipe: BinaryIO) -> None:
    pipe.write(line() + line()[:9])
    source = FileSource("-")
    batches = source.batches()
    assert len(next(batches)) == 1
    pipe.write(line()[9:])
    assert len(next(batches)) == 1
    threading.Timer(0.05, source.stop).start()
    assert list(batches) == []


def test_a_pipe_that_nobody_writes_to_can_be_stopped(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    source = FileSource(str(tmp_path / "fifo"))
    threading.Timer(0.05, source.stop).start()
    assert list(source.batches()) == []


def test_a_stdin_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(CollectorError, match="stdin: it is closed"):
        list(FileSource("-").batches())


def test_replay_gives_events_one_by_one_and_counts_what_it_does_not_know(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(line() + b'{"type":"newer","time":"%s"}\n' % TIME.encode())
    recording = replay(path)
    assert [event.type for event in recording] == ["netns_destroy"]
    assert recording.unknown == {"newer": 1}


@pytest.mark.parametrize(
    ("since", "left"),
    [
        *(("2026-01-02T03:04:05Z", 1), ("2026-01-02T03:04:06Z", 0), ("2026-01-02T03:04:05-05:00", 0), ("10m", 0)),
        *((datetime.datetime(2026, 1, 2, 3, 4, 5, tzinfo=datetime.UTC), 1), (TIME, 1)),
    ],
)
def test_replay_since(tmp_path: Path, since: str | datetime.datetime, left: int) -> None:
    (tmp_path / "file").write_bytes(line() + b'{"type":"newer","time":"%s"}\n' % TIME.encode())
    recording = replay(tmp_path / "file", since)
    assert len(list(recording)) == left
    assert recording.unknown.get("newer", 0) == left


@pytest.mark.parametrize("since", ["now", "", "10w", "99999999999d", 7])
def test_replay_refuses_at_once_what_is_no_time(tmp_path: Path, since: Any) -> None:
    with pytest.raises(ValueError, match="is not a time; use 10m"):
        replay(tmp_path, since)


@pytest.mark.parametrize(
    "url", ["nats://", "nats://[::1", "nats://h:99999", "nats://h:4222,nats://", "nats://h:4222,x"]
)
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(CollectorError, match="not the URL of a NATS server; use nats://host:4222"):
        replay(url)


def test_a_cluster_is_not_followed_in_the_thread_of_an_event_loop() -> None:
    async def read() -> None:
        next(replay("nats://127.0.0.1:1"))

    with pytest.raises(CollectorError, match="iterate in another one"):
        asyncio.run(read())


def test_a_line_that_lacks_a_field_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b'{"type":"netns_destroy","time":"%s"}\n' % TIME.encode())
    with pytest.raises(CollectorError, match="an event of its type always has `netns`"):
        list(replay(tmp_path / "file"))


def test_what_is_read_is_of_the_present_schema(tmp_path: Path) -> None:
    start = made(CollectorStart, TIME, schema=1)
    (tmp_path / "file").write_bytes(msgspec.json.encode(start))
    assert list(replay(tmp_path / "file")) == [msgspec.structs.replace(start, schema=2)]


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
    source = FileSource(str(path))
    batches = source.batches()
    first = next(batches)
    source.stop()
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
    assert moment(given) == meant


def test_a_time_may_be_given_by_how_long_ago_it_was() -> None:
    now = time.time()
    for given, seconds in (("90s", 90), ("2m", 120), ("3h", 10800), ("1d", 86400)):
        told = moment(given)
        assert told
        assert abs(now - seconds - datetime.datetime.fromisoformat(told).timestamp()) < 30
