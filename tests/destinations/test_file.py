"""Files: what they hold is what was seen, also where the disk was full."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from cni_collector import AnyEvent, CniEnd, CollectorStop

from ..support.exporting import OWN, call, make_plugin, read_events, watch_into

CALLS = 31


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    return make_plugin(tmp_path)


def test_a_file_and_its_replay(tmp_path: Path, plugin: Path) -> None:
    """What a file holds is what was seen, and what `replay` shows of it."""
    path = tmp_path / "events.json"
    with watch_into(path, "--cni", *OWN):
        for _ in range(CALLS):
            call(plugin)
    events = read_events(path)
    assert isinstance(events[-1], CollectorStop)
    assert events[-1].lost == 0
    ends = [e for e in events if isinstance(e, CniEnd) and e.plugin == str(plugin)]
    assert len(ends) == CALLS
    again = [sys.executable, "-m", "cni_collector", "replay", str(path), "-o", "json"]
    assert subprocess.run(again, check=True, capture_output=True).stdout == path.read_bytes()
    one = [*again, "--pid", str(ends[7].pid), "--type", "cni_end"]
    assert [
        e.pid
        for line in subprocess.run(one, check=True, capture_output=True).stdout.splitlines()
        if isinstance(e := msgspec.json.decode(line, type=AnyEvent), CniEnd)
    ] == [ends[7].pid]
    later = [*again, "--since", ends[20].time]
    shown = subprocess.run(later, check=True, capture_output=True).stdout
    assert shown == b"".join(path.read_bytes().splitlines(keepends=True)[events.index(ends[20]) :])


def test_a_full_disk(tmp_path: Path, plugin: Path) -> None:
    """No line is torn. What finds no room waits, and is written when there is some."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
    try:
        path, ballast = disk / "events.json", disk / "ballast"
        with watch_into(path, "--cni", *OWN, "-o", "json", stdout=subprocess.PIPE) as running:
            assert running.stdout
            assert running.stderr
            with contextlib.suppress(OSError):
                ballast.write_bytes(bytes(1 << 20))
            for _ in range(CALLS):
                call(plugin)  # the last block of the file has room for some
            assert "No space left on device; events wait" in running.stderr.readline()
            assert path.read_bytes().endswith(b"\n")
            ballast.unlink()
            assert "works again; 0 events were dropped" in running.stderr.readline()
            running.terminate()
            seen = running.stdout.read()
        assert path.read_text(encoding="utf-8") == seen
    finally:
        subprocess.run(["umount", disk], check=True)


def test_more_than_may_wait_for_a_full_disk(tmp_path: Path, plugin: Path) -> None:
    """What is dropped is counted, exactly."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", disk], check=True)
    try:
        path = disk / "events.json"
        with watch_into(path, "--cni", *OWN, "-o", "json", "--queue", "1000", stdout=subprocess.PIPE) as running:
            assert running.stdout
            assert running.stderr
            for _ in range(600):
                call(plugin)
            running.terminate()
            seen = running.stdout.read().splitlines()
            [dropped] = re.findall(r"file: (\d+) events were dropped\n", running.stderr.read())
        written = path.read_text(encoding="utf-8").splitlines()
        assert written == seen[: len(written)]
        assert len(written) + int(dropped) == len(seen)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_file_that_cannot_be_had(tmp_path: Path) -> None:
    path = tmp_path / "none" / "events.json"
    command = [sys.executable, "-m", "cni_collector", "watch", "--file", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"cni-collector: cannot write to {path}: No such file or directory\n"
