"""Events as OpenTelemetry log records, and CNI calls as spans, over OTLP."""

from __future__ import annotations

import logging
import os
import posixpath
from typing import Any, Final

import msgspec
import requests
from opentelemetry import trace
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk._logs.export import LogRecordExportResult
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from ..errors import CollectorError
from ..events import Checkpoint, CniCall, CniEnd, CniStart, CollectorStart, Event, Lost
from ..version import VERSION
from .relay import Idents

PREFIX: Final = "cni_collector"
"""Of the names that OpenTelemetry has none for: of attributes, and of events (`cni_collector.netns_create`)."""
_SCOPE: Final = InstrumentationScope("cni-collector", VERSION)
_BOUND: Final = 1 << 16
"""CNI calls under way that are remembered."""
_SEMANTIC: Final = {
    "pid": "process.pid",
    "ppid": "process.parent_pid",
    "uid": "process.user.id",
    "cgroup": "process.linux.cgroup",
    "container_id": "container.id",
    "plugin": "process.executable.path",
    "executable": "process.executable.path",
    "exit_code": "process.exit.code",
    "error": "error.type",
}
"""Fields that semantic conventions have a name for."""
_ELSEWHERE: Final = {"type", "time", "pod", "pod_uid"}

_PROTOCOL: Final = "http/protobuf"
_LATER: Final = (408, 429)
"""Statuses of HTTP by which a receiver that can be asked again refuses; other refusals (4xx) are for good."""
logging.getLogger("opentelemetry").addHandler(logging.NullHandler())  # what fails is told by the relay, once


class RefusedError(Exception):
    """The receiver will never take what it was sent."""


def check_environment() -> None:
    """Sees that nothing is asked for that is not to be had.

    Raises:
        CollectorError: a variable asks for another protocol.
    """
    for signal in ("", "LOGS_", "TRACES_"):
        name = f"OTEL_EXPORTER_OTLP_{signal}PROTOCOL"
        if os.environ.get(name, _PROTOCOL) != _PROTOCOL:
            raise CollectorError(
                f"cannot send by OTLP over {os.environ[name]}, as {name} has it: "
                f"set that to {_PROTOCOL}, which receivers take on port 4318"
            )


def attributes(event: Event) -> dict[str, AttributeValue]:
    """An event's fields, by the names of the semantic conventions where there are some."""
    found: dict[str, AttributeValue] = {}
    for field, value in msgspec.to_builtins(event).items():
        if field in ("netns", "prev", "next", "host_netns"):
            # Attributes are signed: a cookie is not.
            found[f"{PREFIX}.{field}.cookie"] = str(value["cookie"])
            found[f"{PREFIX}.{field}.inum"] = value["inum"]
        elif field == "by_type":
            found |= {f"{PREFIX}.lost.{kind}": count for kind, count in value.items()}
        elif field not in _ELSEWHERE:
            found[_SEMANTIC.get(field, f"{PREFIX}.{field}")] = value
    executed = getattr(event, "plugin", None) or getattr(event, "executable", None)
    if executed:
        found["process.executable.name"] = posixpath.basename(executed)
    pod = {"k8s.namespace.name": event.pod.namespace, "k8s.pod.name": event.pod.name} if event.pod else {}
    pod["k8s.pod.uid"] = event.pod.uid if event.pod else event.pod_uid
    return found | {name: value for name, value in pod.items() if value}


def _resource(start: CollectorStart | None) -> Resource:
    """Who reports. OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES have the last word."""
    node = {"host.name": start.node, "k8s.node.name": start.node} if start else {}
    own = Resource({"service.name": "cni-collector", "service.version": VERSION, **node})
    return Resource.create({}).merge(own).merge(OTELResourceDetector().detect())


class _Answers(requests.Session):
    """Remembers what a receiver has answered."""

    def __init__(self) -> None:
        super().__init__()
        self.status: int | None = None

    def send(self, *arguments: Any, **options: Any) -> requests.Response:
        self.status = None
        answer = super().send(*arguments, **options)
        self.status = answer.status_code
        return answer

    def failure(self) -> Exception:
        """Why nothing was delivered: to be tried again, or not."""
        if self.status is None:
            return OSError("the receiver does not answer")
        told = f"the receiver answers with HTTP status {self.status}"
        return RefusedError(told) if 400 <= self.status < 500 and self.status not in _LATER else OSError(told)


class OtlpLogs:
    """Sends every event as a log record with an event name.

    Args:
        url: the receiver's, as `http://127.0.0.1:4318`; what OTEL_EXPORTER_OTLP_* say if empty.
    """

    def __init__(self, url: str) -> None:
        self.name = "otlp logs"
        self._answers = _Answers()
        self._exporter = OTLPLogExporter(endpoint=f"{url}/v1/logs" if url else None, session=self._answers)
        self._resource = _resource(None)
        self._idents = Idents()

    def prepare(self, events: list[Event]) -> list[ReadableLogRecord]:
        records = []
        for event in events:
            if isinstance(event, CollectorStart):
                self._resource = _resource(event)
            records.append(self._record(event))
        return records

    def deliver(self, records: list[ReadableLogRecord]) -> None:
        if self._exporter.export(records) is not LogRecordExportResult.SUCCESS:
            raise self._answers.failure()

    def _record(self, event: Event) -> ReadableLogRecord:
        moment = event.time_ns
        failed = bool(event.error) or (isinstance(event, CniEnd) and event.exit_code != 0)
        warn = failed or isinstance(event, Lost) or (isinstance(event, Checkpoint) and event.healed > 0)
        record = LogRecord(
            timestamp=moment,
            observed_timestamp=moment,
            severity_number=SeverityNumber.WARN if warn else SeverityNumber.INFO,
            event_name=f"{PREFIX}.{event.type}",
            attributes={**attributes(event), "log.record.uid": self._idents.next()},
        )
        return ReadableLogRecord(record, self._resource, _SCOPE)

    def close(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class OtlpSpans:
    """Sends each trusted CNI call as a span, below that of its caller: a plugin, or who passed TRACEPARENT.

    Args:
        url: the receiver's; what OTEL_EXPORTER_OTLP_* say if empty.
    """

    def __init__(self, url: str) -> None:
        self.name = "otlp spans"
        self._answers = _Answers()
        self._exporter = OTLPSpanExporter(endpoint=f"{url}/v1/traces" if url else None, session=self._answers)
        self._ended = _Ended()
        self._tracer = self._tracer_of(None)
        self._open: dict[int, trace.Span] = {}
        """Those of the CNI calls under way, by pid."""

    def _tracer_of(self, start: CollectorStart | None) -> trace.Tracer:
        provider = TracerProvider(resource=_resource(start), shutdown_on_exit=False)
        provider.add_span_processor(self._ended)
        return provider.get_tracer("cni-collector", VERSION)

    def prepare(self, events: list[Event]) -> list[ReadableSpan]:
        for event in events:
            match event:
                case CollectorStart():
                    self._tracer = self._tracer_of(event)
                case CniStart(trusted=None):
                    self._open[event.pid] = self._begin(event, event.time_ns)
                    while len(self._open) > _BOUND:
                        del self._open[next(iter(self._open))]
                case CniEnd(trusted=None):
                    self._end(event)
        spans, self._ended.spans = self._ended.spans, []
        return spans

    def deliver(self, spans: list[ReadableSpan]) -> None:
        if spans and self._exporter.export(spans) is not SpanExportResult.SUCCESS:
            raise self._answers.failure()

    def _begin(self, call: CniCall, moment: int) -> trace.Span:
        caller = self._open.get(call.parent or 0)
        carrier = {"traceparent": call.traceparent} if call.traceparent else {}
        context = trace.set_span_in_context(caller) if caller else TraceContextTextMapPropagator().extract(carrier)
        name = posixpath.basename(call.plugin or "") or "CNI call"
        return self._tracer.start_span(name, context, start_time=moment)

    def _end(self, call: CniEnd) -> None:
        moment = call.time_ns
        span = self._open.pop(call.pid, None) or self._begin(call, moment - call.duration_ns)
        span.set_attributes(attributes(call))
        if call.signal or call.exit_code:
            what = call.signal or str(call.exit_code)
            span.set_attribute("error.type", what)
            span.set_status(trace.StatusCode.ERROR, f"ended by {what}" if call.signal else f"exit code {what}")
        span.end(moment)

    def close(self) -> None:
        self._exporter.shutdown()  # type: ignore[no-untyped-call]


class _Ended(SpanProcessor):
    """Keeps the spans that have ended, until they are sent."""

    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def on_end(self, span: ReadableSpan) -> None:
        self.spans.append(span)
