"""OpenTelemetry: what a receiver that speaks OTLP gets."""

from __future__ import annotations

import contextlib
import http.server
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from opentelemetry._logs import SeverityNumber

from cni_collector import CniEnd, CniExec, CniStart, Event
from cni_collector.exporters.otlp import OtlpLogs, OtlpSpans

from ..support.actors import execute, reap
from ..support.exporting import (
    OWN,
    POD,
    VARIABLES,
    a_pods_life,
    call,
    free_port,
    make_plugin,
    read_events,
    until,
    watch,
    watch_into,
)
from ..support.loads import TRUE
from ..support.made import made
from ..support.receiver import Receiver, values
from ..support.watch import PATIENCE

CALLS = 31
TIME = "2026-11-22T17:49:53.128029475Z"
BOTH = ((1, "/opt/cni/bin/mine", None), (2, "/tmp/theirs", False))
"""A trusted call, and one that is not: pid, plugin, `trusted`."""
TRACE = b"TRACEPARENT=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    return make_plugin(tmp_path)


def _compare(receiver: Receiver, path: Path) -> None:
    """Each event is a log record, as the file has it."""
    told = [(r.event_name.removeprefix("cni_collector."), r.time_unix_nano) for r in receiver.records()]
    assert sorted(told) == sorted((e.type, e.time_ns) for e in read_events(path))


def test_events_are_records_and_calls_are_spans_in_their_callers_trace(tmp_path: Path, plugin: Path) -> None:
    path = tmp_path / "events.json"
    with Receiver(tmp_path) as receiver:
        with watch_into(path, *OWN, "--otlp", receiver.url, "--node", "n1"):
            path_of_plugins = b"CNI_PATH=" + os.fsencode(plugin.parent)
            script = f"{plugin} -c '{TRUE}; exit 0'; kill -9 $$"
            pid = execute([*VARIABLES, TRACE, path_of_plugins], str(plugin), "-c", script)
            with contextlib.suppress(AssertionError):
                reap(pid)
            a_pods_life(plugin, path)
        _compare(receiver, path)
        resource = values(receiver.resource_logs()[-1].resource.attributes)
        assert (resource["service.name"], resource["k8s.node.name"]) == ("cni-collector", "n1")
        spans = {
            s.span_id: s for s in receiver.spans() if s.trace_id == bytes.fromhex("0af7651916cd43dd8448eb211c80319c")
        }
        [inner] = [s for s in spans.values() if s.parent_span_id in spans]
        outer = spans[inner.parent_span_id]
        assert len(spans) == 2
        assert outer.name == inner.name == plugin.name
        assert outer.parent_span_id == bytes.fromhex("b7ad6b7169203331")
        assert (outer.status.code, inner.status.code) == (2, 0)  # an error, and unset
        found = values(outer.attributes)
        assert (found["process.pid"], found["error.type"], found["k8s.pod.name"]) == (pid, "SIGKILL", POD.name)
        ends = {e.pid: e for e in read_events(path) if isinstance(e, CniEnd) and e.plugin == str(plugin)}
        for span in spans.values():
            end = ends[values(span.attributes)["process.pid"]]
            assert span.end_time_unix_nano == end.time_ns
            assert end.duration_ns
            assert abs(span.end_time_unix_nano - span.start_time_unix_nano - end.duration_ns) < 1_000_000


def test_neither_calls_that_are_not_trusted_nor_helpers_are_spans() -> None:
    """They are records: a helper's, with what it executed; of neither is it a warning that it failed."""
    told: list[Event] = [
        *(made(CniStart, TIME, pid=pid, plugin=plugin, trusted=trusted) for pid, plugin, trusted in BOTH),
        made(CniExec, TIME, pid=3, call=1, executable="/sbin/iptables", exit_code=1),
        *(made(CniEnd, TIME, pid=pid, plugin=plugin, exit_code=0, trusted=trusted) for pid, plugin, trusted in BOTH),
    ]
    spans, logs = OtlpSpans("http://127.0.0.1:9"), OtlpLogs("http://127.0.0.1:9")
    assert [span.name for span in spans.prepare(told)] == ["mine"]
    helper, theirs = (logs.prepare(told)[index].log_record for index in (2, 1))
    assert helper.attributes
    assert helper.attributes["process.executable.path"] == "/sbin/iptables"
    assert helper.attributes["process.executable.name"] == "iptables"
    assert helper.severity_number == SeverityNumber.INFO
    assert theirs.attributes
    assert theirs.attributes["cni_collector.trusted"] is False
    for exporter in (spans, logs):
        exporter.close()


def test_a_receiver_that_is_killed_and_comes_back(tmp_path: Path, plugin: Path) -> None:
    """What it has stored and not answered comes again, with the same ids: nothing is missing."""
    path = tmp_path / "events.json"
    with Receiver(tmp_path) as receiver:
        with watch_into(path, "--cni", *OWN, "--otlp", receiver.url):
            for _ in range(3):
                for _ in range(CALLS):
                    call(plugin)
                receiver.kill()
                for _ in range(CALLS):
                    call(plugin)
                receiver.start()
            until(lambda: len(receiver.records()) == len(read_events(path)))
            until(lambda: sum(span.name == plugin.name for span in receiver.spans()) == 6 * CALLS)
        _compare(receiver, path)


def test_a_receiver_that_is_not_there(plugin: Path) -> None:
    """Nobody waits for it; what it did not get is counted, and the end comes in time."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    with watch("--cni", *OWN, "--otlp", nowhere, "-o", "json", stdout=subprocess.PIPE) as running:
        assert running.stdout
        assert running.stderr
        assert "collector_start" in running.stdout.readline()
        call(plugin)
        while str(plugin) not in running.stdout.readline():
            pass
        began = time.monotonic()
        running.terminate()
        assert "collector_stop" in running.stdout.read()
        said = running.stderr.read()
        running.wait(PATIENCE)
        assert time.monotonic() - began < 15
        assert re.search(r"otlp logs: \d+ events were dropped", said)


def test_a_receiver_that_refuses(plugin: Path) -> None:
    """What it will never take is not sent again, and does not hold up what follows."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(400)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with watch("--cni", *OWN, "--otlp", f"http://127.0.0.1:{server.server_port}", "-o", "none") as running:
            assert running.stderr
            for _ in range(2):
                call(plugin)
                while "otlp logs: the receiver answers with HTTP status 400; " not in (
                    said := running.stderr.readline()
                ):
                    pass
                assert re.search(r"; \d+ events are dropped$", said.strip())
        server.shutdown()
        thread.join()


def test_what_the_environment_asks_for() -> None:
    command = [sys.executable, "-m", "cni_collector", "watch", "--otlp", "http://127.0.0.1:1", "--duration", "0.1"]
    for variables, code, told in (
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, 1, "cannot send by OTLP over grpc"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, 1, "as OTEL_EXPORTER_OTLP_TRACES_PROTOCOL has it"),
        ({"OTEL_SDK_DISABLED": "true"}, 0, "nothing is sent by OTLP: OTEL_SDK_DISABLED is set"),
    ):
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
        assert done.returncode == code
        assert told in done.stderr
