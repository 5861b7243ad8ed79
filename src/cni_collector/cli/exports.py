"""The exporters that `watch` was asked for."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import click

from ..collector import Collector
from ..errors import CollectorError
from ..events import Event
from ..exporters.file import FileExporter
from ..exporters.relay import Exporter, Relay, close_all

FLUSH: Final = 5.0
"""Seconds that all exporters together have, at the end, to deliver what waits."""
NO_NATS: Final = "cannot speak to NATS: nats-py is not installed; pip install 'cni-collector[nats]'"


def listen_address(_context: click.Context, _option: click.Parameter, value: str | None) -> tuple[str, int] | None:
    """The callback of `--prometheus`."""
    if value is None:
        return None
    address, colon, port = value.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise click.BadParameter(f"{value!r} is no address: write PORT as :9464, or 0.0.0.0:9464")
    return address.strip("[]") or "127.0.0.1", int(port)


class Exports:
    """Starts exporters, feeds them, and closes them at the end of the block.

    Args:
        queue: events that may wait for each.
    """

    def __init__(self, queue: int) -> None:
        self._queue = queue
        self._relays: list[Relay] = []
        self._of_all: list[Relay] = []
        self._of_chosen: list[Relay] = []

    def file(self, path: Path, max_bytes: int, keep: int) -> None:
        """Writes the events that are asked for to a file."""
        try:
            exporter = FileExporter(path, max_bytes, keep)
        except OSError as error:
            raise CollectorError(f"cannot write to {path}: {error.strerror}") from error
        self._start(exporter, self._of_chosen)

    def prometheus(self, collector: Collector, address: str, port: int) -> None:
        """Serves metrics of all events."""
        try:
            from ..exporters.prometheus import PrometheusExporter  # here: it is an optional part of the package
        except ImportError:
            raise CollectorError(
                "cannot serve metrics: prometheus-client is not installed; pip install 'cni-collector[prometheus]'"
            ) from None
        try:
            exporter = PrometheusExporter(collector, address, port)
        except OSError as error:
            raise CollectorError(f"cannot serve metrics on {address}:{port}: {error.strerror}") from error
        exporter.relays = self._relays
        self._start(exporter, self._of_all)
        _say(f"metrics are on http://{address}:{exporter.port}/metrics")

    def otlp(self, url: str) -> None:
        """Sends all events, and CNI calls as spans."""
        try:
            from ..exporters.otlp import OtlpLogs, OtlpSpans, check_environment  # here: it is optional, too
        except ImportError:
            raise CollectorError(
                "cannot send by OTLP: the OpenTelemetry SDK is not installed; pip install 'cni-collector[otlp]'"
            ) from None
        check_environment()
        if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
            _say("nothing is sent by OTLP: OTEL_SDK_DISABLED is set")
            return
        self._start(OtlpLogs(url), self._of_chosen)
        self._start(OtlpSpans(url), self._of_chosen)

    def nats(self, url: str) -> None:
        """Publishes the events that are asked for in the stream of a cluster."""
        try:
            from ..exporters.nats import NatsExporter  # here: it is optional, too
        except ImportError:
            raise CollectorError(NO_NATS) from None
        self._start(NatsExporter(url), self._of_chosen)

    def _start(self, exporter: Exporter[Any], fed: list[Relay]) -> None:
        relay = Relay(exporter, _say, self._queue)
        self._relays.append(relay)
        fed.append(relay)

    def all(self, events: list[Event]) -> None:
        """Offers what was read."""
        for relay in self._of_all:
            relay.offer(events)

    def chosen(self, events: list[Event]) -> None:
        """Offers what passed the filters."""
        for relay in self._of_chosen:
            relay.offer(events)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        close_all(self._relays, FLUSH)
        for relay in self._relays:
            if relay.dropped:
                _say(f"{relay.name}: {relay.dropped} events were dropped")


def _say(what: str) -> None:
    print(f"cni-collector: {what}", file=sys.stderr, flush=True)
