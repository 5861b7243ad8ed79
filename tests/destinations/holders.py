"""What the destinations hold of each node: whether it is what the node has told, up to some event."""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable
from typing import Final, Protocol

from cni_collector import Checkpoint, CollectorStart, CollectorStop, Event, Lost
from cni_collector.exporters.nats import node_of

from ..support.nats import NatsServer
from ..support.prometheus import PrometheusServer
from ..support.receiver import Receiver, values
from .nodes import TOLD, Counts, Node

OF_THE_STREAM: Final = (CollectorStart, CollectorStop, Lost, Checkpoint)
"""What Prometheus does not count."""


class Holder(Protocol):
    """A destination.

    Attributes:
        name: what it is called in the table.
        of_the_stream: whether it holds events that are about the stream.
    """

    name: str
    of_the_stream: bool

    def read(self) -> None:
        """Takes over what has come."""

    def held(self, node: Node, ends: list[int]) -> Counts | None:
        """How many events it holds of a node; None where it is not what the node has told.

        Args:
            node: which one.
            ends: how many events of each of the node's collectors it must hold; it may hold more.
        """


class InNats:
    """The stream: each node's messages are its lines, in their order, each once."""

    name, of_the_stream = "NATS", True

    def __init__(self, server: NatsServer) -> None:
        self._server = server
        self._seen = 0
        self._payloads: dict[str, list[bytes]] = collections.defaultdict(list)

    def read(self) -> None:
        for message in self._server.stored(self._seen):
            self._seen += 1
            self._payloads[node_of(message.subject)].append(message.payload + b"\n")

    def held(self, node: Node, ends: list[int]) -> Counts | None:
        stored, told = self._payloads[node.name], node.lines()
        runs, until = node.runs(), _until(node, ends)
        if stored != told[: len(stored)] or len(stored) < until:
            return None
        return _types(itertools.islice(itertools.chain(*runs), until))


class InOtlp:
    """A receiver: each event is a log record, once, if it may come more often."""

    name, of_the_stream = "OTLP", True

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._seen = 0
        self._records: dict[str, tuple[str, str, int]] = {}
        """Node, type and time by the record's name."""

    def read(self) -> None:
        logs = self._receiver.resource_logs()
        for one in logs[self._seen :]:
            node = values(one.resource.attributes)["k8s.node.name"]
            for record in (record for scope in one.scope_logs for record in scope.log_records):
                kind = record.event_name.removeprefix("cni_collector.")
                self._records[values(record.attributes)["log.record.uid"]] = (node, kind, record.time_unix_nano)
        self._seen = len(logs)

    def held(self, node: Node, ends: list[int]) -> Counts | None:
        stored = collections.Counter((kind, time) for name, kind, time in self._records.values() if name == node.name)
        told = [(event.type, event.time_ns) for run in node.runs() for event in run]
        wanted = collections.Counter(told[: _until(node, ends)])
        if not wanted <= stored <= collections.Counter(told):
            return None
        return Counts(kind for kind, _ in wanted.elements())


class InPrometheus:
    """Counters: at each scrape what one collector after the other had told by then, but for what is about itself."""

    name, of_the_stream = "Prometheus", False

    def __init__(self, server: PrometheusServer) -> None:
        self._server = server
        self._scraped: dict[str, dict[float, Counts]] = {}
        """What a node had counted at a time."""

    def read(self) -> None:
        self._scraped = collections.defaultdict(lambda: collections.defaultdict(Counts))
        for series in self._server.query("cni_events_total[1d]"):
            for time, value in series["values"]:
                node, kind = series["metric"]["node"], series["metric"]["type"]
                self._scraped[node][time][kind] = int(float(value))

    def held(self, node: Node, ends: list[int]) -> Counts | None:
        """See `Holder`.

        A counter begins anew with its collector. At the last scrape it may have been more than is asked about: it must
        count the first events of the collector, as many as they are.
        """
        scrapes = [self._scraped[node.name][time] for time in sorted(self._scraped[node.name])]
        lasts = [one for one, later in itertools.pairwise(scrapes) if not one <= later] + scrapes[-1:]
        total = Counts()
        if len(lasts) != len(ends):
            return None
        for run, end, last in zip(node.runs(), ends, lasts, strict=True):
            counted = [event.type for event in run if not isinstance(event, OF_THE_STREAM)]
            scraped = Counts({kind: count for kind, count in last.items() if kind in TOLD})
            asked = _types(event for event in run[:end] if not isinstance(event, OF_THE_STREAM))
            if Counts(counted[: scraped.total()]) != scraped or not asked <= scraped:
                return None
            total += asked
        return total


def _until(node: Node, ends: list[int]) -> int:
    """How many events a node has told up to what is asked about: all of the collectors before the last one."""
    return sum(map(len, node.runs()[:-1])) + ends[-1]


def _types(events: Iterable[Event]) -> Counts:
    return Counts(event.type for event in events)
