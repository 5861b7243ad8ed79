"""A receiver of OTLP over HTTP: a process that stores each request before it answers.

python -m tests.support.receiver PORT FILE
"""

from __future__ import annotations

import gzip
import http.server
import os
import struct
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, Span

from .exporting import Server, free_port

_HEAD: Final = struct.Struct("<BI")
"""In the file ahead of each request: which kind it is, and how long."""
_PATHS: Final = ("/v1/logs", "/v1/traces")


class Receiver(Server):
    """The process, and what it has stored, also before it was killed.

    Args:
        home: an empty directory.
    """

    def __init__(self, home: Path) -> None:
        self._file = home / "requests"
        self._file.touch()
        self._port = free_port()
        self._at = 0
        self._logs: list[ResourceLogs] = []
        self._spans: list[ResourceSpans] = []
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts it, and waits until it listens."""
        command = [sys.executable, "-m", __name__, str(self._port), str(self._file)]
        root = Path(__file__).parents[2]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=root)
        assert self._process.stdout
        with self._process.stdout as stdout:
            stdout.readline()

    def _read(self) -> None:
        """Takes over what has come since it was done last."""
        with self._file.open("rb") as file:
            file.seek(self._at)
            text = file.read()
        at = 0
        while at + _HEAD.size <= len(text):
            kind, size = _HEAD.unpack_from(text, at)
            if at + _HEAD.size + size > len(text):
                break  # it is just being written
            at += _HEAD.size + size
            body = text[at - size : at]
            if kind == 0:
                self._logs += ExportLogsServiceRequest.FromString(body).resource_logs
            else:
                self._spans += ExportTraceServiceRequest.FromString(body).resource_spans
        self._at += at

    def resource_logs(self) -> list[ResourceLogs]:
        """Log records by resource, as they came."""
        self._read()
        return self._logs

    def records_by_resource(self) -> list[tuple[LogRecord, Resource]]:
        """The log records, each once, and who has sent them."""
        found = (
            (record, one.resource)
            for one in self.resource_logs()
            for scope in one.scope_logs
            for record in scope.log_records
        )
        return list({values(record.attributes)["log.record.uid"]: (record, who) for record, who in found}.values())

    def records(self) -> list[LogRecord]:
        """The log records, each once."""
        return [record for record, _ in self.records_by_resource()]

    def resource_spans(self) -> list[ResourceSpans]:
        """Spans by resource, as they came."""
        self._read()
        return self._spans

    def spans(self) -> list[Span]:
        """The spans, each once."""
        found = (span for one in self.resource_spans() for scope in one.scope_spans for span in scope.spans)
        return list({span.span_id: span for span in found}.values())


def values(attributes: Iterable[KeyValue]) -> dict[str, Any]:
    """Attributes by their names."""
    return {one.key: getattr(one.value, str(one.value.WhichOneof("value"))) for one in attributes}


def serve(port: int, path: str) -> None:
    """Receives until it is killed."""
    stored = os.open(path, os.O_WRONLY | os.O_APPEND)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers["content-encoding"] == "gzip":
                body = gzip.decompress(body)
            known = self.path in _PATHS
            if known:
                os.write(stored, _HEAD.pack(_PATHS.index(self.path), len(body)) + body)
            self.send_response(200 if known else 404)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) as server:
        print("listening", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
