"""Metrics for Prometheus: counted as events come by, served when they are asked for."""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Iterable
from typing import Final
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector as MetricSource

from ..collector import Collector
from ..events import Checkpoint, CniEnd, CniStart, CollectorStart, Event, Lost, NetnsCreate, NetnsDestroy, NetnsFound
from .relay import Relay

_COMMANDS: Final = frozenset({"ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"})
_PLUGINS: Final = 50
"""Names of plugins that have series of their own: anybody can start a process with any name."""
_OTHER: Final = "other"
_TEARDOWN: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_CNI_CALL: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 240)
"""Buckets, in seconds. The kubelet gives a sandbox four minutes."""


class PrometheusExporter(MetricSource):
    """Serves metrics over HTTP.

    Counters are the collector's own. Histograms, and how much is alive or under way, are counted from the events that
    come through this exporter's queue: they go wrong where that drops some.

    Args:
        collector: whose counts are served.
        address: where to listen.
        port: the same; 0 takes any that is free.

    Raises:
        OSError: it cannot listen there.

    Attributes:
        port: where it listens.
    """

    def __init__(self, collector: Collector, address: str, port: int) -> None:
        self.name = "prometheus"
        self.relays: list[Relay] = []
        """The queues that are told about, this exporter's own among them."""
        self._collector = collector
        self._start: CollectorStart | None = None
        self._alive = 0
        self._healed = 0
        self._begun: dict[int, float] = {}
        """When the CNI calls under way began, by pid, in seconds of the monotonic clock."""
        self._ends_lost = False
        self._plugins: set[str] = set()
        registry = CollectorRegistry()
        self._teardown = Histogram(
            "cni_netns_teardown_seconds",
            "Time that the kernel took to tear a network namespace down.",
            buckets=_TEARDOWN,
            registry=registry,
        )
        self._cni_calls = Histogram(
            "cni_call_duration_seconds",
            "Duration of CNI plugin calls. outcome: success, failure (another exit code than 0), or signal.",
            ["command", "plugin", "outcome"],
            buckets=_CNI_CALL,
            registry=registry,
        )
        self._untrusted = Counter(
            "cni_untrusted_calls",
            "CNI plugin calls begun in a user namespace: anybody can make some. No other metric has them.",
            registry=registry,
        )
        registry.register(self)
        self._server: WSGIServer
        self._server, self._thread = start_http_server(port, address, registry)
        self.port: int = self._server.server_port

    def prepare(self, events: list[Event]) -> None:
        for event in events:
            match event:
                case CollectorStart():
                    self._start = event
                case NetnsCreate() | NetnsFound():
                    self._alive += 1
                case NetnsDestroy():
                    self._alive -= 1
                    if event.teardown_ns:
                        self._teardown.observe(event.teardown_ns / 1e9)
                case CniStart(trusted=False):
                    self._untrusted.inc()
                case CniStart():
                    self._begun[event.pid] = time.monotonic()
                case CniEnd(trusted=None):
                    self._begun.pop(event.pid, None)
                    outcome = "signal" if event.signal else "failure" if event.exit_code else "success"
                    labels = (self._command(event.command), self._plugin(event.plugin), outcome)
                    self._cni_calls.labels(*labels).observe(event.duration_ns / 1e9)
                case Checkpoint():
                    self._alive = event.namespaces
                    self._healed += event.healed
                case Lost(by_type=lost):
                    self._alive += (
                        lost.get("netns_create", 0) + lost.get("netns_found", 0) - lost.get("netns_destroy", 0)
                    )
                    self._ends_lost |= "cni_end" in lost

    def deliver(self, _: None) -> None:
        """Nothing: it is fetched."""

    @staticmethod
    def _command(command: str | None) -> str:
        return command if command in _COMMANDS else _OTHER

    def _plugin(self, path: str | None) -> str:
        name = posixpath.basename(path or "")
        if name and (name in self._plugins or len(self._plugins) < _PLUGINS):
            self._plugins.add(name)
            return name
        return _OTHER

    def collect(self) -> Iterable[Metric]:
        """What is true now, for a scrape."""
        stats = self._collector.stats
        yield _counter("cni_events", "Events that were delivered.", ["type"], stats.received_by_type)
        yield _counter("cni_lost_events", "Events that happened and were not delivered.", ["type"], stats.lost_by_type)
        yield _counter("cni_skipped_runs", "Runs of BPF programs that the kernel skipped.", [], {"": stats.skipped})
        yield _counter(
            "cni_unreadable_environments",
            "Processes whose environment could not be read: they may have been CNI calls.",
            [],
            {"": stats.unreadable},
        )
        yield _counter("cni_undecodable_records", "Records that could not be read.", [], {"": stats.undecodable})
        yield _counter("cni_healed_events", "Events that audits added, as they were missed.", [], {"": self._healed})
        yield GaugeMetricFamily("cni_netns_alive", "Network namespaces that exist, but for the host's.", self._alive)
        if self._ends_lost:
            for pid in [pid for pid in list(self._begun) if not _exists(pid)]:
                self._begun.pop(pid, None)
        begun = list(self._begun.values())
        yield GaugeMetricFamily("cni_calls_in_flight", "CNI plugin calls under way.", len(begun))
        age = time.monotonic() - min(begun) if begun else 0
        yield GaugeMetricFamily("cni_call_oldest_age_seconds", "Age of the oldest CNI plugin call under way.", age)
        yield GaugeMetricFamily(
            "cni_collector_healthy", "Whether the collector is attached and reads.", int(self._collector.healthy)
        )
        yield from self._about()
        waiting = GaugeMetricFamily("cni_exporter_queued_events", "Events that wait.", labels=["exporter"])
        delivered = CounterMetricFamily("cni_exporter_delivered_events", "Events delivered.", labels=["exporter"])
        dropped = CounterMetricFamily("cni_exporter_dropped_events", "Events not delivered.", labels=["exporter"])
        for relay in self.relays:
            waiting.add_metric([relay.name], relay.waiting)
            delivered.add_metric([relay.name], relay.delivered)
            dropped.add_metric([relay.name], relay.dropped)
        yield waiting
        yield delivered
        yield dropped

    def _about(self) -> Iterable[Metric]:
        if self._start:
            about = {"version": self._start.version, "tier": self._start.tier, "kernel": self._start.kernel}
            yield InfoMetricFamily("cni_collector", "The collector.", about)
        missing = GaugeMetricFamily("cni_missing_hook", "A fact that is not reported here.", labels=["fact"])
        for fact in self._start.missing if self._start else ():
            missing.add_metric([fact], 1)
        yield missing

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not ask for figures yet."""
        return []

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _exists(pid: int) -> bool:
    """Whether there is such a process, whoever's it is."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _counter(name: str, help_text: str, labels: list[str], counts: dict[str, int]) -> Metric:
    family = CounterMetricFamily(name, help_text, labels=labels)
    for label, count in counts.items():
        family.add_metric([label] if labels else [], count)
    return family
