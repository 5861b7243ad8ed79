"""A file that `watch -o json` has written, shown again: its lines are events, or are counted."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from cni_collector.cli.lines import JsonLines, TableLines
from cni_collector.cli.replay import Replay
from cni_collector.events import CollectorStop, Event, Lost, Netns, NetnsDestroy

TIME = "2026-01-02T03:04:05.123456789Z"
A = Netns(4097, 4026532001)
GOOD = NetnsDestroy(TIME, A, lifetime_ns=2_000_000_000)


def shown(path: Path, content: bytes) -> tuple[list[Event], int]:
    """The events of a file with this content, and how many lines are none."""
    path.write_bytes(content)
    replay = Replay(str(path))
    return [event for batch in replay.batches() for event in batch], replay.bad


def line(number: str = "1", time: str = TIME) -> bytes:
    """A line with this number in it, and this time."""
    netns = '{"cookie":4097,"inum":4026532001}'
    return f'{{"type":"netns_destroy","time":"{time}","netns":{netns},"lifetime_ns":{number}}}\n'.encode()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    events = [GOOD, Lost(TIME, count=3, by_type={"netns_enter": 3}), CollectorStop(TIME, events=1, lost=3)]
    assert shown(tmp_path / "file", JsonLines().form(events * 400)) == (events * 400, 0)


def test_stdin_is_read_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(msgspec.json.encode(GOOD))))
    assert list(Replay("-").batches()) == [[GOOD]]


@pytest.mark.parametrize(
    "bad",
    [
        *(b"\n", b"{}\n", b"null\n", b"\xff\n", b"\0" * 4096 + b"\n", b"[" * 100_000 + b"\n", line()[:-2] + b"\n"),
        *(b'{"type":"netns_destroy"}\n', b'{"type":"event","time":"%s"}\n' % TIME.encode(), line(time="\\ud800")),
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
    "time",
    [
        *("", "12:00", "2026-01-02", "2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123Z", TIME + "\\n", TIME[:-1]),
        *("2026-01-02 03:04:05.123456789Z", "2026-13-02T03:04:05.123456789Z", "0000-01-02T03:04:05.123456789Z"),
        *("2026-01-02T24:04:05.123456789Z", "\u0662026-01-02T03:04:05.123456789Z"),
    ],
)
def test_a_time_that_is_none_is_no_event(tmp_path: Path, time: str) -> None:
    assert shown(tmp_path / "file", line(time=time)) == ([], 1)
