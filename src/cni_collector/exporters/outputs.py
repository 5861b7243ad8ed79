"""The exporters in use: started, fed, and closed together."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from ..collector import Collector
from ..errors import CollectorError, missing_extra
from ..events import Event
from .file import FileExporter
from .relay import Exporter, Relay, close_all

FLUSH: Final = 5.0
"""Seconds that all exporters together have, at the end, to deliver what waits."""


class Outputs:
    """Starts exporters, feeds them, and closes them at the end of the block.

    Args:
        queue: events that may wait for each.
        say: takes what a person should know, in a sentence; called from several threads.
    """

    def __init__(self, queue: int, say: Callable[[str], None]) -> None:
        self._queue = queue
        self._say = say
        self._relays: list[Relay] = []
        self._fed_everything: list[Relay] = []
        self._fed_matching: list[Relay] = []

    def file(self, path: Path, max_bytes: int, keep: int) -> None:
        """Writes the matching events to a file."""
        try:
            exporter = FileExporter(path, max_bytes, keep)
        except OSError as error:
            raise CollectorError(f"cannot write to {path}: {error.strerror}") from error
        self._start(exporter, self._fed_matching)

    def prometheus(self, collector: Collector, address: str, port: int) -> None:
        """Serves metrics of all events."""
        try:
            from .prometheus import PrometheusExporter  # here: it is an optional part of the package
        except ImportError:
            raise missing_extra("serve metrics", "prometheus-client", "prometheus") from None
        try:
            exporter = PrometheusExporter(collector, address, port)
        except OSError as error:
            raise CollectorError(f"cannot serve metrics on {address}:{port}: {error.strerror}") from error
        exporter.relays = self._relays
        self._start(exporter, self._fed_everything)
        self._say(f"metrics are on http://{address}:{exporter.port}/metrics")

    def otlp(self, url: str) -> None:
        """Sends the matching events, and CNI calls as spans."""
        try:
            from .otlp import OtlpLogs, OtlpSpans, check_environment  # here: it is optional, too
        except ImportError:
            raise missing_extra("send by OTLP", "the OpenTelemetry SDK", "otlp") from None
        check_environment()
        if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
            self._say("nothing is sent by OTLP: OTEL_SDK_DISABLED is set")
            return
        self._start(OtlpLogs(url), self._fed_matching)
        self._start(OtlpSpans(url), self._fed_matching)

    def nats(self, url: str) -> None:
        """Publishes the matching events in the stream of a cluster."""
        try:
            from .nats import NatsExporter  # here: it is optional, too
        except ImportError:
            raise missing_extra("speak to NATS", "nats-py", "nats") from None
        self._start(NatsExporter(url), self._fed_matching)

    def _start(self, exporter: Exporter[Any], fed: list[Relay]) -> None:
        relay = Relay(exporter, self._say, self._queue)
        self._relays.append(relay)
        fed.append(relay)

    def feed(self, everything: list[Event], matching: list[Event]) -> None:
        """Offers a batch: metrics take all of it, the others what matches the filters."""
        for relay in self._fed_everything:
            relay.offer(everything)
        if matching:
            for relay in self._fed_matching:
                relay.offer(matching)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close_all(self._relays, FLUSH)
        for relay in self._relays:
            if relay.dropped:
                self._say(f"{relay.name}: {relay.dropped} events were dropped")
