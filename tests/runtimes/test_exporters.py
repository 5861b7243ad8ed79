"""Where events go: a real Prometheus server, a receiver that speaks OTLP, a file whose disk is full."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import re
import select
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from cni_collector import AnyEvent, CniEnd, CollectorStop, Event
from cni_collector.exporters.otlp import nanoseconds

from ..kernel.actors import a_life, execute, reap
from ..kernel.watching import PATIENCE

CALLS = 31
TRACE = b"TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
LIVES = 7


def _until(wanted: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not wanted():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)


@contextlib.contextmanager
def _watch(*options: str | Path, stdout: int | None = None) -> Iterator[subprocess.Popen[str]]:
    """`watch`, which ends in order."""
    command = [sys.executable, "-m", "cni_collector", "watch", *map(str, options)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=stdout, text=True) as watch:
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


class Receiver:
    """Takes what is sent by OTLP over HTTP."""

    def __init__(self) -> None:
        self.records: list[LogRecord] = []
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers["content-encoding"] == "gzip":
                    body = gzip.decompress(body)
                receiver.take(self.path, body)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def take(self, path: str, body: bytes) -> None:
        """One request."""
        if path == "/v1/logs":
            logs = ExportLogsServiceRequest.FromString(body)
            self.records += [r for one in logs.resource_logs for scope in one.scope_logs for r in scope.log_records]
            self.resources += [_values(one.resource.attributes) for one in logs.resource_logs]
        elif path == "/v1/traces":
            traces = ExportTraceServiceRequest.FromString(body)
            self.spans += [span for one in traces.resource_spans for scope in one.scope_spans for span in scope.spans]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _values(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in attributes}


def test_opentelemetry(tmp_path: Path, plugin: Path) -> None:
    """Each event is a log record, as the file has it; each call a span, in its caller's trace."""
    path = tmp_path / "events.json"
    with Receiver() as receiver:
        with _watch("--otlp", receiver.url, "--file", path):
            _until(lambda: path.exists() and path.stat().st_size > 0)
            a_life()
            caller = [b"CNI_COMMAND=ADD", b"CNI_ARGS=K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0", TRACE]
            pid = execute(caller, str(plugin), "-c", f"{plugin} -c 'exit 0'; kill -9 $$")
            with contextlib.suppress(AssertionError):
                reap(pid)
        events = _read(path)
        told = [(r.event_name.removeprefix("cni_collector."), r.time_unix_nano) for r in receiver.records]
        assert sorted(told) == sorted((e.type, nanoseconds(e.time)) for e in events)
        assert receiver.resources[-1]["service.name"] == "cni-collector"
        spans = {s.span_id: s for s in receiver.spans if s.name == plugin.name}
        [inner] = [s for s in spans.values() if s.parent_span_id in spans]
        outer = spans[inner.parent_span_id]
        assert len(spans) == 2
        assert outer.trace_id == inner.trace_id == bytes.fromhex("0af7651916cd43dd8448eb211c80319c")
        assert outer.parent_span_id == bytes.fromhex("b7ad6b7169203331")
        assert (outer.status.code, inner.status.code) == (2, 0)  # an error, and unset
        values = _values(outer.attributes)
        assert (values["process.pid"], values["error.type"], values["k8s.pod.name"]) == (pid, "SIGKILL", "web-0")
        ends = {e.pid: e for e in events if isinstance(e, CniEnd) and e.plugin == str(plugin)}
        for span in spans.values():
            end = ends[_values(span.attributes)["process.pid"]]
            assert span.end_time_unix_nano == nanoseconds(end.time)
            assert end.duration_ns
            assert abs(span.end_time_unix_nano - span.start_time_unix_nano - end.duration_ns) < 1_000_000


def test_a_receiver_that_is_not_there(plugin: Path) -> None:
    """Nobody waits for it; what it did not get is counted, and the end comes in time."""
    with _watch("--otlp", f"http://127.0.0.1:{_free_port()}", "-o", "json", stdout=subprocess.PIPE) as watch:
        assert watch.stdout
        assert watch.stderr
        assert "collector_start" in watch.stdout.readline()
        _call(plugin, 0)
        while str(plugin) not in watch.stdout.readline():
            pass
        began = time.monotonic()
        watch.terminate()
        assert "collector_stop" in watch.stdout.read()
        said = watch.stderr.read()
        watch.wait(PATIENCE)
        assert time.monotonic() - began < 15
        assert re.search(r"otlp logs: \d+ events were dropped", said)


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
