"""Where events go: a real Prometheus server scrapes them, a file takes them as long as its disk has room."""

from __future__ import annotations

import contextlib
import json
import re
import select
import shutil
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from cni_collector import AnyEvent, CniEnd, CollectorStop, Event

from ..kernel.actors import a_life, execute, reap
from ..kernel.watching import PATIENCE

CALLS = 31
LIVES = 7


def _until(wanted: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not wanted():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


@contextlib.contextmanager
def _watch(*options: str | Path) -> Iterator[subprocess.Popen[str]]:
    """`watch`, attached; in order at the end."""
    command = [sys.executable, "-m", "cni_collector", "watch", *map(str, options)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as watch:
        try:
            yield watch
            watch.terminate()
            assert watch.wait(PATIENCE) == 0
        finally:
            watch.kill()


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    """A plugin whose name nobody else has."""
    path = tmp_path / "cni-test-plugin"
    shutil.copy("/bin/sh", path)
    return path


def _call(plugin: Path, status: int) -> None:
    pid = execute([b"CNI_COMMAND=ADD"], str(plugin), "-c", f"exit {status}")
    if status:
        with contextlib.suppress(AssertionError):
            reap(pid)
    else:
        reap(pid)


def _read(path: Path) -> list[Event]:
    """The events of the whole lines: the last one may be just being written."""
    return [msgspec.json.decode(line, type=AnyEvent) for line in path.read_bytes().split(b"\n")[:-1]]


def _free_port() -> int:
    with socket.socket() as any_socket:
        any_socket.bind(("127.0.0.1", 0))
        return int(any_socket.getsockname()[1])


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
        return str(answer.read().decode())


@contextlib.contextmanager
def _prometheus(home: Path, target: int) -> Iterator[Callable[[str], float]]:
    """A server that scrapes a port; asks it for the value of an expression, 0 where it has none."""
    port = _free_port()
    (home / "prometheus.yml").write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s"},
                "scrape_configs": [
                    {"job_name": "cni", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]},
                ],
            }
        )
    )
    command = [
        *("prometheus", f"--config.file={home / 'prometheus.yml'}", f"--storage.tsdb.path={home / 'data'}"),
        f"--web.listen-address=127.0.0.1:{port}",
    ]

    def ask(expression: str) -> float:
        try:
            answer = json.loads(_get(f"http://127.0.0.1:{port}/api/v1/query?query={urllib.parse.quote(expression)}"))
        except OSError:
            return 0.0  # it is starting
        return sum(float(one["value"][1]) for one in answer["data"]["result"])

    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as server:
        try:
            yield ask
        finally:
            server.kill()


def test_prometheus_scrapes_what_happened(tmp_path: Path, plugin: Path) -> None:
    with _watch("--prometheus", ":0", "-o", "none", "--type", "netns_found") as watch:
        assert watch.stderr
        [port] = re.findall(r":(\d+)/metrics", watch.stderr.readline())
        url = f"http://127.0.0.1:{port}/metrics"
        _until(lambda: "cni_collector_info" in _get(url))
        lives = [a_life() for _ in range(LIVES)]
        for number in range(CALLS):
            _call(plugin, number % 2)
        sleeper = subprocess.Popen([plugin, "-c", "read line"], stdin=subprocess.PIPE, env={"CNI_COMMAND": "DEL"})
        linted = subprocess.run(["promtool", "check", "metrics"], input=_get(url), text=True, capture_output=True)
        assert (linted.returncode, linted.stdout, linted.stderr) == (0, "", "")
        with _prometheus(tmp_path, int(port)) as ask:
            calls = 'cni_call_duration_seconds_count{plugin="cni-test-plugin",command="ADD",outcome="%s"}'
            _until(lambda: ask(calls % "success") == CALLS // 2 + 1)
            assert ask(calls % "failure") == CALLS // 2
            _until(lambda: ask("cni_oldest_call_age_seconds") > 1)
            assert ask("cni_calls_in_flight") >= 1
            _until(lambda: ask("cni_netns_teardown_seconds_count") >= len(lives))
            assert ask('cni_events_total{type="netns_create"}') >= len(lives)
            assert ask("cni_collector_healthy") == 1
            assert ask("cni_lost_events_total") == 0
            assert ask("cni_exporter_dropped_events_total") == 0
        sleeper.communicate(b"\n", PATIENCE)


def test_a_file_and_its_replay(tmp_path: Path, plugin: Path) -> None:
    """What a file holds is what was seen, and what `--from` shows of it."""
    path = tmp_path / "events.json"
    with _watch("--file", path, "--cni"):
        _until(lambda: path.exists() and path.stat().st_size > 0)
        for _ in range(CALLS):
            _call(plugin, 0)
    events = _read(path)
    assert isinstance(events[-1], CollectorStop)
    assert events[-1].lost == 0
    ends = [e for e in events if isinstance(e, CniEnd) and e.plugin == str(plugin)]
    assert len(ends) == CALLS
    again = [sys.executable, "-m", "cni_collector", "watch", "--from", str(path), "-o", "json"]
    assert subprocess.run(again, check=True, capture_output=True).stdout == path.read_bytes()
    one = [*again, "--pid", str(ends[7].pid), "--type", "cni_end"]
    assert [
        e.pid
        for line in subprocess.run(one, check=True, capture_output=True).stdout.splitlines()
        if isinstance(e := msgspec.json.decode(line, type=AnyEvent), CniEnd)
    ] == [ends[7].pid]


def test_a_full_disk(tmp_path: Path, plugin: Path) -> None:
    """No line is torn; what found no room is counted, and it goes on when there is room again."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", disk], check=True)
    try:
        path, ballast = disk / "events.json", disk / "ballast"
        with _watch("--file", path, "--cni", "--coalesce", "0") as watch:
            assert watch.stderr
            _until(lambda: path.exists() and path.stat().st_size > 0)
            with contextlib.suppress(OSError):
                ballast.write_bytes(bytes(1 << 20))
            while not (before := _read(path)) or len(before) < 3:
                _call(plugin, 0)  # the last block of the file has room for some
            while "events are dropped until it works again" not in (said := _said(watch, plugin)):
                pass
            full = len(_read(path))
            ballast.unlink()
            while "works again" not in said.partition("dropped until it works again")[2]:
                said += _said(watch, plugin)
            _call(plugin, 0)
            watch.terminate()
            assert watch.stderr.read().endswith("events were dropped\n")
        assert path.read_bytes().endswith(b"\n")
        assert len(_read(path)) > full
    finally:
        subprocess.run(["umount", disk], check=True)


def _said(watch: subprocess.Popen[str], plugin: Path) -> str:
    """What is said within a moment, while events go on."""
    _call(plugin, 0)
    assert watch.stderr
    return watch.stderr.readline() if select.select([watch.stderr], [], [], 0.05)[0] else ""
