"""Events in a file: whole lines, rotated by size."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from cni_collector.events import AnyEvent, Event, Lost
from cni_collector.exporters.file import FileExporter


def _events(first: int, count: int) -> list[Event]:
    return [Lost(f"2026-01-02T03:04:05.{number:09}Z") for number in range(first, first + count)]


def export(exporter: FileExporter, events: list[Event]) -> None:
    exporter.deliver(exporter.prepare(events))


def _read(path: Path) -> list[str]:
    return [msgspec.json.decode(line, type=AnyEvent).time for line in path.read_bytes().splitlines()]


def _times(events: list[Event]) -> list[str]:
    return [event.time for event in events]


def test_what_a_file_holds_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    for first in (0, 10):
        exporter = FileExporter(path)
        export(exporter, _events(first, 10))
        exporter.close()
    assert _read(path) == _times(_events(0, 20))


def test_a_line_that_was_torn_is_ended_first(tmp_path: Path) -> None:
    """As by SIGKILL in the middle of a write: what comes next is not spoiled by it."""
    path = tmp_path / "events.json"
    path.write_bytes(b'{"type":"netns_cr')
    for first in (0, 1):
        exporter = FileExporter(path)
        export(exporter, _events(first, 1))
        exporter.close()
    torn, *rest = path.read_bytes().splitlines()
    assert torn == b'{"type":"netns_cr'
    assert [msgspec.json.decode(line, type=AnyEvent).time for line in rest] == _times(_events(0, 2))


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    exporter = FileExporter(path)
    export(exporter, _events(0, 1))
    exporter.close()
    assert os.read(reader, 1 << 16).count(b"\n") == 1
    os.close(reader)


@pytest.mark.parametrize("keep", [0, 1, 3])
def test_rotation(tmp_path: Path, keep: int) -> None:
    """No line is torn, no file grows over the limit, and so many older ones are kept."""
    path = tmp_path / "events.json"
    exporter = FileExporter(path, max_bytes=2000, keep=keep)
    for first in range(0, 200, 10):
        export(exporter, _events(first, 10))
    exporter.close()
    files = [path, *(path.with_name(f"events.json.{number}") for number in range(1, keep + 1))]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(0 < file.stat().st_size <= 2000 for file in files)
    kept = [time for file in reversed(files) for time in _read(file)]
    assert kept == _times(_events(200 - len(kept), len(kept)))


def test_a_batch_larger_than_the_limit_is_not_split(tmp_path: Path) -> None:
    path = tmp_path / "events.json"
    exporter = FileExporter(path, max_bytes=100, keep=2)
    export(exporter, _events(0, 50))
    export(exporter, _events(50, 50))
    exporter.close()
    assert _read(path) == _times(_events(50, 50))
    assert _read(tmp_path / "events.json.1") == _times(_events(0, 50))
